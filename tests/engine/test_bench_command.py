"""What `seamount bench` prints and keeps."""

import json
from pathlib import Path

import pytest

from engine import bench_command
from engine.bench_command import Asked, bench_hardware, bench_model
from engine.errors import BadRequest, DoesNotFit, HardwareUnmeasured, ModelFileError
from engine.model_bench import Run
from engine.paths import DataFolder
from engine.placement import bandwidth, device_measurement, hardware
from engine.placement.bandwidth import DiskRates, Unmeasured
from engine.placement.forecast import forecast
from engine.placement.hardware_record import (
    DeviceRates,
    Multiplying,
    Observed,
    read_record,
    write_record,
)
from engine.placement.planner import Room, Wishes, plan
from tests.engine.library.test_model_files import gguf
from tests.engine.placement.models import GB, flash


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose measurements take no time."""
    monkeypatch.setattr(hardware, "llama_cpp", lambda: hardware.LlamaCpp("1", False, ("AVX2",), ()))
    monkeypatch.setattr(bandwidth, "memory_rate", lambda threads, _available: 1.5e9 * threads)
    monkeypatch.setattr(bandwidth, "arithmetic_rate", lambda: 7e9)
    monkeypatch.setattr(bandwidth, "disk_rates", lambda _folder: DiskRates(3e9, 2e9, 4.5e8))
    monkeypatch.setattr(device_measurement, "device_rates", lambda *_, **__: Unmeasured("it is shy"))


def test_lines_for_people_and_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_hardware(DataFolder(tmp_path), as_json=False) == 0
    printed = capsys.readouterr()
    for text in ("3.0 GB/s from start to end", "450 MB/s by page faults", "UTC", "7 thousand million"):
        assert text in printed.out
    assert "llama.cpp's own multiplications were not measured" in printed.out
    assert "measuring disk" in printed.err
    record = read_record(tmp_path)
    assert record is not None
    assert record.arithmetic_per_s == 7e9


def test_gpus_are_told_with_their_rates_or_why_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus = (hardware.Gpu("Shy One", 8 * GB, 8 * GB), hardware.Gpu("Quick One", 80 * GB, 79 * GB))
    built = hardware.LlamaCpp("1", True, (), gpus)
    kinds = Multiplying(one_bytes_per_s=2e12, many_per_s=2.5e14)
    rates = DeviceRates(
        threads=1,
        copy_bytes_per_s=2.6e12,
        pinned_bytes_per_s=5.4e10,
        pageable_bytes_per_s=1.2e10,
        back_bytes_per_s=5.3e10,
        operation_s=2e-6,
        exchange_s=2e-5,
        q8_0=kinds,
        mxfp4=None,
    )
    answers = {"0": Unmeasured("its memory is taken"), "1": rates, "cpu": rates}
    monkeypatch.setattr(hardware, "llama_cpp", lambda: built)
    monkeypatch.setattr(device_measurement, "device_rates", lambda which, **_: answers[which])
    assert bench_hardware(DataFolder(tmp_path), as_json=False) == 0
    printed = capsys.readouterr().out
    for text in (
        "Shy One not measured: its memory is taken",
        "54 GB/s from pinned memory, 12 GB/s from other",
    ):
        assert text in printed
    assert "Q8_0      2.0 TB/s for one token, 250,000 thousand million" in printed
    assert "MXFP4" not in printed
    record = read_record(tmp_path)
    assert record is not None
    assert [each.name for each in record.gpus] == ["Shy One", "Quick One"]
    assert record.gpus[1].rates == rates


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


@pytest.mark.slow
def test_a_model_is_run_by_its_plan_and_told_with_machine_and_forecast(
    tmp_path: Path, starter_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = DataFolder(tmp_path)
    bench_hardware(folder, as_json=True)
    capsys.readouterr()
    asked = Asked(str(starter_path), prompt_tokens=(24,), depths=(0, 40), context_tokens=512, threads=1)
    assert bench_model(folder, asked, as_json=True) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    facts = json.loads(printed.out)
    assert [(run["depth_tokens"], run["prompt_tokens"]) for run in facts["runs"]] == [(0, 24), (40, 24)]
    assert all(run["decode_tokens_per_s"] > 0 and run["prefill_tokens_per_s"] > 0 for run in facts["runs"])
    assert facts["plan"]["threads"] == 1
    assert facts["plan"]["context_tokens"] == 512
    in_ram = sum(part["ram_bytes"] for part in facts["plan"]["parts"])
    assert in_ram > 96_000_000
    assert facts["engine"]["llama_cpp_python"] == "1"
    assert facts["hardware"]["arithmetic_per_s"] == 7e9
    assert facts["forecast"]["seen"] is False
    # What it gave is kept, and the next forecast is what was seen.
    record = read_record(tmp_path)
    assert record is not None
    seen = record.observed[facts["plan"]["placement"]]
    first = facts["runs"][0]["decode_tokens_per_s"]
    assert seen.decode == pytest.approx(first / facts["runs"][0]["foretold_decode_tokens_per_s"])
    assert facts["load_s"] > 0
    assert bench_model(folder, asked, as_json=False) == 0
    lines = capsys.readouterr().out
    assert "by what it gave before" in lines
    assert "All of it in RAM" in lines
    assert "for a prompt of 511 tokens" in lines
    assert "of RAM, 97 MB on the disk" in lines
    assert "from disk" not in lines
    assert any(line.split()[:2] == ["40", "24"] for line in lines.splitlines())


def test_what_comes_from_disk_and_how_long_a_long_prompt_takes_is_told(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    bench_hardware(folder, as_json=True)
    record = read_record(tmp_path)
    assert record is not None
    planned = plan(flash(), Room(64 * GB, 56 * GB, 8), Wishes(131_072))
    runs = [(Run(0, 512, 30.0, 1.5, 1.0, 2.0), (20.0, 0.8))]
    lines = bench_command._model_lines("Flash", planned, runs, forecast(flash(), planned, record), 61.0)
    assert any("for 100,000" in line for line in lines)
    assert any("from disk for each token" in line for line in lines)
    assert any(line.split()[:6] == ["0", "512", "17.1", "20.0", "0.7", "0.8"] for line in lines)
    assert lines[0].endswith("loaded in 61.0 s")


def test_without_a_measured_machine_there_is_no_forecast(
    tmp_path: Path, starter_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    asked = Asked(str(starter_path), prompt_tokens=(8,), threads=1)
    assert bench_model(DataFolder(tmp_path), asked, as_json=False) == 0
    assert "bench --hardware" in capsys.readouterr().out
    assert read_record(tmp_path) is None


def test_what_does_not_fit_is_not_loaded(
    tmp_path: Path, starter_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(1 << 30, 610_000_000))
    with pytest.raises(DoesNotFit, match="a context of"):
        bench_model(DataFolder(tmp_path), Asked(str(starter_path)), as_json=False)


def test_a_script_is_not_measured(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "talk.script.json").write_text('{"replies": [{}]}')
    with pytest.raises(BadRequest, match="it is a script"):
        bench_model(DataFolder(tmp_path), Asked("folder:talk.script.json"), as_json=False)


def test_what_the_library_refuses_is_not_loaded(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.create()
    # A whole file, which llama.cpp itself would not survive.
    small = gguf(general__architecture="deepseek4", deepseek4__block_count=0)
    (folder.models / "empty.gguf").write_bytes(small)
    with pytest.raises(ModelFileError, match="its block_count is 0, and llama"):
        bench_model(folder, Asked("folder:empty.gguf"), as_json=False)
