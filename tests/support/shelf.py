"""Snapshots that lie in memory, in the place of `SnapshotStore`: what a test looks at, loses, spoils or refuses.

One outlives the keepers that use it, as a folder outlives processes.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.backends.base import ContextState
from engine.contexts.kept_states import common_length, last_mark
from engine.errors import DataFolderError
from engine.store.snapshot_catalogue import Found
from engine.store.snapshot_index import About, Probe


@dataclass
class _Kept:
    state: ContextState
    probe: Probe | None
    about: About


class Shelf:
    """`refuses`: nothing is written. `holds_back`: nothing is written until `write` is called."""

    def __init__(self) -> None:
        self.files: dict[str, _Kept] = {}
        self.quarantined: dict[str, str] = {}
        self.protected: list[str] = []
        self.refuses = False
        self.holds_back = False
        self.has_room = True
        self.loads = 0
        self._waiting: list[tuple[ContextState, Probe | None, About, Callable[..., None]]] = []

    def room(self, size_bytes: int) -> NDArray[np.uint8]:
        if not self.has_room:
            raise OSError(28, "No space left on device")
        return np.zeros(size_bytes, np.uint8)

    def put(
        self,
        state: ContextState,
        probe: Probe | None,
        about: About,
        done: Callable[[str | None, Exception | None], None],
    ) -> None:
        self._waiting.append((state, probe, about, done))
        if not self.holds_back:
            self.write()

    def write(self) -> None:
        """Write what waits."""
        while self._waiting:
            state, probe, about, done = self._waiting.pop(0)
            if self.refuses:
                done(None, DataFolderError("It was not written", "the disk is full", "make room"))
                continue
            digest = _digest(state)
            self.files[digest] = _Kept(state, probe, about)
            done(digest, None)

    def settle(self, timeout_s: float) -> bool:
        return not self._waiting

    def find(self, state_key: str, tokens: Sequence[int], *, any_prefix: bool) -> list[Found]:
        found: list[Found] = []
        for digest, kept in self.files.items():
            common = common_length(kept.state.tokens, tokens)
            if common < len(kept.state.tokens) and not any_prefix:
                common = last_mark(kept.state.marks, common)
            if common and kept.about.state_key == state_key:
                found.append(replace(self._found(digest), tokens=common))
        return sorted(found, key=lambda each: -each.tokens)

    def by_digest(self, digest: str) -> Found | None:
        return self._found(digest) if digest in self.files else None

    def load(self, snapshot_id: str) -> tuple[ContextState, Probe | None]:
        self.loads += 1
        kept = self.files[snapshot_id]
        return kept.state, kept.probe

    def quarantine(self, snapshot_id: str, why: str) -> None:
        self.quarantined[snapshot_id] = why
        del self.files[snapshot_id]

    def forget(self, ids: Collection[str]) -> list[str]:
        for each in ids:
            del self.files[each]
        return list(ids)

    def protect(self, ids: Collection[str]) -> None:
        self.protected = list(ids)

    def _found(self, digest: str) -> Found:
        kept = self.files[digest]
        length = len(kept.state.tokens)
        return Found(digest, length, length, digest, kept.about.exact_key, kept.state.whole.nbytes)


def _digest(state: ContextState) -> str:
    summed = hashlib.blake2b(repr(state.tokens).encode(), digest_size=32)
    summed.update(state.whole.data)
    for mark in state.marks:
        summed.update(mark.state.data)
    if state.logits is not None:
        summed.update(state.logits.tobytes())
    return summed.hexdigest()
