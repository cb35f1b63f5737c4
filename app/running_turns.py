"""Which turn writes which answer, as far as the window knows it of the engine that runs now.

Owns: the turns that this window began, the one that the engine says it writes, and whether anything may yet begin by
itself. Pure; does not know what the answers say, nor how turns are followed (`turn_stream.py`).
"""

from engine.errors import EngineUnreachable
from engine.protocol import EngineStatus, ErrorBody

LOST = "The engine stopped; it is being started again"
BACK = "The engine is back and loads the model again"
"""What stands under an answer that the end of its engine cut off, until it is known what becomes of it."""


class RunningTurns:
    """A new engine knows no turn of the one before it."""

    def __init__(self) -> None:
        self._turn_ids: dict[str, str] = {}
        self._engine: tuple[int, float] | None = None
        self._active_turn_id: str | None = None
        self.active_answer_id: str | None = None
        """The message that the engine writes now."""
        self.is_settled = True
        """The engine is there and loads nothing: what it does not write now, it is not about to write by itself."""
        self.is_over = False
        """There is no engine, and nobody starts one."""

    def begun(self, answer_id: str, turn_id: str) -> None:
        """This window has asked for the answer."""
        self._turn_ids[answer_id] = turn_id

    def ended(self, answer_id: str) -> None:
        """The answer has come to its end."""
        self._turn_ids.pop(answer_id, None)

    def take(self, status: EngineStatus) -> bool:
        """The engine says what it is doing. True when it writes another answer than before, or none any more."""
        engine = (status.pid, status.started_at)
        if engine != self._engine:
            self._engine, self._turn_ids = engine, {}
        changed = status.active_turn_id != self._active_turn_id
        self._active_turn_id, self.active_answer_id = status.active_turn_id, status.active_answer_id
        self.is_over = False
        self.is_settled = status.loading_model_id is None
        return changed

    def engine_left(self, *, for_good: bool) -> None:
        """There is no engine now. Another one is being started, unless `for_good`."""
        self.is_over = for_good
        self._active_turn_id = self.active_answer_id = None
        self.is_settled = False

    def turn_of(self, answer_id: str) -> str | None:
        """The turn that writes the answer, whoever asked for it; None when it is not known."""
        mine = self._turn_ids.get(answer_id)
        return mine or (self._active_turn_id if self.active_answer_id == answer_id else None)


def busy() -> ErrorBody:
    """Why nothing can be asked while an answer is being written."""
    error = EngineUnreachable(
        "The question was not sent", "an answer is still being written here", "stop it first, or wait"
    )
    return ErrorBody(code="conflict", text=error.text)
