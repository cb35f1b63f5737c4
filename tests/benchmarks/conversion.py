"""A conversion against `cp` of the same bytes on the same disk, and the memory that it takes.

The checkpoint has Flash's true tensor shapes, two layers and random valid numbers: 9.3 GB. Copying and converting
take turns, each from a cold cache and until everything is on the disk. Needs 30 GB in the temporary folder (TMPDIR).
"""

import contextlib
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from convert.expected_tensors import Expected, expected_tensors
from convert.model_shape import ModelShape
from tests.convert.released_configs import FLASH
from tests.convert.seeded_checkpoint import write_index, write_tokenizer

LAYERS = 2
ROUNDS = 3
NEEDED_BYTES = 30 << 30
RATIO_WANTED = 0.7
MEMORY_WANTED = 2 << 30
ROOT = Path(__file__).resolve().parents[2]
_CHILD = """
import resource, sys
from pathlib import Path
from convert.conversion import convert
from tests.convert.conversions import job
convert(job(Path(sys.argv[1]), Path(sys.argv[2])))
try:  # what getrusage says on Linux counts the process before this program, too
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0])
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("peak", peak)
"""


def write(folder: Path) -> int:
    """Write the checkpoint; the bytes of its tensors."""
    ratios = [0, 4, 128, 4][:LAYERS]
    changes = {"num_hidden_layers": LAYERS, "num_hash_layers": 1, "num_nextn_predict_layers": 0}
    config: dict[str, Any] = FLASH | changes | {"compress_ratios": ratios}
    expected = expected_tensors(ModelShape.from_config(config))
    groups: dict[str, list[str]] = {}
    for name in expected:
        part = name.split(".")
        groups.setdefault(part[1] if part[0] == "layers" else "end" if part[0] != "embed" else "", []).append(
            name
        )
    pools, weight_map = _pools(), dict[str, str]()
    folder.mkdir()
    for number, group in enumerate(sorted(groups), 1):
        shard = f"model-{number:05}-of-{len(groups):05}.safetensors"
        _write_shard(folder / shard, {name: expected[name] for name in groups[group]}, pools)
        weight_map |= dict.fromkeys(groups[group], shard)
    total = sum(each.size_bytes for each in expected.values())
    write_index(folder, weight_map, total)
    write_tokenizer(folder, "official", FLASH["vocab_size"])
    (folder / "config.json").write_text(json.dumps(config))
    return total


def _pools() -> dict[str, Any]:
    """Valid bytes of each format, to be cut from."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, 256 << 20, np.uint8)
    floats = (random.standard_normal(32 << 20) * 0.02).astype("<f4")
    return {
        "I8": codes,
        "F8_E4M3": np.where(codes & 0x7F == 0x7F, 0x30, codes).astype(np.uint8),
        "F8_E8M0": (codes[: 64 << 20] % 8 + 110).astype(np.uint8),
        "BF16": (floats.view("<u4") >> 16).astype("<u2").view(np.uint8),
        "F32": floats.view(np.uint8),
        "I64": random.integers(0, 256, 1 << 20).astype("<i8").view(np.uint8),
    }


def _write_shard(path: Path, tensors: dict[str, Expected], pools: dict[str, Any]) -> None:
    header: dict[str, Any] = {}
    at = 0
    for name, each in tensors.items():
        header[name] = {
            "dtype": each.dtype,
            "shape": list(each.shape),
            "data_offsets": [at, at + each.size_bytes],
        }
        at += each.size_bytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for number, each in enumerate(tensors.values()):
            pool, left = pools[each.dtype], each.size_bytes
            first = number * 7_340_032 % (len(pool) // 2) // 8 * 8
            while left:
                piece = pool[first : first + left]
                file.write(piece.data)
                left, first = left - len(piece), 0


def _cold(folder: Path) -> None:
    """Have everything on the disk and nothing of it in memory."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file() and hasattr(os, "posix_fadvise"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _timed(folder: Path, work: Callable[[], Any]) -> tuple[float, Any]:
    _cold(folder)
    began_s = time.perf_counter()
    result = work()
    os.sync()
    return time.perf_counter() - began_s, result


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    subprocess.run(["cp", *map(str, source.glob("*.safetensors")), str(target)], check=True)


def _convert(source: Path, target: Path) -> int:
    command = [sys.executable, "-c", _CHILD, str(source), str(target)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found = re.search(r"peak (\d+)", done.stdout)
    assert found
    return int(found[1]) * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def _room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> int:
    if shutil.disk_usage(tempfile.gettempdir()).free < NEEDED_BYTES:
        print(
            f"conversion: not measured, {tempfile.gettempdir()} has less than {NEEDED_BYTES >> 30} GiB free"
        )
        return 0
    with _room() as folder:
        source = folder / "DeepSeek-V4-Flash"
        total = write(source)
        copies, conversions, peaks = [], [], []
        for _ in range(ROUNDS):
            seconds, _ = _timed(folder, lambda: _copy(source, folder / "copy"))
            copies.append(seconds)
            shutil.rmtree(folder / "copy")
            seconds, peak = _timed(folder, lambda: _convert(source, folder / "m.gguf"))
            conversions.append(seconds)
            peaks.append(peak)
            for path in folder.glob("m.gguf*"):
                path.unlink()
    copied, converted = (total / statistics.median(each) / 1e9 for each in (copies, conversions))
    ratio, memory = converted / copied, max(peaks)
    print(f"conversion ÷ cp, {total / 1e9:.1f} GB: {converted:.2f} ÷ {copied:.2f} GB/s = {ratio:.2f} "
          f"(wanted ≥ {RATIO_WANTED})", flush=True)  # fmt: skip
    print(f"conversion, peak memory: {memory / 1e6:.0f} MB (wanted ≤ {MEMORY_WANTED / 1e6:.0f})", flush=True)
    return 0 if ratio >= RATIO_WANTED and memory <= MEMORY_WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
