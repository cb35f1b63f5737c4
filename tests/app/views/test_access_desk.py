"""Other programs in the whole window: the page, its dialogs, and the sign in the status line."""

from collections.abc import Iterator
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QMessageBox, QPushButton, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from app.access_shelf import AccessShelf
from app.api import EngineApi
from app.engine_watch import EngineState
from app.model_shelf import ModelShelf
from app.theme import Theme
from app.views.access_desk import AccessDesk
from app.views.access_page import AccessPage
from app.views.address_dialog import AddressDialog
from app.views.answering_sign import AnsweringSign
from app.views.key_dialog import KeyDialog
from app.views.make_key_dialog import MakeKeyDialog
from app.views.network_dialog import NetworkDialog
from app.views.notice import NoticeBar
from app.views.window import MainWindow
from engine.paths import DataFolder


class Place:
    """What the desk works with, without a window's other parts."""

    def __init__(self, fake_engine: Any) -> None:
        self.window = QWidget()
        self.window.resize(1000, 700)
        self.api = EngineApi()
        self.api.connect_to(fake_engine.url, fake_engine.key)
        self.sign, self.notices = AnsweringSign(Theme.light()), NoticeBar(Theme.light())
        self._column = QVBoxLayout(self.window)
        for part in (self.notices, self.sign):
            self._column.addWidget(part)
        models = ModelShelf(self.api)
        self.desk = AccessDesk(
            AccessShelf(self.api), models, self.sign, self.notices, self._make_page, Theme.light, self.window
        )

    def _make_page(self) -> AccessPage:
        page = AccessPage(Theme.light())
        self._column.insertWidget(0, page)
        return page


@pytest.fixture
def place(qtbot: QtBot, fake_engine: Any) -> Iterator[Place]:
    made = Place(fake_engine)
    qtbot.addWidget(made.window)
    made.window.show()
    with qtbot.waitSignal(made.desk.shelf.changed):
        made.desk.shelf.refresh()
    yield made
    made.api.close()


@pytest.fixture
def window(place: Place) -> QWidget:
    return place.window


@pytest.fixture
def page(place: Place, qtbot: QtBot) -> AccessPage:
    place.desk.open()
    page = place.desk.page
    assert page is not None
    qtbot.waitUntil(lambda: bool(page.openai.value()))
    return page


@pytest.fixture
def whole(qtbot: QtBot, folder: DataFolder, launcher: Any) -> Iterator[MainWindow]:
    made = MainWindow(folder, launcher)
    qtbot.addWidget(made)
    with qtbot.waitSignal(made.shown_first):
        made.show()
    desk = made.desk
    assert desk is not None
    qtbot.waitUntil(lambda: desk.watch.state == EngineState.READY and desk.access.shelf.access is not None)
    yield made
    desk.drop_engine()


def dialog(window: QWidget, qtbot: QtBot, kind: type[Any]) -> Any:
    qtbot.waitUntil(lambda: window.findChild(kind) is not None)
    return window.findChild(kind)


def running(**more: Any) -> dict[str, Any]:
    return {
        "key_id": "k1", "key_name": "editor", "program": "Zed", "address": "127.0.0.1", "last_at": 0.0,
        "requests": [{"id": "r1", "dialect": "chat", "model_id": "m1", "state": "writing", "generated_tokens": 120,
                      "since": 0.0, **more}],
    }  # fmt: skip


