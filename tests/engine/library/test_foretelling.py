"""What is foretold of models that are not here."""

from pathlib import Path

import pytest

from convert.model_shape import ModelShape
from engine.errors import DoesNotFit
from engine.library.catalogue_entries import load_catalogue
from engine.library.fit import Foretold
from engine.library.foretelling import Foretelling, known_model, released_shapes
from engine.paths import DataFolder
from engine.placement import hardware
from engine.placement.hardware_record import (
    DeviceRates,
    HardwareRecord,
    MeasuredDisk,
    MeasuredGpu,
    Multiplying,
    read_record,
    write_record,
)
from engine.placement.measurement import present_fingerprint
from tests.convert.released_configs import FLASH, FLASH_0731, PRO

GB = 1_000_000_000


def machine(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(memory, memory // 2))
    monkeypatch.setattr(hardware, "processor", lambda: hardware.Processor("CPU", 8, 16, 16, 8))


def measured(root: Path) -> None:
    record = HardwareRecord(
        measured_at=1.7e9,
        fingerprint=present_fingerprint(root),
        memory_threads=8,
        memory_bytes_per_s=60e9,
        memory_one_bytes_per_s=12e9,
        arithmetic_per_s=5e10,
        disk=MeasuredDisk(sequential_bytes_per_s=6e9, random_bytes_per_s=5e9, mapped_bytes_per_s=2e9),
    )
    write_record(root, record)


def foretelling(root: Path, gpus: tuple[hardware.Gpu, ...] = ()) -> Foretelling:
    return Foretelling(root, root, lambda: 8192, lambda: gpus)


def test_the_shapes_are_those_of_the_releases_without_their_drafters() -> None:
    for name, config in (("flash", FLASH), ("pro", PRO)):
        ratios = config["compress_ratios"][:-1]
        bare = config | {"compress_ratios": ratios, "num_nextn_predict_layers": 0}
        assert released_shapes()[name] == ModelShape.from_config(bare)


def test_every_v4_of_the_catalogue_is_known_by_its_weight(tmp_path: Path) -> None:
    entries = [each for each in load_catalogue(DataFolder(tmp_path)).entries.values() if each.results]
    assert len(entries) >= 4
    for entry in entries:
        sizes = known_model(min(each.model_bytes for each in entry.results))
        assert sizes is not None
        assert sizes.experts == (384 if "pro" in entry.name else 256)
    assert known_model(156_000_000_000) is None


def test_nothing_is_foretold_of_a_machine_that_was_not_measured_or_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 64 * GB)
    flash = 156_373_010_496
    assert foretelling(tmp_path).of(flash) is None
    measured(tmp_path)
    found = foretelling(tmp_path).of(flash)
    assert isinstance(found, Foretold)
    assert found.forecast is not None
    assert found.plan.experts_in_memory_share < 0.5
    assert foretelling(tmp_path).of(123) is None
    with_gpu = foretelling(tmp_path, (hardware.Gpu("G", 24 * GB, 24 * GB),)).of(flash)
    assert isinstance(with_gpu, Foretold)
    assert with_gpu.plan.gpu == "G"
    assert with_gpu.forecast is None
    # What the loaded model takes of it now is in nobody's way.
    assert foretelling(tmp_path, (hardware.Gpu("G", 24 * GB, GB),)).of(flash) == with_gpu
    machine(monkeypatch, 128 * GB)
    assert foretelling(tmp_path).of(flash) is None


def test_with_a_measured_gpu_speed_first_word_and_places_are_foretold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 256 * GB)
    gpus = (hardware.Gpu("G", 24 * GB, 24 * GB),)
    measured(tmp_path)
    without = foretelling(tmp_path).of(156_373_010_496)
    record = read_record(tmp_path)
    assert record is not None
    here = present_fingerprint(tmp_path, gpus)
    quick = Multiplying(one_bytes_per_s=8e11, many_per_s=8e13)
    rates = DeviceRates(
        copy_bytes_per_s=9e11,
        pinned_bytes_per_s=2.5e10,
        pageable_bytes_per_s=8e9,
        back_bytes_per_s=2.5e10,
        operation_s=3e-6,
        exchange_s=3e-5,
        q8_0=quick,
        mxfp4=quick,
    )
    with_gpu = record.model_copy(update={"fingerprint": here, "gpus": [MeasuredGpu(name="G", rates=rates)]})
    write_record(tmp_path, with_gpu)
    found = foretelling(tmp_path, gpus).of(156_373_010_496)
    assert isinstance(found, Foretold)
    assert isinstance(without, Foretold)
    assert found.forecast is not None
    assert without.forecast is not None
    assert found.forecast.gpu_bytes > 8 * GB
    assert found.forecast.decode_tokens_per_s.likely > without.forecast.decode_tokens_per_s.likely
    assert found.forecast.first_token_s.likely < without.forecast.first_token_s.likely
    # The context of the settings does not hold the long prompt; a larger one is planned for it.
    assert found.forecast.long_prompt_s is None
    assert found.long_prompt_s is not None
    assert found.long_prompt_s.likely > 10 * found.forecast.first_token_s.likely


def test_a_shape_that_was_looked_up_needs_no_known_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 192 * GB)
    measured(tmp_path)
    shape = ModelShape.from_config(FLASH_0731)
    found = foretelling(tmp_path).of(1, shape)
    assert isinstance(found, Foretold)
    assert found.forecast is not None
    assert found.plan.experts_in_memory_share == 1
    assert foretelling(tmp_path).of(1, ModelShape.from_config(FLASH | {"expert_dtype": "fp8"})) is None


def test_a_machine_that_is_too_small_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 16 * GB)
    measured(tmp_path)
    found = foretelling(tmp_path).of(852_158_385_984)
    assert isinstance(found, DoesNotFit)
    assert "28 GB" in found.why
