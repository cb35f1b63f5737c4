"""The header of a GGUF file, read with suspicion.

Owns: the layout of GGUF versions 2 and 3 (magic, counts, metadata, tensor infos; source: gguf.h of
llama.cpp and the GGUF specification in the ggml repository), and the limits that keep a hostile or broken
file from taking memory or time. Does not know what a model is for, and never reads tensor data.

Every length, count and offset is checked against what is left of the file, and against a fixed limit where
something is kept, before it is used. Python's integers do not overflow; values that would overflow a signed
64-bit integer in llama.cpp are refused all the same.
"""

import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from convert.foreign_files import what_it_is
from convert.ggml_types import GGML_TYPES
from convert.wording import byte_count, quoted

Scalar: TypeAlias = int | float | bool | str
Problem = Literal["unreadable", "truncated", "not_gguf", "unsupported", "damaged"]

MAX_KEYS = 65_536
MAX_TENSORS = 262_144
MAX_NAME_BYTES = 65_535
MAX_STRING_BYTES = 4 << 20
MAX_KEPT_BYTES = 64 << 20
"""All names and values kept of one file together."""
MAX_KEPT_ELEMENTS = 64
"""Longer arrays are skipped: only their type and length are kept."""
MAX_WALKED_ELEMENTS = 8 << 20
"""Strings and arrays inside arrays that are walked through, one by one, in one file."""
MAX_ARRAY_DEPTH = 3
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20
DEFAULT_ALIGNMENT = 32

