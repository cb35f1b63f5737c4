import ctypes
import errno
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.backends import direct_reader
from engine.backends.direct_reader import DirectReader, ReadError, Wanted
from engine.backends.mapped_file import available

pytestmark = pytest.mark.skipif(not available(), reason="only used where mappings can be exchanged")
PAGE, PAGES = mmap.PAGESIZE, 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_bytes(random.Random(1).randbytes(PAGES * PAGE + 100))
    return found


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    yield mmap.mmap(-1, PAGES * PAGE)


def address_of(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def parts(memory: mmap.mmap) -> list[Wanted]:
    """Scattered over the file, each to its own place."""
    start = address_of(memory)
    return [Wanted(start + at * PAGE, at * PAGE, size * PAGE) for at, size in ((40, 9), (0, 5), (20, 1))]


def check(path: Path, memory: mmap.mmap) -> None:
    content = bytearray(PAGES * PAGE)
    for _, offset, size_bytes, _ in parts(memory):
        content[offset : offset + size_bytes] = path.read_bytes()[offset : offset + size_bytes]
    assert memory[:] == content


@pytest.mark.parametrize("threads", [1, 3])
def test_parts_are_read_to_their_addresses_and_nothing_else_is_touched(
    path: Path, memory: mmap.mmap, threads: int
) -> None:
    reader = DirectReader(path, threads=threads, piece_bytes=2 * PAGE)
    first, last, empty = reader.read(parts(memory)[:1], parts(memory)[1:], [])
    empty.wait()
    last.wait()
    first.wait()
    assert first.ready and last.ready and empty.ready
    check(path, memory)
    reader.close()
    reader.close()


def test_each_part_is_read_from_its_own_file(path: Path, memory: mmap.mmap) -> None:
    other = path.with_name("other")
    other.write_bytes(random.Random(2).randbytes(PAGES * PAGE))
    reader = DirectReader(path, other, threads=2)
    start = address_of(memory)
    (reading,) = reader.read([Wanted(start, PAGE, PAGE, 1), Wanted(start + PAGE, PAGE, PAGE)])
    reading.wait()
    assert memory[: 2 * PAGE] == other.read_bytes()[PAGE : 2 * PAGE] + path.read_bytes()[PAGE : 2 * PAGE]
    os.utime(other, ns=(0, 1))
    with pytest.raises(ReadError, match="changed"):
        reader.read([Wanted(start, 0, PAGE)])
    reader.close()
    with pytest.raises(FileNotFoundError):
        DirectReader(path, path.with_name("nothing"))


@pytest.mark.parametrize("when", ["opened", "read"])
def test_a_file_system_that_reads_only_through_its_cache(
    path: Path, memory: mmap.mmap, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    refused = 0

    def opened(name: Path, flags: int, *rest: int) -> int:
        nonlocal refused
        if flags & os.O_DIRECT and when == "opened":
            refused += 1
            raise OSError(errno.EINVAL, "Invalid argument")
        return os_open(name, flags, *rest)

    def preadv(descriptor: int, buffers: list[bytearray], offset: int) -> int:
        nonlocal refused
        if descriptor in reader._direct:
            refused += 1
            raise OSError(errno.EINVAL, "Invalid argument")
        return os_preadv(descriptor, buffers, offset)

    os_open, os_preadv = os.open, os.preadv
    monkeypatch.setattr(direct_reader.os, "open", opened)
    reader = DirectReader(path, threads=1, piece_bytes=PAGE)
    monkeypatch.setattr(direct_reader.os, "preadv", preadv)
    for _ in range(2):
        for reading in reader.read(parts(memory)):
            reading.wait()
    check(path, memory)
    assert refused == 1
    reader.close()


def test_short_reads_go_on_where_they_stopped(
    path: Path, memory: mmap.mmap, monkeypatch: pytest.MonkeyPatch
) -> None:
    os_preadv = os.preadv
    draws = random.Random(2)

    def short(descriptor: int, buffers: "list[ctypes.Array[ctypes.c_char]]", offset: int) -> int:
        whole = len(buffers[0])
        wanted = draws.choice([whole, max(1, whole // 3)])
        part = bytearray(wanted)
        got = os_preadv(reader.descriptors[0], [part], offset)
        ctypes.memmove(buffers[0], bytes(part), got)
        return got

    reader = DirectReader(path, threads=2)
    monkeypatch.setattr(direct_reader.os, "preadv", short)
    for reading in reader.read(parts(memory)):
        reading.wait()
    check(path, memory)
    reader.close()


def test_what_the_disk_refuses_is_told_when_it_is_waited_for(
    path: Path, memory: mmap.mmap, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_descriptor: int, _buffers: object, offset: int) -> int:
        if offset == 44 * PAGE:
            raise OSError(errno.EIO, "Input/output error")
        return PAGE

    reader = DirectReader(path, threads=2, piece_bytes=PAGE)
    monkeypatch.setattr(direct_reader.os, "preadv", broken)
    monkeypatch.setattr(direct_reader.os, "posix_fadvise", lambda *_: None)
    (reading,) = reader.read(parts(memory))
    with pytest.raises(ReadError, match="Input/output error"):
        reading.wait()
    assert not reading.ready
    reader.close()


def test_a_part_beyond_the_end_is_an_error(path: Path, memory: mmap.mmap) -> None:
    reader = DirectReader(path)
    (reading,) = reader.read([Wanted(address_of(memory), 60 * PAGE, 5 * PAGE)])
    with pytest.raises(ReadError, match=f"it ends at {PAGES * PAGE + 100:,} bytes"):
        reading.wait()
    reader.close()


@pytest.mark.parametrize("change", ["shorter", "later"])
def test_a_file_that_was_changed_is_not_read(path: Path, memory: mmap.mmap, change: str) -> None:
    reader = DirectReader(path)
    if change == "shorter":
        os.truncate(path, PAGE)
    else:
        os.utime(path, ns=(0, 1))
    with pytest.raises(ReadError, match="was changed while it was in use"):
        reader.read(parts(memory))
    assert memory[:] == bytes(PAGES * PAGE)
    reader.close()
