"""The measurements as such; how fast a machine is, no test can know."""

import os
from pathlib import Path

import pytest

from engine.placement import bandwidth
from engine.placement.bandwidth import DiskRates, Unmeasured, arithmetic_rate, disk_rates, memory_rate

MIB = 1 << 20
needs_advice = pytest.mark.skipif(
    not hasattr(os, "posix_fadvise"), reason="this system has no posix_fadvise, so its disk is not measured"
)


def test_memory_is_read_at_a_rate_that_memory_has() -> None:
    rate = memory_rate(2, 4 * bandwidth.LEAST_BUFFER_BYTES)
    assert isinstance(rate, float)
    assert 1e7 < rate < 1e13  # a slip of a thousand, or a buffer that was not read, lies outside


def test_too_little_memory_is_said() -> None:
    rate = memory_rate(1, 100 * MIB)
    assert isinstance(rate, Unmeasured)
    assert "100 MiB" in rate.why


def test_arithmetic_has_a_rate() -> None:
    assert 1e7 < arithmetic_rate() < 1e15


@needs_advice
def test_a_disk_is_measured_and_nothing_stays(tmp_path: Path) -> None:
    rates = disk_rates(tmp_path, size_bytes=48 * MIB)
    assert isinstance(rates, DiskRates), rates
    for rate in (rates.sequential_bytes_per_s, rates.random_bytes_per_s, rates.mapped_bytes_per_s):
        assert 1e5 < rate < 1e13
    assert list(tmp_path.iterdir()) == []


@needs_advice
def test_without_direct_reads_the_cache_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    dropped: list[int] = []
    advise = os.posix_fadvise

    def counted(descriptor: int, offset: int, length: int, advice: int) -> None:
        dropped.append(advice)
        advise(descriptor, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", counted)
    assert isinstance(disk_rates(tmp_path, size_bytes=24 * MIB), DiskRates)
    # Once the file is written, and before each of the three ways of reading it.
    assert dropped.count(os.POSIX_FADV_DONTNEED) == 4


@needs_advice
def test_a_disk_is_never_filled(tmp_path: Path) -> None:
    rates = disk_rates(tmp_path, size_bytes=1 << 60)
    assert isinstance(rates, Unmeasured)
    assert list(tmp_path.iterdir()) == []


@needs_advice
def test_what_a_killed_measurement_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left, running, other = (
        tmp_path / name for name in (".bench-0123456789ab.part", ".bench-ba9876543210.part", "model.part")
    )
    for path in (left, running, other):
        path.write_bytes(b"x")
    for path in (left, other):
        os.utime(path, (1, 1))
    assert isinstance(disk_rates(tmp_path, size_bytes=1 << 60), Unmeasured)
    assert sorted(tmp_path.iterdir()) == sorted([running, other])


@needs_advice
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    rates = disk_rates(tmp_path, size_bytes=MIB)
    assert rates == Unmeasured("No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    rates = disk_rates(tmp_path / "gone")
    assert isinstance(rates, Unmeasured)
    assert rates.why
