"""The settings' form in the whole window: what the engine has to say to its fields, and what was chosen."""

from collections.abc import Iterator
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.engine_watch import EngineState
from app.views.settings_dialog import SettingsDialog
from app.views.window import MainWindow
from engine.paths import DataFolder


@pytest.fixture
def window(qtbot: QtBot, folder: DataFolder, launcher: Any) -> Iterator[MainWindow]:
    made = MainWindow(folder, launcher)
    qtbot.addWidget(made)
    with qtbot.waitSignal(made.shown_first):
        made.show()
    desk = made.desk
    assert desk is not None
    qtbot.waitUntil(lambda: desk.watch.state == EngineState.READY)
    yield made
    desk.drop_engine()


def opened(window: MainWindow, qtbot: QtBot) -> SettingsDialog:
    window.actions_by_id["settings"].trigger()
    qtbot.waitUntil(lambda: window.findChild(SettingsDialog) is not None)
    dialog = window.findChild(SettingsDialog)
    assert isinstance(dialog, SettingsDialog)
    return dialog


def test_who_is_asked_for_newer_versions_is_told_and_the_choice_is_stored(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.updates = {"asks": False, "address": "https://releases.example.org/feed.json"}
    dialog = opened(window, qtbot)
    qtbot.waitUntil(lambda: "releases.example.org" in dialog.updates.state.text().replace("\u200b", ""))
    dialog.updates.looks.click()
    dialog.apply_button.click()
    qtbot.waitUntil(lambda: window.findChild(SettingsDialog) is None)
    assert fake_engine.settings["look_for_updates"] is True


def test_an_engine_that_does_not_know_of_versions_stands_in_nobodys_way(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.refusals[("GET", "/api/updates")] = (404, {"error": {"code": "not_found", "text": "No."}})
    dialog = opened(window, qtbot)
    qtbot.waitUntil(lambda: any(each[1] == "/api/updates" for each in fake_engine.requests))
    assert "nothing is downloaded" in dialog.updates.state.text()
    dialog.apply_button.click()
    qtbot.waitUntil(lambda: window.findChild(SettingsDialog) is None)


def test_there_is_one_form_at_a_time(window: MainWindow, qtbot: QtBot) -> None:
    opened(window, qtbot)
    window.actions_by_id["settings"].trigger()
    qtbot.wait(100)
    assert len(window.findChildren(SettingsDialog)) == 1
