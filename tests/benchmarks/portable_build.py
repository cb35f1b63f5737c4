"""The llama.cpp that runs on any processor against the one that was compiled for this very one.

    python -m tests.benchmarks.portable_build                  # two minutes and more
    python -m tests.benchmarks.portable_build --threads 2

Two processes, each with the starter model loaded by one of them, take turns: a prompt is read, and tokens are written
behind it. How fast a process is depends on where its memory happened to lie, so several pairs of new processes do
that; a figure is the median over the pairs of the ratio of their medians. Other work on the machine takes turns with
both alike, but disturbs: the load is printed.
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

    def round(self) -> tuple[float, float]:
        """Tokens a second, read and written."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        read_s, written_s = map(float, self._line().split())
        return (READ - 1) / read_s, WRITTEN / written_s

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
        began_s = time.perf_counter()
        backend.sync(tokens[:READ], lambda _a, _b, _c: None, lambda: False)
        read_s = time.perf_counter()
        for token in tokens[READ:]:
            backend.step(token)
        print(read_s - began_s, time.perf_counter() - read_s, flush=True)
    backend.close()


def pair(libraries: Path, threads: int) -> list[tuple[float, float]]:
    """The medians of one pair of processes, portable and native, of reading and of writing."""
    players = [Process(libraries, threads), Process(None, threads)]
    try:
        for each in players:
            each.round()
        rounds: list[list[tuple[float, float]]] = [[], []]
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
    for at, what in enumerate(("read", "written")):
        ratios = [each[at][0] / each[at][1] for each in pairs]
        portable, native = (statistics.median(each[at][who] for each in pairs) for who in (0, 1))
        ratio = statistics.median(ratios)
        held &= ratio >= WANTED
        print(
            f"portable ÷ native, tokens {what} a second, {asked.threads} thread(s): {portable:.1f} ÷ {native:.1f}, "
            f"ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}; wanted ≥ {WANTED})"
        )
    return held


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
