"""When models were used is remembered, written seldom, and never in the way."""

import json
import logging
from pathlib import Path

import pytest

from engine.library.last_used import AT_MOST_EVERY_S, MOST_MODELS, LastUsed


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_is_remembered_and_written_now_and_then(tmp_path: Path) -> None:
    path, clock = tmp_path / "last_used.json", Clock()
    used = LastUsed(path, clock)
    assert used.times() == {}
    assert used.mark("a")
    clock.now += AT_MOST_EVERY_S - 1
    assert not used.is_due("a")
    assert not used.mark("a")
    assert used.is_due("b")
    assert used.times() == {"a": 1000.0}
    clock.now += 2
    assert used.mark("a")
    assert used.mark("b")
    assert LastUsed(path).times() == {"a": clock.now, "b": clock.now}
    # A clock that was set back must not stop it.
    clock.now = 10.0
    assert used.mark("b")
    assert LastUsed(path).times()["b"] == 10.0


def test_it_is_bounded(tmp_path: Path) -> None:
    path, clock = tmp_path / "last_used.json", Clock()
    times = {str(number): float(number) for number in range(MOST_MODELS)}
    path.write_text(json.dumps({"format": 1, "times": times}))
    used = LastUsed(path, clock)
    assert used.mark("new")
    assert len(used.times()) == MOST_MODELS
    assert "0" not in used.times()
    assert "new" in used.times()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 2, "times": {}}', '{"format": 1, "times": 3}', "[" * 9999]
)
def test_a_file_that_cannot_be_understood_is_ignored(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last_used.json"
    path.write_text(content)
    assert LastUsed(path).times() == {}
    assert "ignored" in caplog.text


def test_strange_values_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "last_used.json"
    path.write_text('{"format": 1, "times": {"a": 1, "b": "x", "c": NaN, "d": true, "e": 1e999}}')
    assert LastUsed(path).times() == {"a": 1.0}


def test_a_folder_that_cannot_be_written_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert not LastUsed(tmp_path / "not there" / "last_used.json").mark("a")
    assert "cannot be written" in caplog.text
