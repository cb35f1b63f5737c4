"""States of contexts as no backend wrote them: seeded bytes of the form that half-precision numbers have."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.backends.base import ContextState, Mark
from engine.store.snapshot_index import About, Probe
from engine.store.snapshots import SnapshotStore

ABOUT = About("state key", "exact key", 10.0)


def bytes_like_a_cache(count: int, seed: int = 0) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    """`count` bytes of normally distributed float16."""
    numbers = np.random.default_rng(seed).standard_normal((count + 1) // 2, np.float32).astype(np.float16)
    return numbers.view(np.uint8)[:count].copy()


def state_of(
    tokens: Sequence[int], *, size: int = 5_000, marks: Sequence[int] = (), seed: int = 0, logits: int = 7
) -> ContextState:
    """A state that holds `tokens`, of `size` bytes, with marks at those lengths."""
    kept = tuple(Mark(length, bytes_like_a_cache(301, seed + length)) for length in marks)
    last = (np.arange(logits) / 3).astype(np.float32) if logits else None
    return ContextState(tuple(tokens), bytes_like_a_cache(size, seed), kept, last)


def probe_of(token: int = 3) -> Probe:
    """A probe with logits of its own."""
    return Probe(token, (np.arange(7) / 7).astype(np.float32))


def same_state(one: ContextState, other: ContextState) -> bool:
    """Whether both hold the same bits."""

    def bits(state: ContextState) -> object:
        logits = None if state.logits is None else state.logits.tobytes()
        return (
            state.tokens,
            state.whole.tobytes(),
            [(m.tokens, m.state.tobytes()) for m in state.marks],
            logits,
        )

    return bits(one) == bits(other)


def put(
    store: SnapshotStore, state: ContextState, about: About = ABOUT, probe: Probe | None = None
) -> tuple[str | None, Exception | None]:
    """Put a state and wait; what `done` was told."""
    told: list[tuple[str | None, Exception | None]] = []
    settled = threading.Event()

    def done(digest: str | None, error: Exception | None) -> None:
        told.append((digest, error))
        settled.set()

    store.put(state, probe, about, done)
    assert settled.wait(30) and store.settle(30)
    return told[0]


def kept_id(
    store: SnapshotStore, state: ContextState, about: About = ABOUT, probe: Probe | None = None
) -> str:
    """Put a state; the id of the snapshot that it became."""
    digest, error = put(store, state, about, probe)
    assert digest is not None, error
    found = store.by_digest(digest)
    assert found is not None
    return found.id


def files_in(folder: Path) -> list[str]:
    """Names of the files in `folder` itself."""
    return sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
