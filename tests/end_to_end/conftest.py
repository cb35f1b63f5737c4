"""Windows for the tests, and the end of their engines."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from engine.paths import DataFolder
from tests.end_to_end.live_window import LiveWindow, end_engine, scripted_folder

OpenWindow = Callable[[], LiveWindow]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """A data folder with a scripted model; its engine ends with the test."""
    made = scripted_folder(tmp_path / "data")
    yield made
    end_engine(made)


@pytest.fixture
def open_window(qtbot: QtBot, folder: DataFolder) -> Iterator[OpenWindow]:
    """Open windows on `folder`; those still open are closed at the end."""
    opened: list[LiveWindow] = []

    def open_one() -> LiveWindow:
        opened.append(LiveWindow(folder, qtbot.waitUntil))
        return opened[-1]

    yield open_one
    for live in opened:
        if not live.closed:
            live.close()
