"""The file of one snapshot: written whole and for good or not at all, and never believed before it was checked.

Owns: the layout (docs/snapshots.md tells it byte by byte), streaming a state into a file and out of it without a
second copy, and the order of write, fsync and rename. Does not know which snapshots there are, what they are worth
or what is done with a damaged one (`snapshots`).

    preamble, 32 bytes    magic, version, flags, the file's own random id
    blocks                ids, logits, the probe's logits, the marks, the whole state; each begins a new block
    index                 JSON: sizes, sums, whose state it is; sealed where the blocks are
    trailer, 64 bytes     where the index lies, the file's size, one sum over preamble, index and this, a magic

What a file takes in memory while it is read is bounded by its own size, but for compression: `room` gives the memory
for the content, and may refuse.
"""

import hashlib
import io
import os
import secrets
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from engine import fault_points
from engine.atomic_file import sync_folder
from engine.backends.base import ContextState, Mark, Room
from engine.errors import SeamountError
from engine.store.snapshot_blocks import (
    BLOCK_BYTES,
    Block,
    BlockError,
    BlockPacker,
    Bytes,
    block_sizes,
    sum_of,
    unpack,
)
from engine.store.snapshot_index import (
    About,
    Ids,
    MarkPlace,
    Probe,
    SnapshotIndex,
    SnapshotIndexError,
    check_state,
    content_digest,
    from_json,
    grid_lengths,
    sums_of_state,
    to_json,
    token_sums,
)

if TYPE_CHECKING:
    from engine.store.sealing import Cipher

MAGIC, END_MAGIC = b"SMNTKV\x00\x01", b"SMNTKVE1"
VERSION = 1
PREAMBLE = struct.Struct("<8sII16s")
TRAILER = struct.Struct("<QQQ32s8s")
MAX_INDEX_BYTES = 16 << 20

_SEALED = 1
_SYNCED_EVERY_BYTES = 64 << 20
"""Made durable so often while it is written, so that no fsync at the end holds up the whole disk."""
_READERS = 4


class SnapshotFileError(Exception):
    """A file that is not a whole and unchanged snapshot. Its text is a clause without a full stop."""


class NewerSnapshotError(SnapshotFileError):
    """A file of a version that this Seamount does not know."""


class OtherSealError(SnapshotFileError):
    """A sealed file where nothing is sealed, or the other way round."""


