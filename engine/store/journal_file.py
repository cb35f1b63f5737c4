"""A journal's file: appending to it, reading it, cutting what a crash left at its end, replacing it by a shorter one.

Owns: descriptors, the order of write, sync and rename, and what a failing disk means for a journal. Does not know the
form of a record (`journal_records`), what records mean (`journal_turns`), or when a file is synced (`journals`).

A record is one write() at the file's end. It survives the end of this process when that returns, and a power cut once
it is synced. What could not be written whole is cut off again, so that the next record stands behind a whole one.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine import fault_points
from engine.atomic_file import is_disk_full, name_beside, sync_folder
from engine.errors import DataFolderError, DiskFull, SeamountError
from engine.store.journal_records import (
    HEADER_BYTES,
    Form,
    HeaderDamaged,
    JournalUnreadable,
    Kind,
    Reading,
    Record,
)
from engine.store.sealing import Cipher

_logger = logging.getLogger(__name__)
DAMAGED_KEPT = 4
"""Damaged ends of one journal that are kept beside it, the newest."""

_PART = ".new"
_BINARY = getattr(os, "O_BINARY", 0)


class JournalFile:
    """The journal at `path`, open to be written at its end; made when it is not there. Any thread.

    What is not whole at its end is cut off first. Raises DiskFull, DataFolderError; the latter also for a file that
    cannot be read, which is then left as it is.
    """

    def __init__(self, path: Path, cipher: Cipher | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._broken: SeamountError | None = None
        self._descriptor = -1
        with explaining(path):
            mend(path, cipher)
            _make_folder(path.parent)
            if not path.exists():
                _write_new(path, Form.new(cipher).header())
            contents = read_journal(path, cipher)
            if contents.form.cipher is not cipher:
                # What is written from now on is sealed, and so is what is there.
                rewrite(path, cipher, list)
                contents = read_journal(path, cipher)
            self._form, self._size_bytes = contents.form, contents.good_bytes
            self._sequence = contents.records[-1].sequence if contents.records else 0
            self._descriptor = os.open(path, os.O_RDWR | _BINARY)
            os.lseek(self._descriptor, self._size_bytes, os.SEEK_SET)

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return self._size_bytes

    def append(self, kind: Kind, turn: int | None, payload: bytes) -> int:
        """Write one record; its sequence number. `turn` None: it begins one. Raises DiskFull, DataFolderError."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            sequence = self._sequence + 1
            frame = self._form.frame(kind, sequence, sequence if turn is None else turn, payload)
            try:
                fault_points.at("journal-write")
                _write_all(self._descriptor, frame)
            except OSError as error:
                self._cut()
                raise journal_trouble(error, self.path) from error
            self._sequence = sequence
            self._size_bytes += len(frame)
        fault_points.at("journal-written")
        return sequence

    def sync(self) -> None:
        """Have all that was written so far on the disk. Raises DiskFull, DataFolderError, and so does all that follows.

        After a sync that failed, the system need not hold any more what it could not write: nothing is known of the
        end of the file.
        """
        with self._lock:
            if self._broken is not None:
                raise self._broken
            if self._descriptor < 0:
                return
            # Another one for the same file: records are written meanwhile, and the file may be closed.
            descriptor = os.dup(self._descriptor)
        try:
            os.fsync(descriptor)
        except OSError as error:
            self._broken = journal_trouble(error, self.path)
            raise self._broken from error
        finally:
            os.close(descriptor)
        fault_points.at("journal-synced")

    def close(self) -> None:
        """Close the file. Twice does nothing."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
                self._broken = _unusable(self.path, "it has been closed")

    def _cut(self) -> None:
        """Take off what was written of a record that is not whole."""
        try:
            os.ftruncate(self._descriptor, self._size_bytes)
            os.lseek(self._descriptor, self._size_bytes, os.SEEK_SET)
        except OSError as error:
            self._broken = journal_trouble(error, self.path)


@dataclass(frozen=True)
class Contents:
    """What a journal's file holds, up to where it stops making sense."""

    form: Form
    records: list[Record]
    good_bytes: int
    size_bytes: int
    is_damaged: bool
    """What stands behind is more than a write that was broken off."""


def read_journal(path: Path, cipher: Cipher | None) -> Contents:
    """Read the file; it may be written to meanwhile. Raises JournalUnreadable, OSError."""
    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        reading = Reading(file, size_bytes, cipher)
        records = list(reading)
    return Contents(reading.form, records, reading.good_bytes, size_bytes, reading.is_damaged)


