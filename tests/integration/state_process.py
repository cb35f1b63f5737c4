"""Another process that is given a state: what it writes, one line for each order, is compared with the first one's.

    python -m tests.integration.state_process BACKEND MODEL FOLDER KV_TYPE THREADS CONTEXT_TOKENS ORDER…

An order is `all` (the whole state is loaded), or the length of one of its marks; then tokens are written, with a
relay in the middle: the state is saved there and loaded again.
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.base import ContextState, Mark
from engine.protocol import Sampling
from engine.sampling import draw

WRITTEN_TOKENS = 24
READ_TOKENS = 40
_random = np.random.default_rng(5)
TOKENS = [int(each) for each in _random.integers(3, 259, 2000)]
SAMPLING = Sampling(temperature=1.0, top_p=0.95, min_p=0.0, seed=11)


def quiet(done: int, total: int, reused: int) -> None:
    pass


def never() -> bool:
    return False


def room(size_bytes: int) -> NDArray[np.uint8]:
    return np.empty(size_bytes, np.uint8)


def opened(
    path: Path,
    *,
    backend: str = "llamacpp",
    kv_type: str = "f16",
    threads: int = 1,
    context_tokens: int = 1024,
) -> Any:
    if backend == "native":
        from engine.backends.native import NativeBackend

        return NativeBackend.open(
            path,
            name="Model",
            context_tokens=context_tokens,
            threads=threads,
            cache_type=kv_type,  # type: ignore[arg-type]
        )
    from engine.backends.llamacpp import LlamaCppBackend

    return LlamaCppBackend.open(
        path,
        name="Model",
        context_tokens=context_tokens,
        threads=threads,
        kv_type=kv_type,  # type: ignore[arg-type]
        on_progress=lambda _fraction: True,
    )


def written(backend: Any, count: int = WRITTEN_TOKENS) -> str:
    """Tokens drawn and written one by one: a digest of every logit on the way."""
    digest = hashlib.blake2b(digest_size=16)
    for _ in range(count):
        logits = backend.logits()
        assert np.isfinite(logits).all()
        digest.update(logits.tobytes())
        backend.step(draw(logits, SAMPLING, len(backend.held)))
    digest.update(backend.logits().tobytes())
    return digest.hexdigest()


def relay(backend: Any) -> None:
    """Go on from what is saved, as one that is given it would."""
    backend.load(backend.save(room))


def followed(backend: Any, state: ContextState, length: int | None) -> str:
    """What follows a state, or one of its marks: a prompt is read behind that, and then tokens are written."""
    backend.load(state, length)
    if length is not None:
        backend.sync([*state.tokens[:length], *TOKENS[-READ_TOKENS:]], quiet, never)
    first = written(backend)
    relay(backend)
    return f"{first} {written(backend)}"


def write(state: ContextState, folder: Path) -> None:
    """Each array in a file of its own."""
    folder.mkdir()
    np.save(folder / "tokens.npy", np.array(state.tokens))
    np.save(folder / "whole.npy", state.whole)
    if state.logits is not None:
        np.save(folder / "logits.npy", state.logits)
    for mark in state.marks:
        np.save(folder / f"mark-{mark.tokens:08}.npy", mark.state)


def read(folder: Path) -> ContextState:
    """What `write` wrote."""
    marks = [Mark(int(each.stem[5:]), np.load(each)) for each in sorted(folder.glob("mark-*.npy"))]
    tokens = tuple(int(each) for each in np.load(folder / "tokens.npy"))
    return ContextState(tokens, np.load(folder / "whole.npy"), tuple(marks), np.load(folder / "logits.npy"))


def main(
    name: str, model: str, folder: str, kv_type: str, threads: str, context_tokens: str, *orders: str
) -> None:
    """Do the orders, one behind the other, in one context."""
    backend = opened(
        Path(model), backend=name, kv_type=kv_type, threads=int(threads), context_tokens=int(context_tokens)
    )
    state = read(Path(folder))
    for order in orders:
        print(followed(backend, state, None if order == "all" else int(order)))
    backend.close()


def arguments(orders: Sequence[object]) -> list[str]:
    """Orders as the process takes them."""
    return ["all" if each is None else str(each) for each in orders]


if __name__ == "__main__":
    main(*sys.argv[1:])
