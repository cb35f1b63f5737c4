"""The measurement of a device, run for real on the one that every build has: the processor.

How fast it is, no test can know; that every figure is one that such a thing can have, it can."""

import json

import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from engine.backends import llama_device_rates
from engine.backends.llama_device_rates import ANSWER, Device, DeviceTrouble, handle_of, main, measured
from engine.placement.hardware_record import DeviceRates

MIB = 1 << 20


def test_the_processor_is_measured_through_the_interface_of_devices() -> None:
    found = measured("cpu", threads=1, limit_bytes=32 * MIB, round_s=0.01)
    assert found["name"]
    rates = DeviceRates.model_validate(found["rates"])
    for each in (rates.copy_bytes_per_s, rates.pageable_bytes_per_s, rates.back_bytes_per_s):
        assert 1e6 < each < 1e13
    for kind in (rates.q8_0, rates.mxfp4):
        assert kind is not None
        assert 1e5 < kind.one_bytes_per_s < 1e13
        assert 1e6 < kind.many_per_s < 1e15
    assert 0 < rates.operation_s < 1
    assert 0 < rates.exchange_s < 1
    # Memory of a processor's own has no pinned kind.
    assert rates.pinned_bytes_per_s is None


def test_sizes_stay_within_what_may_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    rows = llama_device_rates._new_matrix

    def counted(context: int, kind: int, width: int, count: int) -> int:
        taken.append(llama_device_rates._row_bytes(kind, width) * count)
        return rows(context, kind, width, count)

    monkeypatch.setattr(llama_device_rates, "_new_matrix", counted)
    measured("cpu", threads=1, limit_bytes=24 * MIB, round_s=0.001)
    assert 4 * MIB < max(taken) <= 24 * MIB


def test_too_little_memory_is_a_clause() -> None:
    found = measured("cpu", threads=1, limit_bytes=1024)
    assert found == {"why": "only 0 MiB of memory can be had for it"}


def test_memory_that_is_taken_is_a_clause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_device_rates, "_allocate", lambda _context, _backend: None)
    assert measured("cpu", threads=0, limit_bytes=32 * MIB) == {"why": "its memory is taken"}


def test_a_computation_that_fails_is_a_clause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_device_rates, "_compute", lambda _backend, _graph: -2)
    found = measured("cpu", threads=0, limit_bytes=32 * MIB)
    assert found == {"why": "it could not compute (status -2)"}


def test_an_operation_that_a_device_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_device_rates, "_supports", lambda _backend, _operation: False)
    rates = measured("cpu", threads=1, limit_bytes=16 * MIB, round_s=0.001)["rates"]
    assert rates["q8_0"] is None
    assert rates["mxfp4"] is None
    assert DeviceRates.model_validate(rates).copy_bytes_per_s > 0


def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(DeviceTrouble):
        handle_of("63")
    assert measured("63", threads=0, limit_bytes=MIB) == {"why": "llama.cpp does not find it"}


def test_a_driver_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_device_rates, "_begin", lambda _handle, _parameters: None)
    with pytest.raises(DeviceTrouble, match="does not start"):
        Device(handle_of("cpu"), threads=1, limit_bytes=MIB)


def test_the_answer_is_one_line_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["63", "0", "1000000"]) == 0
    line = capfd.readouterr().out.strip().splitlines()[-1]
    assert json.loads(line.removeprefix(ANSWER)) == {"why": "llama.cpp does not find it"}
