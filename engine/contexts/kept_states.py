"""States of a context that are in memory: the last few that were saved or loaded.

Owns: which of them stay, which marks a state keeps, and how much of a prompt a state spares. Does not know how states
are taken, written or loaded (`keeper`, `store.snapshots`).

A conversation goes on from the state at its last answer's end, another one from its own, and both are had from here
without reading a file. Their bytes are pages of files where the store gives such memory, so the system can take them
back; marks are not, and count.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engine.backends.base import ContextState, Mark

STATES_KEPT = 6
KEPT_BYTES = 512 * 2**20
"""Besides the newest one, which stays whatever its size."""
LEAST_MARKS = 4
"""The end of the last prompt, of the answer before it, and two in what was read."""


@dataclass(eq=False)
class StateFile:
    """What became of a state's file; it may outlast the state in memory."""

    tokens: int
    state_bytes: int
    """The size of the whole state, without marks."""
    digest: str | None = None
    """By which the file is found again; None while it is not on the disk."""
    settled: threading.Event = field(default_factory=threading.Event)
    """It is on the disk, or will not be."""
    sessions: set[str] = field(default_factory=lambda: set[str]())
    """The conversations whose tokens it holds."""


@dataclass(eq=False)
class KeptState:
    """A state in memory."""

    state: ContextState
    file: StateFile

    @classmethod
    def of(cls, state: ContextState) -> "KeptState":
        """One that has no file yet."""
        return cls(state, StateFile(len(state.tokens), state.whole.nbytes))

    @property
    def tokens(self) -> int:
        """How many tokens the context held."""
        return self.file.tokens

    @property
    def size_bytes(self) -> int:
        """What it takes, its marks included."""
        return self.state.whole.nbytes + sum(mark.state.nbytes for mark in self.state.marks)


class KeptStates:
    """The states in memory, the newest first. `relieve` may be called from any thread."""

    def __init__(self) -> None:
        self._kept: list[KeptState] = []
        self._lock = threading.Lock()

    @property
    def all(self) -> list[KeptState]:
        """The newest first."""
        with self._lock:
            return list(self._kept)

    def add(self, kept: KeptState) -> None:
        """Keep it as the newest; the oldest go that there is no room for."""
        with self._lock:
            others = [each for each in self._kept if each is not kept]
            left, room = [kept], KEPT_BYTES
            for each in others[: STATES_KEPT - 1]:
                room -= each.size_bytes
                if room < 0:
                    break
                left.append(each)
            self._kept = left

    def drop(self, kept: KeptState) -> None:
        """Let go of one."""
        with self._lock:
            self._kept = [each for each in self._kept if each is not kept]

    def of(self, digest: str) -> KeptState | None:
        """The one with that digest."""
        return next((each for each in self.all if each.file.digest == digest), None)

    def relieve(self) -> None:
        """Let go of what is on the disk too."""
        with self._lock:
            self._kept = [each for each in self._kept if each.file.digest is None]


def thinned(state: ContextState) -> ContextState:
    """The state with as many marks as take half the room of the rest of it, and `LEAST_MARKS` at least.

    The cheapest to miss go first, as in `backends.checkpoints`: those nearest to the one before them.
    """
    marks = list(state.marks)
    room = state.whole.nbytes // 2
    total = sum(mark.state.nbytes for mark in marks)
    while len(marks) > LEAST_MARKS and total > room:
        before = [0, *(mark.tokens for mark in marks)]
        weighed = len(marks) - LEAST_MARKS
        index = min(range(weighed), key=lambda at: before[at + 1] - before[at])
        total -= marks.pop(index).state.nbytes
    return state if len(marks) == len(state.marks) else replace(state, marks=tuple(marks))


def usable(state: ContextState, tokens: Sequence[int], most: int, *, cuttable: bool) -> int:
    """How many of the first `most` of `tokens` a context would hold that is loaded with a state, as far as it goes."""
    common = common_length(state.tokens, tokens)
    if common == len(state.tokens) and (
        common <= most or (common == len(tokens) and state.logits is not None)
    ):
        return common
    common = min(common, most)
    return common if cuttable else last_mark(state.marks, common)


def last_mark(marks: Sequence[Mark], most: int) -> int:
    """The length of the longest mark of at most `most` tokens; 0 without one."""
    return max((mark.tokens for mark in marks if mark.tokens <= most), default=0)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    shorter = min(len(one), len(other))
    if tuple(one[:shorter]) == tuple(other[:shorter]):
        return shorter
    low, high = 0, shorter  # the first `low` agree, the first `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        if tuple(one[low:middle]) == tuple(other[low:middle]):
            low = middle
        else:
            high = middle
    return low
