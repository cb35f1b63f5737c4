"""What a change to a conversation would cost: how much of the context could be kept.

Owns: putting the keeper's answer to that into a `Reuse`, and asking for it on the generation thread. Does not
know how a context keeps what it has read (`contexts/`), why a prefix changes (`encoding.v4_prompt`) or what is
done about it.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine.errors import Conflict, SeamountError
from engine.generation_thread import Job
from engine.protocol import Reuse

if TYPE_CHECKING:
    from engine.backends.remote import RemoteModel
    from engine.contexts.keeper import ContextKeeper


def reuse(keeper: "ContextKeeper", tokens: Sequence[int], *, more: bool = True) -> Reuse:
    """How many of `tokens` need not be read again, as things stand now. `more`: others will stand behind them."""
    cost = keeper.cost(tokens, more=more)
    return Reuse(
        total=cost.total, kept=cost.kept, reread=cost.reread, seconds=cost.seconds, from_disk=cost.from_disk
    )


class Question(Job):
    """Something asked of the model between two answers; `wait` gives the result of `ask(keeper)`."""

    def __init__(self, model_id: str, ask: "Callable[[ContextKeeper], Reuse]") -> None:
        super().__init__(model_id)
        self._ask = ask
        self._done = threading.Event()
        self._result: Reuse | None = None
        self._error: SeamountError | None = None

    def place_is(self, place: int) -> None:
        """It tells nobody."""

    def run(self, keeper: "ContextKeeper") -> None:
        try:
            self._result = self._ask(keeper)
        except SeamountError as error:
            self._error = error
        finally:
            self._done.set()

    def run_remote(self, remote: "RemoteModel") -> None:
        """What another machine keeps is not known here: nothing is promised."""
        del remote
        self._result = Reuse(total=0, kept=0, reread=0)
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
