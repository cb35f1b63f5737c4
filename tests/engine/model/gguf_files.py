"""GGUF files taken apart and put together again with something else in them: what other people's files are like.

    whole = GgufFile.read(path)
    whole.metadata["deepseek4.swiglu_clamp_exp"] = 7.0
    del whole.tensors["blk.0.attn_norm.weight"]
    whole.write(other)

Values are written in the type that llama.cpp reads them in: whole numbers as uint32, others as float32. Of the
vocabulary only its size is kept.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.ggml_types import GGML_TYPES
from convert.gguf_header import read_gguf_header
from convert.gguf_writer import Metadata, header

_BLOCKS = {kind.name: kind for kind in GGML_TYPES.values()}


@dataclass
class Stored:
    """A tensor: `shape` in ggml's order, fastest-changing first."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def plain_numbers(self) -> NDArray[Any]:
        """What it means, in its logical shape: F32, F16, BF16 and I32 alone."""
        shape = tuple(reversed(self.shape))
        if self.type_name == "BF16":
            return (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
        kind = {"F32": "<f4", "F16": "<f2", "I32": "<i4"}[self.type_name]
        numbers = np.frombuffer(self.data, kind).reshape(shape)
        return numbers if self.type_name == "I32" else numbers.astype("<f4")

    def as_type(self, type_name: str, numbers: NDArray[Any]) -> "Stored":
        """The same tensor in another plain format; `numbers` in its logical shape."""
        if type_name == "BF16":
            data = (np.ascontiguousarray(numbers, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
        else:
            data = numbers.astype({"F32": "<f4", "F16": "<f2", "I32": "<i4"}[type_name]).tobytes()
        return Stored(self.name, type_name, self.shape, data)


@dataclass
class GgufFile:
    """All of a file."""

    metadata: dict[str, Any]
    tensors: dict[str, Stored]

    @classmethod
    def read(cls, path: Path) -> "GgufFile":
        found = read_gguf_header(path)
        content = path.read_bytes()
        tensors: dict[str, Stored] = {}
        for each in found.tensors:
            start = found.data_offset + each.offset
            tensors[each.name] = Stored(
                each.name, each.type_name, each.shape, content[start : start + each.size_bytes]
            )
        kept: dict[str, Any] = {
            key: value for key, value in found.metadata.items() if not key.startswith("tokenizer.")
        }
        kept["tokenizer.ggml.tokens"] = [""] * found.arrays["tokenizer.ggml.tokens"].length
        return cls(kept, tensors)

    def write(self, path: Path) -> Path:
        """Write it anew; returns `path`."""
        metadata = Metadata()
        for key, value in self.metadata.items():
            put(metadata, key, value)
        stored = list(self.tensors.values())
        head = header(metadata, stored)
        with path.open("wb") as file:
            file.write(head.content)
            for each, offset in zip(stored, head.offsets, strict=True):
                file.seek(offset)
                file.write(each.data)
            file.truncate(head.file_bytes)
        return path


def put(metadata: Metadata, key: str, value: Any) -> None:
    """Add a value in the type that is usual for it."""
    if isinstance(value, bool):
        metadata.flag(key, value)
    elif isinstance(value, int):
        metadata.count(key, value) if value >= 0 else metadata.integers(key, [value])
    elif isinstance(value, float):
        metadata.real(key, value)
    elif isinstance(value, str):
        metadata.text(key, value)
    elif value and isinstance(value[0], str):
        metadata.texts(key, value)
    elif any(isinstance(each, float) for each in value):
        metadata.reals(key, value)
    else:
        metadata.integers(key, value)


def empty(name: str, type_name: str, shape: tuple[int, ...]) -> Stored:
    """A tensor of zeros."""
    kind = _BLOCKS[type_name]
    count = int(np.prod(shape)) // kind.block_elements * kind.block_bytes
    return Stored(name, type_name, shape, bytes(count))
