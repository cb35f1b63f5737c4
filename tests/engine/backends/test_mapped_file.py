import ctypes
import mmap
import os
from pathlib import Path

import pytest

from engine.backends.mapped_file import (
    PAGE_BYTES,
    Mapping,
    available,
    drop,
    give_back,
    mappings_of,
    most_mappings,
    move,
    offset_at,
    take,
)

pytestmark = pytest.mark.skipif(not available(), reason="this system does not tell its mappings")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"".join(bytes([number]) * PAGE_BYTES for number in range(1, 9)))
    return path


def test_a_mapping_is_found_and_a_part_of_it_exchanged_and_given_back(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    assert mappings_of(descriptor) == []
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
        (found,) = mappings_of(descriptor)
        assert (found.end - found.start, found.offset) == (8 * PAGE_BYTES, 0)
        third = found.start + 2 * PAGE_BYTES
        assert offset_at([found], third, PAGE_BYTES) == 2 * PAGE_BYTES
        take(third, 2 * PAGE_BYTES)
        assert mapped[2 * PAGE_BYTES : 4 * PAGE_BYTES] == bytes(2 * PAGE_BYTES)
        assert mapped[PAGE_BYTES] == 2 and mapped[4 * PAGE_BYTES] == 5
        assert [each.offset for each in mappings_of(descriptor)] == [0, 4 * PAGE_BYTES]
        assert offset_at(mappings_of(descriptor), third, PAGE_BYTES) is None
        drop(third, PAGE_BYTES)
        give_back(third, 2 * PAGE_BYTES, descriptor, 2 * PAGE_BYTES)
        assert mapped[:] == file.read_bytes()
    os.close(descriptor)


def test_pages_are_moved_and_leave_zeros(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
        start = mappings_of(descriptor)[0].start
        take(start + PAGE_BYTES, 6 * PAGE_BYTES)
        ctypes.memset(start + PAGE_BYTES, 7, 2 * PAGE_BYTES)
        ctypes.memset(start + 4 * PAGE_BYTES, 9, 2 * PAGE_BYTES)
        move(start + PAGE_BYTES, start + 4 * PAGE_BYTES, 2 * PAGE_BYTES)
        wanted = [1, 0, 0, 0, 7, 7, 0, 8]
        assert mapped[:] == b"".join(bytes([each]) * PAGE_BYTES for each in wanted)
        with pytest.raises(OSError, match="Invalid argument"):  # over itself
            move(start + PAGE_BYTES, start + 2 * PAGE_BYTES, 2 * PAGE_BYTES)
    os.close(descriptor)
    assert most_mappings() > 1000


def test_what_is_not_wholly_in_a_mapping_is_not_found() -> None:
    mappings = [Mapping(8192, 16384, 4096), Mapping(16384, 20480, 65536)]
    assert offset_at(mappings, 8200, 8184) == 4104
    assert offset_at(mappings, 16384, 1) == 65536
    assert offset_at(mappings, 8200, 8185) is None
    assert offset_at(mappings, 0, 10) is None


def test_another_file_and_a_place_beyond_its_end_are_not_taken_for_it(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    number = os.fstat(descriptor).st_ino
    lines = [
        f"1000-2000 r--s 00000000 fd:00 {number + 1} /other",
        f"2000-3000 r--s 00001000 fd:00 {number} {file}",
        f"3000-4000 r--s 10000000 fd:00 {number} {file}",
        "4000-5000 rw-p 00000000 00:00 0",
    ]
    assert mappings_of(descriptor, lines) == [Mapping(0x2000, 0x3000, 0x1000)]
    os.close(descriptor)


@pytest.mark.parametrize(
    ("address", "size_bytes"), [(PAGE_BYTES, 1), (1, PAGE_BYTES), (PAGE_BYTES, 0), (0, 4096)]
)
def test_only_whole_pages_are_exchanged(address: int, size_bytes: int) -> None:
    for call in (take, drop, lambda *each: move(*each[:1], PAGE_BYTES, each[1])):
        with pytest.raises(ValueError, match="whole pages"):
            call(address, size_bytes)


def test_a_refusal_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"), mmap.mmap(-1, PAGE_BYTES) as own:
        address = ctypes.addressof(ctypes.c_char.from_buffer(own))
        give_back(address, PAGE_BYTES, 9999, 0)
