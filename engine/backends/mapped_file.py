"""The memory into which another library has mapped a file, and parts of it exchanged for memory of our own.

Owns: where in this process a file is mapped (/proc/self/maps), and the system calls that put anonymous memory in the
place of a part of that mapping, free pages of it, move them, and map the file there again. Linux. Does not know what
lies in the file, nor who reads it.

An address is only ever exchanged after it was found in a mapping of that file, at the place in the file that it is
said to be: a wrong one would be overwritten memory.
"""

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

PAGE_BYTES = mmap.PAGESIZE
_MAPS = Path("/proc/self/maps")
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE = 0x01, 0x02, 0x10, 0x20, 0x4000
_DONTNEED, _DONTFORK, _NOHUGEPAGE = 4, 10, 15  # madvise(2); the numbers are those of x86 and ARM alike
_MAYMOVE, _FIXED, _DONTUNMAP = 1, 2, 4  # mremap(2)
_MOST_MAPPINGS = Path("/proc/sys/vm/max_map_count")
_USUAL_MOST_MAPPINGS = 65_530
_FAILED = ctypes.c_void_p(-1).value


class Mapping(NamedTuple):
    """A part of a file in memory: addresses from `start` to before `end`, from `offset` in the file on."""

    start: int
    end: int
    offset: int


def available() -> bool:
    """Whether this system tells its mappings and lets them be exchanged: Linux does."""
    return sys.platform == "linux" and _MAPS.exists()


def mappings_of(descriptor: int, lines: Iterable[str] | None = None) -> list[Mapping]:
    """Where an open file is mapped in this process now. `lines`: of /proc/self/maps. Raises OSError."""
    status = os.fstat(descriptor)
    found: list[Mapping] = []
    for line in _MAPS.read_text("utf-8", "replace").splitlines() if lines is None else lines:
        fields = line.split(maxsplit=5)
        if len(fields) < 5 or int(fields[4]) != status.st_ino:
            continue
        # A file system of layers (overlayfs, btrfs) may tell another device here than fstat: the inode decides
        # together with the size, and llama.cpp's own word on the address comes on top of it.
        start, end = (int(each, 16) for each in fields[0].split("-"))
        offset = int(fields[2], 16)
        if offset < status.st_size:
            found.append(Mapping(start, end, offset))
    return found


def offset_at(mappings: Iterable[Mapping], address: int, size_bytes: int) -> int | None:
    """Where in the file the `size_bytes` at an address lie; None where they are not of one of the mappings."""
    for each in mappings:
        if each.start <= address and address + size_bytes <= each.end:
            return each.offset + address - each.start
    return None


def take(address: int, size_bytes: int) -> None:
    """Put memory of our own, zeros that take no room yet, in the place of what is mapped there. Raises OSError.

    Whole pages only. Not in pages of 2 MB: dropping a part of such a page gives nothing back until memory is
    short. Not handed to child processes: a page that a disk writes to must not be one that a child shares.
    """
    flags = _MAP_PRIVATE | _MAP_FIXED | _MAP_ANONYMOUS | _MAP_NORESERVE
    _map(address, size_bytes, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    _advise(address, size_bytes, _DONTFORK)
    try:
        _advise(address, size_bytes, _NOHUGEPAGE)
    except OSError:  # a kernel without such pages
        return


def give_back(address: int, size_bytes: int, descriptor: int, offset: int) -> None:
    """Map the file there again. Whole pages only. Raises OSError."""
    _map(address, size_bytes, mmap.PROT_READ, _MAP_SHARED | _MAP_FIXED, descriptor, offset)


def drop(address: int, size_bytes: int) -> None:
    """Free pages of our own: they read as zeros from now on. Raises OSError."""
    _advise(address, size_bytes, _DONTNEED)


def move(source: int, target: int, size_bytes: int) -> None:
    """Move pages of our own to another address of our own memory, instead of freeing them and filling new ones with
    zeros; at `source` zeros are read from now on. Both are split off what is around them: see `most_mappings`.

    What was at `target` is lost. Raises OSError, and what is at `target` is to be taken anew, where the system does
    not do that (Linux before 5.7: EINVAL) or either is not all of one piece.
    """
    _check(source, size_bytes)
    _check(target, size_bytes)
    flags = _MAYMOVE | _FIXED | _DONTUNMAP
    found: int | None = _libc().mremap(source, size_bytes, size_bytes, flags, target)
    if found == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def most_mappings() -> int:
    """How many pieces of memory, differing in what they are or where they came from, this process may have."""
    try:
        return int(_MOST_MAPPINGS.read_text())
    except (OSError, ValueError):
        return _USUAL_MOST_MAPPINGS


def _map(address: int, size_bytes: int, protection: int, flags: int, descriptor: int, offset: int) -> None:
    _check(address, size_bytes)
    found: int | None = _libc().mmap(address, size_bytes, protection, flags, descriptor, offset)
    if found == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _advise(address: int, size_bytes: int, advice: int) -> None:
    _check(address, size_bytes)
    if _libc().madvise(address, size_bytes, advice):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _check(address: int, size_bytes: int) -> None:
    if address <= 0 or size_bytes <= 0 or address % PAGE_BYTES or size_bytes % PAGE_BYTES:
        raise ValueError(f"{size_bytes} bytes at {address:#x} are no whole pages")


def _libc() -> Any:
    if not _LIBRARY:
        library = ctypes.CDLL(None, use_errno=True)
        library.mmap.restype = ctypes.c_void_p
        library.mmap.argtypes = [
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
        ]  # fmt: skip
        library.mremap.restype = ctypes.c_void_p
        library.mremap.argtypes = [
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p,
        ]  # fmt: skip
        library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        _LIBRARY.append(library)
    return _LIBRARY[0]


_LIBRARY: list[Any] = []
