"""A program that measures a device is asked; what it may answer, and what it may do instead."""

import json
import sys

import pytest

from engine.placement import device_measurement
from engine.placement.bandwidth import Unmeasured
from engine.placement.device_measurement import device_rates, measured_gpus, rates_told
from engine.placement.hardware import Gpu
from engine.placement.hardware_record import DeviceRates

GB = 1_000_000_000
RATES = {
    "copy_bytes_per_s": 2.6e12,
    "pinned_bytes_per_s": 5.4e10,
    "pageable_bytes_per_s": 1.2e10,
    "back_bytes_per_s": 5.4e10,
    "operation_s": 2e-6,
    "exchange_s": 2e-5,
    "q8_0": {"one_bytes_per_s": 2e12, "many_per_s": 2e14},
    "mxfp4": None,
}


def said(text: str, status: int = 0) -> DeviceRates | Unmeasured:
    program = f"import sys; print({text!r}); print('a complaint', file=sys.stderr); sys.exit({status})"
    return rates_told([sys.executable, "-c", program], threads=3, timeout_s=30)


def test_what_a_program_says_is_read() -> None:
    answer = json.dumps({"name": "G", "rates": RATES})
    found = said(f"a driver's own line\nrates of a device: {answer}")
    assert isinstance(found, DeviceRates)
    assert (found.threads, found.pinned_bytes_per_s, found.mxfp4) == (3, 5.4e10, None)


@pytest.mark.parametrize(
    "answer",
    [
        "{",
        "[]",
        "null",
        "{}",
        '{"rates": []}',
        json.dumps({"rates": RATES | {"copy_bytes_per_s": -1}}),
        json.dumps({"rates": RATES | {"exchange_s": "NaN"}}),
        json.dumps({"rates": {"copy_bytes_per_s": 1.0}}),
    ],
)
def test_figures_that_cannot_be_are_none(answer: str) -> None:
    assert said("rates of a device: " + answer) == Unmeasured("its figures make no sense")


def test_why_there_are_none_is_handed_on() -> None:
    assert said('rates of a device: {"why": "its memory is taken"}') == Unmeasured("its memory is taken")


def test_a_driver_that_crashes_is_told_with_its_last_words() -> None:
    found = said("", status=3)
    assert found == Unmeasured("its driver ended the measurement with status 3 (a complaint)")


def test_a_driver_that_hangs_is_ended() -> None:
    program = "import threading; threading.Event().wait()"
    found = rates_told([sys.executable, "-c", program], threads=0, timeout_s=0.2)
    assert isinstance(found, Unmeasured)
    assert "took longer" in found.why


def test_a_program_that_cannot_be_started_is_told() -> None:
    assert isinstance(rates_told(["/nowhere/at/all"], threads=0, timeout_s=1), Unmeasured)


@pytest.mark.slow
def test_the_real_program_measures_the_processor() -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    found = device_rates("cpu", threads=1, limit_bytes=64 << 20, timeout_s=120)
    assert isinstance(found, DeviceRates), found
    assert found.mxfp4 is not None


def test_gpus_of_one_kind_are_measured_once_and_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def rates(which: str, *, limit_bytes: int, timeout_s: float) -> DeviceRates | Unmeasured:
        asked.append((which, limit_bytes))
        assert timeout_s <= device_measurement.ALL_GPUS_S
        return Unmeasured("it is shy") if which == "2" else DeviceRates.model_validate(RATES)

    monkeypatch.setattr(device_measurement, "device_rates", rates)
    same, other = Gpu("A", 24 * GB, 20 * GB), Gpu("B", 8 * GB, 8 * GB)
    found = measured_gpus([same, same, other], GB)
    assert [each.name for each in found] == ["A", "A", "B"]
    assert [each.why for each in found] == ["", "", "it is shy"]
    assert found[0].rates == found[1].rates is not None
    assert asked == [("0", GB // 4), ("2", GB // 4)]


def test_gpus_beyond_the_time_are_said_to_be_unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_measurement, "ALL_GPUS_S", 0.0)
    found = measured_gpus([Gpu("A", GB, GB)], GB)
    assert "all the time" in found[0].why
