"""The llama.cpp that runs on any processor against the one that was compiled for this very one.

    python -m tests.benchmarks.portable_build                  # two minutes and more
    python -m tests.benchmarks.portable_build --threads 2

Two processes, each with the starter model loaded by one of them, take turns: a prompt is read, and tokens are written
behind it. How fast a process is depends on where its memory happened to lie, so several pairs of new processes do
that; a figure is the median over the pairs of the ratio of their medians. By the clock other work on the machine
disturbs, and the load is printed; with one thread, which waits for no other, processor time is the fairer measure, and
the one that has to hold.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from engine.backends.ggml_library import FOLDER_VARIABLE
from tests.benchmarks.against_sweep import starter
from tests.support.portable_llama import HOW, portable_folder

ROOT = Path(__file__).resolve().parents[2]
PAIRS, ROUNDS = 5, 5
READ, WRITTEN = 256, 32
WANTED = 0.97
SENTENCE = "The deep sea begins where the light of day ends, and it is older than the land. "


class Process:
    """One that has the model loaded by the libraries in a folder; None: those of llama-cpp-python."""

    def __init__(self, libraries: Path | None, threads: int) -> None:
        environment = {key: value for key, value in os.environ.items() if key != FOLDER_VARIABLE}
        if libraries is not None:
            environment[FOLDER_VARIABLE] = str(libraries)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.portable_build", "--player", "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self.variant = self._line()

    def round(self) -> tuple[float, ...]:
        """Tokens a second, read and written by the clock, and by processor time."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        tokens = (READ - 1, WRITTEN) * 2
        return tuple(
            count / seconds for count, seconds in zip(tokens, map(float, self._line().split()), strict=True)
        )

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process that was to compute has ended")
        return line.strip()


def play(threads: int) -> None:
    """The process: a round for each line of its input."""
    from engine.backends.llama_library import backends
    from engine.backends.llamacpp import LlamaCppBackend

    backend = LlamaCppBackend.open(
        starter(), name="starter", context_tokens=1024, threads=threads, on_progress=lambda _: True
    )
    tokens = backend.tokenize(SENTENCE * 40)[: READ + WRITTEN]
    print(backends.variant or "native", flush=True)
    for _ in sys.stdin:
        backend.sync(tokens[:1], lambda _a, _b, _c: None, lambda: False)  # all behind the first is forgotten
        began = time.perf_counter(), time.process_time()
        backend.sync(tokens[:READ], lambda _a, _b, _c: None, lambda: False)
        read = time.perf_counter(), time.process_time()
        for token in tokens[READ:]:
            backend.step(token)
        ended = time.perf_counter(), time.process_time()
        spans = [(read[at] - began[at], ended[at] - read[at]) for at in (0, 1)]
        print(*spans[0], *spans[1], flush=True)
    backend.close()


def pair(libraries: Path, threads: int) -> list[tuple[float, float]]:
    """The medians of one pair of processes, portable and native, of reading and of writing."""
    players = [Process(libraries, threads), Process(None, threads)]
    try:
        for each in players:
            each.round()
        rounds: list[list[tuple[float, ...]]] = [[], []]
        for number in range(ROUNDS):
            for which in (0, 1) if number % 2 else (1, 0):
                rounds[which].append(players[which].round())
    finally:
        for each in players:
            each.close()
    portable, native = ([statistics.median(rates) for rates in zip(*each, strict=True)] for each in rounds)
    return list(zip(portable, native, strict=True))


def main() -> bool:
    """Print the figures; True when each holds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--libraries", type=Path, default=None)
    parser.add_argument("--player", action="store_true")
    asked = parser.parse_args()
    if asked.player:
        play(asked.threads)
        return True
    libraries = asked.libraries or portable_folder()
    if libraries is None:
        print(f"portable build: not measured, because it is not built here (`{HOW}`)")
        return True
    load = os.getloadavg()[0]
    print(f"portable build: load of the machine {load:.1f} on {os.cpu_count()} processors")
    pairs = [pair(libraries, asked.threads) for _ in range(PAIRS)]
    held = True
    by_processor = asked.threads == 1
    kinds = [(what, by) for by in ("the clock", "processor time") for what in ("read", "written")]
    for at, (what, by) in enumerate(kinds):
        ratios = [each[at][0] / each[at][1] for each in pairs]
        portable, native = (statistics.median(each[at][who] for each in pairs) for who in (0, 1))
        ratio = statistics.median(ratios)
        counts = (by == "processor time") == by_processor
        held &= ratio >= WANTED or not counts
        print(
            f"portable ÷ native, tokens {what} a second by {by}, {asked.threads} thread(s): {portable:.1f} ÷ "
            f"{native:.1f}, ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}"
            + (f"; wanted ≥ {WANTED})" if counts else ")")
        )
    return held


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
