"""The header of a safetensors file, read with suspicion.

Owns: the layout of the format (eight bytes of length, a JSON object of tensors, their data; source: README of
huggingface/safetensors and its Rust reader) and the limits that keep a hostile or broken file from taking
memory or time. Does not know what the tensors are for, and never reads their data.

As the format's own reader does, a file is refused whose tensors leave a hole, overlap, or do not end with the
file: "the byte buffer needs to be entirely indexed, and cannot contain holes". Stricter than it: a name that
stands twice, an entry with anything else in it, a text that is not Unicode.
"""

import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from convert.checkpoint_error import CheckpointError
from convert.foreign_files import SAFETENSORS, recognised, what_it_is
from convert.json_cursor import MAX_STRING_BYTES, JsonCursor, JsonError
from convert.wording import byte_count, printable, quoted

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit. All 149,782 tensors of V4-Pro would take 20 MB in one file."""
MAX_TENSORS = 524_288
MAX_NAME_BYTES = 4096
MAX_ENTRY_BYTES = 4096
"""What follows a tensor's name: its type, shape and place."""
MAX_METADATA_BYTES = 4 << 20
MAX_METADATA_KEYS = 65_536
MAX_DIMENSIONS = 8

DTYPE_BITS: dict[str, int] = {
    "F4": 4,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
}
"""Bits that one element takes, by the format's names."""

_NAMES = {name: name for name in DTYPE_BITS}  # one text for all tensors of a type
_INT64_MAX = 2**63 - 1
_LENGTH = struct.Struct("<Q")
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class SafetensorsTensor:
    """One tensor: `shape` with the slowest-changing extent first; `offset` from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a safetensors file says of itself, its tensors in the order of the header."""

    tensors: dict[str, SafetensorsTensor]
    metadata: dict[str, str]
    data_offset: int
    """Bytes from the start of the file to the tensor data."""
    size_bytes: int
    """Of the whole file, which is exactly what its tensors need."""
    sha256: str
    """Of the header's JSON: another header, another digest."""


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """What a tensor takes. Raises ValueError for what cannot be, KeyError for an unknown `dtype`."""
    bits = DTYPE_BITS[dtype]
    for extent in shape:
        bits *= extent
        if bits > _INT64_MAX:
            raise ValueError("a size beyond all bounds")
    if bits % 8:
        raise ValueError("a size that is no whole number of bytes")
    return bits // 8


def read_safetensors_header(
    path: Path, *, name: str | None = None, size_bytes: int | None = None
) -> SafetensorsHeader:
    """Read and check the header of the safetensors file at `path`, and that the file fits its tensors.

    Of a file that is still on its way, `path` holds at least the header; `name` is what it will be called, and
    `size_bytes` what it will have, against which its tensors are checked then.

    Beyond what it returns it takes at most 8 MB of memory, whatever the file says, and what it returns is at
    most 12 times as long as the header. Raises CheckpointError, and nothing else, for every file that is not
    a whole safetensors file.
    """
    what = f"{quoted(name or path.name)} cannot be used as part of a checkpoint"
    try:
        # Opening a named pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError("unreadable", what, "it is not an ordinary file")
        with path.open("rb", buffering=0) as file:
            found_bytes = file.seek(0, 2)
            file.seek(0)
            if size_bytes is not None and found_bytes > size_bytes:
                why = f"it should have {byte_count(size_bytes)}, and {byte_count(found_bytes)} have arrived"
                raise CheckpointError("damaged", what, why)
            return _read(file, found_bytes, found_bytes if size_bytes is None else size_bytes, what)
    except FileNotFoundError as error:
        why = "it is a link to a file that is not there" if path.is_symlink() else "there is no such file"
        raise CheckpointError("unreadable", what, why) from error
    except JsonError as error:
        raise CheckpointError("damaged", what, f"its header is damaged ({printable(str(error))})") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CheckpointError("unreadable", what, f"it cannot be read ({why})") from error


def _read(file: BinaryIO, found_bytes: int, size_bytes: int, what: str) -> SafetensorsHeader:
    length = _header_bytes(file, found_bytes, size_bytes, what)
    file.seek(_LENGTH.size)
    data_offset = _LENGTH.size + length
    cursor = JsonCursor(file, length)
    tensors: dict[str, SafetensorsTensor] = {}
    metadata: dict[str, str] = {}
    for name in cursor.members(MAX_NAME_BYTES, MAX_TENSORS + 1):
        if name == "__metadata__":
            metadata = _metadata(cursor)
        else:
            tensors[name] = _tensor(name, cursor.value(MAX_ENTRY_BYTES), data_offset, what)
    sha256 = cursor.end()
    _check_layout(tensors, data_offset, size_bytes, what)
    return SafetensorsHeader(tensors, metadata, data_offset, size_bytes, sha256)


