"""Which pages of a mapped file lie in memory.

Owns: the question to the system (mincore). Does not know files or tensors: addresses in, bytes out.

Linux tells it only of files that this process could write to or owns; of others it says that everything is in memory,
so that nobody learns what other people read. There, as on systems that are not asked (all but Linux), everything
counts as being in memory.
"""

import ctypes
import mmap
import sys
from typing import Any

_PAGE_BYTES = mmap.PAGESIZE
_RESIDENT = 1


def missing_bytes(address: int, size_bytes: int) -> int:
    """How many of the bytes from `address` on lie on pages that would have to be read first. 0 where it cannot be told.

    The address is only asked about, never read from; one that is not mapped counts as in memory.
    """
    if sys.platform != "linux" or size_bytes <= 0:
        return 0
    first = address // _PAGE_BYTES * _PAGE_BYTES
    pages = -(-(address + size_bytes - first) // _PAGE_BYTES)
    told = bytearray(pages)
    room = (ctypes.c_ubyte * pages).from_buffer(told)
    if _libc().mincore(first, pages * _PAGE_BYTES, room):
        return 0
    if told.count(1) == pages:  # the usual case, without a loop
        return 0
    missing = [page for page, each in enumerate(told) if not each & _RESIDENT]
    ends = address + size_bytes
    return sum(
        min(first + (page + 1) * _PAGE_BYTES, ends) - max(first + page * _PAGE_BYTES, address)
        for page in missing
    )


def _libc() -> Any:
    if not _LIBRARY:
        library = ctypes.CDLL(None, use_errno=True)
        library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        _LIBRARY.append(library)
    return _LIBRARY[0]


_LIBRARY: list[Any] = []