def test_one_page_is_seen_at_a_time_and_the_sign_is_in_the_status_line(
    whole: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    """In the whole window, once: menu, sidebar, Escape, and an engine that comes and goes."""
    desk, sign = whole.desk, whole.status.sign
    assert desk is not None
    whole.actions_by_id["programs"].trigger()
    page = desk.access.page
    assert page is not None
    assert whole.pages.currentWidget() is page
    assert whole.sidebar.programs_button.isChecked()
    assert not whole.composer.isVisible()
    whole.actions_by_id["library"].trigger()
    assert whole.pages.currentWidget() is desk.library.page
    assert (whole.sidebar.library_button.isChecked(), whole.sidebar.programs_button.isChecked()) == (
        True,
        False,
    )
    whole.sidebar.programs_button.click()
    assert whole.pages.currentWidget() is page
    assert not desk.library.is_open
    qtbot.keyClick(page.openai.field, Qt.Key.Key_Escape)
    assert whole.pages.currentWidget() is whole.transcript
    assert whole.composer.isVisible()
    assert not whole.sidebar.programs_button.isChecked()
    assert not sign.isVisible()
    fake_engine.access["clients"] = [running()]
    fake_engine.tell_access()
    qtbot.waitUntil(sign.isVisible)
    assert sign.words() == "Zed: writing, 120 tokens"
    sign.words_button.click()
    assert whole.pages.currentWidget() is page
    fake_engine.access["clients"] = []
    fake_engine.die()
    qtbot.waitUntil(lambda: not sign.isVisible())


def test_a_key_is_made_and_its_secret_is_gone_with_the_dialog(
    window: QWidget, page: AccessPage, qtbot: QtBot, fake_engine: Any
) -> None:
    page.make_button.click()
    form: MakeKeyDialog = dialog(window, qtbot, MakeKeyDialog)
    form.name.setText("Zed")
    form.keep.setChecked(False)
    form.make_button.click()
    qtbot.waitUntil(form.secret.isVisible)
    assert form.secret.value() == "sm-secret-of-Zed"
    assert "shown once" in form.once.text()
    form.secret.button.click()
    assert QGuiApplication.clipboard().text() == "sm-secret-of-Zed"
    form.close_button.click()
    assert form.secret.value() == ""
    qtbot.waitUntil(lambda: [card.key.name for card in page.keys.cards.values()] == ["Zed"])  # type: ignore[attr-defined]
    assert "sm-secret" not in "".join(field.text() for field in page.findChildren(type(page.openai.field)))


def test_a_key_that_was_made_after_its_dialog_closed_is_taken_back(
    window: QWidget, page: AccessPage, qtbot: QtBot, fake_engine: Any
) -> None:
    page.make_button.click()
    form: MakeKeyDialog = dialog(window, qtbot, MakeKeyDialog)
    form.name.setText("Zed")
    form.keep.setChecked(False)
    form.make_button.click()
    form.close_button.click()
    qtbot.waitUntil(lambda: bool(fake_engine.asked("POST", "/api/access/keys")))
    qtbot.waitUntil(lambda: fake_engine.access["keys"] == [])


def test_a_refused_key_says_why_and_keeps_its_name(
    window: QWidget, page: AccessPage, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.refusals["POST", "/api/access/keys"] = (
        409,
        {"error": {"code": "x", "text": "There are too many."}},
    )
    page.make_button.click()
    form: MakeKeyDialog = dialog(window, qtbot, MakeKeyDialog)
    form.name.setText("Zed")
    form.make_button.click()
    qtbot.waitUntil(form.message.isVisible)
    assert (form.message.text(), form.name.text()) == ("There are too many.", "Zed")
    assert form.make_button.isEnabled()


def test_a_key_is_changed_copied_and_revoked(
    place: Place, window: QWidget, page: AccessPage, qtbot: QtBot, fake_engine: Any
) -> None:
    key = fake_engine.add_key("editor", kept=True)
    place.desk.shelf.refresh()
    qtbot.waitUntil(lambda: key["id"] in page.keys.cards)
    card: Any = page.keys.cards[key["id"]]
    card.copy_button.click()
    qtbot.waitUntil(lambda: QGuiApplication.clipboard().text() == "sm-secret-of-editor")
    card.change_button.click()
    form: KeyDialog = dialog(window, qtbot, KeyDialog)
    form.waiting.setValue(3)
    form.pin.setChecked(True)
    form.apply_button.click()
    qtbot.waitUntil(lambda: "3 at a time" in card.words.words())
    assert fake_engine.access["keys"][0]["steady"] == {"pin": True, "move": False}
    card.revoke_button.click()
    box: QMessageBox = dialog(window, qtbot, QMessageBox)
    assert "cannot be undone" in box.informativeText()
    keep = box.defaultButton()
    assert keep.text() == "Keep it"
    next(each for each in box.findChildren(QPushButton) if each.text() == "Revoke it").click()
    qtbot.waitUntil(lambda: page.keys.cards == {})


def test_the_sign_ends_what_it_tells_of(place: Place, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.access["clients"] = [running()]
    place.desk.shelf.refresh()
    qtbot.waitUntil(place.sign.isVisible)
    place.sign.end_button.click()
    qtbot.waitUntil(lambda: not place.sign.isVisible())
    assert ("DELETE", "/api/access/requests/r1", None) in fake_engine.requests


def test_the_network_is_opened_by_an_answer_to_a_question_only(
    window: QWidget, page: AccessPage, qtbot: QtBot, fake_engine: Any
) -> None:
    page.network.open_button.click()
    form: NetworkDialog = dialog(window, qtbot, NetworkDialog)
    qtbot.keyClick(form, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: window.findChild(NetworkDialog) is None)
    assert not fake_engine.asked("PUT", "/api/access/network")
    page.network.open_button.click()
    form = dialog(window, qtbot, NetworkDialog)
    form.port.setValue(9001)
    form.interfaces.setText("1 " * 17)
    form.open_button.click()
    assert "at most 16 addresses" in form.message.text()
    assert not fake_engine.asked("PUT", "/api/access/network")
    form.interfaces.setText("192.168.1.20, fd00::1")
    form.open_button.click()
    qtbot.waitUntil(lambda: page.network.state.text() == "Open at port 9001, encrypted.")
    [asked] = fake_engine.asked("PUT", "/api/access/network")
    assert asked["interfaces"] == ["192.168.1.20", "fd00::1"]
    page.network.close_button.click()
    qtbot.waitUntil(lambda: page.network.state.text().startswith("Closed."))


def test_a_network_that_could_not_be_opened_says_why(
    window: QWidget, page: AccessPage, qtbot: QtBot, fake_engine: Any
) -> None:
    text = "The local network is not served: the port is taken; choose another one."
    fake_engine.refusals["PUT", "/api/access/network"] = (409, {"error": {"code": "network", "text": text}})
    page.network.open_button.click()
    form: NetworkDialog = dialog(window, qtbot, NetworkDialog)
    form.open_button.click()
    qtbot.waitUntil(form.message.isVisible)
    assert form.message.text().replace("\u200b", "") == text
    assert form.open_button.isEnabled()


def test_the_port_and_the_web_pages_are_changed(
    window: QWidget, page: AccessPage, qtbot: QtBot, fake_engine: Any
) -> None:
    page.address_button.click()
    form: AddressDialog = dialog(window, qtbot, AddressDialog)
    form.port.setValue(8642)
    form.origins.setPlainText("http://localhost:3000\n\n  http://notes.example.org ")
    text = "The settings were not stored: that is no origin; write it as http://localhost:3000."
    fake_engine.refusals["PUT", "/api/settings"] = (400, {"error": {"code": "bad_request", "text": text}})
    form.apply_button.click()
    qtbot.waitUntil(form.message.isVisible)
    assert form.message.text().replace("\u200b", "") == text
    del fake_engine.refusals["PUT", "/api/settings"]
    form.apply_button.click()
    qtbot.waitUntil(lambda: window.findChild(AddressDialog) is None)
    assert fake_engine.settings["port"] == 8642
    assert fake_engine.settings["allowed_origins"] == ["http://localhost:3000", "http://notes.example.org"]
    # What else was set stays.
    assert fake_engine.settings["system_message"] == "You are a helpful assistant."


def test_an_engine_without_this_says_so_on_the_page(
    place: Place, page: AccessPage, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.refusals["GET", "/api/access"] = (
        404,
        {"error": {"code": "not_found", "text": "No such thing."}},
    )
    place.desk.shelf.refresh()
    qtbot.waitUntil(page.message.isVisible)
    assert page.message.text() == "No such thing."
    assert not page.make_button.isEnabled()


def test_the_window_says_that_the_engine_goes_on_before_it_is_closed(
    whole: MainWindow, fake_engine: Any, qtbot: QtBot
) -> None:
    fake_engine.access["clients"] = [
        {"key_id": "k1", "key_name": "editor", "program": "Zed", "address": "127.0.0.1", "last_at": 0.0, "requests": [
            {"id": "r1", "dialect": "chat", "model_id": "m", "state": "writing", "since": 0.0}]}
    ]  # fmt: skip
    fake_engine.tell_access()
    qtbot.waitUntil(whole.status.sign.isVisible)

    def asked() -> QMessageBox:
        qtbot.waitUntil(lambda: bool(whole.findChildren(QMessageBox)))
        [box] = whole.findChildren(QMessageBox)
        return box

    def answer(box: QMessageBox, words: str) -> None:
        next(each for each in box.buttons() if each.text() == words).click()

    whole.close()
    box = asked()
    assert whole.isVisible() and "while Zed is answered" in box.text()
    answer(box, "Stay")
    qtbot.waitUntil(lambda: not whole.findChildren(QMessageBox))
    whole.close()
    assert whole.isVisible()
    answer(asked(), "Close the window")
    qtbot.waitUntil(lambda: not whole.isVisible())


def test_a_window_that_nobody_else_waits_for_is_just_closed(whole: MainWindow) -> None:
    whole.close()
    assert not whole.isVisible() and not whole.findChildren(QMessageBox)


def test_return_does_what_a_form_is_for_wherever_the_keyboard_was_before(
    place: Place, window: QWidget, page: AccessPage, qtbot: QtBot, fake_engine: Any
) -> None:
    """Not Cancel, which would drop what was typed."""
    fake_engine.add_key("editor")
    place.desk.shelf.refresh()
    qtbot.waitUntil(lambda: bool(page.keys.cards))
    [card] = page.keys.cards.values()
    card.change_button.click()  # type: ignore[attr-defined]
    form = dialog(window, qtbot, KeyDialog)
    form.activateWindow()
    qtbot.waitUntil(form.isActiveWindow)
    next(each for each in form.findChildren(QPushButton) if each.text() == "Cancel").setFocus()
    form.name.setFocus()
    form.name.setText("Zed")
    with qtbot.waitSignal(form.applied):
        qtbot.keyClick(form.name, Qt.Key.Key_Return)