def mend(path: Path, cipher: Cipher | None) -> None:
    """Leave a file that ends in a whole record, or none.

    What is cut off is kept beside it if it may be more than a write that was broken off; so is a file that does not
    begin like a journal. The file must not be open anywhere. Raises JournalUnreadable, OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        path.with_name(path.name + _PART).unlink()
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        return
    if _is_nothing(path, size_bytes):
        # The file was made, and before its header was on the disk the power went. No record can have been synced.
        path.unlink()
        return
    try:
        contents = read_journal(path, cipher)
    except HeaderDamaged:
        # Nothing in it can be told from chance without the number that its header had.
        _set_aside(path, 0)
        path.unlink()
        return
    if contents.good_bytes == size_bytes:
        return
    if contents.is_damaged:
        _set_aside(path, contents.good_bytes)
    with path.open("rb+") as file:
        file.truncate(contents.good_bytes)
        os.fsync(file.fileno())


def rewrite(path: Path, cipher: Cipher | None, keep: Callable[[Sequence[Record]], list[Record]]) -> None:
    """Put a file with the records that `keep` chooses in the place of the one at `path`; none: remove it.

    After a crash there is the old file or the new one. It must not be open anywhere. Raises DiskFull, DataFolderError;
    the old one then stays.
    """
    _rewrite(path, cipher, keep, cipher)


def reseal(path: Path, cipher: Cipher, into: Cipher | None) -> None:
    """`rewrite` with all records, sealed with `into` or, for None, not sealed. `cipher` reads what is sealed."""
    _rewrite(path, cipher, list, into)


def _rewrite(
    path: Path,
    cipher: Cipher | None,
    keep: Callable[[Sequence[Record]], list[Record]],
    into: Cipher | None,
) -> None:
    with explaining(path):
        mend(path, cipher)
        if not path.exists():
            return
        contents = read_journal(path, cipher)
        kept = keep(contents.records)
        if not kept:
            path.unlink()
            sync_folder(path.parent)
        # A file from before encryption is sealed by the way.
        elif kept != contents.records or contents.form.cipher is not into:
            form, sequences = Form.new(into), dict[int, int]()
            frames = [form.header()]
            for sequence, record in enumerate(kept, 1):
                sequences[record.sequence] = sequence
                frames.append(form.frame(record.kind, sequence, sequences[record.turn], record.payload))
            _write_new(path, b"".join(frames))
            fault_points.at("journal-compacted")


def journal_trouble(error: OSError, path: Path) -> SeamountError:
    """What a failing disk means for the journal at `path`."""
    if is_disk_full(error):
        return DiskFull(
            "The conversation cannot be saved any further",
            f"the disk that holds {path} is full",
            "free some space there; what was shown is saved up to here",
        )
    return _unusable(path, error.strerror or str(error))


def _unusable(path: Path, why: str) -> DataFolderError:
    return DataFolderError(
        f"The journal {path} cannot be used",
        why,
        "it was left as it is; check the disk and your permission to write there, then try again",
    )


@contextlib.contextmanager
def explaining(path: Path) -> Generator[None, None, None]:
    """What goes wrong within it is told as DiskFull or DataFolderError."""
    try:
        yield
    except JournalUnreadable as error:
        raise DataFolderError(
            f"The journal {path} cannot be used",
            str(error),
            "it was left as it is; use the Seamount and the key that wrote it, or move the file elsewhere",
        ) from error
    except OSError as error:
        raise journal_trouble(error, path) from error


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)
        sync_folder(folder.parent)
        sync_folder(folder.parent.parent)


def _write_new(path: Path, content: bytes) -> None:
    """A file with `content` at `path`, there as a whole or not at all."""
    new = path.with_name(path.name + _PART)
    try:
        with contextlib.closing(_Descriptor(new)) as file:
            _write_all(file.number, content)
            os.fsync(file.number)
        fault_points.at("journal-compacting")
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    sync_folder(path.parent)


class _Descriptor:
    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600)

    def close(self) -> None:
        os.close(self.number)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _is_nothing(path: Path, size_bytes: int) -> bool:
    """Whether not even a header was ever written there: the file is too short for one, or all zeros."""
    if size_bytes < HEADER_BYTES:
        return True
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if block.count(0) != len(block):
                return False
    return True


def _set_aside(path: Path, good_bytes: int) -> None:
    """Keep a copy of an end that is damaged."""
    aside = name_beside(path, "damaged")
    _logger.error(
        "the journal %s is damaged behind %d bytes; the rest is kept as %s", path, good_bytes, aside.name
    )
    with path.open("rb") as file, contextlib.closing(_Descriptor(aside)) as copy:
        file.seek(good_bytes)
        _copy(file, copy.number)
        os.fsync(copy.number)
    for old in sorted(path.parent.glob(f"{path.name}.damaged-*"))[:-DAMAGED_KEPT]:
        old.unlink(missing_ok=True)


def _copy(file: BinaryIO, descriptor: int) -> None:
    while block := file.read(1 << 20):
        _write_all(descriptor, block)
