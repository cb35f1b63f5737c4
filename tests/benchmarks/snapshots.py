"""What it takes to write and read states of the size that DeepSeek-V4-Flash's have, and what answers feel of it.

The states are random float16, which can be compressed about as well as a real memory in F16. Of two lengths, with
and without compression, told are the seconds to write one (durable), the file's size against the state's, and the
seconds to read it back with all its sums looked at: with its pages in memory, and after they were given up, of which
the difference is the disk. The wanted figure is that of the reading without the disk.

Then the starter model writes an answer with as many threads as the program gives it, alone and while a `SnapshotStore`
writes a state of the larger size, in turns. The ratio of the medians of the rates is what an answer keeps of its speed
in that time; it is told, and no figure is wanted: the processor time that writing takes is told above.
"""

import os
import statistics
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from engine.backends.base import ContextState, Mark
from engine.backends.llamacpp import LlamaCppBackend
from engine.store.snapshot_file import read_snapshot, write_snapshot
from engine.store.snapshot_index import About
from engine.store.snapshot_room import own_memory
from engine.store.snapshots import SnapshotStore
from tests.benchmarks.against_sweep import starter

TOKENS = (20_000, 100_000)
TOKEN_BYTES = 6880
"""Flash with its memory in F16: 21 layers of 320 numbers and 20 of 8 for each token (docs/snapshots.md)."""
FIXED_BYTES = 17 << 20
MOST_READING_S = 3.0
ROUNDS = 3
STEPS = 8
"""Tokens of which the rate is taken at a time."""
SPARE_BYTES = 6 << 30
ABOUT = About("key", "exact", 3600.0)


def _state(tokens: int) -> ContextState:
    size = tokens * TOKEN_BYTES + FIXED_BYTES
    numbers = np.random.default_rng(tokens).standard_normal(size // 2, np.float32).astype(np.float16)
    memory = numbers.view(np.uint8)
    return ContextState(tuple(range(tokens)), memory, (Mark(tokens - 2, memory[:FIXED_BYTES].copy()),))


def _read_s(path: Path, state: ContextState, *, given_up: bool) -> float:
    if given_up:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began_s = time.perf_counter()
    found, _, _ = read_snapshot(path, own_memory)
    seconds = time.perf_counter() - began_s
    if not np.array_equal(found.whole, state.whole):
        raise AssertionError("a state was not read as it was written")
    return seconds


def _files(folder: Path) -> bool:
    held = True
    for tokens in TOKENS:
        state = _state(tokens)
        size = state.whole.nbytes + FIXED_BYTES
        for compress in (True, False):
            path = folder / f"{tokens}-{compress}"
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            write_snapshot(path, state, None, ABOUT, compress=compress)
            written_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
            warm_s = _read_s(path, state, given_up=False)
            cold_s = _read_s(path, state, given_up=True)
            held &= warm_s <= MOST_READING_S
            print(f"snapshots, {tokens:,} tokens, {size / 1e6:,.0f} MB, {'' if compress else 'not '}compressed: "
                  f"written in {written_s:.2f} s ({cpu_s:.2f} s of a processor) as {path.stat().st_size / size:.0%}, "
                  f"read in {warm_s:.2f} s (wanted ≤ {MOST_READING_S}) and {max(0.0, cold_s - warm_s):.2f} s for the "
                  "disk", flush=True)  # fmt: skip
            path.unlink()
    return held


def _unheard(done: int, total: int, reused: int) -> None:
    """Progress that nobody asked for."""


def _rate(backend: LlamaCppBackend, prompt: list[int]) -> float:
    """Tokens per second of an answer."""
    backend.sync(prompt, _unheard, lambda: False)
    began_s = time.perf_counter()
    for _ in range(STEPS):
        backend.step(int(np.argmax(backend.logits())))
    return STEPS / (time.perf_counter() - began_s)


def _beside(folder: Path) -> None:
    backend = LlamaCppBackend.open(
        starter(), name="starter", context_tokens=1024, threads=0, on_progress=lambda _: True
    )
    prompt = backend.tokenize("The deep sea begins where the light of day ends. " * 8)
    store = SnapshotStore(folder / "store", lambda: SPARE_BYTES, leaves_free=lambda _: 0)
    state = _state(TOKENS[-1])
    alone: list[float] = []
    beside: list[float] = []
    _rate(backend, prompt)  # warms up
    for number in range(ROUNDS):
        alone += [_rate(backend, prompt) for _ in range(4)]
        ended = threading.Event()
        outcome: list[Any] = []

        def done(*told: Any, ended: threading.Event = ended, outcome: list[Any] = outcome) -> None:
            outcome.extend(told)
            ended.set()

        other = ContextState((number, *state.tokens[1:]), state.whole, state.marks)
        began_s = time.perf_counter()
        store.put(other, None, ABOUT, done)
        rates: list[float] = []
        while not ended.is_set():
            rates.append(_rate(backend, prompt))
        written_s = time.perf_counter() - began_s
        if outcome[0] is None:
            raise outcome[1]
        beside += rates[:-1] or rates  # the last ran partly after the end
        print(f"snapshots, beside an answer: written in {written_s:.1f} s, {len(rates) * STEPS} tokens meanwhile",
              flush=True)  # fmt: skip
        store.forget_all()
    store.close()
    backend.close()
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"snapshots, speed of an answer while a state is written ÷ alone: {ratio:.2f}")


def main() -> bool:
    """Print the figures; True when each holds."""
    print(f"snapshots: load {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} processors", flush=True)
    with TemporaryDirectory() as scratch:
        held = _files(Path(scratch))
        _beside(Path(scratch))
        return held


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
