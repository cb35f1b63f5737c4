"""A message waits for the engine, comes back when it could not be sent, and stays with its conversation."""

from typing import cast

import pytest
from PySide6.QtCore import QObject, Signal
from pytestqt.qtbot import QtBot

from app.conversation_state import ConversationState
from app.engine_watch import EngineState, EngineWatch
from app.theme import Theme
from app.views.asking import Asking
from app.views.composer import Composer
from engine.protocol import ErrorBody


class Talk(QObject):
    """What asking needs of a conversation."""

    ask_refused = Signal(str, object)
    running_changed = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.session_id: str | None = None
        self.is_opening = self.running = False
        self.asked: list[str] = []
        self.told_place = ""

    def ask(self, text: str) -> None:
        self.asked.append(text)


class Engine:
    """What asking needs of the watch."""

    state = EngineState.STARTING


class Scene:
    def __init__(self, qtbot: QtBot) -> None:
        self.composer, self.talk, self.engine = Composer(Theme.light()), Talk(), Engine()
        qtbot.addWidget(self.composer)
        self.asking = Asking(
            self.composer,
            cast(ConversationState, self.talk),
            cast(EngineWatch, self.engine),
            None,
            self.composer,
        )

    def send(self, text: str) -> None:
        self.composer.edit.setPlainText(text)
        self.composer.send()

    def typed(self) -> str:
        return self.composer.draft.typed


@pytest.fixture
def scene(qtbot: QtBot) -> Scene:
    return Scene(qtbot)


def test_a_message_waits_for_the_engine_and_for_the_conversation(scene: Scene, qtbot: QtBot) -> None:
    with qtbot.waitSignal(scene.asking.held_changed):
        scene.send("early")
    assert (scene.typed(), scene.asking.is_held) == ("early", True)
    scene.engine.state, scene.talk.is_opening = EngineState.READY, True
    scene.asking.send_held()
    assert scene.talk.asked == []
    scene.talk.is_opening = False
    with qtbot.waitSignal(scene.asking.begun):
        scene.asking.send_held()
    assert (scene.talk.asked, scene.typed(), scene.asking.is_held) == (["early"], "", False)


def test_a_message_waits_for_a_broken_answer_to_go_on_or_not(scene: Scene, qtbot: QtBot) -> None:
    scene.send("early")
    scene.engine.state, scene.talk.running = EngineState.READY, True
    scene.composer.set_running(True)
    scene.asking.send_held()
    assert (scene.talk.asked, scene.typed(), scene.asking.is_held) == ([], "early", True)
    scene.talk.running = False
    scene.talk.running_changed.emit(False)
    scene.composer.set_running(False)
    qtbot.waitUntil(lambda: scene.talk.asked == ["early"])
    assert not scene.asking.is_held


def test_a_message_that_is_changed_while_it_waits_is_not_sent_by_itself(scene: Scene) -> None:
    scene.send("early")
    scene.composer.edit.setPlainText("earlier")
    scene.engine.state = EngineState.READY
    scene.asking.send_held()
    assert (scene.talk.asked, scene.typed()) == ([], "earlier")


def test_without_an_engine_it_is_said_and_nothing_waits(scene: Scene, qtbot: QtBot) -> None:
    scene.engine.state = EngineState.STOPPED
    with qtbot.waitSignal(scene.asking.stopped):
        scene.send("late")
    assert (scene.typed(), scene.asking.is_held) == ("late", False)


def test_a_refused_question_comes_back(scene: Scene) -> None:
    error = ErrorBody(code="disk_full", text="The disk is full: free some.")
    scene.composer.edit.setPlainText("written since")
    refused: list[ErrorBody] = []
    scene.asking.refused.connect(refused.append)
    scene.talk.ask_refused.emit("asked before", error)
    assert refused == [error]
    assert scene.typed() == "asked before\n\nwritten since"


def test_drafts_stay_with_their_conversations(scene: Scene) -> None:
    assert not scene.asking.take_session()
    for session_id, draft in (("one", "draft one"), ("two", "draft two")):
        scene.talk.session_id = session_id
        assert scene.asking.take_session()
        assert scene.typed() == ""
        scene.composer.edit.setPlainText(draft)
    scene.talk.session_id = "one"
    scene.asking.take_session()
    assert scene.typed() == "draft one"


def test_a_new_conversation_that_gets_its_session_keeps_what_is_being_written(scene: Scene) -> None:
    scene.composer.edit.setPlainText("the next question")
    scene.talk.session_id, scene.talk.running = "new", True
    assert scene.asking.take_session()
    assert scene.typed() == "the next question"


def test_what_waited_is_not_sent_to_a_machine_that_nobody_was_told_of(scene: Scene) -> None:
    scene.send("private")
    scene.engine.state, scene.talk.told_place = EngineState.READY, "api.example.org"
    told: list[ErrorBody] = []
    scene.asking.refused.connect(told.append)
    scene.asking.send_held()
    assert "api.example.org" in told[0].text
    assert (scene.talk.asked, scene.typed(), scene.asking.is_held) == ([], "private", False)
    scene.composer.send()
    assert scene.talk.asked == ["private"]


def test_what_waited_goes_where_the_person_was_told_that_it_goes(scene: Scene) -> None:
    scene.talk.told_place = "api.example.org"
    scene.send("known")
    scene.engine.state = EngineState.READY
    scene.asking.send_held()
    assert scene.talk.asked == ["known"]
