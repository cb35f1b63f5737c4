"""Help's entries, in the whole window."""

from collections.abc import Iterator
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.engine_watch import EngineState
from app.views.about_dialog import AboutDialog
from app.views.help_dialogs import ShortcutsDialog
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


def test_about_shows_what_the_engine_tells_and_the_text_of_a_chosen_licence(
    window: MainWindow, qtbot: QtBot
) -> None:
    window.actions_by_id["about"].trigger()
    [dialog] = window.findChildren(AboutDialog)
    qtbot.waitUntil(lambda: dialog.parts.count() == 2 and dialog.text.toPlainText() == "Text 0")
    dialog.parts.setCurrentRow(1)
    qtbot.waitUntil(lambda: dialog.text.toPlainText() == "Text 1")
    assert "llama-cpp-python 0.3.36" in dialog.facts.text().replace("\u200b", "")


def test_a_licence_that_cannot_be_told_is_a_sentence(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    sentence = "The parts are not known: why; do."
    fake_engine.refusals[("GET", "/api/about")] = (500, {"error": {"code": "internal", "text": sentence}})
    window.actions_by_id["about"].trigger()
    [dialog] = window.findChildren(AboutDialog)
    qtbot.waitUntil(lambda: dialog.note.text().replace("\u200b", "") == sentence)


def test_an_answer_for_a_dialog_that_was_closed_is_let_go(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    window.actions_by_id["about"].trigger()
    window.findChildren(AboutDialog)[0].close()
    qtbot.waitUntil(lambda: bool([each for each in fake_engine.requests if each[1] == "/api/about"]))
    qtbot.wait(50)
    assert not window.findChildren(AboutDialog)


def test_the_shortcuts(window: MainWindow) -> None:
    window.actions_by_id["shortcuts"].trigger()
    assert window.findChildren(ShortcutsDialog)
