"""What a turn's context tells its journal, kept in memory as the next process would read it."""

from engine.errors import DataFolderError
from engine.protocol import Sampling
from engine.store.journal import ids_digest
from engine.store.journal_turns import Base, Begun, Prompt, Relay, Snapshot, Turn


class TurnRecords:
    """A `turn_context.TurnJournal` of an answer to `prompt`; `turn` is what it says. `before`: an earlier one's."""

    def __init__(self, prompt: tuple[int, ...], exact_key: str, before: Turn | None = None) -> None:
        begun = Begun(answer_id="a", parent_id="q", model_id="m", mode=None, sampling=Sampling(seed=1))
        told = Prompt(tokens=len(prompt), digest=ids_digest(prompt), state_key="s", exact_key=exact_key)
        self.turn = Turn(begun, told)
        if before is not None:
            self.turn.base = before.base
            self.turn.relays, self.turn.snapshots = list(before.relays), list(before.snapshots)
        self.is_full = False

    def base(self, digest: str | None, tokens: int, schedule: int, read: int) -> None:
        self._look()
        if self.turn.base is None or not schedule:
            self.turn.base = Base(digest=digest, tokens=tokens, schedule=schedule, read=read)

    def snapshot(self, position: int, digest: str) -> None:
        self._look()
        self.turn.snapshots.append(Snapshot(position=position, digest=digest))

    def relay(self, position: int) -> None:
        self._look()
        self.turn.relays.append(Relay(position=position))

    def _look(self) -> None:
        if self.is_full:
            raise DataFolderError("It was not noted", "the disk is full", "make room")
