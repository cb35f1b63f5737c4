"""The form of a journal: its header and its records, as bytes.

Owns: how a record is framed, summed and (with a cipher) sealed, how a file of them is read with suspicion, and
where it stops making sense. Does not know what the records mean (`journal_turns`), when they are written
(`journal`), or where files lie (`journals`). docs/journal.md describes every byte.

A record's sum is keyed with the file's own random number: what an earlier file left in a block of the disk is
never taken for a record of this one.
"""

import enum
import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from engine.errors import SealBroken
from engine.store.rows import AnswerPart
from engine.store.sealing import Cipher

MAGIC = b"SMNTJ\x00\x00\x01"
VERSION = 1
FILE_ID_BYTES = 16
SUM_BYTES = 8
HEADER_BYTES = 40
FRAME_HEAD_BYTES = 24
MOST_PAYLOAD_BYTES = 64 << 20
"""What one record may hold; a length above it is not believed."""

_SEALED = 1
_MOST_LOOKS = 64
_HEADER = struct.Struct("<8sII16s")
_FRAME_HEAD = struct.Struct("<IB3xQQ")
_PIECE_HEAD = struct.Struct("<IIIB3x")
_PARTS: tuple[AnswerPart, ...] = ("text", "reasoning", "call")


class Kind(enum.IntEnum):
    """What a record tells of its turn."""

    BEGUN = 1
    PROMPT = 2
    BASE = 3
    TOKENS = 4
    EVENT = 5
    SNAPSHOT = 6
    RELAY = 7
    ENDED = 8


class JournalUnreadable(ValueError):  # noqa: N818 - told to a person as a DataFolderError
    """A file that is no journal, of another version, or sealed with a key that is not here: the reason, a clause."""


class HeaderDamaged(JournalUnreadable):
    """A file that does not begin like any journal."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `turn` is the sequence number of the record that began its turn; `payload` is in the clear."""

    kind: Kind
    sequence: int
    turn: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer: its tokens from the `first`-th of the answer on, and its text, which stands at character
    `offset` of its `part`. One of the two may be empty."""

    first: int
    offset: int
    part: AnswerPart
    ids: tuple[int, ...]
    text: str

    def packed(self) -> bytes:
        """As the payload of a TOKENS record."""
        head = _PIECE_HEAD.pack(self.first, self.offset, len(self.ids), _PARTS.index(self.part))
        return head + struct.pack(f"<{len(self.ids)}I", *self.ids) + self.text.encode()

    @classmethod
    def unpacked(cls, payload: bytes) -> "Piece":
        """From the payload of a TOKENS record. Raises ValueError for one that cannot be."""
        if len(payload) < _PIECE_HEAD.size:
            raise ValueError("a piece is too short")
        first, offset, count, part = _numbers(_PIECE_HEAD, payload)
        text_at = _PIECE_HEAD.size + 4 * count
        if part >= len(_PARTS) or text_at > len(payload):
            raise ValueError("a piece is not whole")
        ids: tuple[int, ...] = struct.unpack_from(f"<{count}I", payload, _PIECE_HEAD.size)
        return cls(first, offset, _PARTS[part], ids, payload[text_at:].decode())


@dataclass(frozen=True)
class Form:
    """How the records of one file are written: its random number, and what seals them."""

    file_id: bytes
    cipher: Cipher | None = None

    @classmethod
    def new(cls, cipher: Cipher | None) -> "Form":
        """For a new file."""
        return cls(os.urandom(FILE_ID_BYTES), cipher)

    def header(self) -> bytes:
        """The first bytes of the file."""
        head = _HEADER.pack(MAGIC, VERSION, 0 if self.cipher is None else _SEALED, self.file_id)
        return head + self.sum_of(head)

    def frame(self, kind: Kind, sequence: int, turn: int, payload: bytes) -> bytes:
        """A record as it stands in the file. Raises ValueError for one that is too large."""
        if self.cipher is not None:
            payload = self.cipher.seal(payload, self._about(kind, sequence, turn))
        if len(payload) > MOST_PAYLOAD_BYTES:
            raise ValueError(f"a record of {len(payload):,} bytes is too large for a journal")
        body = _FRAME_HEAD.pack(len(payload), kind, sequence, turn) + payload
        return body + self.sum_of(body)

    def opened(self, kind: Kind, sequence: int, turn: int, payload: bytes) -> bytes:
        """The payload in the clear. Raises SealBroken."""
        if self.cipher is None:
            return payload
        return self.cipher.open(payload, self._about(kind, sequence, turn))

    def is_whole(self, frame: bytes) -> bool:
        """Whether the sum at the end of a frame is the right one."""
        return self.sum_of(frame[:-SUM_BYTES]) == frame[-SUM_BYTES:]

    def sum_of(self, data: bytes) -> bytes:
        """The sum that stands behind `data` in this file: BLAKE2b, 8 bytes, keyed with the file's number."""
        return hashlib.blake2b(data, digest_size=SUM_BYTES, key=self.file_id).digest()

    def _about(self, kind: Kind, sequence: int, turn: int) -> bytes:
        return b"journal" + self.file_id + struct.pack("<BQQ", kind, sequence, turn)


