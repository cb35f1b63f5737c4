"""What a person downloads and starts: sizes, the first painted window, and answers, of the package that was built.

    python -m tests.benchmarks.installed                  # about two minutes; `make dist` comes before it
    python -m tests.benchmarks.installed --dist FOLDER

The package's files are laid out as it would install them. The window is started several times on a virtual X server
after a warm-up, so the disk's cache is warm, each time by a person who is new (an empty home); timed from outside until
it says that it is painted. Answers: the installed program and the one of this checkout, whose llama.cpp was compiled
for this very processor, time the starter model in turn, in new processes each, since how fast one is depends on where
its memory happened to lie; the ratio is the median over the pairs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.paths import DataFolder
from tests.benchmarks.against_sweep import starter
from tests.benchmarks.window import end_when_listening
from tests.end_to_end.virtual_display import virtual_display

ROOT = Path(__file__).resolve().parents[2]
DOWNLOAD_WANTED_MB, FOLDER_WANTED_MB = 200, 600
FIRST_PAINT_WANTED_S = 2.0
RATIO_WANTED = 0.97
STARTS, PAIRS = 5, 5
BENCH = ("--json", "--threads", "1", "--prompt-tokens", "256")


def sizes(package: Path, installed: Path) -> bool:
    """The package, and the files that it puts on the disk, links not counted."""
    download_mb = package.stat().st_size / 1e6
    files = [path for path in installed.rglob("*") if path.is_file() and not path.is_symlink()]
    folder_mb = sum(path.stat().st_size for path in files) / 1e6
    print(
        f"{package.name}: {download_mb:.0f} MB (wanted ≤ {DOWNLOAD_WANTED_MB}); installed {folder_mb:.0f} MB in "
        f"{len(files)} files (wanted ≤ {FOLDER_WANTED_MB})"
    )
    for path in sorted(package.parent.glob("seamount*.[dt]*[brx]*")):
        print(f"  {path.name}: {path.stat().st_size / 1e6:.1f} MB")
    return download_mb <= DOWNLOAD_WANTED_MB and folder_mb <= FOLDER_WANTED_MB


def _environment(home: str, **more: str) -> dict[str, str]:
    # As on a desktop that knows nothing of this checkout.
    return {"HOME": home, "LANG": "C.UTF-8", "PATH": os.environ["PATH"], **more}


def first_paint(program: Path) -> bool:
    """From starting it to its word that the window is painted."""
    times: list[float] = []
    with virtual_display():
        for number in range(STARTS + 1):
            with TemporaryDirectory() as home:
                environment = _environment(home, DISPLAY=os.environ["DISPLAY"], SEAMOUNT_TRACE_STARTUP="1")
                began_s = time.perf_counter()
                window = subprocess.Popen([program], env=environment, stderr=subprocess.PIPE, text=True)
                assert window.stderr is not None
                said = window.stderr.readline()
                taken_s = time.perf_counter() - began_s
                assert said.startswith("first_paint"), said + window.stderr.read()
                window.terminate()
                window.wait(20)
                window.stderr.close()
                end_when_listening(DataFolder(Path(home) / ".local/share/seamount"))
                if number:
                    times.append(taken_s)
    median = statistics.median(times)
    print(
        f"first paint: {median:.2f} s after the installed program is started (median of {STARTS}; "
        f"{min(times):.2f} to {max(times):.2f}; wanted ≤ {FIRST_PAINT_WANTED_S})"
    )
    return median <= FIRST_PAINT_WANTED_S


def _rates(command: Sequence[str | Path]) -> tuple[float, float]:
    """Tokens a second that a program's own `bench` tells of the starter: read, written."""
    with TemporaryDirectory() as home:
        done = subprocess.run(
            [*command, "bench", str(starter()), *BENCH], env=_environment(home), capture_output=True, text=True
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = json.loads(done.stdout)["runs"]
    return run["prefill_tokens_per_s"], run["decode_tokens_per_s"]


def answers(program: Path) -> bool:
    """How fast it is beside this checkout's, whose llama.cpp is for this processor."""
    native = [sys.executable, "-m", "seamount"]
    pairs: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for number in range(PAIRS):
        turns = [_rates(command) for command in ([[program], native] if number % 2 else [native, [program]])]
        pairs.append((turns[0], turns[1]) if number % 2 else (turns[1], turns[0]))
    held = True
    for at, what in enumerate(("read", "written")):
        ratios = [bundled[at] / own[at] for bundled, own in pairs]
        rates = [statistics.median(each[who][at] for each in pairs) for who in (0, 1)]
        median = statistics.median(ratios)
        held = held and median >= RATIO_WANTED
        print(
            f"installed ÷ native, tokens {what} a second: {rates[0]:.1f} ÷ {rates[1]:.1f}, ratio {median:.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f}; wanted ≥ {RATIO_WANTED})"
        )
    return held


def main() -> bool:
    """Print the figures; True when all hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    packages = sorted(parser.parse_args().dist.glob("seamount_*_amd64.deb"))
    if not packages:
        print("the installed program: not measured, because there is no package (`make dist` makes it)")
        return True
    print(f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with TemporaryDirectory() as scratch:
        installed = Path(scratch)
        subprocess.run(["dpkg-deb", "-x", str(packages[-1]), scratch], check=True)
        program = installed / "usr/bin/seamount"
        return all([sizes(packages[-1], installed), first_paint(program), answers(program)])


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
