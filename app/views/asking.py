"""A message on its way from the composer to the model.

Owns: keeping it until the engine is ready, giving it back when it could not be sent, and the draft of each
conversation. Does not know what stops the engine, and says no sentences of its own.
"""

from PySide6.QtCore import QObject, QTimer, Signal

from app.composer_text import Draft
from app.conversation_state import ConversationState
from app.engine_watch import EngineState, EngineWatch
from app.remote_words import untold_words
from app.views.composer import Composer
from engine.errors import Conflict
from engine.protocol import ErrorBody


class Asking(QObject):
    """Asks in the open conversation what is sent from the composer."""

    held_changed = Signal()
    stopped = Signal()
    """Something was asked while no engine runs or starts: the text stands in the composer again."""
    begun = Signal()
    """A question is put to the engine now."""
    refused = Signal(object)
    """ErrorBody: the question was not stored; its text stands in the composer again."""

    def __init__(
        self,
        composer: Composer,
        conversation: ConversationState,
        watch: EngineWatch,
        shown_id: str | None,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._composer, self._conversation, self._watch = composer, conversation, watch
        self._drafts: dict[str | None, Draft] = {}
        self._shown_id = shown_id
        self._held = False
        self._told: str | None = None
        """Where the person was told the conversation goes, when what is held was sent."""
        composer.send_requested.connect(self.ask)
        composer.changed.connect(self._forget_held)
        conversation.ask_refused.connect(self._ask_refused)
        conversation.running_changed.connect(self._running_changed)

    @property
    def is_held(self) -> bool:
        """A message waits in the composer for the engine to be ready."""
        return self._held

    def ask(self, text: str) -> None:
        """Put `text` to the model, as soon as there is an engine to put it to."""
        if self._is_possible:
            self.begun.emit()
            self._conversation.ask(text)
            return
        self._composer.give_back(text)
        if self._watch.state == EngineState.STOPPED:
            self.stopped.emit()
        else:
            self._held, self._told = True, self._conversation.told_place
            self.held_changed.emit()

    def send_held(self) -> None:
        """The engine is ready, or a conversation is open: send what has waited for both, and for an answer that the
        engine's end broke off and that may go on."""
        if self._held and self._is_possible and not self._conversation.running:
            self._held = False
            place = self._conversation.told_place
            if place and place != self._told:
                # It stays in the composer; what was not told before is told now, above it.
                self.held_changed.emit()
                self.refused.emit(ErrorBody(code=Conflict.code, text=untold_words(place)))
            else:
                self._composer.send()

    def take_session(self) -> bool:
        """Another conversation may be open: put its draft into the composer. False when it is the same one."""
        session_id = self._conversation.session_id
        if session_id == self._shown_id:
            return False
        # A new conversation that has just got its session keeps what is being written in it.
        if self._shown_id is not None or not self._conversation.running:
            self._drafts[self._shown_id] = self._composer.draft
            self._composer.set_draft(self._drafts.pop(session_id, Draft()))
        self._shown_id = session_id
        return True

    @property
    def _is_possible(self) -> bool:
        return self._watch.state == EngineState.READY and not self._conversation.is_opening

    def _running_changed(self, running: bool) -> None:
        if self._held and not running:
            # Once everybody else has heard of the end.
            QTimer.singleShot(0, self, lambda: self.send_held())

    def _forget_held(self) -> None:
        self._held = False

    def _ask_refused(self, text: str, error: ErrorBody) -> None:
        self._composer.give_back(text)
        self.refused.emit(error)
