"""The pages of a mapped file: which lie in memory, which will be wanted soon, which are not wanted any more.

Owns: what is asked of and told to the system about them (mincore, madvise). Does not know files or tensors: addresses
in, bytes out. Nothing here reads, changes or frees what lies at an address, so a wrong one does no harm.

Linux tells what lies in memory only of files that this process owns or could write to; of others it says that
everything does, so that nobody learns what other people read. There, as on systems that are not asked (all but
Linux), everything counts as being in memory.
"""

import ctypes
import mmap
import sys
from typing import Any

_PAGE_BYTES = mmap.PAGESIZE
_RESIDENT = 1
_WILLNEED, _COLD = 3, 20  # madvise(2); the same numbers on every processor


def missing_bytes(address: int, size_bytes: int) -> int:
    """How many of the bytes from `address` on lie on pages that would have to be read first; 0 where nobody can tell.

    An address that is not mapped counts as in memory.
    """
    if sys.platform != "linux" or size_bytes <= 0:
        return 0
    first, pages = _pages(address, size_bytes)
    told = bytearray(pages)
    room = (ctypes.c_ubyte * pages).from_buffer(told)
    if _libc().mincore(first, pages * _PAGE_BYTES, room):
        return 0
    if told.count(_RESIDENT) == pages:  # the usual case, without a loop
        return 0
    end = address + size_bytes
    starts = [first + page * _PAGE_BYTES for page, each in enumerate(told) if not each & _RESIDENT]
    return sum(min(start + _PAGE_BYTES, end) - max(start, address) for start in starts)


def want(address: int, size_bytes: int) -> None:
    """These will be needed next: the system begins to read what is missing, in large pieces, and does not wait."""
    _advise(address, size_bytes, _WILLNEED)


def spare(address: int, size_bytes: int) -> None:
    """These are not needed: they are the first that the system takes when memory is short."""
    _advise(address, size_bytes, _COLD)


def _advise(address: int, size_bytes: int, advice: int) -> None:
    if sys.platform == "linux" and size_bytes > 0:
        first, pages = _pages(address, size_bytes)
        _libc().madvise(first, pages * _PAGE_BYTES, advice)  # a kernel that knows no such advice refuses it


def _pages(address: int, size_bytes: int) -> tuple[int, int]:
    """The address of the first page, and how many there are."""
    first = address // _PAGE_BYTES * _PAGE_BYTES
    return first, -(-(address + size_bytes - first) // _PAGE_BYTES)


def _libc() -> Any:
    if not _LIBRARY:
        library = ctypes.CDLL(None, use_errno=True)
        library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        _LIBRARY.append(library)
    return _LIBRARY[0]


_LIBRARY: list[Any] = []
