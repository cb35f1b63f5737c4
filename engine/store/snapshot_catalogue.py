"""Which snapshots there are, as they are known in memory: finding the longest that serves, choosing which go.

Owns: the entries, what is protected, and common beginnings. Does not read or write states, and deletes nothing; who
takes an entry out (`snapshots`) does that.
"""

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.backends.base import ContextState
from engine.store.snapshot_budget import Weighed, to_evict
from engine.store.snapshot_index import About, Ids, SnapshotIndex, grid_lengths, token_sums


@dataclass(frozen=True)
class Found:
    """A snapshot that serves for something."""

    id: str
    tokens: int
    """How many of the tokens asked for a context would hold that was loaded with it."""
    whole_tokens: int
    digest: str
    exact_key: str
    bytes: int
    """The file's size."""


@dataclass
class Entry:
    """A snapshot's file. `used_at_s`: when it was last written or read, seconds since the epoch."""

    path: Path
    size_bytes: int
    used_at_s: float
    index: SnapshotIndex
    sums: dict[int, str] = field(init=False)
    """Of the tokens, at the lengths of the grid, of the marks, and of all."""

    def __post_init__(self) -> None:
        marks = {mark.tokens: mark.tokens_sum for mark in self.index.marks}
        self.sums = dict(self.index.grid) | marks | {self.index.tokens: self.index.tokens_sum}

    @property
    def id(self) -> str:
        """By which it is known: the file's name without its suffix."""
        return self.path.stem

    @property
    def lengths(self) -> list[int]:
        """To which a context can be brought that was loaded with it, but for cutting."""
        return [*(mark.tokens for mark in self.index.marks), self.index.tokens]

    def found(self, tokens: int) -> Found:
        """As something that serves for so many tokens."""
        index = self.index
        return Found(self.id, tokens, index.tokens, index.digest, index.about.exact_key, self.size_bytes)

    def weighed(self, now_s: float, *, protected: bool) -> Weighed:
        """As the rule of the budget sees it."""
        grid = dict(self.index.grid)
        lengths = {*self.lengths, *(grid if self.index.about.cuttable else ())}
        places = [
            (grid[behind[-1]], length) for length in sorted(lengths) if (behind := grid_lengths(length))
        ]
        about = self.index.about
        return Weighed(
            self.id,
            self.size_bytes,
            about.cost_s,
            self.index.tokens,
            now_s - self.used_at_s,
            protected,
            frozenset(f"{about.state_key} {each}" for each in grid.values()),
            tuple((f"{about.state_key} {beginning}", length) for beginning, length in places),
        )


class SnapshotCatalogue:
    """The entries. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._protected: frozenset[str] = frozenset()
        self._fresh: str | None = None

    @property
    def entries(self) -> list[Entry]:
        """All of them."""
        with self._lock:
            return list(self._entries.values())

    @property
    def protected_bytes(self) -> int:
        """What those take that may not go."""
        with self._lock:
            return sum(each.size_bytes for each in self._entries.values() if each.id in self._protected)

    def add(self, entry: Entry, *, fresh: bool = False) -> None:
        """Know it from now on. A fresh one cannot go until it is `settled`."""
        with self._lock:
            self._entries[entry.id] = entry
            if fresh:
                self._fresh = entry.id

    def settled(self) -> None:
        """The fresh one can go like others."""
        with self._lock:
            self._fresh = None

    def get(self, snapshot_id: str) -> Entry | None:
        """The entry of that id."""
        with self._lock:
            return self._entries.get(snapshot_id)

    def take(self, snapshot_id: str) -> Entry | None:
        """Take the entry of that id out; None when there is none any more."""
        with self._lock:
            return self._entries.pop(snapshot_id, None)

    def take_all(self) -> list[Entry]:
        """Take all out."""
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
            return entries

    def take_to_evict(self, room_bytes: int) -> list[Entry]:
        """Take out those that have to go so that the rest takes at most `room_bytes`, as far as they may go."""
        with self._lock:
            now = time.time()
            guarded = self._protected | {self._fresh}
            weighed = [each.weighed(now, protected=each.id in guarded) for each in self._entries.values()]
            return [self._entries.pop(each) for each in to_evict(weighed, room_bytes)]

    def protect(self, ids: Collection[str]) -> None:
        """From now on these may not go, and those named before may."""
        with self._lock:
            self._protected = frozenset(ids)

    def alike(self, about: About, state: ContextState) -> list[Entry]:
        """Those of the same keys and tokens, with marks at the same places, of the same sizes."""
        ((_, tokens_sum),) = token_sums(state.tokens, [len(state.tokens)])
        marks = [(mark.tokens, mark.state.nbytes) for mark in state.marks]
        return [
            each
            for each in self.entries
            if (each.index.about.state_key, each.index.about.exact_key) == (about.state_key, about.exact_key)
            and each.index.tokens_sum == tokens_sum
            and each.index.whole_bytes == state.whole.nbytes
            and [(mark.tokens, mark.size_bytes) for mark in each.index.marks] == marks
        ]

    def of_digest(self, digest: str) -> Entry | None:
        """The one of exactly these bits."""
        return next((each for each in self.entries if each.index.digest == digest), None)

    def serving(self, state_key: str, tokens: Sequence[int], *, any_prefix: bool) -> list[tuple[int, Entry]]:
        """For how many of `tokens` each serves that serves at all, the most first; of equals the one used last.

        `any_prefix`: what is common to both counts, as far as the sums tell; else all of a snapshot, or what lies
        before one of its marks.
        """
        entries = [each for each in self.entries if each.index.about.state_key == state_key]
        wanted = {length for each in entries for length in (each.sums if any_prefix else each.lengths)}
        sums = dict(token_sums(tokens, sorted(length for length in wanted if length <= len(tokens))))
        served: list[tuple[int, Entry]] = []
        for each in entries:
            lengths = each.sums if any_prefix else each.lengths
            common = max((length for length in lengths if each.sums[length] == sums.get(length)), default=0)
            if common:
                served.append((common, each))
        return by_length(served)


def by_length(served: list[tuple[int, Entry]]) -> list[tuple[int, Entry]]:
    """The longest first; of equal lengths the one used last."""
    return sorted(served, key=lambda pair: (pair[0], pair[1].used_at_s), reverse=True)


def common_tokens(own: Ids, wanted: Sequence[int], least: int) -> int:
    """How many of the first tokens are the same in both, when the first `least` are."""
    ids = np.asarray(wanted, "<u4")
    shorter = min(own.size, ids.size)
    differ = np.flatnonzero(own[least:shorter] != ids[least:shorter])
    return least + int(differ[0]) if differ.size else shorter
