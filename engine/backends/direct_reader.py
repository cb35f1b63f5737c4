"""Reads parts of a model's files to addresses in memory, many at once and past the page cache.

Owns: the files' descriptors, the threads that read, and the certainty that what was read is whole and of the files
that were opened. Does not know what the parts are, nor what lay at the addresses before.

A disk is kept busy only by many requests at once, and a copy through the page cache costs a core and memory that the
experts could have; so each thread has one request under way, of a piece that is neither too small for the disk nor so
large that one thread is left with it at the end. File systems that do not read past their cache are read through it,
and what it kept is dropped again.
"""

import ctypes
import errno
import os
import queue
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

THREADS = 4
PIECE_BYTES = 2 << 20
_UNALIGNED = (errno.EINVAL, errno.EOPNOTSUPP)
_SECTOR_BYTES = 4096


class ReadError(Exception):
    """What was wanted of the file cannot be had; says why, without a full stop."""


class Wanted(NamedTuple):
    """A part of a file, `size_bytes` from `offset` on, to be read to `address`. Whole pages, all three."""

    address: int
    offset: int
    size_bytes: int
    file: int = 0


class Reading:
    """Reads under way. `wait` for them before anything is done with the memory."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._failure: BaseException | None = None
        if not count:
            self._over.set()

    @property
    def ready(self) -> bool:
        """Whether all of it was read, and none of it failed."""
        return self._over.is_set() and self._failure is None

    def done(self, failure: BaseException | None = None) -> None:
        """One of them is over; called by the threads that read."""
        with self._lock:
            self._left -= 1
            self._failure = self._failure or failure
            if not self._left:
                self._over.set()

    def wait(self) -> None:
        """Until all are over. Raises ReadError where one failed."""
        self._over.wait()
        failure = self._failure
        if failure is None:
            return
        if isinstance(failure, ReadError):
            raise failure
        why = failure.strerror if isinstance(failure, OSError) else None
        raise ReadError(why or str(failure) or type(failure).__name__) from failure


class DirectReader:
    """A model's files and the threads that read them. `close` it."""

    def __init__(self, *paths: Path, threads: int = THREADS, piece_bytes: int = PIECE_BYTES) -> None:
        """Open the files. Raises OSError."""
        self._piece_bytes = piece_bytes
        self.descriptors: list[int] = []
        """They read through the page cache; also for mapping the files."""
        self._direct: list[int] = []
        try:
            for path in paths:
                self.descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            with suppress(OSError):  # on a file system that has only its cache
                for path in paths:
                    self._direct.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT))
            self._past_cache = len(self._direct) == len(paths)
            self._state = self._state_now()
        except BaseException:
            self._close_files()
            raise
        self._pieces: queue.SimpleQueue[tuple[Wanted, Reading] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name="expert reader", daemon=True) for _ in range(threads)
        ]
        for each in self._threads:
            each.start()

    def read(self, *stages: Iterable[Wanted]) -> list[Reading]:
        """Begin to read the parts of each stage, in their order. Raises ReadError, and reads nothing, for a file
        that is not what it was."""
        try:
            now = self._state_now()
        except OSError as error:
            raise ReadError(error.strerror or str(error)) from error
        if now != self._state:
            raise ReadError("the file was changed while it was in use")
        readings: list[Reading] = []
        for parts in stages:
            pieces = [
                part._replace(
                    address=part.address + at,
                    offset=part.offset + at,
                    size_bytes=min(self._piece_bytes, part.size_bytes - at),
                )
                for part in parts
                for at in range(0, part.size_bytes, self._piece_bytes)
            ]
            readings.append(reading := Reading(len(pieces)))
            for piece in pieces:
                self._pieces.put((piece, reading))
        return readings

    def close(self) -> None:
        """End the threads after what is under way, then close the files. Calling it again does nothing."""
        if not self.descriptors:
            return
        for _ in self._threads:
            self._pieces.put(None)
        for each in self._threads:
            each.join()
        self._close_files()

    def _close_files(self) -> None:
        for each in (*self.descriptors, *self._direct):
            os.close(each)
        self.descriptors.clear()
        self._direct.clear()

    def _state_now(self) -> list[tuple[int, int]]:
        return [(status.st_size, status.st_mtime_ns) for status in map(os.fstat, self.descriptors)]

    def _work(self) -> None:
        while (taken := self._pieces.get()) is not None:
            piece, reading = taken
            try:
                self._read(piece)
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                reading.done(error)
            else:
                reading.done()

    def _read(self, piece: Wanted) -> None:
        done = 0
        while done < piece.size_bytes:
            size_bytes = piece.size_bytes - done
            buffer = (ctypes.c_char * size_bytes).from_address(piece.address + done)
            got = self._read_once(buffer, piece.file, piece.offset + done)
            if got <= 0:
                raise ReadError(f"it ends at {piece.offset + done:,} bytes, in the middle of the experts")
            done += got

    def _read_once(self, buffer: "ctypes.Array[ctypes.c_char]", file: int, offset: int) -> int:
        if self._past_cache and offset % _SECTOR_BYTES == 0:
            try:
                return os.preadv(self._direct[file], [buffer], offset)
            except OSError as error:
                if error.errno not in _UNALIGNED:
                    raise
                # Not on this file system, or not in such pieces: through the cache from now on. The descriptor
                # stays open, since another thread may be about to use it.
                self._past_cache = False
        descriptor = self.descriptors[file]
        got = os.preadv(descriptor, [buffer], offset)
        os.posix_fadvise(descriptor, offset, got, os.POSIX_FADV_DONTNEED)
        return got
