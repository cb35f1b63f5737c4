"""Models on other machines, from the form to what is said at the point of use."""

from collections.abc import Iterator
from typing import Any

import pytest
from PySide6.QtWidgets import QMessageBox, QPushButton, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.conversation_state import ConversationState
from app.model_shelf import ModelShelf
from app.remote_shelf import RemoteShelf
from app.theme import Theme
from app.views.away_line import AwayLine
from app.views.notice import NoticeBar
from app.views.remote_card import RemoteCard
from app.views.remote_desk import RemoteDesk
from app.views.remote_dialog import RemoteDialog
from engine.protocol import EngineStatus


class Place:
    """What the desk works with, without a window's other parts."""

    def __init__(self, fake_engine: Any) -> None:
        self.engine = fake_engine
        self.window = QWidget()
        self.api = EngineApi()
        self.api.connect_to(fake_engine.url, fake_engine.key)
        self.away, self.notices = AwayLine(Theme.light()), NoticeBar(Theme.light())
        column = QVBoxLayout(self.window)
        column.addWidget(self.away)
        column.addWidget(self.notices)
        self.models, self.shelf = ModelShelf(self.api), RemoteShelf(self.api)
        self.conversation = ConversationState(self.api)
        self.asked_for_another = 0
        self.desk = RemoteDesk(
            self.shelf,
            self.models,
            self.conversation,
            self.away,
            self.notices,
            Theme.light,
            self._choose,
            self.window,
        )

    def _choose(self) -> None:
        self.asked_for_another += 1

    def form(self, qtbot: QtBot) -> RemoteDialog:
        qtbot.waitUntil(lambda: self.window.findChild(RemoteDialog) is not None)
        form = self.window.findChild(RemoteDialog)
        assert isinstance(form, RemoteDialog)
        return form

    def load(self, remote: dict[str, Any] | None) -> None:
        """The engine holds a model, on another machine or here."""
        model = {**self.engine.status["model"], "remote": remote}
        self.models.set_status(EngineStatus.model_validate({**self.engine.status, "model": model}))


@pytest.fixture
def place(qtbot: QtBot, fake_engine: Any) -> Iterator[Place]:
    made = Place(fake_engine)
    qtbot.addWidget(made.window)
    made.window.show()
    yield made
    made.api.close()


def refreshed(place: Place, qtbot: QtBot) -> None:
    with qtbot.waitSignal(place.shelf.changed):
        place.shelf.refresh()


def test_where_the_conversation_goes_is_said_as_long_as_that_is_so(place: Place) -> None:
    assert not place.away.isVisible()
    place.load({"host": "node7", "whereabouts": "local network"})
    assert place.away.isVisible()
    assert (
        place.away.text() == "This conversation leaves this machine: it goes to node7, in your local network."
    )
    # While the engine is away nothing says that it has become another model.
    place.models.set_status(None)
    assert place.away.isVisible()
    place.load(None)
    assert not place.away.isVisible()


