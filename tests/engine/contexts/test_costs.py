"""How long reading is foretold to take."""

from pathlib import Path

import pytest

from engine.contexts.costs import LOADED_BYTES_PER_S, Cost, Speeds, foretold_pace
from engine.placement.forecast import Turn, foretold_rates
from engine.placement.hardware_record import write_record
from engine.placement.model_sizes import ModelSizes
from engine.placement.planner import Wishes, plan
from tests.engine.placement.models import flash
from tests.engine.placement.test_forecast import LITTLE, RECORD


def test_what_is_foretold_counts_and_else_what_was_seen() -> None:
    assert Speeds().reading_s(100, 0) is None
    assert Speeds().reading_s(0, 0) == 0
    speeds = Speeds()
    speeds.read(10, 100.0)  # tells nothing
    assert speeds.reading_s(100, 0) is None
    speeds.read(100, 1.0)
    assert speeds.reading_s(200, 5) == pytest.approx(2.0)
    speeds.read(100, 3.0)
    assert speeds.reading_s(200, 5) == pytest.approx(4.0)
    foretold = Speeds(lambda tokens, depth: tokens * depth / 10)
    foretold.read(100, 1.0)
    assert foretold.reading_s(20, 30) == 60
    unknown = Speeds(lambda _tokens, _depth: None)
    unknown.read(100, 1.0)
    assert unknown.reading_s(100, 0) == pytest.approx(1.0)


def test_a_disk_is_as_fast_as_it_was() -> None:
    speeds = Speeds()
    assert speeds.loading_s(10**9) == 10**9 / LOADED_BYTES_PER_S
    speeds.loaded(1000, 100.0)  # too little to tell
    speeds.loaded(3 * 10**9, 1.0)
    assert speeds.loading_s(10**9) == pytest.approx(0.5)


def test_what_is_read_again_is_what_is_not_kept() -> None:
    assert Cost(100, 60, 20, None).reread == 40


def test_reading_is_foretold_by_what_was_measured_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes(_path: Path) -> ModelSizes:
        return flash()

    monkeypatch.setattr("engine.placement.present_plan.sizes_of_file", sizes)
    placed = plan(flash(), LITTLE, Wishes(8192))
    assert foretold_pace(tmp_path / "m.gguf", None, tmp_path) is None
    assert foretold_pace(tmp_path / "m.gguf", placed, None) is None
    pace = foretold_pace(tmp_path / "m.gguf", placed, tmp_path)
    assert pace is not None
    assert pace(1000, 4000) is None  # nothing was measured yet
    write_record(tmp_path, RECORD)
    rates = foretold_rates(flash(), placed, RECORD, Turn(4000, 1000, 0.0, 0, 0.0))
    assert rates is not None
    assert pace(1000, 4000) == pytest.approx(1000 / rates[0])


def test_nothing_is_foretold_of_a_file_that_is_gone(tmp_path: Path) -> None:
    assert foretold_pace(tmp_path / "m.gguf", plan(flash(), LITTLE, Wishes(8192)), tmp_path) is None
