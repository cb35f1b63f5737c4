"""In the window: the cost of an edit is told while its editor is open, a version's when it is chosen."""

from collections.abc import Iterator
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.engine_watch import EngineState
from app.views.window import MainWindow
from engine.paths import DataFolder

COST = {"total": 9400, "kept": 7300, "reread": 2100, "seconds": 38.0}
WORDS = "reads 2,100 of 9,400 tokens again, about 38 s"


@pytest.fixture
def window(qtbot: QtBot, folder: DataFolder, launcher: Any, fake_engine: Any) -> Iterator[Any]:
    session_id = fake_engine.add_session("t")
    question, first = fake_engine.add_exchange(session_id, "q", "a")
    fake_engine.add_message(session_id, "assistant", "b", question)
    fake_engine.reuse = {"high": {"total": 9, "kept": 9, "reread": 0}}
    made = MainWindow(folder, launcher)
    qtbot.addWidget(made)
    with qtbot.waitSignal(made.shown_first):
        made.show()
    assert made.desk is not None
    watch = made.desk.watch
    qtbot.waitUntil(lambda: watch.state == EngineState.READY)
    made.desk.open_conversation(session_id)
    conversation = made.desk.conversation
    qtbot.waitUntil(lambda: [message.text for message in conversation.branch()] == ["q", "b"])
    made.question, made.first = question, first  # pyright: ignore[reportAttributeAccessIssue]
    yield made
    made.desk.drop_engine()


def test_an_open_editor_tells_the_cost_and_tells_it_anew(window: Any, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.costs["edit", window.question] = COST
    window.transcript.start_editing(window.question)
    editor = window.transcript.page.views[0]._editor
    qtbot.waitUntil(lambda: editor.cost.text() == f"Asking again: {WORDS}")
    asked = len(fake_engine.asked("POST", "/api/reuse"))
    qtbot.keyClicks(editor.field, " more words")
    assert len(fake_engine.asked("POST", "/api/reuse")) == asked
    del fake_engine.costs["edit", window.question]
    fake_engine.status["active_turn_id"] = "of another conversation"
    fake_engine.tell_status()
    qtbot.waitUntil(lambda: editor.cost.text() == "Asking again: instant")
    assert editor.field.toPlainText() == "q more words"


def test_a_chosen_version_says_what_going_on_costs(window: Any, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.costs["ask", window.first] = COST
    window.transcript.version_chosen.emit(window.first)
    qtbot.waitUntil(lambda: window.status.text() == f"This version: {WORDS}")
