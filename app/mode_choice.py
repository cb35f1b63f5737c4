"""How much the model thinks before it answers: the modes, the person's choice among them, and its cost.

Owns: the names of the modes, which of them the loaded model has, the choice, and what a switch would cost as
the engine tells it. Does not know the conversation (it is told the session) nor any widget.
"""

from collections.abc import Callable

from PySide6.QtCore import QObject, Signal

from app.api import EngineApi
from app.cost_words import cost_words, is_instant
from engine.protocol import LoadedModel, ModeChoice, ReasoningMode, Reuse, ReuseRequest

NAMES: dict[ReasoningMode, str] = {"non-think": "Non-think", "high": "Think-High", "max": "Think-Max"}
EXPLANATIONS: dict[ReasoningMode, str] = {
    "non-think": "answers at once",
    "high": "thinks first, then answers",
    "max": "thinks as long as it takes",
}
USUAL: ReasoningMode = "high"


def switch_words(mode: ReasoningMode, cost: Reuse) -> str:
    """What a switch costs, as the status line says it; "" when it costs nothing."""
    return "" if is_instant(cost) else f"{NAMES[mode]}: {cost_words(cost)}"


class ModeShelf(QObject):
    """The modes of the loaded model and the one that is sent with every question."""

    changed = Signal()
    """The modes, or the one in force."""
    refused = Signal(str, str)
    """Mode and sentence: it cannot be chosen now, and why."""
    costs_changed = Signal()
    switched = Signal(str, object)
    """Mode and its Reuse: what the switch that was just made costs."""

    def __init__(self, api: EngineApi, wanted: ReasoningMode, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api = api
        self._wanted: ReasoningMode = wanted
        self._choices: tuple[ModeChoice, ...] = ()
        self._asked = 0
        self.costs: dict[ReasoningMode, Reuse] = {}
        """What each mode would cost, as far as the engine has answered."""

    @property
    def choices(self) -> tuple[ModeChoice, ...]:
        """The modes of the loaded model; none for a model that has no modes."""
        return self._choices

    @property
    def wanted(self) -> ReasoningMode:
        """What the person chose last, also while the loaded model does not offer it."""
        return self._wanted

    @property
    def mode(self) -> ReasoningMode | None:
        """The mode in force: the wanted one where it can be had, None without modes."""
        free: list[ReasoningMode] = [choice.mode for choice in self._choices if choice.problem is None]
        order: tuple[ReasoningMode, ...] = (self._wanted, USUAL, *free)
        return next((mode for mode in order if mode in free), None)

    def set_model(self, model: LoadedModel | None) -> None:
        """The engine has loaded this, or nothing."""
        choices = tuple(model.modes) if model else ()
        if choices != self._choices:
            self._choices = choices
            self.changed.emit()

    def choose(self, mode: ReasoningMode, session_id: str | None) -> None:
        """Put the next questions in `mode`, and find out what that costs in `session_id`."""
        choice = next((choice for choice in self._choices if choice.mode == mode), None)
        if choice is None:
            return
        if choice.problem is not None:
            self.refused.emit(mode, choice.problem)
            return
        before, self._wanted = self.mode, mode
        self.changed.emit()
        if mode == before or session_id is None:
            return

        def ok(cost: Reuse) -> None:
            if self._wanted == mode:
                self.switched.emit(mode, cost)

        self._ask(session_id, mode, ok)

    def ask_costs(self, session_id: str | None) -> None:
        """Find out what each mode would cost in `session_id`; None: nothing is there to be read again."""
        self._asked += 1
        self.costs = {}
        self.costs_changed.emit()
        if session_id is None:
            return
        for choice in self._choices:
            self._ask_one(session_id, choice.mode, self._asked)

    def _ask_one(self, session_id: str, mode: ReasoningMode, asked: int) -> None:
        def ok(cost: Reuse) -> None:
            if asked == self._asked:
                self.costs[mode] = cost
                self.costs_changed.emit()

        self._ask(session_id, mode, ok)

    def _ask(self, session_id: str, mode: ReasoningMode, ok: Callable[[Reuse], None]) -> None:
        # A cost that cannot be told is not worth a sentence: the switch works all the same.
        request = ReuseRequest(session_id=session_id, mode=mode)
        self._api.send("POST", "/api/reuse", request, Reuse, ok, lambda _: None)
