"""What the system says of pages of a mapped file."""

import ctypes
import mmap
import os
import sys
from pathlib import Path

import pytest

from engine.model.mapped_pages import missing_bytes, spare, want

PAGE = mmap.PAGESIZE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked")


def mapped(path: Path, pages: int) -> tuple[mmap.mmap, int]:
    """A file of so many pages, mapped and not in the page cache, and its address."""
    path.write_bytes(bytes(range(256)) * (pages * PAGE // 256))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        mapping = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)  # so that its address can be had
    finally:
        os.close(descriptor)
    mapping.madvise(mmap.MADV_RANDOM)  # no page is read because of its neighbour
    return mapping, ctypes.addressof(ctypes.c_char.from_buffer(mapping))


def test_pages_that_were_touched_lie_in_memory_and_others_do_not(tmp_path: Path) -> None:
    mapping, address = mapped(tmp_path / "file", 8)
    if missing_bytes(address, 8 * PAGE) != 8 * PAGE:
        pytest.skip("this file system keeps what it was told to drop")
    assert mapping[3 * PAGE] == 0
    assert missing_bytes(address, 8 * PAGE) == 7 * PAGE
    assert missing_bytes(address + 3 * PAGE, PAGE) == 0
    # Parts of pages: from the middle of page 2 to the middle of page 4.
    assert missing_bytes(address + 2 * PAGE + PAGE // 2, 2 * PAGE) == PAGE // 2 + PAGE // 2
    assert missing_bytes(address + 5, 7) == 7


def test_memory_of_our_own_lies_in_memory_and_nothing_is_asked_of_nothing() -> None:
    own = bytearray(b"\1" * 3 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(own))
    assert missing_bytes(address, len(own)) == 0
    assert missing_bytes(address, 0) == 0


def test_what_is_wanted_is_read_and_what_is_spared_stays_what_it_is(tmp_path: Path) -> None:
    mapping, address = mapped(tmp_path / "file", 8)
    if missing_bytes(address, 8 * PAGE) != 8 * PAGE:
        pytest.skip("this file system keeps what it was told to drop")
    want(address, 8 * PAGE)
    assert bytes(mapping[:256]) == bytes(range(256))
    spare(address, 8 * PAGE)
    assert bytes(mapping[5 * PAGE : 5 * PAGE + 256]) == bytes(range(256))


def test_an_address_that_is_not_mapped_counts_as_in_memory() -> None:
    assert missing_bytes(PAGE, PAGE) == 0
    want(PAGE, PAGE)
    spare(PAGE, PAGE)
