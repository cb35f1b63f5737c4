"""What `seamount bench` prints and keeps."""

import json
from pathlib import Path

import pytest

from engine import bench_command
from engine.bench_command import bench_hardware
from engine.errors import HardwareUnmeasured
from engine.paths import DataFolder
from engine.placement import bandwidth, hardware
from engine.placement.bandwidth import DiskRates, Unmeasured
from engine.placement.hardware_record import Observed, read_record, write_record


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose measurements take no time."""
    monkeypatch.setattr(hardware, "llama_cpp", lambda: hardware.LlamaCpp("1", False, ("AVX2",), ()))
    monkeypatch.setattr(bandwidth, "memory_rate", lambda threads, _available: 1.5e9 * threads)
    monkeypatch.setattr(bandwidth, "arithmetic_rate", lambda: 7e9)
    monkeypatch.setattr(bandwidth, "disk_rates", lambda _folder: DiskRates(3e9, 2e9, 4.5e8))


def test_lines_for_people_and_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_hardware(DataFolder(tmp_path), as_json=False) == 0
    printed = capsys.readouterr()
    for text in ("3.0 GB/s from start to end", "450 MB/s by page faults", "UTC", "7 thousand million"):
        assert text in printed.out
    assert "measuring disk" in printed.err
    record = read_record(tmp_path)
    assert record is not None
    assert record.arithmetic_per_s == 7e9


def test_json_is_one_object_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_hardware(DataFolder(tmp_path), as_json=True) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    facts = json.loads(printed.out)
    assert facts["disk"]["mapped_bytes_per_s"] == 4.5e8
    assert facts["disk_problem"] is None


def test_what_models_gave_outlives_a_new_measurement_of_the_same_machine(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    bench_hardware(folder, as_json=True)
    record = read_record(tmp_path)
    assert record is not None
    write_record(tmp_path, record.with_observed("m", Observed(decode=0.5, prefill=2)))
    bench_hardware(folder, as_json=True)
    assert "m" in (read_record(tmp_path) or record).observed
    other = record.fingerprint.model_copy(update={"processor": "another"})
    kept = record.with_observed("m", Observed(decode=0.5, prefill=2)).model_copy(
        update={"fingerprint": other}
    )
    write_record(tmp_path, kept)
    bench_hardware(folder, as_json=True)
    assert (read_record(tmp_path) or kept).observed == {}


def test_a_disk_that_cannot_be_measured_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bandwidth, "disk_rates", lambda _folder: Unmeasured("it is full"))
    assert bench_hardware(DataFolder(tmp_path), as_json=False) == 0
    assert "not measured: it is full" in capsys.readouterr().out


def test_an_error_is_a_sentence_or_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise HardwareUnmeasured("a", "b", "c")

    monkeypatch.setattr(bench_command, "measure", fail)
    with pytest.raises(HardwareUnmeasured):
        bench_hardware(DataFolder(tmp_path), as_json=False)
    assert bench_hardware(DataFolder(tmp_path), as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "hardware"
