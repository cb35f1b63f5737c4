"""What a change to a conversation would cost: how much of the context could be kept.

Owns: comparing what the context holds with what the next question would need, and asking that on the
generation thread. Does not know why a prefix changes (`encoding.v4_prompt`) or what is done about it.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine.errors import Conflict, SeamountError
from engine.generation_thread import Job
from engine.protocol import Reuse

if TYPE_CHECKING:
    from engine.backends.base import Backend


def reuse(old: Sequence[int], new: Sequence[int], *, can_rewind: bool) -> Reuse:
    """How many of the tokens `new` need not be read again by a context that holds `old`.

    A context that cannot be cut back keeps all it holds or nothing.
    """
    shorter = min(len(old), len(new))
    common = next((place for place in range(shorter) if old[place] != new[place]), shorter)
    kept = common if can_rewind or common == len(old) else 0
    return Reuse(total=len(new), kept=kept, reread=len(new) - kept)


class Question(Job):
    """Something asked of the backend between two answers; `wait` gives the result of `ask(backend)`."""

    def __init__(self, model_id: str, ask: "Callable[[Backend], Reuse]") -> None:
        super().__init__(model_id)
        self._ask = ask
        self._done = threading.Event()
        self._result: Reuse | None = None
        self._error: SeamountError | None = None

    def place_is(self, place: int) -> None:
        """It tells nobody."""

    def run(self, backend: "Backend") -> None:
        try:
            self._result = self._ask(backend)
        except SeamountError as error:
            self._error = error
        finally:
            self._done.set()

    def refuse(self, error: SeamountError | None) -> None:
        self._error = error
        self._done.set()

    def wait(self, timeout_s: float) -> Reuse:
        """The result. Raises what asking raised, Conflict when the model was busy for too long."""
        if not self._done.wait(timeout_s) or self._result is None:
            self.cancelled.set()
            raise self._error or Conflict(
                "The cost cannot be told", "the model is busy with an answer", "ask again when it is done"
            )
        return self._result