def _header_bytes(file: BinaryIO, found_bytes: int, size_bytes: int, what: str) -> int:
    """The length of the JSON, checked against the file; raises for what does not begin as the format does."""
    head = b""
    while len(head) < min(512, found_bytes):
        piece = file.read(min(512, found_bytes) - len(head))
        if not piece:
            raise JsonError("the file became shorter while it was being read")
        head += piece
    if sign := recognised(head, SAFETENSORS):
        raise CheckpointError("not_safetensors", what, sign)
    if len(head) < 9:
        raise CheckpointError("truncated", what, f"it is truncated after {byte_count(found_bytes)}")
    if head[8:9] != b"{":
        raise CheckpointError("not_safetensors", what, what_it_is(head, SAFETENSORS))
    length: int = _LENGTH.unpack_from(head)[0]
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise JsonError(f"a header of {byte_count(length)}")
    if length > size_bytes - _LENGTH.size:
        raise CheckpointError(
            "truncated", what, f"it is truncated: it ends inside its header after {byte_count(size_bytes)}"
        )
    return length


def _metadata(cursor: JsonCursor) -> dict[str, str]:
    """`__metadata__`: texts by name, for people."""
    metadata: dict[str, str] = {}
    kept = 0
    for key in cursor.members(MAX_NAME_BYTES, MAX_METADATA_KEYS):
        metadata[key] = cursor.text(MAX_STRING_BYTES)
        kept += len(key) + len(metadata[key])
        if kept > MAX_METADATA_BYTES:
            raise JsonError(f"more than {byte_count(MAX_METADATA_BYTES)} of metadata")
    return metadata


def _tensor(name: str, entry: Any, data_offset: int, what: str) -> SafetensorsTensor:
    """The tensor that one entry of the header describes."""
    if not isinstance(entry, dict) or cast(dict[str, Any], entry).keys() != _ENTRY_KEYS:
        raise JsonError(f"the entry of tensor {quoted(name)} is not a type, a shape and two offsets")
    fields = cast(dict[str, Any], entry)
    dtype, shape, place = fields["dtype"], _numbers(fields["shape"]), _numbers(fields["data_offsets"])
    if not isinstance(dtype, str) or shape is None or place is None or len(place) != 2:
        raise JsonError(f"the entry of tensor {quoted(name)} is not a type, a shape and two offsets")
    if len(shape) > MAX_DIMENSIONS:
        raise JsonError(f"{len(shape)} dimensions of tensor {quoted(name)}")
    kind = _NAMES.get(dtype)
    if kind is None:
        why = f"its tensor {quoted(name)} has number format {quoted(dtype)}, unknown here"
        raise CheckpointError("unsupported", what, why)
    try:
        size_bytes = tensor_bytes(kind, shape)
    except ValueError as error:
        raise JsonError(f"{error} of tensor {quoted(name)}") from error
    begin, end = place
    if end - begin != size_bytes:
        raise JsonError(
            f"tensor {quoted(name)} takes {byte_count(size_bytes)} by its shape and {end - begin:,} by its place"
        )
    return SafetensorsTensor(name, kind, shape, data_offset + begin, size_bytes)


def _numbers(value: Any) -> tuple[int, ...] | None:
    """A list of numbers from 0 to the largest of 64 bits with a sign; None for anything else."""
    if not isinstance(value, list):
        return None
    numbers = tuple(cast(list[Any], value))
    # bool is an int in Python.
    if all(type(number) is int and 0 <= number <= _INT64_MAX for number in numbers):
        return numbers
    return None


def _check_layout(
    tensors: dict[str, SafetensorsTensor], data_offset: int, size_bytes: int, what: str
) -> None:
    """Raise unless the tensors fill the file from the header to its end, each byte once."""
    end = data_offset
    for tensor in sorted(tensors.values(), key=lambda each: (each.offset, each.size_bytes)):
        if tensor.offset < end:
            raise JsonError(f"tensor {quoted(tensor.name)} overlaps another")
        if tensor.offset > end:
            raise JsonError(
                f"a hole of {byte_count(tensor.offset - end)} before tensor {quoted(tensor.name)}"
            )
        end = tensor.offset + tensor.size_bytes
    if end > size_bytes:
        why = f"it is truncated: it holds {size_bytes:,} of {byte_count(end)}"
        raise CheckpointError("truncated", what, why)
    if end < size_bytes:
        raise CheckpointError(
            "damaged", what, f"it holds {byte_count(size_bytes - end)} that belong to no tensor"
        )