_BUFFER_BYTES = 256 * 1024
_INT64_MAX = 2**63 - 1
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: ("uint8", struct.Struct("<B")),
    1: ("int8", struct.Struct("<b")),
    2: ("uint16", struct.Struct("<H")),
    3: ("int16", struct.Struct("<h")),
    4: ("uint32", struct.Struct("<I")),
    5: ("int32", struct.Struct("<i")),
    6: ("float32", struct.Struct("<f")),
    7: ("bool", struct.Struct("<?")),
    10: ("uint64", struct.Struct("<Q")),
    11: ("int64", struct.Struct("<q")),
    12: ("float64", struct.Struct("<d")),
}
_NAMES = {number: name for number, (name, _) in _SCALARS.items()} | {_STRING: "string", _ARRAY: "array"}
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class GgufError(Exception):
    """A file that cannot be used as a GGUF: `what` cannot be used and `why`, clauses without a full stop."""

    def __init__(self, problem: Problem, what: str, why: str) -> None:
        self.problem, self.what, self.why = problem, what, why
        super().__init__(problem, what, why)

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(frozen=True)
class ArrayShape:
    """An array of the metadata: the type of its elements ("string", "float32", …) and how many."""

    element_type: str
    length: int


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: `shape` as stored (fastest-changing first), `offset` from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself. `metadata` holds scalars, strings and arrays of up to 64 elements;
    `arrays` holds type and length of every array, kept or not."""

    version: int
    metadata: dict[str, Scalar | list[Scalar]]
    arrays: dict[str, ArrayShape]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    """Bytes from the start of the file to the tensor data."""
    size_bytes: int
    expected_size_bytes: int
    """The least size at which every tensor is whole; never above `size_bytes`."""

    def text(self, key: str) -> str | None:
        """A string of the metadata; None when the key is missing or holds something else."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | float | None:
        """A number of the metadata; None when the key is missing or holds something else."""
        value = self.metadata.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def architecture(self) -> str | None:
        """`general.architecture`: which network this is."""
        return self.text("general.architecture")

    @property
    def name(self) -> str | None:
        """`general.name`: what its maker calls it."""
        return self.text("general.name")

    @property
    def context_length(self) -> int | None:
        """The context it was trained with, in tokens."""
        value = self.number(f"{self.architecture}.context_length")
        return value if isinstance(value, int) and value > 0 else None

    @property
    def chat_template(self) -> str | None:
        """Its chat template, Jinja source; None when it has none."""
        return self.text("tokenizer.chat_template")


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check the header of the GGUF file at `path`, and that the file is long enough for its tensors.

    Takes a few megabytes of memory beyond what it returns, whatever the file says. Raises GgufError, and
    nothing else, for every file that is not a whole GGUF of version 2 or 3.
    """
    what = f"{path.name} cannot be used as a model"
    try:
        # Opening a named pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise GgufError("unreadable", what, "it is not an ordinary file")
        with path.open("rb", buffering=0) as file:
            size_bytes = file.seek(0, 2)
            file.seek(0)
            return _Reader(file, size_bytes, what).header()
    except FileNotFoundError as error:
        raise GgufError("unreadable", what, "there is no such file") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise GgufError("unreadable", what, f"it cannot be read ({why})") from error


class _Reader:
    """A cursor over the file with a buffer of bounded size."""

    def __init__(self, file: BinaryIO, size_bytes: int, what: str) -> None:
        self._file = file
        self._size = size_bytes
        self._what = what
        self._buffer = b""
        self._at = 0  # position in the buffer
        self._start = 0  # where in the file the buffer begins
        self._kept = 0
        self._walked = 0

    # --- bytes --------------------------------------------------------------------------------------

    def _damaged(self, why: str) -> GgufError:
        return GgufError("damaged", self._what, f"its header is damaged ({why})")

    @property
    def _position(self) -> int:
        return self._start + self._at

    def _need(self, count: int) -> None:
        """Raise unless `count` more bytes are in the file."""
        if count > self._size - self._position:
            raise GgufError(
                "truncated",
                self._what,
                f"it is truncated: it ends inside its header after {byte_count(self._size)}",
            )

    def _take(self, count: int) -> bytes:
        """The next `count` bytes; the caller has bounded `count`."""
        self._need(count)
        if self._at + count > len(self._buffer):
            self._fill(count)
        piece = self._buffer[self._at : self._at + count]
        self._at += count
        return piece

    def _fill(self, count: int) -> None:
        """Have at least `count` bytes in the buffer, which the file has according to its size."""
        pieces = [self._buffer[self._at :]]
        have = len(pieces[0])
        self._start, self._at = self._position, 0
        self._file.seek(self._start + have)
        while have < count:
            piece = self._file.read(max(_BUFFER_BYTES, count - have))
            if not piece:
                raise GgufError("truncated", self._what, "it became shorter while it was being read")
            pieces.append(piece)
            have += len(piece)
        self._buffer = b"".join(pieces)

    def _skip(self, count: int) -> None:
        self._need(count)
        self._at += count
        if self._at > len(self._buffer):
            self._start, self._at, self._buffer = self._position, 0, b""

    def _u32(self) -> int:
        return int(_U32.unpack(self._take(4))[0])

    def _u64(self) -> int:
        return int(_U64.unpack(self._take(8))[0])

    def _string(self, limit: int, role: str) -> bytes:
        length = self._u64()
        if length > limit:
            raise self._damaged(f"{role} of {byte_count(length)}")
        self._keep(length)
        return self._take(length)

    def _keep(self, count: int) -> None:
        """Count bytes that stay in memory, about; raise when the header keeps more than any model does."""
        self._kept += count
        if self._kept > MAX_KEPT_BYTES:
            raise self._damaged(f"more than {byte_count(MAX_KEPT_BYTES)} of metadata")

    def _name(self, role: str) -> str:
        raw = self._string(MAX_NAME_BYTES, role)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(f"{role} that is not UTF-8") from error

    # --- the header ---------------------------------------------------------------------------------

    def header(self) -> GgufHeader:
        version = self._opening()
        tensor_count = self._count(MAX_TENSORS, 24, "tensors")
        key_count = self._count(MAX_KEYS, 13, "metadata entries")
        metadata: dict[str, Scalar | list[Scalar]] = {}
        arrays: dict[str, ArrayShape] = {}
        for _ in range(key_count):
            key = self._name("a key")
            if key in metadata or key in arrays:
                raise self._damaged(f"the key {quoted(key)} twice")
            value = self._value(key, arrays)
            if value is not None:
                metadata[key] = value
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if (
            not isinstance(alignment, int)
            or not 1 <= alignment <= MAX_ALIGNMENT
            or alignment & (alignment - 1)
        ):
            raise self._damaged(f"an alignment of {str(alignment)[:20]}")
        tensors = tuple(self._tensor(alignment) for _ in range(tensor_count))
        end = self._position
        data_offset = -(-end // alignment) * alignment
        self._check_layout(tensors)
        data_bytes = max((tensor.offset + tensor.size_bytes for tensor in tensors), default=0)
        expected = data_offset + data_bytes if data_bytes else end
        if expected > self._size:
            raise GgufError(
                "truncated",
                self._what,
                f"it is truncated: it holds {self._size:,} of {byte_count(expected)}",
            )
        return GgufHeader(
            version=version,
            metadata=metadata,
            arrays=arrays,
            tensors=tensors,
            alignment=alignment,
            data_offset=data_offset,
            size_bytes=self._size,
            expected_size_bytes=expected,
        )

    def _opening(self) -> int:
        head = self._take(min(512, self._size))
        if not head.startswith(b"GGUF"):
            if head and b"GGUF".startswith(head):
                raise GgufError("truncated", self._what, f"it is truncated after {byte_count(self._size)}")
            raise GgufError("not_gguf", self._what, what_it_is(head))
        self._at = 4
        version = self._u32()
        if version in (2, 3):
            return version
        if version == 1:
            raise GgufError(
                "unsupported", self._what, "it is a GGUF of version 1, which nothing reads any more"
            )
        if version & 0xFFFF == 0 and version:
            raise GgufError("unsupported", self._what, "it is a GGUF for big-endian machines")
        raise GgufError(
            "unsupported", self._what, f"it is a GGUF of version {version}, which is not known here"
        )

    def _count(self, limit: int, least_bytes: int, of_what: str) -> int:
        """A count, refused when the rest of the file could not hold that many of `least_bytes` each."""
        count = self._u64()
        if count > limit:
            raise self._damaged(f"{count:,} {of_what}")
        self._need(count * least_bytes)
        return count

    def _value(self, key: str, arrays: dict[str, ArrayShape]) -> Scalar | list[Scalar] | None:
        """The value of a key; None for an array that is not kept, which is noted in `arrays`."""
        kind = self._u32()
        if kind == _ARRAY:
            element, count = self._array_opening(key)
            arrays[key] = ArrayShape(_NAMES[element], count)
            if element != _ARRAY and count <= MAX_KEPT_ELEMENTS:
                return [self._single(key, element) for _ in range(count)]
            self._skip_elements(key, element, count, MAX_ARRAY_DEPTH)
            return None
        return self._single(key, kind)

    def _single(self, key: str, kind: int) -> Scalar:
        if kind == _STRING:
            # Text that is shown or rendered; a stray byte in it is no reason to refuse a model.
            return self._string(MAX_STRING_BYTES, f"a text for {quoted(key)}").decode("utf-8", "replace")
        scalar = _SCALARS.get(kind)
        if scalar is None:
            raise self._damaged(f"a value of unknown type {kind} for {quoted(key)}")
        self._keep(32)  # a Python number in a container
        value: Scalar = scalar[1].unpack(self._take(scalar[1].size))[0]
        return value

    def _array_opening(self, key: str) -> tuple[int, int]:
        element = self._u32()
        if element not in _NAMES:
            raise self._damaged(f"an array of unknown type {element} for {quoted(key)}")
        count = self._u64()
        least_bytes = {_STRING: 8, _ARRAY: 12}.get(element) or _SCALARS[element][1].size
        if count > _INT64_MAX // least_bytes:
            raise self._damaged(f"an array of {count:,} elements for {quoted(key)}")
        self._need(count * least_bytes)
        return element, count

    def _skip_elements(self, key: str, element: int, count: int, depth: int) -> None:
        if element in _SCALARS:
            self._skip(count * _SCALARS[element][1].size)
            return
        self._walked += count
        if self._walked > MAX_WALKED_ELEMENTS:
            raise self._damaged(
                f"more than {MAX_WALKED_ELEMENTS:,} elements, of which too many in {quoted(key)}"
            )
        if element == _STRING:
            self._skip_strings(count)
            return
        if depth <= 1:
            raise self._damaged(f"arrays inside arrays too deep in {quoted(key)}")
        for _ in range(count):
            self._skip_elements(key, *self._array_opening(key), depth - 1)

    def _skip_strings(self, count: int) -> None:
        """Step over `count` strings: a vocabulary of 130,000, so the loop touches as little as it can."""
        unpack = _U64.unpack_from
        buffer, at = self._buffer, self._at
        ready = len(buffer) - 8
        for _ in range(count):
            if at > ready:
                self._at = at
                self._need(8)
                if at + 8 > len(buffer):
                    self._fill(8)
                buffer, at = self._buffer, self._at
                ready = len(buffer) - 8
            at += 8 + unpack(buffer, at)[0]
            if at > ready + 8:
                self._at = min(at, len(buffer))
                self._skip(at - self._at)
                buffer, at = self._buffer, self._at
                ready = len(buffer) - 8
        self._at = at

    def _tensor(self, alignment: int) -> TensorInfo:
        name = self._name("a tensor name")
        label = quoted(name)
        dimensions = self._u32()
        if dimensions > MAX_DIMENSIONS:
            raise self._damaged(f"{dimensions} dimensions of tensor {label}")
        shape = tuple(self._u64() for _ in range(dimensions))
        type_id = self._u32()
        offset = self._u64()
        kind = GGML_TYPES.get(type_id)
        if kind is None:
            raise GgufError(
                "unsupported", self._what, f"its tensor {label} has number format {type_id}, unknown here"
            )
        elements = 1
        for extent in shape:
            elements *= extent
            if elements > _INT64_MAX:
                raise self._damaged(f"a size beyond all bounds of tensor {label}")
        row = shape[0] if shape else 1
        if row % kind.block_elements:
            raise self._damaged(f"rows of {row} numbers in tensor {label}, which {kind.name} cannot hold")
        size_bytes = elements // kind.block_elements * kind.block_bytes
        if offset % alignment:
            raise self._damaged(f"a misplaced tensor {label}")
        if offset + size_bytes > _INT64_MAX:
            raise self._damaged(f"a place beyond all bounds of tensor {label}")
        return TensorInfo(name, shape, kind.name, offset, size_bytes)

    def _check_layout(self, tensors: tuple[TensorInfo, ...]) -> None:
        """Raise for a name used twice and for tensors that lie on top of each other."""
        if len({tensor.name for tensor in tensors}) < len(tensors):
            raise self._damaged("two tensors of the same name")
        end = 0
        for tensor in sorted(tensors, key=lambda each: (each.offset, each.size_bytes)):
            if tensor.offset < end:
                raise self._damaged(f"tensor {quoted(tensor.name)} overlaps another")
            end = tensor.offset + tensor.size_bytes
