"""What a real answer of a real model gave is in the machine's record when its engine has ended."""

from pathlib import Path

import pytest

from engine.paths import DataFolder
from engine.placement.hardware_record import HardwareRecord, MeasuredDisk, read_record, write_record
from engine.placement.measurement import present_fingerprint
from tests.integration.conftest import StartEngine


@pytest.mark.slow
def test_an_answer_refines_the_forecast_of_its_model(start_engine: StartEngine, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = DataFolder(tmp_path / "data")
    folder.create()
    record = HardwareRecord(
        measured_at=1.7e9,
        fingerprint=present_fingerprint(folder.models),
        memory_threads=1,
        memory_bytes_per_s=1e10,
        memory_one_bytes_per_s=1e10,
        arithmetic_per_s=5e10,
        disk=MeasuredDisk(sequential_bytes_per_s=1e9, random_bytes_per_s=1e9, mapped_bytes_per_s=1e9),
    )
    write_record(folder.root, record)
    live = start_engine("--model", "starter", scripted=False)
    live.wait_model()
    words = "Tell me of the sea, of ships and of the people who sail them. " * 6
    message = live.answer(words, max_tokens=40)
    live.close()
    assert message["usage"]["generated_tokens"] == 40
    after = read_record(folder.root)
    assert after is not None
    (key,) = after.observed
    assert key.startswith("llama-")
    assert "cache f16" in key
    seen = after.observed[key]
    assert seen.decode is not None
    assert seen.prefill is not None
