"""Routing traces: which experts each token went to, layer by layer, in a compact file.

Owns: the file's format, writing it while a model computes, reading it with suspicion. Does not know llama.cpp,
nor what a trace is good for (`routing_coverage`, `residency`).

The format, version 1, all numbers little-endian:

    8 bytes   "SMROUTES"
    u32       version
    u32 x 3   experts of a layer, how many of them each token uses, how many layers have experts
    u16 each  the numbers of those layers, ascending
    u16       length of the model's name, which follows as UTF-8
    u32       CRC-32 of everything before
    frames, each: u32 stored length, u32 length unpacked, u32 CRC-32 of what is stored; then zlib data, which is
    records, each: u16 layer, u32 tokens, and for each token its experts, one byte each if a layer has at most
    256, else a u16 each. A batch is a record of every layer, in their order.

A frame is written whole. What a cut-off writer left of its last one is ignored when the file is read.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from engine.errors import TraceError

MAGIC = b"SMROUTES"
VERSION = 1
MAX_EXPERTS = 65_536
MAX_LAYERS = 4_096
MAX_NAME_BYTES = 1_024
MAX_FRAME_BYTES = 16 << 20
MAX_UNPACKED_BYTES = 1 << 28
"""Of all frames: a million tokens of Flash, as many as its longest context has. Read, it takes ten times the memory."""
_FRAME_BYTES = 256 << 10
"""A frame is closed once it is that long; a thousand tokens of Flash."""
_OPENING = struct.Struct("<8sIIII")
_FRAME = struct.Struct("<III")
_RECORD = struct.Struct("<HI")
_U16, _U32 = struct.Struct("<H"), struct.Struct("<I")

Choices = NDArray[np.uint16]
"""[tokens, used]: the experts of each token, in one layer."""


@dataclass(frozen=True)
class TraceHead:
    """What a trace is of. `used` of `experts` are asked for each token in each of `layers`."""

    model: str
    experts: int
    used: int
    layers: tuple[int, ...]


@dataclass(frozen=True)
class RoutingTrace:
    """A trace, read. Every layer has as many tokens."""

    head: TraceHead
    choices: Mapping[int, Choices]
    cut_bytes: int
    """At the end of the file, what was not a whole frame any more."""

    @property
    def tokens(self) -> int:
        """How many tokens it tells of."""
        return len(next(iter(self.choices.values())))


class TraceWriter:
    """A trace while it is written. Hand it the layers of a batch in their order; `close` it.

    A batch that was broken off is left out, and so is one of which a layer saw fewer tokens than the others (some
    architectures compute their last layer only for the tokens that are asked about). Raises TraceError for a
    file that is there already, and where the disk takes no more.
    """

    def __init__(self, path: Path, head: TraceHead) -> None:
        self._path, self._head = path, head
        self._kind = _kind_of(head)
        self._batch: list[bytes] = []
        self._batch_tokens = 0
        self._pending = bytearray()
        self.tokens = 0
        """Noted so far."""
        try:
            self._file = path.open("xb")
        except FileExistsError as error:
            why = "there is a file of that name"
            raise TraceError(
                f"The trace {path.name} was not begun", why, "choose another name, or remove it"
            ) from error
        except OSError as error:
            self._fail("was not begun", error)
        self._write(_opening(head))

    def add(self, layer: int, chosen: NDArray[np.int32]) -> None:
        """Note what the tokens of a batch chose in one layer: [tokens, used], numbers of experts.

        Raises ValueError for what does not fit the head.
        """
        head = self._head
        if layer not in head.layers or chosen.ndim != 2 or chosen.shape[1] != head.used or not len(chosen):
            raise ValueError(f"{chosen.shape} experts in layer {layer}")
        if chosen.min() < 0 or chosen.max() >= head.experts:
            raise ValueError(f"an expert beyond {head.experts} in layer {layer}")
        if layer == head.layers[0]:
            self._batch.clear()
            self._batch_tokens = len(chosen)
        elif not self._batch or layer != head.layers[len(self._batch)] or len(chosen) != self._batch_tokens:
            self._batch.clear()
            return
        self._batch.append(_RECORD.pack(layer, len(chosen)) + chosen.astype(self._kind).tobytes())
        if len(self._batch) == len(head.layers):
            self._pending += b"".join(self._batch)
            self._batch.clear()
            self.tokens += self._batch_tokens
            if len(self._pending) >= _FRAME_BYTES:
                self._flush()

    def close(self) -> None:
        """Write what is left. Calling it again does nothing."""
        if not self._file.closed:
            try:
                self._flush()
            finally:
                self._file.close()

    def _flush(self) -> None:
        for start in range(0, len(self._pending), MAX_FRAME_BYTES):
            piece = bytes(self._pending[start : start + MAX_FRAME_BYTES])
            stored = zlib.compress(piece, 6)
            self._write(_FRAME.pack(len(stored), len(piece), zlib.crc32(stored)) + stored)
        self._pending.clear()

    def _write(self, content: bytes) -> None:
        try:
            self._file.write(content)
            self._file.flush()  # a frame, once written, outlives this process
        except OSError as error:
            self._fail("cannot be written any further", error)

    def _fail(self, what: str, error: OSError) -> NoReturn:
        why = error.strerror or str(error)
        raise TraceError(
            f"The trace {self._path.name} {what}", why, "choose another place for it, or free some space"
        ) from error


def read_trace(path: Path) -> RoutingTrace:
    """Read a trace; frames that are cut off or damaged end it, and what is whole before them counts.

    Raises TraceError for a file that cannot be read, is no trace, is of a newer version, or has no token.
    """
    try:
        with path.open("rb") as file:
            head = _read_head(file, path.name)
            unpacked, cut_bytes = _read_frames(file, path.name)
    except OSError as error:
        why = (
            "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        )
        raise TraceError(
            f"The trace {path.name} cannot be read", why, "name a file that Seamount recorded"
        ) from error
    choices = _taken_apart(unpacked, head, path.name)
    return RoutingTrace(head, choices, cut_bytes)


def _kind_of(head: TraceHead) -> "np.dtype[np.unsignedinteger]":
    return np.dtype("<u1" if head.experts <= 256 else "<u2")


def _opening(head: TraceHead) -> bytes:
    name = head.model.encode("utf-8")[:MAX_NAME_BYTES]
    content = _OPENING.pack(MAGIC, VERSION, head.experts, head.used, len(head.layers))
    content += struct.pack(f"<{len(head.layers)}H", *head.layers) + _U16.pack(len(name)) + name
    return content + _U32.pack(zlib.crc32(content))


def _read_head(file: BinaryIO, name: str) -> TraceHead:
    opening = file.read(_OPENING.size)
    if len(opening) < _OPENING.size or not opening.startswith(MAGIC):
        raise _unusable(name, "it is not a routing trace", "name a file that Seamount recorded")
    _, version, experts, used, count = _OPENING.unpack(opening)
    if version > VERSION:
        raise _unusable(
            name, f"it is of version {version}, and this program reads {VERSION}", "use a newer Seamount"
        )
    if not (1 <= experts <= MAX_EXPERTS and 1 <= used <= experts and 1 <= count <= MAX_LAYERS):
        raise _damaged(name)
    rest = file.read(2 * count + 2)
    name_bytes = _U16.unpack(rest[-2:])[0] if len(rest) == 2 * count + 2 else MAX_NAME_BYTES + 1
    if name_bytes > MAX_NAME_BYTES:
        raise _damaged(name)
    rest += file.read(name_bytes)
    sum_bytes = file.read(4)
    if len(sum_bytes) < 4 or _U32.unpack(sum_bytes)[0] != zlib.crc32(opening + rest):
        raise _damaged(name)
    layers = struct.unpack_from(f"<{count}H", rest)
    if list(layers) != sorted(set(layers)):
        raise _damaged(name)
    return TraceHead(rest[2 * count + 2 :].decode("utf-8", "replace"), experts, used, layers)


def _read_frames(file: BinaryIO, name: str) -> tuple[bytearray, int]:
    """All whole frames unpacked, and how many bytes of the file are left after them."""
    unpacked = bytearray()
    start = file.tell()
    size = file.seek(0, 2)
    file.seek(start)
    while size - start >= _FRAME.size:
        stored_bytes, unpacked_bytes, crc = _FRAME.unpack(file.read(_FRAME.size))
        if (
            stored_bytes > min(size - start - _FRAME.size, 2 * MAX_FRAME_BYTES)
            or unpacked_bytes > MAX_FRAME_BYTES
        ):
            break
        stored = file.read(stored_bytes)
        piece = _unpacked(stored, unpacked_bytes) if zlib.crc32(stored) == crc else None
        if piece is None:
            break
        if len(unpacked) + unpacked_bytes > MAX_UNPACKED_BYTES:
            raise _unusable(
                name, f"it is longer than {MAX_UNPACKED_BYTES >> 20:,} MiB", "record a shorter one"
            )
        unpacked += piece
        start += _FRAME.size + stored_bytes
    return unpacked, size - start


def _unpacked(stored: bytes, length: int) -> bytes | None:
    """Exactly `length` bytes; None if it is not so. Never makes more than that."""
    unpacker = zlib.decompressobj()
    try:
        piece = unpacker.decompress(stored, length + 1)
    except zlib.error:
        return None
    return piece if len(piece) == length and unpacker.eof else None


def _taken_apart(unpacked: bytearray, head: TraceHead, name: str) -> dict[int, Choices]:
    """The records by layer, cut to the tokens that every layer has. Raises TraceError."""
    kind = _kind_of(head)
    counts = dict.fromkeys(head.layers, 0)
    for layer, tokens, _ in _records(unpacked, head):
        counts[layer] += tokens
    # Filled in place: a record of a single token, of which there may be millions, is no array of its own.
    choices: dict[int, Choices] = {
        layer: np.empty((count, head.used), np.uint16) for layer, count in counts.items()
    }
    done = dict.fromkeys(head.layers, 0)
    for layer, tokens, at in _records(unpacked, head):
        chosen = np.frombuffer(unpacked, kind, tokens * head.used, at).reshape(tokens, head.used)
        choices[layer][done[layer] : done[layer] + tokens] = chosen
        done[layer] += tokens
    if any(each.size and int(each.max()) >= head.experts for each in choices.values()):
        raise _damaged(name)
    # A tail that is gone leaves the later layers with fewer.
    tokens = min(len(each) for each in choices.values())
    if not tokens:
        raise _unusable(name, "no token is in it", "record it anew, and let some text be written")
    return {layer: each[:tokens] for layer, each in choices.items()}


def _records(unpacked: bytearray, head: TraceHead) -> Iterator[tuple[int, int, int]]:
    """Of each record that is whole the layer, its tokens, and where its experts begin."""
    token_bytes = head.used * _kind_of(head).itemsize
    layers, at = frozenset(head.layers), 0
    while at + _RECORD.size <= len(unpacked):
        layer, tokens = _RECORD.unpack_from(unpacked, at)
        at += _RECORD.size
        if layer not in layers or not tokens or at + tokens * token_bytes > len(unpacked):
            return
        yield layer, tokens, at
        at += tokens * token_bytes


def _damaged(name: str) -> TraceError:
    return _unusable(name, "it is damaged", "record it anew")


def _unusable(name: str, why: str, remedy: str) -> TraceError:
    return TraceError(f"The trace {name} cannot be used", why, remedy)
