"""Links and files from outside, in the whole window: nothing happens without a click."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QMessageBox
from pytestqt.qtbot import QtBot

from app.engine_watch import EngineState
from app.views.get_dialog import GetDialog
from app.views.outside_desk import NOTICE
from app.views.window import MainWindow
from engine.paths import DataFolder

OFFER = {
    "name": "flash-0731", "title": "Flash", "kind": "checkpoint", "repository": "a/flash", "revision": "main",
    "download_bytes": 9, "results": [{"dense": "q8_0", "model_bytes": 9, "draft_bytes": 1}],
}  # fmt: skip
CHANGES = ("/api/jobs", "/api/library/lookup", "/api/library/add", "/api/models/add", "/api/models/load")


@pytest.fixture
def closed_window(qtbot: QtBot, folder: DataFolder, launcher: Any, fake_engine: Any) -> Iterator[MainWindow]:
    fake_engine.library["offers"] = [OFFER]
    window = MainWindow(folder, launcher)
    window.memory.welcomed = True
    qtbot.addWidget(window)
    yield window
    if window.desk is not None:
        window.desk.drop_engine()


def shown(window: MainWindow, qtbot: QtBot) -> MainWindow:
    with qtbot.waitSignal(window.shown_first):
        window.show()
    return window


@pytest.fixture
def window(closed_window: MainWindow, qtbot: QtBot) -> MainWindow:
    shown(closed_window, qtbot)
    desk = closed_window.desk
    assert desk is not None
    qtbot.waitUntil(lambda: desk.watch.state == EngineState.READY and desk.jobs.known)
    return closed_window


def question(window: MainWindow, qtbot: QtBot) -> QMessageBox:
    qtbot.waitUntil(lambda: any(each.isVisible() for each in window.findChildren(QMessageBox)))
    return next(each for each in window.findChildren(QMessageBox) if each.isVisible())


def get_dialog(window: MainWindow, qtbot: QtBot) -> GetDialog:
    qtbot.waitUntil(lambda: any(each.isVisible() for each in window.findChildren(GetDialog)))
    return next(each for each in window.findChildren(GetDialog) if each.isVisible())


def press(box: QMessageBox, words: str, qtbot: QtBot) -> None:
    button = next(each for each in box.buttons() if each.text().replace("&", "") == words)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def changes(engine: Any) -> list[Any]:
    return [each for each in engine.requests if each[0] != "GET" and each[1] in CHANGES]


def test_a_link_to_a_model_of_the_library_opens_its_form_and_asks_for_nothing(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    window.open_outside("seamount://get/flash-0731")
    dialog = get_dialog(window, qtbot)
    assert dialog.title.text() == "Flash"
    qtbot.keyClick(dialog, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not window.findChildren(GetDialog))
    assert changes(fake_engine) == [], "a key that was meant for the composer begins nothing"
    window.open_outside("seamount://get/flash-0731")
    dialog = get_dialog(window, qtbot)
    assert changes(fake_engine) == []
    dialog.get_button.click()
    qtbot.waitUntil(lambda: bool(fake_engine.asked("POST", "/api/jobs")))


def test_a_link_that_comes_before_the_engine_waits_for_it(
    closed_window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    closed_window.open_outside("seamount://get/flash-0731")
    shown(closed_window, qtbot)
    assert get_dialog(closed_window, qtbot).title.text() == "Flash"


def test_a_link_to_an_unknown_name_is_a_note(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    window.open_outside("seamount://get/no-such-model")
    qtbot.waitUntil(lambda: window.notices.notice(NOTICE) is not None)
    notice = window.notices.notice(NOTICE)
    assert notice is not None and "no-such-model" in notice.label.text() and notice.kind == "info"
    assert changes(fake_engine) == []
    assert notice.button is not None
    notice.button.click()
    assert window.desk is not None and window.desk.library.is_open


def test_the_hub_is_asked_of_a_repository_only_after_a_click(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.lookup = {"offer": {**OFFER, "title": "Somebody's", "repository": "owner/Name"}, "files": []}
    window.open_outside("seamount://get/owner/Name@v1")
    box = question(window, qtbot)
    assert "owner/Name@v1" in box.text().replace("\u200b", "")
    assert box.textFormat() == Qt.TextFormat.PlainText
    assert changes(fake_engine) == []
    press(box, "Look it up", qtbot)
    assert get_dialog(window, qtbot).title.text() == "Somebody's"
    [asked] = fake_engine.asked("POST", "/api/library/lookup")
    assert (asked["what"], asked["revision"]) == ("owner/Name", "v1")
    assert fake_engine.asked("POST", "/api/jobs") == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["click", "Return", "Escape"])
def test_refused_it_stays_unasked(window: MainWindow, qtbot: QtBot, fake_engine: Any, how: str) -> None:
    window.open_outside("seamount://get/owner/Name")
    box = question(window, qtbot)
    if how == "click":
        press(box, "Cancel", qtbot)
    else:
        qtbot.keyClick(box, Qt.Key.Key_Return if how == "Return" else Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: QApplication.activeModalWidget() is None)
    assert changes(fake_engine) == [] and window.notices.sentences() == []


def test_a_repository_with_several_models_is_shown_in_the_library(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    choices = [{"path": f"{each}.gguf", "size_bytes": 1} for each in "ab"]
    fake_engine.lookup = {"offer": {**OFFER, "kind": "gguf"}, "files": [], "choices": choices}
    window.open_outside("seamount://get/owner/Name")
    press(question(window, qtbot), "Look it up", qtbot)
    desk = window.desk
    assert desk is not None
    qtbot.waitUntil(lambda: desk.library.page is not None and len(desk.library.page.found.cards) == 2)
    assert not [each for each in window.findChildren(GetDialog) if each.isVisible()]


def test_many_links_ask_one_question(window: MainWindow, qtbot: QtBot) -> None:
    for number in range(20):
        window.open_outside(f"seamount://get/owner/Name{number}")
    question(window, qtbot)
    assert len(window.findChildren(QMessageBox)) == 1


def test_a_models_file_is_added_only_after_a_click(
    window: MainWindow, qtbot: QtBot, fake_engine: Any, tmp_path: Path
) -> None:
    path = tmp_path / "my model.gguf"
    path.write_bytes(b"x" * 5000)
    window.open_outside(path.as_uri())
    box = question(window, qtbot)
    assert "my model.gguf" in box.text().replace("\u200b", "")
    assert changes(fake_engine) == []
    press(box, "Add and use", qtbot)
    qtbot.waitUntil(lambda: bool(fake_engine.asked("POST", "/api/models/load")))
    assert fake_engine.asked("POST", "/api/models/add") == [{"path": str(path)}]


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_",
    ["seamount://run/x", "seamount://get/../x", "https://example.org/x", "relative.gguf", "/gone/x.gguf", "",
     "seamount://get/a/b?x\u202e", "x" * 100_000],
)  # fmt: skip
def test_what_cannot_be_opened_is_a_sentence(
    window: MainWindow, qtbot: QtBot, fake_engine: Any, request_: str
) -> None:
    window.open_outside(request_)
    notice = window.notices.notice(NOTICE)
    assert notice is not None and "was not opened" in notice.label.text() and len(notice.label.text()) < 500
    assert changes(fake_engine) == [] and not window.findChildren(QMessageBox)


def test_a_window_that_was_made_small_comes_back(window: MainWindow, qtbot: QtBot) -> None:
    window.showMinimized()
    window.open_outside("seamount://get/owner/Name")
    assert not window.isMinimized() and window.isVisible()


@pytest.mark.parametrize("as_text", [False, True])
def test_a_dropped_link_is_opened(window: MainWindow, qtbot: QtBot, fake_engine: Any, as_text: bool) -> None:
    link = "seamount://get/owner/Name"
    data = QMimeData()
    if as_text:
        data.setText(f" {link}\n")
    else:
        data.setUrls([QUrl(link)])
    given = (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enters = QDragEnterEvent(QPointF(5, 5).toPoint(), Qt.DropAction.CopyAction, data, *given)
    window.dragEnterEvent(enters)
    assert enters.isAccepted()
    window.dropEvent(QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, *given))
    assert "owner/Name" in question(window, qtbot).text().replace("\u200b", "")
    assert changes(fake_engine) == []
