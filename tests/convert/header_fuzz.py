"""Mutated headers: bytes flipped, lengths changed, JSON rewritten; each must be read or refused, nothing else.

    python -m tests.convert.header_fuzz --seconds 600 --seed 1

runs for that long and prints a line of figures. A failure leaves the file that caused it and names it. Every case
is checked for the kind of exception, for the time it takes and for the memory it takes (as tracemalloc counts).
"""

import argparse
import json
import random
import struct
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.checkpoint import CONFIG, INDEX, Checkpoint, read_config
from convert.checkpoint_error import CheckpointError
from convert.gguf_header import GgufError, read_gguf_header
from convert.model_shape import ModelShape
from convert.safetensors_header import read_safetensors_header
from tests.convert.seeded_checkpoint import write_checkpoint

MEMORY_BOUND_BYTES = 16 << 20
"""No case may take more. The headers that are mutated are at most some 100 kB long."""
TIME_BOUND_S = 5.0

_NUMBERS = (0, 1, -1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    0.5,
    "",
    "x" * 5000,
    [],
    {},
    [[]],
    "\ud800",
    "../a.safetensors",
    "/etc",
)
_TOKENS = (b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u", b"\xff", b"\0", b"1e999", b"NaN", b"-")


@dataclass
class Figures:
    """What a run has seen."""

    cases: int = 0
    refused: int = 0
    peak_bytes: int = 0
    slowest_s: float = 0.0


def run(folder: Path, *, seed: int, seconds: float = 0.0, cases: int = 0) -> Figures:
    """Mutate in `folder` for that long and that many times at least; raises at the first failure."""
    source = random.Random(seed)
    checkpoint = write_checkpoint(folder / "model", layers=3, seed=seed, hidden_size=128, n_routed_experts=2)
    shard = min(checkpoint.glob("model-*.safetensors"))
    targets: list[tuple[Path, Callable[[], object]]] = [
        (shard, lambda: read_safetensors_header(shard)),
        (shard, lambda: Checkpoint.survey(checkpoint)),
        (checkpoint / INDEX, lambda: Checkpoint.survey(checkpoint)),
        (checkpoint / CONFIG, lambda: ModelShape.from_config(read_config(checkpoint))),
        (folder / "model.gguf", lambda: read_gguf_header(folder / "model.gguf")),
    ]
    (folder / "model.gguf").write_bytes(_gguf(source))
    originals = {path: path.read_bytes() for path, _ in targets}
    figures = Figures()
    end = time.monotonic() + seconds
    while time.monotonic() < end or figures.cases < cases:
        path, read = source.choice(targets)
        path.write_bytes(mutated(originals[path], source))
        _try(path, read, figures)
        path.write_bytes(originals[path])
    return figures


def mutated(original: bytes, source: random.Random) -> bytes:
    """A file that differs from `original` in one to four ways."""
    content = bytearray(original)
    for _ in range(source.randint(1, 4)):
        change = source.choice((_flip, _length, _cut, _insert, _repeat, _swap_numbers, _rewrite))
        content = change(content, source) if content else content
    return bytes(content)


def _try(path: Path, read: Callable[[], object], figures: Figures) -> None:
    tracemalloc.start()
    began = time.process_time()  # of this process: a busy machine proves nothing
    try:
        read()
    except (CheckpointError, GgufError) as error:
        figures.refused += 1
        assert str(error).isprintable() and len(str(error)) < 1000, f"{path}: {error!r}"
    except BaseException:
        print(f"the file is kept: {path}", file=sys.stderr)
        raise
    finally:
        elapsed_s = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    figures.cases += 1
    figures.peak_bytes = max(figures.peak_bytes, peak)
    figures.slowest_s = max(figures.slowest_s, elapsed_s)
    assert peak < MEMORY_BOUND_BYTES, f"{path}: {peak:,} bytes"
    assert elapsed_s < TIME_BOUND_S, f"{path}: {elapsed_s:.1f} s"


# --- changes -----------------------------------------------------------------------------------------


def _place(content: bytearray, source: random.Random) -> int:
    """Mostly near the beginning, where the header is."""
    return source.randrange(min(len(content), source.choice((16, 256, 4096, 1 << 20))))


def _flip(content: bytearray, source: random.Random) -> bytearray:
    for _ in range(source.randint(1, 8)):
        content[_place(content, source)] = source.randrange(256)
    return content


def _length(content: bytearray, source: random.Random) -> bytearray:
    if len(content) >= 8:
        at = source.choice((0, 8, 16, _place(content, source)))
        number = source.choice(
            (*_NUMBERS, len(content), len(content) - 8, len(content) - 9, source.randrange(4096))
        )
        content[at : at + 8] = struct.pack("<Q", number % 2**64)
    return content


def _cut(content: bytearray, source: random.Random) -> bytearray:
    at = _place(content, source)
    return content[:at] if source.random() < 0.5 else content[:at] + content[at + source.randint(1, 64) :]


def _insert(content: bytearray, source: random.Random) -> bytearray:
    at = _place(content, source)
    piece = source.choice(_TOKENS) * source.choice((1, 1, 2, 50, 5000))
    return content[:at] + piece + content[at:]


def _repeat(content: bytearray, source: random.Random) -> bytearray:
    at = _place(content, source)
    return content[:at] + content[at : at + source.randint(1, 300)] * source.randint(1, 20) + content[at:]


def _swap_numbers(content: bytearray, source: random.Random) -> bytearray:
    """Put another number in place of one that is spelled out."""
    at = _place(content, source)
    while at < len(content) and not 48 <= content[at] < 58:
        at += 1
    end = at
    while end < len(content) and 48 <= content[end] < 58:
        end += 1
    return content[:at] + str(source.choice(_NUMBERS)).encode() + content[end:]


def _rewrite(content: bytearray, source: random.Random) -> bytearray:
    """Change the JSON as JSON, and set the length to match, so that what is wrong lies deeper."""
    begin = 0 if content[:1] == b"{" else 8
    try:
        end = len(content) if begin == 0 else 8 + struct.unpack_from("<Q", content)[0]
        parsed = json.loads(content[begin:end])
    except (ValueError, struct.error, RecursionError):
        return content
    holder: Any = parsed
    while isinstance(holder, dict | list) and holder:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = source.choice(keys)
        inner = holder[key]
        if isinstance(inner, dict | list) and inner and source.random() < 0.8:
            holder = inner
            continue
        holder[key] = source.choice((*_VALUES, *_NUMBERS))
        if isinstance(holder, dict) and source.random() < 0.3:
            del holder[key]
        break
    text = json.dumps(parsed).encode()
    head = struct.pack("<Q", len(text)) if begin else b""
    return bytearray(head + text + content[end:])


def _gguf(source: random.Random) -> bytes:
    """A small GGUF with a vocabulary, nested arrays and two tensors."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    words = [f"word {source.randrange(1000)}" for _ in range(300)]
    entries = [
        text("general.architecture") + struct.pack("<I", 8) + text("deepseek4"),
        text("deepseek4.block_count") + struct.pack("<II", 4, 43),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 300) + b"".join(map(text, words)),
        text("nested") + struct.pack("<IIQIQ3B", 9, 9, 1, 0, 3, 1, 2, 3),
    ]
    tensors = [
        text("token_embd.weight") + struct.pack("<IQQIQ", 2, 32, 2, 39, 0),
        text("output_norm.weight") + struct.pack("<IQIQ", 1, 3, 0, 64),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join((*entries, *tensors))
    return head + bytes(-len(head) % 32) + bytes(64 + 12)


def main() -> None:
    """Run for the time that the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.convert.header_fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1 << 30)
    print(f"seed {seed}, {options.seconds:.0f} s", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="seamount-fuzz-"))
    figures = run(folder, seconds=options.seconds, seed=seed)
    print(
        f"{figures.cases:,} cases, {figures.refused:,} refused, at most "
        f"{figures.peak_bytes:,} bytes (bound {MEMORY_BOUND_BYTES:,}) and {figures.slowest_s:.2f} s of processor a case"
    )


if __name__ == "__main__":
    main()
