"""Room is really there, leaves no file behind, and is refused before the machine breaks a promise."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import psutil
import pytest

from engine.store.snapshot_room import lacking, left_free, mapped_memory, own_memory, refuse_beyond_memory

GIB = 1 << 30


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_own_memory_has_the_size_that_was_asked_for() -> None:
    for size in (0, 1, 5000):
        memory = own_memory(size)
        memory[:] = 7
        assert memory.nbytes == size


def test_more_than_the_machine_has_is_refused() -> None:
    with pytest.raises(MemoryError):
        refuse_beyond_memory(psutil.virtual_memory().total + 1)
    with pytest.raises(MemoryError):
        own_memory(1 << 60)


def test_own_memory_that_others_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    short = SimpleNamespace(total=64 * GIB, available=5000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: short)
    assert own_memory(5000).nbytes == 5000
    with pytest.raises(MemoryError):
        own_memory(5001)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot set disk space aside")
def test_mapped_memory_has_no_name(tmp_path: Path) -> None:
    memory = mapped_memory(tmp_path / "new", 100_000)
    memory[:] = 7
    assert (memory.nbytes, int(memory.sum())) == (100_000, 700_000)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot set disk space aside")
def test_room_that_the_disk_has_not_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="full"):
        mapped_memory(tmp_path, 1 << 20)
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_the_means_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with pytest.raises(OSError):
        mapped_memory(tmp_path, 1 << 20)


def test_a_twentieth_of_the_disk_is_left_free_within_bounds() -> None:
    assert left_free(4 * GIB) == GIB
    assert left_free(100 * GIB) == 5 * GIB
    assert left_free(4000 * GIB) == 10 * GIB


def test_what_a_disk_lacks_counts_what_is_left_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(path: Path) -> Disk:
        assert path == tmp_path
        return Disk(100 * GIB, 90 * GIB, 10 * GIB)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert lacking(tmp_path, 5 * GIB, left_free) == 0
    assert lacking(tmp_path, 5 * GIB + 1, left_free) == 1
