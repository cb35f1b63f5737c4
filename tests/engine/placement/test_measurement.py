"""A measurement put together; its parts are tried in test_bandwidth."""

from pathlib import Path

import pytest

from engine.errors import HardwareUnmeasured
from engine.placement import bandwidth, device_measurement, hardware
from engine.placement.bandwidth import DiskRates, Unmeasured
from engine.placement.hardware_record import MeasuredGpu, write_record
from engine.placement.measurement import measure, present_fingerprint, present_record


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "processor", lambda: hardware.Processor("CPU", 4, 8, 8, 4))
    monkeypatch.setattr(bandwidth, "memory_rate", lambda threads, _available: 1e9 * threads)
    monkeypatch.setattr(bandwidth, "arithmetic_rate", lambda: 7e9)
    monkeypatch.setattr(bandwidth, "disk_rates", lambda _folder: DiskRates(3.0, 2.0, 1.0))
    monkeypatch.setattr(device_measurement, "device_rates", lambda *_, **__: Unmeasured("no llama.cpp"))


def test_everything_is_measured(tmp_path: Path) -> None:
    steps: list[str] = []
    record, trouble = measure(tmp_path, steps.append)
    assert trouble is None
    assert steps == ["memory", "processor", "disk"]
    assert (record.memory_bytes_per_s, record.memory_one_bytes_per_s, record.memory_threads) == (4e9, 1e9, 4)
    assert record.arithmetic_per_s == 7e9
    assert record.disk is not None
    assert record.disk.mapped_bytes_per_s == 1.0
    assert record.fingerprint.agrees(present_fingerprint(tmp_path))
    assert record.plain is None
    assert record.gpus == []


def test_a_record_counts_on_the_machine_that_it_is_of(tmp_path: Path) -> None:
    assert present_record(tmp_path, tmp_path) is None
    record, _ = measure(tmp_path, lambda _: None)
    write_record(tmp_path, record)
    assert present_record(tmp_path, tmp_path) == record
    assert present_record(tmp_path, tmp_path, (hardware.Gpu("A", 2, 1),)) is None


def test_gpus_are_measured_in_their_order_and_with_a_core_free_for_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def rates(which: str, **asked: int) -> Unmeasured:
        if which == "cpu":
            threads.append(asked["threads"])
        return Unmeasured(f"{which} is shy")

    monkeypatch.setattr(device_measurement, "device_rates", rates)
    steps: list[str] = []
    gpus = (hardware.Gpu("A", 2, 1), hardware.Gpu("B", 2, 1))
    record, _ = measure(tmp_path, steps.append, gpus)
    assert steps == ["memory", "processor", "2 GPUs", "disk"]
    assert record.gpus == [MeasuredGpu(name="A", why="0 is shy"), MeasuredGpu(name="B", why="1 is shy")]
    assert threads == [3]


def test_one_thread_may_have_more_than_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "memory_rate", lambda threads, _available: 8e9 / threads)
    record, _ = measure(tmp_path, lambda _: None)
    assert (record.memory_bytes_per_s, record.memory_threads) == (8e9, 1)


def test_a_disk_that_cannot_be_measured_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bandwidth, "disk_rates", lambda _folder: Unmeasured("it is full"))
    record, trouble = measure(tmp_path, lambda _: None)
    assert record.disk is None
    assert trouble == "it is full"


def test_no_memory_to_measure_with_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "memory_rate", lambda *_: Unmeasured("only 3 MiB of memory are free"))
    with pytest.raises(HardwareUnmeasured, match=r"only 3 MiB of memory are free; close other programs\."):
        measure(tmp_path, lambda _: None)