def form_of(header: bytes, cipher: Cipher | None) -> Form:
    """How the file with this header is written. Raises JournalUnreadable."""
    if len(header) < HEADER_BYTES or header[:8] != MAGIC:
        raise HeaderDamaged("it does not begin like a journal")
    _, version, flags, file_id = _HEADER.unpack_from(header)
    if not Form(file_id).is_whole(header[:HEADER_BYTES]):
        raise HeaderDamaged("its header is damaged")
    if version != VERSION or flags & ~_SEALED:
        raise JournalUnreadable(f"a newer Seamount wrote it (version {version}; this one knows {VERSION})")
    if flags & _SEALED and cipher is None:
        raise JournalUnreadable("it is encrypted, and its key is not here")
    return Form(file_id, cipher if flags & _SEALED else None)


class Reading:
    """The records of a file, in order, up to the first one that is not whole.

    Raises JournalUnreadable. `file` is open for reading; its bytes beyond `size_bytes` are not looked at.
    """

    def __init__(self, file: BinaryIO, size_bytes: int, cipher: Cipher | None) -> None:
        self.form = form_of(file.read(HEADER_BYTES), cipher)
        self.good_bytes = HEADER_BYTES
        """Up to here all is in order."""
        self.sequence: int = 0
        """The last record's."""
        self.is_torn = False
        """What stands behind `good_bytes` is what a write that was broken off leaves: a part of one record, zeros."""
        self.is_damaged = False
        """What stands behind `good_bytes` is more than that: bytes of the file have changed."""
        self._file = file
        self._size_bytes = size_bytes

    def __iter__(self) -> Iterator[Record]:
        while self.good_bytes < self._size_bytes:
            head = self._file.read(FRAME_HEAD_BYTES)
            if len(head) < FRAME_HEAD_BYTES:
                self._stop()
                return
            length, kind, sequence, turn = _numbers(_FRAME_HEAD, head)
            end = self.good_bytes + FRAME_HEAD_BYTES + length + SUM_BYTES
            # Before anything is read by it: a length is never believed beyond the file.
            if length > MOST_PAYLOAD_BYTES or end > self._size_bytes or sequence != self.sequence + 1:
                self._stop()
                return
            rest = self._file.read(length + SUM_BYTES)
            if len(rest) < length + SUM_BYTES or not self.form.is_whole(head + rest):
                self._stop()
                return
            # The sum is right: what cannot be understood now is not damaged, and is not to be cut off.
            if kind not in list(Kind):
                raise JournalUnreadable(f"a newer Seamount wrote it (a record of kind {kind})")
            known = Kind(kind)
            try:
                payload = self.form.opened(known, sequence, turn, rest[:-SUM_BYTES])
            except SealBroken:
                raise JournalUnreadable(
                    "it is encrypted with another key than the one that is here"
                ) from None
            self.good_bytes, self.sequence = end, sequence
            yield Record(known, sequence, turn, payload)

    def _stop(self) -> None:
        """Say what stands behind the last good record."""
        self._file.seek(self.good_bytes)
        rest = self._file.read(min(self._size_bytes - self.good_bytes, MOST_PAYLOAD_BYTES))
        self.is_damaged = self._goes_on(rest) or self._is_whole_but_wrong(rest)
        self.is_torn = not self.is_damaged

    def _goes_on(self, rest: bytes) -> bool:
        """Whether the record after the bad one, or the bad one at another place, is whole."""
        view = memoryview(rest)
        for sequence in (self.sequence + 1, self.sequence + 2):
            wanted, at = struct.pack("<Q", sequence), 0
            for _ in range(_MOST_LOOKS):
                at = rest.find(wanted, at + 1)
                start = at - 8
                if at < 0 or start + FRAME_HEAD_BYTES > len(rest):
                    break
                if start < 0:
                    continue
                end = start + FRAME_HEAD_BYTES + _FRAME_HEAD.unpack_from(rest, start)[0] + SUM_BYTES
                if end <= len(rest) and self.form.is_whole(bytes(view[start:end])):
                    return True
        return False

    def _is_whole_but_wrong(self, rest: bytes) -> bool:
        """Whether the bad record reaches to the end of the file exactly, and does not end in zeros."""
        if len(rest) < FRAME_HEAD_BYTES + SUM_BYTES:
            return False
        length = _FRAME_HEAD.unpack_from(rest)[0]
        return FRAME_HEAD_BYTES + length + SUM_BYTES == len(rest) and rest[-1] != 0


def _numbers(form: struct.Struct, data: bytes) -> tuple[int, ...]:
    """The numbers at the beginning of `data`."""
    return form.unpack_from(data)