def test_one_is_checked_added_and_used(place: Place, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.checked = {"whereabouts": "elsewhere", "features": {"checked_at": 0.0, "models": ["pro"]}}
    place.desk.add_remote()
    form = place.form(qtbot)
    place.desk.add_remote()
    assert len(place.window.findChildren(RemoteDialog)) == 1
    form.name.setText("Pro")
    form.addresses.setPlainText("https://node7.example.org/v1")
    form.key.setText("secret")
    form.check_button.click()
    qtbot.waitUntil(lambda: form.model.currentText() == "pro")
    [asked] = fake_engine.asked("POST", "/api/remotes/check")
    assert (asked["remote"]["key"], asked["id"]) == ("secret", None)
    form.save_button.click()
    qtbot.waitUntil(lambda: place.notices.notice("remote kept") is not None)
    qtbot.waitUntil(lambda: [each.name for each in place.shelf.remotes] == ["Pro"])
    notice = place.notices.notice("remote kept")
    assert notice is not None
    assert notice.button is not None
    notice.button.click()
    qtbot.waitUntil(lambda: bool(fake_engine.asked("POST", "/api/models/load")))


def test_what_is_refused_stays_in_the_form(place: Place, qtbot: QtBot, fake_engine: Any) -> None:
    text = "A key is not sent over plain http to that address; use https."
    for path in ("/api/remotes", "/api/remotes/check"):
        fake_engine.refusals["POST", path] = (400, {"error": {"code": "bad_request", "text": text}})
    place.desk.add_remote()
    form = place.form(qtbot)
    form.addresses.setPlainText("http://node7.example.org/v1")
    for button in (form.check_button, form.save_button):
        button.click()
        qtbot.waitUntil(form.message.isVisible)
        assert form.message.text() == text
        assert button.isEnabled()
        form.message.hide()


def test_a_change_is_told_once_and_used_again_once_agreed(
    place: Place, qtbot: QtBot, fake_engine: Any
) -> None:
    remote = fake_engine.add_remote("Pro", change="Its certificate is another one now.")
    refreshed(place, qtbot)
    notice = place.notices.notice("remote")
    assert notice is not None
    assert notice.label.text() == "“Pro” is not used for now. Its certificate is another one now."
    agree, other = notice.buttons
    assert (agree.text(), other.text()) == ("Agree", "Choose another")
    other.click()
    assert place.asked_for_another == 1
    refreshed(place, qtbot)
    assert place.notices.notice("remote") is None
    remote["change"] = "It has another model now."
    refreshed(place, qtbot)
    told = place.notices.notice("remote")
    assert told is not None
    assert told.button is not None
    told.button.click()
    qtbot.waitUntil(
        lambda: fake_engine.asked("POST", "/api/models/load") == [{"model_id": remote["id"], "backend": None}]
    )
    assert remote["change"] is None


def test_another_certificate_is_trusted_by_an_answer_to_a_question_only(
    place: Place, qtbot: QtBot, fake_engine: Any
) -> None:
    remote = fake_engine.add_remote(
        "Pro", change="Its certificate is another one now.", offered_fingerprint="AB:CD"
    )
    refreshed(place, qtbot)
    for answer, agreed in (("Do not trust it", []), ("Trust it", [{"fingerprint": "AB:CD"}])):
        place.desk.carry_out("agree", place.shelf.remotes[0])
        qtbot.waitUntil(lambda: place.window.findChild(QMessageBox) is not None)
        box = place.window.findChild(QMessageBox)
        assert isinstance(box, QMessageBox)
        assert "AB:CD" in box.informativeText()
        next(each for each in box.findChildren(QPushButton) if each.text() == answer).click()
        qtbot.waitUntil(lambda: place.window.findChild(QMessageBox) is None)
        path = f"/api/remotes/{remote['id'].replace(':', '%3A')}/agree"
        qtbot.waitUntil(lambda path=path, agreed=agreed: fake_engine.asked("POST", path) == agreed)


def test_a_card_offers_what_makes_sense_and_asks_before_it_forgets(
    place: Place, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.add_remote(
        "Pro", problem={"code": "remote", "text": "Nobody answers there; start the server."}
    )
    refreshed(place, qtbot)
    [remote] = place.shelf.remotes
    card = RemoteCard((remote, False))
    qtbot.addWidget(card)
    card.show()
    assert card.problem.text() == "Nobody answers there; start the server."
    assert (card.use_button.isVisible(), card.agree_button.isVisible()) == (True, False)
    card.show_entry((remote.model_copy(update={"change": "It is another one."}), False))
    assert (card.use_button.isVisible(), card.agree_button.isVisible()) == (False, True)
    card.show_entry((remote, True))
    assert (card.use_button.isVisible(), card.loaded.isVisible()) == (False, True)
    card.asked.connect(place.desk.carry_out)
    card.remove_button.click()
    qtbot.waitUntil(lambda: place.window.findChild(QMessageBox) is not None)
    box = place.window.findChild(QMessageBox)
    assert isinstance(box, QMessageBox)
    assert box.defaultButton().text() == "Keep it"
    next(each for each in box.findChildren(QPushButton) if each.text() == "Take it off the list").click()
    qtbot.waitUntil(lambda: fake_engine.remotes == [] and place.shelf.remotes == [])


def test_a_model_that_is_being_loaded_elsewhere_is_told_of_already(place: Place, qtbot: QtBot) -> None:
    far = {"host": "node7", "whereabouts": "local network"}
    place.engine.models.append(
        {"id": "remote:1", "name": "Far", "path": "x", "size_bytes": 0, "source": "remote", "remote": far}
    )
    with qtbot.waitSignal(place.models.changed):
        place.models.refresh()
    assert place.conversation.told_place == ""
    loading = {**place.engine.status, "loading_model_id": "remote:1"}
    place.models.set_status(EngineStatus.model_validate(loading))
    assert "it goes to node7" in place.away.text()
    assert place.conversation.told_place == "node7"


def test_what_the_conversation_has_cost_is_told_with_where_it_goes(place: Place, qtbot: QtBot) -> None:
    usage = {
        "prompt_tokens": 1, "reused_tokens": 0, "generated_tokens": 1, "context_tokens": 0, "first_token_s": 0.1,
        "prefill_rate": 1.0, "generation_rate": 1.0, "seed": 1, "currency": "USD",
    }  # fmt: skip
    session_id = place.engine.add_session("About fish")
    _, answer_id = place.engine.add_exchange(session_id, "Hi", "Hello")
    place.engine.messages[answer_id]["usage"] = {**usage, "cost": 0.0031}
    place.load({"host": "node7", "whereabouts": "local network"})
    assert "It has cost" not in place.away.text()
    with qtbot.waitSignal(place.conversation.session_changed):
        place.conversation.open(session_id)
    assert place.away.text().endswith("in your local network. It has cost about 0.0031 USD so far.")
