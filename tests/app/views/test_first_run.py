"""The welcome: when it comes and when it is over."""

from collections.abc import Iterator
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.engine_watch import EngineState
from app.theme import Theme
from app.views.get_dialog import GetDialog
from app.views.welcome import Welcome
from app.views.window import MainWindow
from engine.paths import DataFolder

OFFER = {
    "name": "flash", "title": "Flash", "kind": "checkpoint", "repository": "a/flash", "revision": "main",
    "download_bytes": 9,
}  # fmt: skip


@pytest.fixture
def open_window(qtbot: QtBot, folder: DataFolder, launcher: Any) -> Iterator[Any]:
    made: list[MainWindow] = []

    def make() -> MainWindow:
        window = MainWindow(folder, launcher)
        qtbot.addWidget(window)
        with qtbot.waitSignal(window.shown_first):
            window.show()
        desk = window.desk
        assert desk is not None
        qtbot.waitUntil(lambda: desk.watch.state == EngineState.READY and desk.shelf.known)
        made.append(window)
        return window

    yield make
    for window in made:
        assert window.desk is not None
        window.desk.drop_engine()


def welcome(window: MainWindow, qtbot: QtBot) -> Welcome:
    desk = window.desk
    assert desk is not None
    qtbot.waitUntil(lambda: desk.first_run.welcome is not None)
    assert desk.first_run.welcome is not None
    return desk.first_run.welcome


def test_at_first_it_says_what_was_found_and_how_to_begin(
    open_window: Any, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.library["offers"] = [OFFER]
    window = open_window()
    shown = welcome(window, qtbot)
    assert shown.isVisible()
    assert shown.found.text().startswith("Found here: Some CPU (16 cores), 64.0 GB of memory")
    assert "Small is ready" in shown.start.text()
    qtbot.waitUntil(lambda: len(shown.offers.cards) == 1)
    assert window.composer.edit.hasFocus()
    window.actions_by_id["theme_dark"].trigger()
    card: Any = shown.offers.cards["flash"]
    card.get_button.click()
    qtbot.waitUntil(lambda: window.findChild(GetDialog) is not None)
    window.findChild(GetDialog).close()
    shown.library_button.click()
    assert window.desk.library.is_open


def test_talking_ends_it_for_good(open_window: Any, qtbot: QtBot, fake_engine: Any) -> None:
    window = open_window()
    welcome(window, qtbot)
    window.composer.edit.setPlainText("Hello")
    window.composer.button.click()
    qtbot.waitUntil(lambda: window.memory.welcomed)
    assert window.desk.first_run.welcome is None


def test_put_away_it_does_not_come_again(open_window: Any, qtbot: QtBot, fake_engine: Any) -> None:
    window = open_window()
    welcome(window, qtbot).away_button.click()
    assert window.desk.first_run.welcome is None
    window.close()
    asked = len(fake_engine.asked("GET", "/api/library"))
    again = open_window()
    qtbot.waitUntil(lambda: bool(fake_engine.asked("GET", "/api/sessions")))
    assert again.memory.welcomed
    assert again.desk.first_run.welcome is None
    assert len(fake_engine.asked("GET", "/api/library")) == asked


@pytest.mark.parametrize("why", ["talked", "chosen"])
def test_who_has_begun_before_is_not_welcomed(
    open_window: Any, qtbot: QtBot, fake_engine: Any, why: str
) -> None:
    if why == "talked":
        fake_engine.add_session("Old")
    else:
        fake_engine.models[0]["source"] = "file"
    window = open_window()
    qtbot.waitUntil(lambda: window.memory.welcomed)
    assert window.desk.first_run.welcome is None


def test_it_follows_the_look(qtbot: QtBot) -> None:
    made = Welcome(Theme.light())
    qtbot.addWidget(made)
    made.set_theme(Theme.dark().zoomed(2.0))
    assert made._area.rows.parentWidget().maximumWidth() == Theme.dark().zoomed(2.0).column_px
