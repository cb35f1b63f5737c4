"""What turns gave is noted: only what tells something, seldom, and weighed against what was seen before."""

from pathlib import Path

import pytest

from engine.errors import DataFolderError, ModelFileError
from engine.placement import experience, hardware
from engine.placement.experience import AT_MOST_EVERY_S, WEIGHT, Experience
from engine.placement.forecast import Turn, foretold_rates, observed_key
from engine.placement.hardware_record import HardwareRecord, Observed, read_record, write_record
from engine.placement.measurement import present_fingerprint
from engine.placement.planner import Room, Wishes, plan
from tests.engine.placement.models import GB, flash

PLAN = plan(flash(), Room(256 * GB, 240 * GB, 8), Wishes(8192))
KEY = observed_key(flash(), PLAN)
MODEL = Path("flash.gguf")


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(256 * GB, 240 * GB))
    monkeypatch.setattr(hardware, "processor", lambda: hardware.Processor("CPU", 8, 16, 16, 8))
    monkeypatch.setattr(experience, "sizes_of_file", lambda _path: flash())
    write_record(tmp_path, record_of(tmp_path))
    return tmp_path


def record_of(root: Path) -> HardwareRecord:
    return HardwareRecord(
        measured_at=1.7e9,
        fingerprint=present_fingerprint(root),
        memory_threads=8,
        memory_bytes_per_s=60e9,
        memory_one_bytes_per_s=12e9,
        arithmetic_per_s=5e10,
    )


def turn(root: Path, factor: float, *, read: int = 500, written: int = 100) -> Turn:
    """A turn that was so many times as fast as is foretold where nothing was seen."""
    rates = foretold_rates(flash(), PLAN, record_of(root), Turn(0, read, 0, written, 0))
    assert rates is not None
    return Turn(0, read, factor * rates[0], written, factor * rates[1])


def seen(root: Path) -> Observed | None:
    record = read_record(root)
    assert record is not None
    return record.observed.get(KEY)


def test_the_first_turn_is_kept_and_later_ones_move_it(root: Path) -> None:
    clock = Clock()
    noted = Experience(root, root, clock)
    noted.note(MODEL, PLAN, turn(root, 0.5))
    first = seen(root)
    assert first is not None
    assert first.decode == pytest.approx(0.5)
    assert first.prefill == pytest.approx(0.5)
    clock.now_s += AT_MOST_EVERY_S
    noted.note(MODEL, PLAN, turn(root, 2.0))
    second = seen(root)
    assert second is not None
    assert second.decode == pytest.approx(2.0**WEIGHT * 0.5 ** (1 - WEIGHT))


def test_the_file_is_written_once_a_minute_and_at_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[HardwareRecord] = []
    monkeypatch.setattr(
        experience, "write_record", lambda where, record: (writes.append(record), write_record(where, record))
    )
    clock = Clock()
    noted = Experience(root, root, clock)
    for _ in range(5):
        noted.note(MODEL, PLAN, turn(root, 0.5))
        clock.now_s += 1
    assert len(writes) == 1
    noted.close()
    assert len(writes) == 2
    noted.close()
    assert len(writes) == 2


def test_turns_that_wait_lose_nothing_of_a_measurement_made_meanwhile(root: Path) -> None:
    noted = Experience(root, root, Clock())
    noted.note(MODEL, PLAN, turn(root, 1.0))
    noted.note(MODEL, PLAN, turn(root, 1.0))
    other = record_of(root).with_observed("another model", Observed(decode=0.7))
    write_record(root, other)
    noted.close()
    record = read_record(root)
    assert record is not None
    assert set(record.observed) == {"another model", KEY}


def test_short_turns_tell_nothing_and_half_a_turn_half(root: Path) -> None:
    noted = Experience(root, root, Clock())
    noted.note(MODEL, PLAN, turn(root, 0.5, read=63, written=31))
    assert seen(root) is None
    noted.note(MODEL, PLAN, turn(root, 0.5, read=63, written=100))
    half = seen(root)
    assert half is not None
    assert half.prefill is None
    assert half.decode == pytest.approx(0.5)
    noted.note(MODEL, PLAN, turn(root, 2.0, read=500, written=0))
    noted.close()
    whole = seen(root)
    assert whole is not None
    assert whole.decode == half.decode
    assert whole.prefill == pytest.approx(2.0)


def test_on_a_machine_that_changed_or_was_not_measured_nothing_is_noted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = Experience(root, root, Clock())
    monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(64 * GB, 60 * GB))
    noted.note(MODEL, PLAN, turn(root, 0.5))
    noted.close()
    assert seen(root) is None
    (root / "hardware.json").unlink()
    noted.note(MODEL, PLAN, Turn(0, 500, 10.0, 100, 10.0))
    noted.close()
    assert read_record(root) is None


def test_a_record_that_is_gone_at_the_end_is_not_made_anew(root: Path) -> None:
    noted = Experience(root, root, Clock())
    for _ in range(2):
        noted.note(MODEL, PLAN, turn(root, 0.5))
    (root / "hardware.json").unlink()
    noted.close()
    assert read_record(root) is None


def test_what_cannot_be_read_or_written_is_a_line_in_the_log(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(_path: Path) -> None:
        raise ModelFileError("It cannot be read", "it is gone", "put it back")

    def full(*_: object) -> None:
        raise DataFolderError("It cannot be kept", "the disk is full", "free some space")

    turned = turn(root, 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(experience, "sizes_of_file", gone)
        Experience(root, root, Clock()).note(MODEL, PLAN, turned)
    assert "it is gone" in caplog.text
    noted = Experience(root, root, Clock())
    with monkeypatch.context() as patch:
        patch.setattr(experience, "write_record", full)
        noted.note(MODEL, PLAN, turned)
    assert "the disk is full" in caplog.text
    assert seen(root) is None
    noted.close()  # nothing was lost
    assert seen(root) is not None
