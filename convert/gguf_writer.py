"""The header of a GGUF file, written: everything before the tensor data, as bytes.

Owns: the layout of GGUF version 3 (gguf.h of llama.cpp) and where each tensor will lie. Does not know what
the keys mean (`metadata`), nor does it write files. `gguf_header` reads what is written here.

Every offset follows from names, types and shapes, so the header is known before any number is converted, and
the same checkpoint and options give the same bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from convert.ggml_types import GGML_TYPES

VERSION = 3
ALIGNMENT = 32

_IDS = {kind.name: number for number, kind in GGML_TYPES.items()}
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY, _U64 = 4, 5, 6, 7, 8, 9, 10
_FORMATS = {_U32: "I", _I32: "i", _F32: "f"}


class PlacedTensor(Protocol):
    """What the header says of a tensor; `shape` with the fastest-changing extent first."""

    @property
    def name(self) -> str: ...

    @property
    def type_name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def size_bytes(self) -> int: ...


class Metadata:
    """Keys and values in the order in which they are added, each in the type that its reader insists on.

    llama.cpp takes no other type for a key than the one it asks for, so the type is part of the call. Every
    method raises ValueError for a key that is there already.
    """

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    def text(self, key: str, value: str) -> None:
        """A string."""
        self._add(key, _STRING, _string(value))

    def flag(self, key: str, value: bool) -> None:
        """A truth value."""
        self._add(key, _BOOL, b"\x01" if value else b"\0")

    def count(self, key: str, value: int) -> None:
        """A uint32. Raises struct.error for a number that is none."""
        self._add(key, _U32, struct.pack("<I", value))

    def size(self, key: str, value: int) -> None:
        """A uint64."""
        self._add(key, _U64, struct.pack("<Q", value))

    def real(self, key: str, value: float) -> None:
        """A float32."""
        self._add(key, _F32, struct.pack("<f", value))

    def texts(self, key: str, values: Sequence[str]) -> None:
        """An array of strings."""
        self._add(key, _ARRAY, struct.pack("<IQ", _STRING, len(values)) + b"".join(map(_string, values)))

    def counts(self, key: str, values: Sequence[int]) -> None:
        """An array of uint32."""
        self._array(key, _U32, values)

    def integers(self, key: str, values: Sequence[int]) -> None:
        """An array of int32."""
        self._array(key, _I32, values)

    def reals(self, key: str, values: Sequence[float]) -> None:
        """An array of float32."""
        self._array(key, _F32, values)

    def __len__(self) -> int:
        return len(self._entries)

    def as_bytes(self) -> bytes:
        """All entries as they stand in the file."""
        return b"".join(_string(key) + value for key, value in self._entries.items())

    def _array(self, key: str, kind: int, values: Sequence[float]) -> None:
        head = struct.pack("<IQ", kind, len(values))
        self._add(key, _ARRAY, head + struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values))

    def _add(self, key: str, kind: int, value: bytes) -> None:
        if key in self._entries:
            raise ValueError(f"{key} is there already")
        self._entries[key] = struct.pack("<I", kind) + value


@dataclass(frozen=True)
class Header:
    """A header and what follows from it. `offsets`: of each tensor's data, in bytes from the file's start."""

    content: bytes
    offsets: tuple[int, ...]
    file_bytes: int
    """Size of the whole file; the last tensor is padded like the others, as llama.cpp's own writer does."""


def header(metadata: Metadata, tensors: Sequence[PlacedTensor]) -> Header:
    """The header for `tensors`, whose data follow one another in that order, each at a multiple of 32."""
    infos: list[bytes] = []
    relative: list[int] = []
    at = 0
    for tensor in tensors:
        relative.append(at)
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        infos.append(_string(tensor.name) + shape + struct.pack("<IQ", _IDS[tensor.type_name], at))
        at = _aligned(at + tensor.size_bytes)
    opening = b"GGUF" + struct.pack("<IQQ", VERSION, len(tensors), len(metadata))
    content = opening + metadata.as_bytes() + b"".join(infos)
    content += b"\0" * (_aligned(len(content)) - len(content))
    start = len(content)
    return Header(content, tuple(start + offset for offset in relative), start + at)


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data
