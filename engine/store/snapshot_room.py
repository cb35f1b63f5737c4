"""Room for the states of contexts: in memory, and what of a disk is left to others.

Owns: where the bytes of a state lie while it is saved, loaded and written, and how much of a disk snapshots leave
free. Does not know what is in a state, or which snapshots there are (`snapshots`).

A state may be as large as a good part of the memory. So a large one lies in a file without a name, mapped: the system
can write it out when memory is short, and drops it when nobody uses it any more.
"""

import contextlib
import errno
import mmap
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PART_SUFFIX = ".part"
"""Ends the names of what is not finished; such a file is deleted when an engine starts."""
MAPPED_FROM_BYTES = 64 << 20
LEAST_FREE_BYTES, MOST_LEFT_FREE_BYTES = 1 << 30, 10 << 30
LEAST_FREE_SHARE = 0.05


def left_free(disk_bytes: int) -> int:
    """How much of a disk of that size snapshots leave free: a twentieth, but at least 1 GiB and at most 10 GiB."""
    return min(max(LEAST_FREE_BYTES, int(disk_bytes * LEAST_FREE_SHARE)), MOST_LEFT_FREE_BYTES)


def own_memory(size_bytes: int) -> NDArray[np.uint8]:
    """Pages of their own, which are the system's again as soon as nobody uses them. Raises MemoryError, OSError.

    Where so much is not to be had now, keeping a state would cost the engine its life.
    """
    import psutil

    if size_bytes > psutil.virtual_memory().available:
        raise MemoryError(f"no room for a state of {size_bytes:,} bytes now")
    return np.frombuffer(mmap.mmap(-1, max(1, size_bytes)), np.uint8)[:size_bytes]


def refuse_beyond_memory(size_bytes: int) -> None:
    """Raise MemoryError for more than this machine has: the system would promise it, and end a process when it has to
    keep the promise."""
    import psutil

    if size_bytes > psutil.virtual_memory().total:
        raise MemoryError(f"no room for a state of {size_bytes:,} bytes")


def mapped_memory(folder: Path, size_bytes: int) -> NDArray[np.uint8]:
    """A mapping of a file in `folder` that has no name any more, or loses it when the next engine starts.

    Raises OSError, also where its space cannot be had in advance: a page that the disk has no room for would end the
    process when it is written to.
    """
    if not hasattr(os, "posix_fallocate"):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = part_name(folder)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with contextlib.suppress(OSError):
            path.unlink()
        os.posix_fallocate(descriptor, 0, size_bytes)
        return np.frombuffer(mmap.mmap(descriptor, size_bytes), np.uint8)
    finally:
        os.close(descriptor)


def part_name(folder: Path) -> Path:
    """A name in `folder` that no file has, for one that is not finished."""
    return folder / f".{secrets.token_hex(8)}{PART_SUFFIX}"


def lacking(folder: Path, size_bytes: int, leaves_free: Callable[[int], int]) -> int:
    """How many bytes the disk of `folder` lacks for `size_bytes` more; 0: none. Raises OSError.

    `leaves_free`: how much is to be left free of a disk of so many bytes.
    """
    disk = shutil.disk_usage(folder)
    return max(0, size_bytes + leaves_free(disk.total) - disk.free)
