"""What a turn of the open conversation would cost, asked of the engine when somebody wants to know.

Owns: which costs have been told, and that each is asked for once until something changes. Does not put them into words
(`cost_words.py`), know where they are shown, or ask about modes (`mode_choice.py`).
"""

from typing import Literal

from PySide6.QtCore import QObject, Signal

from app.api import EngineApi
from app.conversation_state import ConversationState
from engine.protocol import EngineStatus, ErrorBody, Reuse, ReuseRequest

Step = Literal["edit", "retry", "continue", "version"]
"""edit: another question in the place of this one. retry: another answer in the place of this one. continue: this
answer goes on. version: the next question, where this message and the newest branch beneath it are shown."""


class TurnCosts(QObject):
    """Costs are told as they come; one that cannot be told now is not worth a sentence."""

    told = Signal(str, str, object)
    """Step, message id, Reuse."""
    forgotten = Signal()
    """What was told may be otherwise by now: who shows a cost should ask again."""

    def __init__(self, api: EngineApi, conversation: ConversationState, parent: QObject) -> None:
        super().__init__(parent)
        self._api, self._conversation = api, conversation
        self._known: dict[tuple[Step, str], Reuse | None] = {}
        """None: asked for, not answered yet."""
        self._asked = 0
        self._engine: tuple[object, ...] = ()
        conversation.branch_replaced.connect(self.forget)
        conversation.running_changed.connect(self.forget)
        conversation.session_changed.connect(self.forget)

    def want(self, step: Step, message_id: str) -> None:
        """Tell what `step` at `message_id` would cost, at once where it is known."""
        session_id = self._conversation.session_id
        if session_id is None or self._conversation.running:
            return
        key = (step, message_id)
        if key in self._known:
            cost = self._known[key]
            if cost is not None:
                self.told.emit(step, message_id, cost)
            return
        self._known[key] = None
        asked = self._asked

        def ok(cost: Reuse) -> None:
            if asked == self._asked:
                self._known[key] = cost
                self.told.emit(step, message_id, cost)

        def failed(_: ErrorBody) -> None:
            if asked == self._asked:
                del self._known[key]

        self._api.send("POST", "/api/reuse", self._request(session_id, step, message_id), Reuse, ok, failed)

    def forget(self) -> None:
        """The branch, the mode, the model or what it holds has changed."""
        self._asked += 1
        self._known = {}
        self.forgotten.emit()

    def engine_status(self, status: EngineStatus) -> None:
        """The engine says what it is doing: another model, or an answer elsewhere, changes what is held."""
        engine = (status.pid, status.started_at, status.model and status.model.id, status.active_turn_id)
        if engine != self._engine:
            self._engine = engine
            self.forget()

    def _request(self, session_id: str, step: Step, message_id: str) -> ReuseRequest:
        conversation = self._conversation
        # A model without modes takes the question as it is.
        mode = conversation.mode or "high"
        if step != "version":
            return ReuseRequest(session_id=session_id, mode=mode, kind=step, message_id=message_id)
        leaf_id = conversation.newest_leaf(message_id)
        return ReuseRequest(session_id=session_id, mode=mode, kind="ask", message_id=leaf_id)
