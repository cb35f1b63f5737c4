"""Asks the system to read parts of a file into its page cache, before the mapping of that file is touched.

Owns: the advice (`posix_fadvise`, where a system has it), the pieces that it is given in, and the counts of what
was asked. Does not know which parts are wanted, nor when.

A memory-mapped file is otherwise read one page fault at a time, by one thread, each with a guess of what may be
wanted next; a disk is kept busy only by many requests at once. Linux reads of one piece of advice no more than
the device's largest request or its read-ahead, whichever is larger (force_page_cache_ra in mm/readahead.c) and
forgets the rest without a word, so a range is asked for in pieces of that size.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from engine.placement.expert_ranges import ByteRange

SMALLEST_PIECE_BYTES = 128 << 10
"""Linux' read-ahead unless somebody changed it; no device is asked for less."""
_LARGEST_PIECE_BYTES = 8 << 20
_DEVICES = Path("/sys/dev/block")

Advise = Callable[[int, int, int], None]
"""Descriptor, offset and length of what will be needed."""


def available() -> bool:
    """Whether this system takes such advice: Linux does, macOS and Windows do not know it."""
    return hasattr(os, "posix_fadvise")


class ReadAhead:
    """A model's files, of which parts are asked for. `close` it; `open` makes one."""

    def __init__(self, descriptors: Sequence[int], piece_bytes: int, advise: Advise) -> None:
        self._descriptors, self._piece_bytes, self._advise = descriptors, piece_bytes, advise
        self.asked_bytes = 0
        """Of all ranges so far, also of those that were in memory already."""

    @classmethod
    def open(cls, *paths: Path) -> "ReadAhead":
        """Open the files. Raises OSError."""
        descriptors: list[int] = []
        try:
            flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
            descriptors.extend(os.open(path, flags) for path in paths)
            return cls(descriptors, piece_bytes(os.fstat(descriptors[0]).st_dev), _advise)
        except BaseException:
            for each in descriptors:
                os.close(each)
            raise

    def ask(self, ranges: Iterable[ByteRange]) -> None:
        """Ask for the ranges in their order; returns before they are read. Raises OSError."""
        piece = self._piece_bytes
        for offset, size_bytes, file in ranges:
            end = offset + size_bytes
            for start in range(offset, end, piece):
                self._advise(self._descriptors[file], start, min(piece, end - start))
            self.asked_bytes += size_bytes

    def close(self) -> None:
        """Close the files. Calling it again does nothing."""
        for each in self._descriptors:
            os.close(each)
        self._descriptors = ()


def piece_bytes(device: int, devices: Path = _DEVICES) -> int:
    """How much of a piece of advice the kernel carries out on a device (`st_dev`).

    From sysfs; a partition's are those of its disk. Where nothing is told, the smallest.
    """
    place = devices / f"{os.major(device)}:{os.minor(device)}"
    told = [
        kilobytes << 10
        for folder in (place / "queue", place / ".." / "queue")
        for name in ("read_ahead_kb", "max_sectors_kb")
        if (kilobytes := _number(folder / name))
    ]
    return min(max(told, default=SMALLEST_PIECE_BYTES), _LARGEST_PIECE_BYTES)


def _advise(descriptor: int, offset: int, length: int) -> None:
    os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_WILLNEED)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
