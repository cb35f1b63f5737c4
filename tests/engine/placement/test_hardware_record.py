"""What is kept of a measurement, and when it counts no more."""

import json
from pathlib import Path

import pytest

from engine.errors import DataFolderError
from engine.placement.hardware import Gpu, Memory, Processor
from engine.placement.hardware_record import (
    MOST_MODELS,
    NAME,
    HardwareRecord,
    MeasuredDisk,
    Observed,
    fingerprint,
    read_record,
    write_record,
)

CPU = Processor("Some CPU", 8, 16, 16, 8)
RAM = Memory(64_000_000_000, 50_000_000_000)
HERE = fingerprint(CPU, RAM, (), "/dev/sda ext4")


def record() -> HardwareRecord:
    return HardwareRecord(
        measured_at=1.7e9,
        fingerprint=HERE,
        memory_threads=8,
        memory_bytes_per_s=5e10,
        memory_one_bytes_per_s=1e10,
        arithmetic_per_s=4e11,
        disk=MeasuredDisk(sequential_bytes_per_s=3e9, random_bytes_per_s=2e9, mapped_bytes_per_s=1e9),
    )


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    written = record().with_observed("a", Observed(decode=0.9, prefill=1.5))
    write_record(tmp_path, written)
    assert read_record(tmp_path) == written


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("format", 0),
        ("memory_bytes_per_s", 0),
        ("memory_bytes_per_s", "NaN"),
        ("memory_bytes_per_s", 1e-300),  # a forecast divides by it
        ("arithmetic_per_s", -1),
        ("memory_threads", 0),
        ("fingerprint", None),
        ("disk", {"sequential_bytes_per_s": 1}),
        ("observed", {"m": {"decode": 1e9, "prefill": 1}}),
        ("observed", []),
    ],
)
def test_a_file_that_cannot_be_is_as_none(tmp_path: Path, key: str, value: object) -> None:
    table = json.loads(record().model_dump_json())
    (tmp_path / NAME).write_text(json.dumps(table))
    assert read_record(tmp_path) is not None
    (tmp_path / NAME).write_text(json.dumps(table | {key: value}))
    assert read_record(tmp_path) is None


def test_a_record_of_before_gpus_were_measured_is_still_read(tmp_path: Path) -> None:
    table = json.loads(record().model_dump_json())
    del table["gpus"], table["plain"]
    (tmp_path / NAME).write_text(json.dumps(table))
    assert read_record(tmp_path) == record()


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b" " * (1 << 21)])
def test_no_file_does_harm(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert read_record(tmp_path) is None


def test_a_folder_in_its_place_is_as_none(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    assert read_record(tmp_path) is None


def test_where_it_cannot_be_kept_one_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="cannot be kept"):
        write_record(tmp_path / "gone", record())


def test_the_same_machine_after_a_kernel_update() -> None:
    assert HERE.agrees(HERE.model_copy(update={"memory_bytes": RAM.total_bytes - 100_000_000}))


@pytest.mark.parametrize(
    "other",
    [
        fingerprint(CPU, Memory(32_000_000_000, 1), (), "/dev/sda ext4"),
        fingerprint(CPU, RAM, (), "/dev/sdb ext4"),
        fingerprint(CPU, RAM, (Gpu("A", 24_000_000_000, 1),), "/dev/sda ext4"),
        fingerprint(Processor("Other CPU", 8, 16, 16, 8), RAM, (), "/dev/sda ext4"),
        fingerprint(Processor("Some CPU", 8, 16, 8, 4), RAM, (), "/dev/sda ext4"),
    ],
)
def test_a_machine_that_changed(other: object) -> None:
    assert not HERE.agrees(other)  # type: ignore[arg-type]


def test_models_beyond_the_most_are_forgotten_the_oldest_first() -> None:
    kept = record()
    for number in range(MOST_MODELS + 3):
        kept = kept.with_observed(f"m{number}", Observed(decode=1, prefill=1))
    assert len(kept.observed) == MOST_MODELS
    assert "m2" not in kept.observed
    assert f"m{MOST_MODELS + 2}" in kept.observed
