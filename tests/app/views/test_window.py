"""The whole window against an engine that does what the test says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent, QGuiApplication
from PySide6.QtWidgets import QLabel, QLineEdit, QPushButton, QToolButton
from pytestqt.qtbot import QtBot

from app.actions import ACTIONS
from app.engine_watch import EngineState
from app.theme import Theme
from app.views import window as window_module
from app.views.message_view import MessageView
from app.views.settings_dialog import SettingsDialog
from app.views.tools_dialog import ToolsDialog
from app.views.transcript_page import TranscriptPage
from app.views.window import TRACE_VARIABLE, MainWindow
from app.window_state import WindowState
from engine.paths import DataFolder
from engine.protocol import ErrorBody
from tests.app.conftest import FakeChild


class Opened:
    """A window, and what is on it."""

    def __init__(self, qtbot: QtBot, folder: DataFolder, launcher: Any) -> None:
        self.window = MainWindow(folder, launcher)
        qtbot.addWidget(self.window)
        with qtbot.waitSignal(self.window.shown_first):
            self.window.show()
        assert self.window.desk is not None
        self.desk = self.window.desk

    def ready(self, qtbot: QtBot) -> "Opened":
        qtbot.waitUntil(lambda: self.desk.watch.state == EngineState.READY and self.desk.shelf.known)
        return self

    def said(self) -> list[str]:
        return [message.text for message in self.desk.conversation.branch()]

    def do(self, action_id: str) -> None:
        self.window.actions_by_id[action_id].trigger()


@pytest.fixture
def open_window(qtbot: QtBot, folder: DataFolder, launcher: Any) -> Iterator[Any]:
    opened: list[Opened] = []

    def make() -> Opened:
        opened.append(Opened(qtbot, folder, launcher))
        return opened[-1]

    yield make
    for each in opened:
        each.desk.drop_engine()


@pytest.fixture
def opened(open_window: Any, qtbot: QtBot) -> Opened:
    return open_window().ready(qtbot)


def ask(opened: Opened, qtbot: QtBot, engine: Any, text: str) -> Any:
    before = len(engine.turns)
    qtbot.keyClicks(opened.window.composer.edit, text)
    qtbot.keyClick(opened.window.composer.edit, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: len(engine.turns) > before and bool(engine.turns[-1].listeners))
    return engine.turns[-1]


def test_ask_stream_and_rest(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    turn = ask(opened, qtbot, fake_engine, "What is a seamount?")
    window = opened.window
    assert window.composer.button.text() == "Stop"
    assert window.actions_by_id["stop"].isEnabled()
    assert not window.actions_by_id["retry"].isEnabled()
    turn.text("A mountain under the sea.")
    turn.end()
    qtbot.waitUntil(lambda: not opened.desk.running)
    assert opened.said() == ["What is a seamount?", "A mountain under the sea."]
    assert window.composer.button.text() == "Send"
    qtbot.waitUntil(lambda: opened.desk.catalogue.rows.session_ids() == [turn.session_id])
    assert window.sidebar.list.current_id() == turn.session_id
    opened.do("copy_answer")
    assert QGuiApplication.clipboard().text() == "A mountain under the sea."


def test_a_message_sent_before_the_engine_is_ready_waits_for_it(
    open_window: Any, qtbot: QtBot, fake_engine: Any, launcher: Any
) -> None:
    held_back = launcher.next_child
    children: list[Any] = []

    def slow() -> Any:
        child = held_back()
        child.engine = None
        children.append(child)
        return child

    launcher.next_child = slow
    opened = open_window()
    qtbot.keyClicks(opened.window.composer.edit, "early")
    qtbot.keyClick(opened.window.composer.edit, Qt.Key.Key_Return)
    assert opened.window.composer.draft.typed == "early"
    assert "sent when it is ready" in opened.window.status.text()
    children[0].engine = fake_engine
    qtbot.waitUntil(lambda: opened.said()[:1] == ["early"])
    assert opened.window.composer.draft.is_empty


def test_a_refused_question_is_in_the_composer_again(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    error = {"code": "disk_full", "text": "The disk is full: free some."}
    fake_engine.refusals["POST", "/api/turns"] = (507, {"error": error})
    qtbot.keyClicks(opened.window.composer.edit, "keep me")
    opened.do("send")
    qtbot.waitUntil(lambda: opened.window.notices.sentences() == ["The disk is full: free some."])
    assert opened.window.composer.draft.typed == "keep me"


def test_a_killed_engine_is_replaced_and_the_answer_goes_on_by_itself(
    opened: Opened, qtbot: QtBot, fake_engine: Any, launcher: Any
) -> None:
    turn = ask(opened, qtbot, fake_engine, "tell me")
    turn.text("half an ans")
    qtbot.waitUntil(lambda: opened.said()[1:] == ["half an ans"])
    fake_engine.die()
    again = fake_engine.resume(turn.answer_id)  # the next engine does so as soon as it has its model
    launcher.children[0].status = -9
    qtbot.waitUntil(lambda: bool(again.listeners))
    window = opened.window
    assert window.notices.sentences() == ["The engine stopped; the answer went on where it was."]
    again.text("wer")
    again.end()
    qtbot.waitUntil(lambda: not opened.desk.running)
    assert opened.said() == ["tell me", "half an answer"]
    assert len(launcher.children) == 2
    ask(opened, qtbot, fake_engine, "and now")
    assert window.notices.sentences() == []


@pytest.mark.slow
def test_an_engine_that_cannot_be_replaced_is_one_sentence_and_a_button(
    opened: Opened, qtbot: QtBot, fake_engine: Any, launcher: Any
) -> None:
    turn = ask(opened, qtbot, fake_engine, "tell me")
    turn.text("half an ans")
    qtbot.waitUntil(lambda: opened.said()[1:] == ["half an ans"])
    launcher.next_child = stillborn
    fake_engine.die()
    launcher.children[0].status = -9
    window = opened.window
    qtbot.waitUntil(lambda: bool(window.notices.sentences()))
    assert window.notices.sentences() == ["The engine stopped: it was killed; restart it."]
    assert opened.said() == ["tell me", "half an ans"]
    notice = window.notices.notice("engine")
    assert notice is not None
    assert notice.button is not None
    assert notice.button.text() == "Restart"
    qtbot.waitUntil(lambda: not opened.desk.running)
    launcher.next_child = lambda: FakeChild(fake_engine)
    notice.button.click()
    opened.ready(qtbot)
    assert window.notices.sentences() == []
    qtbot.waitUntil(lambda: window.actions_by_id["continue"].isEnabled())
    opened.do("continue")
    qtbot.waitUntil(lambda: bool(fake_engine.turns) and bool(fake_engine.turns[-1].listeners))
    fake_engine.turns[-1].text("wer")
    fake_engine.turns[-1].end()
    qtbot.waitUntil(lambda: not opened.desk.running)
    assert opened.said() == ["tell me", "half an answer"]


def test_delete_undo_and_purge_at_the_end(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    turn = ask(opened, qtbot, fake_engine, "dear")
    turn.end()
    qtbot.waitUntil(lambda: not opened.desk.running)
    qtbot.waitUntil(lambda: opened.desk.catalogue.rows.session_ids() == [turn.session_id])
    opened.do("delete")
    qtbot.waitUntil(lambda: opened.window.notices.notice("deleted") is not None)
    assert opened.said() == []
    assert len(opened.window.notices.sentences()) == 1
    opened.do("undo_delete")
    qtbot.waitUntil(lambda: opened.said() == ["dear", ""])
    opened.do("delete")
    qtbot.waitUntil(lambda: opened.window.actions_by_id["undo_delete"].isEnabled())
    opened.window.close()
    qtbot.waitUntil(lambda: turn.session_id not in fake_engine.sessions)
    qtbot.waitUntil(lambda: not opened.desk.api.has_engine)
    assert not opened.window.isVisible()


def test_the_last_conversation_and_the_draft_come_back(
    open_window: Any, qtbot: QtBot, fake_engine: Any
) -> None:
    session_id = fake_engine.add_session("Yesterday's")
    fake_engine.add_exchange(session_id, "q", "a")
    first = open_window().ready(qtbot)
    first.desk.open_conversation(session_id)
    qtbot.waitUntil(lambda: first.said() == ["q", "a"])
    qtbot.keyClicks(first.window.composer.edit, "not yet, sent")
    first.window.close()
    second = open_window()
    assert second.window.composer.draft.typed == "not yet, sent"
    second.ready(qtbot)
    qtbot.waitUntil(lambda: second.said() == ["q", "a"])
    assert second.window.composer.draft.typed == "not yet, sent"


def test_what_is_open_and_being_written_outlives_a_window_that_is_killed(
    open_window: Any, qtbot: QtBot, fake_engine: Any, folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "DRAFT_PAUSE_MS", 5)
    session_id = fake_engine.add_session("Kept")
    opened = open_window().ready(qtbot)
    opened.desk.open_conversation(session_id)
    qtbot.waitUntil(lambda: not opened.desk.conversation.is_opening)
    qtbot.keyClicks(opened.window.composer.edit, "not yet, sent")
    # Nothing is closed: what another window would find now is what a killed one leaves.
    qtbot.waitUntil(lambda: WindowState(folder.window_state).draft == "not yet, sent")
    assert WindowState(folder.window_state).session_id == session_id


def test_drafts_stay_with_their_conversations(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    one, two = fake_engine.add_session("one"), fake_engine.add_session("two")
    composer = opened.window.composer
    for session_id, draft in ((one, "draft one"), (two, "draft two")):
        opened.desk.open_conversation(session_id)
        qtbot.waitUntil(lambda: not opened.desk.conversation.is_opening)
        assert composer.draft.is_empty
        qtbot.keyClicks(composer.edit, draft)
    opened.desk.open_conversation(one)
    qtbot.waitUntil(lambda: composer.draft.typed == "draft one")


def test_two_windows_stay_in_step(open_window: Any, qtbot: QtBot, fake_engine: Any, launcher: Any) -> None:
    first = open_window().ready(qtbot)
    launcher.found = True
    second = open_window().ready(qtbot)
    turn = ask(first, qtbot, fake_engine, "hello there")
    qtbot.waitUntil(lambda: second.desk.catalogue.rows.session_ids() == [turn.session_id])
    fake_engine.tell_status()
    second.desk.open_conversation(turn.session_id)
    qtbot.waitUntil(lambda: len(turn.listeners) == 2)
    turn.text("hi")
    qtbot.waitUntil(lambda: first.said() == second.said() == ["hello there", "hi"])
    second.do("delete")
    qtbot.waitUntil(lambda: first.said() == [])
    assert "another window" in first.window.notices.sentences()[0]


def dropped(data: QMimeData) -> QDropEvent:
    """`data` has to outlive the event."""
    return QDropEvent(
        QPointF(5, 5), Qt.DropAction.CopyAction, data,
        Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip


def test_a_dropped_model_file_is_taken_in_and_shown(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile("/somewhere/New.GGUF"), QUrl.fromLocalFile("/somewhere/note.txt")])
    opened.window.dropEvent(dropped(data))
    library = opened.desk.library
    qtbot.waitUntil(lambda: library.page is not None and "m2" in library.page.items.cards)
    assert library.is_open
    assert fake_engine.asked("POST", "/api/library/add") == [{"path": "/somewhere/New.GGUF"}]
    assert fake_engine.asked("POST", "/api/models/load") == []  # another one is loaded already


def test_the_first_model_is_loaded_when_it_is_dropped(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.status["model"] = None
    fake_engine.tell_status()
    qtbot.waitUntil(lambda: opened.desk.shelf.loaded_id is None)
    opened.desk.take_in("/somewhere/new.gguf")
    qtbot.waitUntil(
        lambda: fake_engine.asked("POST", "/api/models/load") == [{"model_id": "m2", "backend": None}]
    )


def test_a_dropped_folder_is_a_checkpoint(
    opened: Opened, qtbot: QtBot, fake_engine: Any, tmp_path: Path
) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path))])
    opened.window.dropEvent(dropped(data))
    qtbot.waitUntil(lambda: bool(fake_engine.asked("POST", "/api/library/add")))
    [body] = fake_engine.asked("POST", "/api/library/add")
    assert Path(body["path"]) == tmp_path


def test_a_model_dropped_before_the_engine_is_ready_waits_for_it(
    open_window: Any, qtbot: QtBot, fake_engine: Any, launcher: Any
) -> None:
    held_back = launcher.next_child
    children: list[Any] = []

    def slow() -> Any:
        children.append(held_back())
        children[0].engine = None
        return children[0]

    launcher.next_child = slow
    opened = open_window()
    opened.desk.add_model("/somewhere/new.gguf")
    children[0].engine = fake_engine
    qtbot.waitUntil(lambda: bool(fake_engine.asked("POST", "/api/models/load")))
    assert fake_engine.asked("POST", "/api/models/add") == [{"path": "/somewhere/new.gguf"}]


def stillborn() -> Any:
    """An engine that dies before it is at work."""
    child = FakeChild(None)
    child.status = 4
    return child


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["send", "settings", "delete", "drop"])
def test_what_is_asked_of_a_stopped_engine_says_again_why(
    opened: Opened, qtbot: QtBot, fake_engine: Any, launcher: Any, asked: str
) -> None:
    session_id = fake_engine.add_session("kept")
    opened.desk.open_conversation(session_id)
    qtbot.waitUntil(lambda: not opened.desk.conversation.is_opening)
    window = opened.window
    launcher.next_child = stillborn
    fake_engine.die()
    launcher.children[0].status = -9
    qtbot.waitUntil(lambda: opened.desk.watch.state == EngineState.STOPPED)
    launcher.next_child = lambda: FakeChild(fake_engine)
    [sentence] = window.notices.sentences()
    window.notices.dismiss("engine")
    if asked == "drop":
        opened.desk.take_in("/somewhere/new.gguf")
    else:
        window.composer.edit.setPlainText("hello")
        opened.do(asked)
    qtbot.waitUntil(lambda: window.notices.sentences() == [sentence])
    notice = window.notices.notice("engine")
    assert notice is not None
    assert notice.button is not None
    assert notice.button.text() == "Restart"


def test_what_the_engine_tells_of_the_machine_is_shown_until_it_is_over(
    opened: Opened, qtbot: QtBot, fake_engine: Any
) -> None:
    notices = opened.window.notices
    fake_engine.status["notice"] = "Memory is short: close other programs."
    fake_engine.tell_status()
    qtbot.waitUntil(lambda: notices.sentences() == ["Memory is short: close other programs."])
    shown = notices.notice("engine notice")
    assert shown is not None
    assert shown.kind == "info"
    # Who has read it may put it away, and the same news does not bring it back.
    shown.dismissed.emit()
    fake_engine.status["queue_length"] = 1
    fake_engine.tell_status()
    qtbot.waitUntil(lambda: bool(opened.desk.shelf.status and opened.desk.shelf.status.queue_length))
    assert notices.sentences() == []
    fake_engine.status["notice"] = "Memory is short again."
    fake_engine.tell_status()
    qtbot.waitUntil(lambda: notices.sentences() == ["Memory is short again."])
    fake_engine.status["notice"] = None
    fake_engine.tell_status()
    qtbot.waitUntil(lambda: notices.sentences() == [])


def test_why_a_model_was_refused_stays_until_the_model_changes(
    opened: Opened, qtbot: QtBot, fake_engine: Any
) -> None:
    shelf, notices = opened.desk.shelf, opened.window.notices
    qtbot.waitUntil(lambda: shelf.loaded_id is not None)
    shelf.refused.emit(ErrorBody(code="model_file", text="It is torn; fetch it again."))
    shelf.changed.emit()  # other news: the list of models, a turn
    assert notices.sentences() == ["It is torn; fetch it again."]
    status = shelf.status
    assert status is not None
    assert status.model is not None
    other = status.model.model_copy(update={"id": "another"})
    shelf.set_status(status.model_copy(update={"model": other}))
    assert notices.sentences() == []


def test_a_model_that_cannot_be_loaded_is_said(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    qtbot.waitUntil(lambda: bool(fake_engine.listeners))
    fake_engine.status.update(
        model=None, error={"code": "model_load", "text": "It is too large; choose another."}
    )
    fake_engine.tell_status()
    qtbot.waitUntil(lambda: opened.window.notices.sentences() == ["It is too large; choose another."])
    assert opened.window.picker.text() == "No model loaded"


def test_settings_are_fetched_and_stored(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    opened.do("settings")
    qtbot.waitUntil(lambda: opened.window.findChild(SettingsDialog) is not None)
    dialog = opened.window.findChild(SettingsDialog)
    dialog.context.setValue(4096)
    dialog.apply_button.click()
    qtbot.waitUntil(lambda: fake_engine.settings["context_tokens"] == 4096)
    qtbot.waitUntil(lambda: "loaded again" in "".join(opened.window.notices.sentences()))


def test_settings_that_are_answered_after_their_dialog_was_closed(opened: Opened, qtbot: QtBot) -> None:
    answers: list[Any] = []
    opened.desk.shelf.save_settings = lambda settings, ok, failed: answers.append((settings, ok, failed))
    for _ in range(2):
        opened.do("settings")
        qtbot.waitUntil(lambda: opened.window.findChild(SettingsDialog) is not None)
        dialog = opened.window.findChild(SettingsDialog)
        dialog.apply_button.click()
        dialog.close()
        qtbot.waitUntil(lambda: opened.window.findChild(SettingsDialog) is None)
    (settings, ok, _), (_, _, failed) = answers
    ok(settings)
    failed(ErrorBody(code="disk_full", text="The settings were not stored: the disk is full; free some."))
    assert opened.window.notices.sentences()[-1].startswith("The settings were not stored")


def test_settings_asked_for_twice_are_one_dialog(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    opened.do("settings")
    opened.do("settings")
    qtbot.waitUntil(lambda: len(fake_engine.asked("GET", "/api/settings")) == 2)
    qtbot.waitUntil(lambda: opened.window.findChild(SettingsDialog) is not None)
    qtbot.waitUntil(lambda: not opened.desk.api._open)
    assert len(opened.window.findChildren(SettingsDialog)) == 1


def test_theme_and_zoom_are_chosen_and_remembered(opened: Opened, qtbot: QtBot) -> None:
    opened.do("theme_dark")
    assert opened.window.theme == Theme.dark()
    opened.do("zoom_in")
    assert opened.window.theme.base_px == pytest.approx(16.5)
    opened.do("zoom_reset")
    opened.do("theme_light")
    assert opened.window.theme == Theme.light()
    assert opened.window.memory.theme == "light"


def test_the_sidebar_hides_and_search_brings_it_back(opened: Opened) -> None:
    opened.do("toggle_sidebar")
    assert opened.window.sidebar.isHidden()
    opened.do("search")
    assert not opened.window.sidebar.isHidden()


def test_a_mode_is_chosen_sent_and_remembered(open_window: Any, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.offer_modes()
    opened = open_window().ready(qtbot)
    window = opened.window
    qtbot.waitUntil(lambda: not window.switch.isHidden())
    assert window.actions_by_id["mode_high"].isChecked()
    turn = ask(opened, qtbot, fake_engine, "one")
    turn.text("1")
    turn.end()
    qtbot.waitUntil(lambda: not opened.desk.running)
    opened.do("mode_non_think")
    assert window.switch.text() == "Non-think"
    assert [window.actions_by_id[f"mode_{m}"].isChecked() for m in ("non_think", "high", "max")] == [
        True, False, False,
    ]  # fmt: skip
    qtbot.waitUntil(lambda: "reads 1,240 of 3,100 tokens again" in window.status.text())
    fake_engine.tell_status()
    qtbot.wait(30)
    assert "again" in window.status.text()
    opened.do("retry")
    qtbot.waitUntil(lambda: len(fake_engine.turns) == 2)
    qtbot.waitUntil(lambda: "again" not in window.status.text())
    fake_engine.turns[-1].text("Half of")
    fake_engine.turns[-1].end("interrupted", "interrupted")
    qtbot.waitUntil(lambda: not opened.desk.running)
    opened.do("continue")
    qtbot.waitUntil(lambda: len(fake_engine.turns) == 3)
    sent = [body["mode"] for body in fake_engine.asked("POST", "/api/turns")]
    assert sent == ["high", "non-think", None]
    window.close()
    assert open_window().window.memory.mode == "non-think"


def test_a_mode_that_cannot_be_had_says_why_and_offers_another(
    open_window: Any, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.offer_modes("Think-Max needs a context of 393,216 tokens; choose Think-High.")
    opened = open_window().ready(qtbot)
    window = opened.window
    qtbot.waitUntil(lambda: not window.switch.isHidden())
    opened.do("mode_non_think")
    opened.do("mode_max")
    assert window.notices.sentences() == ["Think-Max needs a context of 393,216 tokens; choose Think-High."]
    assert window.switch.text() == "Non-think"
    assert not window.actions_by_id["mode_max"].isChecked()
    notice = window.notices.notice("mode")
    assert notice is not None
    assert notice.button is not None
    assert notice.button.text() == "Use Think-High"
    notice.button.click()
    assert window.switch.text() == "Think-High"
    assert window.notices.sentences() == []


def test_results_are_given_in_the_window(open_window: Any, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.offer_modes()
    opened = open_window().ready(qtbot)
    qtbot.waitUntil(lambda: not opened.window.switch.isHidden())
    turn = ask(opened, qtbot, fake_engine, "weather?")
    turn.think("I must look.")
    turn.thought()
    call_id = turn.call("get_weather", '{"city": "Bergen"}')
    turn.end("complete", "tool_calls")
    qtbot.waitUntil(lambda: not opened.desk.running)
    parts = opened.window.transcript.page.views[-1]._parts
    parts.cards[0].field.setPlainText("rain")
    parts._send.button.click()
    qtbot.waitUntil(lambda: len(fake_engine.turns) == 2 and bool(fake_engine.turns[-1].listeners))
    sent = fake_engine.asked("POST", "/api/turns")[-1]
    assert sent["mode"] == "high"
    assert sent["turn"]["results"] == [{"tool_call_id": call_id, "text": "rain"}]
    assert parts.cards[0].field is None
    assert parts.cards[0].call.result == "rain"
    fake_engine.turns[-1].text("It rains.")
    fake_engine.turns[-1].end()
    qtbot.waitUntil(lambda: not opened.desk.running)
    assert opened.said() == ["weather?", "", "It rains."]
    opened.do("copy_conversation")
    words = QGuiApplication.clipboard().text()
    assert "**Call of `get_weather`**" in words
    assert "I must look" not in words


def test_refused_results_stay_in_their_boxes(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    turn = ask(opened, qtbot, fake_engine, "weather?")
    turn.call("get_weather", "{}")
    turn.end("complete", "tool_calls")
    qtbot.waitUntil(lambda: not opened.desk.running)
    error = {"code": "disk_full", "text": "The disk is full: free some."}
    fake_engine.refusals["POST", "/api/turns"] = (507, {"error": error})
    card = opened.window.transcript.page.views[-1]._parts.cards[0]
    card.field.setPlainText("rain")
    card.send_pressed.emit()
    qtbot.waitUntil(lambda: opened.window.notices.sentences() == ["The disk is full: free some."])
    assert card.result_text() == "rain"
    # The composer is there all the same.
    fake_engine.refusals.clear()
    ask(opened, qtbot, fake_engine, "never mind")
    assert card.field is None


def test_a_stored_conversation_opens_with_reasoning_calls_and_results(
    opened: Opened, qtbot: QtBot, fake_engine: Any
) -> None:
    session_id = fake_engine.add_session("Stored")
    call = {"id": "c1", "name": "get_weather", "arguments": '{"city": "Bergen"}'}
    _, answer_id = fake_engine.add_exchange(
        session_id, "weather?", "I look.", reasoning="Hm.", thought={"tokens": 3, "elapsed_s": 1.0},
        tool_calls=[call], finish_reason="tool_calls", notices=["A call was repaired."],
    )  # fmt: skip
    result_id = fake_engine.add_message(session_id, "tool", "rain", answer_id, tool_call_id="c1")
    fake_engine.add_message(session_id, "assistant", "It rains.", result_id)
    fake_engine.tools[session_id] = [{"type": "function", "function": {"name": "get_weather"}}]
    opened.desk.open_conversation(session_id)
    qtbot.waitUntil(lambda: opened.said() == ["weather?", "I look.", "It rains."])
    parts = opened.window.transcript.page.views[1]._parts
    assert parts.thinking is not None
    assert parts.thinking.header.text() == "Thought for 1.0 s · 3 tokens"
    assert [(card.call.name, card.call.result) for card in parts.cards] == [("get_weather", "rain")]
    assert opened.window.composer.tools_button.text() == "1 tool"
    opened.do("new")
    assert opened.window.composer.tools_button.isHidden()


def test_tools_are_set_for_a_new_conversation(opened: Opened, qtbot: QtBot, fake_engine: Any) -> None:
    opened.do("tools")
    dialog = opened.window.findChild(ToolsDialog)
    dialog.edit.setPlainText('[{"function": {"name": "look"}}, {"function": {"name": "listen"}}]')
    dialog.save_button.click()
    qtbot.waitUntil(lambda: opened.window.findChild(ToolsDialog) is None)
    button = opened.window.composer.tools_button
    assert (button.text(), button.accessibleName()) == ("2 tools", "2 tools set")
    turn = ask(opened, qtbot, fake_engine, "hello")
    assert [tool["function"]["name"] for tool in fake_engine.tools[turn.session_id]] == ["look", "listen"]
    turn.end()
    qtbot.waitUntil(lambda: not opened.desk.running)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    dialog = opened.window.findChild(ToolsDialog)
    fake_engine.refuse_patches = (422, {"error": {"code": "x", "text": "Not these tools."}})
    dialog.edit.clear()
    dialog.save_button.click()
    qtbot.waitUntil(lambda: dialog.message.text() == "Not these tools.")
    fake_engine.refuse_patches = None
    dialog.save_button.click()
    qtbot.waitUntil(button.isHidden)
    assert fake_engine.tools[turn.session_id] == []


def test_without_modes_there_is_no_switch_and_no_mode_is_sent(
    opened: Opened, qtbot: QtBot, fake_engine: Any
) -> None:
    assert opened.window.switch.isHidden()
    assert not opened.window.actions_by_id["mode_max"].isEnabled()
    ask(opened, qtbot, fake_engine, "plain")
    assert fake_engine.asked("POST", "/api/turns")[0]["mode"] is None


def test_the_menu_of_modes_tells_costs_of_a_conversation(
    open_window: Any, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.offer_modes()
    opened = open_window().ready(qtbot)
    qtbot.waitUntil(lambda: not opened.window.switch.isHidden())
    menu = opened.window.switch.fill()
    assert fake_engine.asked("POST", "/api/reuse") == []
    turn = ask(opened, qtbot, fake_engine, "one")
    turn.end()
    qtbot.waitUntil(lambda: not opened.desk.running)
    menu = opened.window.switch.fill()
    qtbot.waitUntil(lambda: "reads 1,240 of 3,100 tokens again" in menu.actions()[0].text())
    qtbot.waitUntil(lambda: "instant" in menu.actions()[1].text())


def test_every_action_is_in_a_menu_with_its_keys(opened: Opened) -> None:
    in_menus = {
        action.text(): action
        for menu in opened.window.menuBar().actions()
        for action in menu.menu().actions()  # pyright: ignore[reportOptionalMemberAccess]
    }
    for row in ACTIONS:
        assert [s.toString() for s in in_menus[row.text].shortcuts()] == [
            s.toString() for s in row.sequences()
        ]


def test_every_control_says_what_it_is(opened: Opened) -> None:
    for kind in (QPushButton, QToolButton):
        for control in opened.window.findChildren(kind):
            # What Qt puts into its own line edits and menu bars, it names itself.
            if not control.objectName().startswith("qt_") and not isinstance(control.parent(), QLineEdit):
                assert control.accessibleName() or control.text(), control


@pytest.mark.slow
@pytest.mark.parametrize("width", [560, 700, 900, 1280])
def test_at_every_width_everything_is_inside_the_window(
    open_window: Any, qtbot: QtBot, fake_engine: Any, width: int
) -> None:
    fake_engine.offer_modes()
    window = open_window().ready(qtbot).window
    qtbot.waitUntil(lambda: window.meter.isVisible())
    window.resize(width, window.minimumHeight())
    qtbot.waitUntil(lambda: window.width() == width)
    window.grab()
    for part in (window.picker, window.switch, window.meter, window.composer, window.status):
        left = part.mapTo(window, part.rect().topLeft()).x()
        assert left >= 0
        assert left + part.width() <= width, part
    assert not window.picker.geometry().intersects(window.switch.geometry())
    assert not window.switch.geometry().intersects(window.meter.geometry())
    label = window.meter.findChild(QLabel)
    assert not label.isVisible() or label.width() >= label.sizeHint().width()


@pytest.mark.parametrize("count", [1, 3])
def test_in_the_smallest_window_a_sentence_is_whole(opened: Opened, qtbot: QtBot, count: int) -> None:
    window = opened.window
    window.resize(window.minimumSize())
    sentence = (
        "The engine has stopped: it was ended from outside (signal 9, SIGKILL), as the system does when "
        "memory runs out; restart it and continue the answer; the conversation is kept."
    )
    for number in range(count):
        window.notices.tell(f"k{number}", sentence, button="Restart")
    newest = window.notices.notice(f"k{count - 1}")
    assert newest is not None
    window.grab()
    label = newest.label
    qtbot.waitUntil(lambda: label.isVisible() and label.height() >= label.heightForWidth(label.width()))
    bottom = window.status.mapTo(window, window.status.rect().bottomLeft()).y()
    assert bottom < window.height()


def test_first_paint_is_traced_when_asked(
    open_window: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TRACE_VARIABLE, "1")
    open_window()
    words = capsys.readouterr().err.split()
    assert words[0] == "first_paint"
    assert float(words[1]) > 0


def test_a_data_folder_that_cannot_be_used_is_a_sentence_in_the_window(
    open_window: Any, qtbot: QtBot, launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.errors import DataFolderError

    def refuse(folder: DataFolder, **_wishes: bool) -> Any:
        raise DataFolderError("Seamount cannot write", "permission denied", "give it")

    monkeypatch.setattr(launcher, "start", refuse)
    opened = open_window()
    assert opened.window.notices.sentences() == ["Seamount cannot write: permission denied; give it."]
    assert "not running" in opened.window.status.text()


def test_an_empty_page_teaches(opened: Opened) -> None:
    texts = [label.text() for label in opened.window.transcript.findChildren(QLabel)]
    assert any("on your mind" in text for text in texts)


def test_what_is_read_stays_where_it_is_when_a_scroll_bar_appears(
    opened: Opened, qtbot: QtBot, fake_engine: Any
) -> None:
    window = opened.window
    turn = ask(opened, qtbot, fake_engine, "tell me much")
    [question, answer] = window.transcript.findChildren(MessageView)
    place = question.mapTo(window, question.rect().topLeft()).x()
    middle = window.composer.mapTo(window, window.composer.rect().center()).x()
    turn.text("One paragraph.\n\n" * 60)
    bar = window.transcript.findChild(TranscriptPage).verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0)
    turn.end()
    qtbot.waitUntil(lambda: not opened.desk.running)
    assert answer.mapTo(window, answer.rect().topLeft()).x() == place
    assert abs(answer.mapTo(window, answer.rect().center()).x() - middle) <= 1


def test_a_search_that_finds_nothing_says_so(opened: Opened, qtbot: QtBot) -> None:
    sidebar = opened.window.sidebar
    qtbot.waitUntil(lambda: "kept here" in sidebar.list.words)
    sidebar.search.setText("zebra")
    qtbot.waitUntil(lambda: "zebra" in sidebar.list.words)