def state_digest(state: ContextState) -> str:
    """The digest by which a file of `state` is found again; reads all of it."""
    parts = _parts(state, None)
    sums = [sum_of(block) for part in parts for block in _blocks_of(part)]
    marks = [(mark.tokens, mark.state.nbytes) for mark in state.marks]
    return content_digest(len(state.tokens), parts[1].nbytes // 4, marks, state.whole.nbytes, sums)


def write_snapshot(
    path: Path,
    state: ContextState,
    probe: Probe | None,
    about: About,
    *,
    cipher: "Cipher | None" = None,
    compress: bool = True,
) -> SnapshotIndex:
    """Write `state` to `path`, which must not be there yet, and make it durable; the caller renames it.

    The file is its owner's alone. Raises OSError, and then there is no file; ValueError for a state that cannot be
    kept.
    """
    check_state(state)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            index = _write(file, state, probe, about, cipher, compress=compress)
            os.fsync(file.fileno())
        fault_points.at("snapshot-written")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return index


def put_in_place(part: Path, path: Path) -> None:
    """Give a written file its name, for good. Raises OSError."""
    part.replace(path)
    sync_folder(path.parent)
    fault_points.at("snapshot-renamed")


def read_index(path: Path, cipher: "Cipher | None" = None) -> SnapshotIndex:
    """The index of the file at `path`; no block is read. Raises SnapshotFileError, OSError."""
    with path.open("rb") as file:
        return _Reader(file, cipher).index


def read_ids(path: Path, cipher: "Cipher | None" = None) -> Ids:
    """The token ids in the file at `path`. Raises SnapshotFileError, OSError."""
    with path.open("rb") as file:
        return _Reader(file, cipher).ids()


def read_snapshot(
    path: Path, room: Room, cipher: "Cipher | None" = None
) -> tuple[ContextState, Probe | None, SnapshotIndex]:
    """What the file at `path` holds, after every sum was looked at. `room` gives memory for the state and its marks.

    Raises SnapshotFileError, OSError; MemoryError when there is not so much memory.
    """
    with path.open("rb") as file:
        reader = _Reader(file, cipher)
        index = reader.index
        ids = reader.ids()
        logits, probed = (reader.part(number, _own_memory).view("<f4") for number in (1, 2))
        marks = tuple(
            Mark(mark.tokens, reader.part(3 + number, room)) for number, mark in enumerate(index.marks)
        )
        whole = reader.part(3 + len(marks), room)
    state = ContextState(tuple(ids.tolist()), whole, marks, logits if index.vocabulary else None)
    return state, None if index.probe_token is None else Probe(index.probe_token, probed), index


def check_file(path: Path, cipher: "Cipher | None" = None) -> None:
    """Read all of the file at `path`, in the memory of a block, and look at every sum.

    Raises SnapshotFileError, OSError.
    """
    with path.open("rb") as file:
        reader = _Reader(file, cipher)
        reader.ids()
        reader.look_at_all()


class _Reader:
    """An open file whose preamble, trailer and index are in order."""

    def __init__(self, file: BinaryIO, cipher: "Cipher | None") -> None:
        self._file, self._cipher = file, cipher
        self._reading = threading.Lock()
        size = os.fstat(file.fileno()).st_size
        if size < PREAMBLE.size + TRAILER.size:
            raise SnapshotFileError("it is too short")
        preamble = self._at(0, PREAMBLE.size)
        trailer = self._at(size - TRAILER.size, TRAILER.size)
        offset, length, written_size, whole_sum, end_magic = TRAILER.unpack(trailer)
        magic, version, flags, self._file_id = PREAMBLE.unpack(preamble)
        if magic != MAGIC or end_magic != END_MAGIC or written_size != size:
            raise SnapshotFileError("it is not a whole snapshot")
        if length > MAX_INDEX_BYTES or offset < PREAMBLE.size or offset + length + TRAILER.size != size:
            raise SnapshotFileError("its index does not lie where it should")
        written = self._at(offset, length)
        if _whole_sum(preamble, written, offset, size) != whole_sum:
            raise SnapshotFileError("its index was changed")
        if version != VERSION or flags & ~_SEALED:
            raise NewerSnapshotError("it was written by a newer Seamount")
        sealed = bool(flags & _SEALED)
        if sealed != (cipher is not None):
            raise OtherSealError("it is encrypted" if sealed else "it is not encrypted")
        if cipher is not None:
            written = _opened(cipher, written, self._file_id)
        try:
            self.index = from_json(written, blocks_bytes=offset - PREAMBLE.size, sealed=sealed)
        except SnapshotIndexError as error:
            raise SnapshotFileError(str(error)) from error
        self._sizes = [block_sizes(part) for part in self.index.part_bytes]
        self._places = list(
            accumulate((each.stored_bytes for each in self.index.blocks), initial=PREAMBLE.size)
        )

    def ids(self) -> Ids:
        """The token ids, which have the sums that the index says."""
        ids = cast(Ids, self.part(0, _own_memory).view("<u4"))
        sums = [(mark.tokens, mark.tokens_sum) for mark in self.index.marks]
        sums = sorted({*self.index.grid, *sums, (self.index.tokens, self.index.tokens_sum)})
        if list(token_sums(ids, [length for length, _ in sums])) != sums:
            raise SnapshotFileError("its tokens are not those that its index tells of")
        return ids

    def part(self, number: int, room: Room) -> Bytes:
        """The content of a part. Several threads unpack its blocks."""
        sizes = self._sizes[number]
        content = room(sum(sizes)) if sizes else np.empty(0, np.uint8)
        first = sum(len(each) for each in self._sizes[:number])
        places = list(range(first, first + len(sizes)))
        if len(places) == 1:
            self._unpack(places[0], content)
            return content
        views = _blocks_of(content)
        pool = ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1), thread_name_prefix="snapshot-reader")
        try:
            for _ in pool.map(self._unpack, places, views):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
        return content

    def look_at_all(self) -> None:
        """Unpack every block, and keep none."""
        memory = _own_memory(BLOCK_BYTES)
        for number, size in enumerate(size for part in self._sizes for size in part):
            self._unpack(number, memory[:size])

    def _unpack(self, number: int, into: Bytes) -> None:
        block = self.index.blocks[number]
        with self._reading:
            stored = self._at(self._places[number], block.stored_bytes)
        try:
            unpack(block, number, stored, into, cipher=self._cipher, file_id=self._file_id)
        except BlockError as error:
            raise SnapshotFileError(str(error)) from error

    def _at(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        found = self._file.read(length)
        if len(found) != length:
            raise SnapshotFileError("it ends too early")
        return found


def _write(
    file: io.FileIO,
    state: ContextState,
    probe: Probe | None,
    about: About,
    cipher: "Cipher | None",
    *,
    compress: bool,
) -> SnapshotIndex:
    file_id = secrets.token_bytes(16)
    preamble = PREAMBLE.pack(MAGIC, VERSION, 0 if cipher is None else _SEALED, file_id)
    _write_all(file, preamble)
    packer = BlockPacker(compress=compress, cipher=cipher, file_id=file_id)
    blocks: list[Block] = []
    offset, unsynced = PREAMBLE.size, 0
    parts = _parts(state, probe)
    for content in (block for part in parts for block in _blocks_of(part)):
        block, stored = packer.packed(len(blocks), content)
        fault_points.at("snapshot-write")
        _write_all(file, stored)
        blocks.append(block)
        offset += block.stored_bytes
        unsynced += block.stored_bytes
        if unsynced >= _SYNCED_EVERY_BYTES:
            os.fsync(file.fileno())
            unsynced = 0
    written = to_json(_index_of(state, probe, about, parts, blocks))
    try:
        # What could not be read back must not look like a snapshot.
        index = from_json(written, blocks_bytes=offset - PREAMBLE.size, sealed=cipher is not None)
    except SnapshotIndexError as error:
        raise ValueError(f"a state cannot be kept: {error}") from error
    if cipher is not None:
        written = cipher.seal(written, _about_index(file_id))
    size = offset + len(written) + TRAILER.size
    whole_sum = _whole_sum(preamble, written, offset, size)
    _write_all(file, written)
    _write_all(file, TRAILER.pack(offset, len(written), size, whole_sum, END_MAGIC))
    return index


def _index_of(
    state: ContextState, probe: Probe | None, about: About, parts: Sequence[Bytes], blocks: Sequence[Block]
) -> SnapshotIndex:
    count = len(state.tokens)
    grid = grid_lengths(count)
    lengths = sorted({*grid, *(mark.tokens for mark in state.marks), count})
    sums = dict(token_sums(np.asarray(state.tokens, "<u4"), lengths))
    sizes = [part.nbytes for part in parts]
    marks = tuple(MarkPlace(mark.tokens, sums[mark.tokens], mark.state.nbytes) for mark in state.marks)
    return SnapshotIndex(
        about,
        content_digest(
            count,
            sizes[1] // 4,
            [(mark.tokens, mark.size_bytes) for mark in marks],
            state.whole.nbytes,
            sums_of_state(blocks, sizes),
        ),
        count,
        sums[count],
        marks,
        state.whole.nbytes,
        sizes[1] // 4,
        None if probe is None else probe.token,
        sizes[2] // 4,
        tuple((length, sums[length]) for length in grid),
        tuple(blocks),
    )


def _parts(state: ContextState, probe: Probe | None) -> list[Bytes]:
    """The content of a file, in order, as bytes; the large ones are views."""
    nothing = np.empty(0, np.uint8)
    numbers = [
        nothing if each is None else np.ascontiguousarray(each, "<f4").view(np.uint8)
        for each in (state.logits, None if probe is None else probe.logits)
    ]
    states = [*(mark.state for mark in state.marks), state.whole]
    return [np.asarray(state.tokens, "<u4").view(np.uint8), *numbers, *map(np.ascontiguousarray, states)]


def _blocks_of(content: Bytes) -> list[Bytes]:
    return [content[start : start + BLOCK_BYTES] for start in range(0, content.nbytes, BLOCK_BYTES)]


def _write_all(file: io.FileIO, content: memoryview | bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _whole_sum(preamble: bytes, index: bytes, offset: int, size: int) -> bytes:
    places = TRAILER.pack(offset, len(index), size, b"", b"")[:24]
    return hashlib.blake2b(preamble + index + places, digest_size=32).digest()


def _opened(cipher: "Cipher", sealed: bytes, file_id: bytes) -> bytes:
    try:
        return cipher.open(sealed, _about_index(file_id))
    except SeamountError as error:
        raise SnapshotFileError(f"its index cannot be decrypted ({error.why})") from error


def _about_index(file_id: bytes) -> bytes:
    return b"seamount snapshot index" + file_id


def _own_memory(size_bytes: int) -> Bytes:
    return np.empty(size_bytes, np.uint8)
