"""Fetching from a hub on this machine, against `snapshot_download` of huggingface_hub from the same hub.

    TMPDIR=/where/there/is/room python -m tests.benchmarks.fetching

Both run in fresh processes, in turns, over plain HTTP (HF_HUB_DISABLE_XET=1), from a hub in a process of its own;
ours computes the SHA-256 of everything on the way, which the other does not. Prints the ratio of the medians and the
peak memory of a whole job.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.local_hub import HubProcess, write_random_files

ROOT = Path(__file__).resolve().parents[2]
NAME = "some/checkpoint"
SHARDS = 8
SHARD_BYTES = 250_000_000
ROUNDS = 5
NEEDED_BYTES = 3 * SHARDS * SHARD_BYTES
RATIO_WANTED = 0.9
MEMORY_WANTED = 150e6

_THEIRS = """
import resource, sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], local_dir=sys.argv[2])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
_OURS = """
import resource, sys
from engine.library.fetching.fetch_work import fetch
from engine.protocol import Settings
from engine.protocol_jobs import FetchRequest
settings = Settings()
fetch(FetchRequest(what=sys.argv[1], folder=sys.argv[2]), settings=lambda: settings, access=None,
      report=lambda _: None, stopped=lambda: False)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _timed(program: str, address: str, target: Path, home: Path) -> tuple[float, int]:
    """(seconds, peak memory in bytes) of one download in a fresh process; what it wrote is removed."""
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    os.sync()
    began_s = time.perf_counter()
    command = [sys.executable, "-c", program, NAME, str(target)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    os.sync()
    elapsed_s = time.perf_counter() - began_s
    fetched = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    assert fetched == SHARDS * SHARD_BYTES, fetched
    shutil.rmtree(target)
    found = re.search(r"peak (\d+)", done.stdout)
    assert found
    return elapsed_s, int(found[1]) * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    if shutil.disk_usage(tempfile.gettempdir()).free < NEEDED_BYTES:
        print(f"fetching: not measured, {tempfile.gettempdir()} has less than {NEEDED_BYTES >> 30} GiB free")
        return 0
    ours, theirs, peaks = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {f"model-{number:05}-of-{SHARDS:05}.safetensors": SHARD_BYTES for number in range(SHARDS)}
        write_random_files(folder / "hub" / NAME, sizes)
        with HubProcess(folder / "hub") as hub:
            _timed(_THEIRS, hub.address, folder / "got", folder / "home")  # the hub computes its digests once
            for _ in range(ROUNDS):
                theirs.append(_timed(_THEIRS, hub.address, folder / "got", folder / "home")[0])
                elapsed_s, peak = _timed(_OURS, hub.address, folder / "got", folder / "home")
                ours.append(elapsed_s)
                peaks.append(peak)
    total = SHARDS * SHARD_BYTES
    mine, other = (total / statistics.median(each) / 1e9 for each in (ours, theirs))
    ratio, memory = mine / other, max(peaks)
    print(f"fetching ÷ snapshot_download, {total / 1e9:.1f} GB: {mine:.2f} ÷ {other:.2f} GB/s = {ratio:.2f} "
          f"(wanted ≥ {RATIO_WANTED})", flush=True)  # fmt: skip
    print(f"fetching, peak memory: {memory / 1e6:.0f} MB (wanted ≤ {MEMORY_WANTED / 1e6:.0f})", flush=True)
    return 0 if ratio >= RATIO_WANTED and memory <= MEMORY_WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
