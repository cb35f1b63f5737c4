"""What a person does with the window, from the first question to the next day."""

import psutil
import pytest
from PySide6.QtCore import QMimeData
from PySide6.QtWidgets import QAbstractButton

from engine.launch import running_engine
from engine.paths import DataFolder
from engine.protocol import Settings
from engine.settings import load_settings, save_settings
from tests.end_to_end.conftest import OpenWindow
from tests.end_to_end.live_window import START_TIMEOUT_MS, LiveWindow
from tests.integration.live_engine import LONG_TOKENS, SLOW_TEXT


@pytest.mark.slow
def test_ask_stop_retry_close_reopen_continue(open_window: OpenWindow) -> None:
    window = open_window().ready()
    window.ask("Say it slowly, please.")
    seen = window.wait_for_text(20)
    assert SLOW_TEXT.startswith(seen)

    window.window.composer.button.click()  # it reads Stop while an answer runs
    stopped = window.wait_for_end()
    assert stopped.finish_reason == "cancelled"
    assert SLOW_TEXT.startswith(stopped.text) and len(seen) <= len(stopped.text) < len(SLOW_TEXT)

    window.do("retry")
    window.wait(lambda: window.answer().id != stopped.id)
    again = window.wait_for_text(20)
    window.do("stop")
    retried = window.wait_for_end()
    assert SLOW_TEXT.startswith(again)
    shown = window.desk.conversation.shown[-1]
    assert (shown.version, shown.version_count) == (2, 2)
    window.desk.conversation.choose_version(stopped.id)
    assert window.answer().text == stopped.text
    window.desk.conversation.choose_version(retried.id)
    title = window.desk.conversation.session_id
    window.close()

    tomorrow = open_window().ready()
    tomorrow.wait(lambda: bool(tomorrow.shown()))
    assert tomorrow.desk.conversation.session_id == title
    assert [m.text for m in tomorrow.shown()] == ["Say it slowly, please.", retried.text]
    tomorrow.do("continue")
    assert tomorrow.wait_for_end().text == SLOW_TEXT
    assert tomorrow.answer().id == retried.id

    tomorrow.ask("And now?")
    tomorrow.wait(lambda: len(tomorrow.shown()) == 4)
    assert tomorrow.wait_for_end().text == "Hello there."


@pytest.mark.slow
def test_an_edit_stands_beside_what_it_replaces(open_window: OpenWindow) -> None:
    window = open_window().ready()
    window.ask("First wording")
    first = window.wait_for_end()
    question = window.shown()[0]
    window.desk.parts.transcript.edit_requested.emit(question.id, "In many scripts, please")
    window.wait(lambda: window.shown()[0].id != question.id)
    assert window.wait_for_end().text == "né 你好 👩‍👩‍👧 مرحبا \u200f!"
    window.desk.conversation.choose_version(question.id)
    assert [m.id for m in window.shown()] == [question.id, first.id]


@pytest.mark.slow
def test_the_engine_killed_in_mid_answer_is_replaced_and_the_sentence_finishes(
    open_window: OpenWindow,
) -> None:
    window = open_window().ready()
    window.ask("Say it slowly.")
    seen = window.wait_for_text(30)
    first = window.engine().pid
    psutil.Process(first).kill()
    window.wait(lambda: "the answer went on where it was" in window.sentences(), START_TIMEOUT_MS)
    assert window.answer().text.startswith(seen)
    assert window.wait_for_end().text == SLOW_TEXT
    assert window.engine().pid != first
    assert len(window.shown()) == 2


@pytest.mark.slow
def test_an_answer_that_shall_wait_is_continued_when_it_is_asked_for(
    open_window: OpenWindow, folder: DataFolder
) -> None:
    save_settings(folder.settings, load_settings(folder.settings)[0].model_copy(update={"resume": "offer"}))
    window = open_window().ready()
    window.ask("Say it slowly.")
    seen = window.wait_for_text(30)
    psutil.Process(window.engine().pid).kill()
    window.wait(lambda: window.answer().status == "interrupted", START_TIMEOUT_MS)
    window.ready()
    kept = window.answer()
    assert kept.text.startswith(seen) and SLOW_TEXT.startswith(kept.text)
    window.wait(lambda: window.desk.commands.can("continue"))
    window.do("continue")
    assert window.wait_for_end().text == SLOW_TEXT


@pytest.mark.slow
def test_an_engine_that_crashes_again_and_again(open_window: OpenWindow) -> None:
    window = open_window().ready()
    window.ask("Please crash")
    # It goes on by itself, to its end or until that is seen to lead nowhere; what was written stands.
    over = ("interrupted", "complete")
    window.wait(lambda: bool(window.shown()) and window.answer().status in over, START_TIMEOUT_MS)
    text = window.answer().text
    assert text and "This engine dies somewhere.".startswith(text.strip())


@pytest.mark.slow
def test_the_window_closed_in_mid_answer(open_window: OpenWindow, folder: DataFolder) -> None:
    window = open_window().ready()
    window.ask("Take your time.")
    seen = window.wait_for_text(30)
    engine_process = psutil.Process(window.engine().pid)
    window.close()
    engine_process.wait(30)  # it leaves by itself when nobody listens any more

    later = open_window().ready()
    later.wait(lambda: bool(later.shown()))
    kept = later.answer().text
    assert kept.startswith(seen)
    later.wait(lambda: later.answer().status == "complete", START_TIMEOUT_MS)
    whole = later.answer().text
    assert whole.startswith(kept) and len(whole) == LONG_TOKENS


@pytest.mark.slow
def test_a_window_that_is_reopened_at_once_goes_on_with_the_answer(open_window: OpenWindow) -> None:
    window = open_window().ready()
    window.ask("Say it slowly.")
    seen = window.wait_for_text(30)
    window.close()
    again = open_window().ready()
    assert again.wait_for_text(len(seen)).startswith(seen)
    assert again.wait_for_end().text == SLOW_TEXT


@pytest.mark.slow
def test_two_windows_on_one_data_folder(open_window: OpenWindow, folder: DataFolder) -> None:
    first, second = open_window(), open_window()
    first.ready()
    second.ready()
    assert first.desk.api is not second.desk.api
    assert first.engine().pid == second.engine().pid
    first.ask("Hello from the first window")
    first.wait_for_end()
    session_id = first.desk.conversation.session_id
    assert session_id is not None
    second.wait(lambda: second.desk.catalogue.rows.rowCount() > 0)
    second.desk.open_conversation(session_id)
    second.wait(lambda: len(second.shown()) == 2)
    second.ask("And from the second")
    first.wait(lambda: len(first.shown()) == 4 and not first.desk.running)
    assert first.answer().text == "Hello there."
    first.close()
    # The engine stays as long as the other window does.
    second.ask("Once more")
    second.wait(lambda: len(second.shown()) == 6)
    assert second.wait_for_end().text == "Hello there."


@pytest.mark.slow
def test_a_deleted_conversation_comes_back(open_window: OpenWindow) -> None:
    window = open_window().ready()
    window.ask("Keep me")
    window.wait_for_end()
    session_id = window.desk.conversation.session_id
    window.do("delete")
    window.wait(lambda: "Undo" in _buttons(window))
    assert not window.shown()
    window.do("undo_delete")
    window.wait(lambda: window.desk.conversation.session_id == session_id and len(window.shown()) == 2)


def _buttons(window: LiveWindow) -> list[str]:
    return [b.text() for b in window.window.notices.findChildren(QAbstractButton)]


@pytest.mark.slow
@pytest.mark.parametrize("rude", ["a\x00b\x00c", "\u202eright to left\u202c \u200fand back"])
def test_rude_text_is_pasted_and_answered(open_window: OpenWindow, rude: str) -> None:
    window = open_window().ready()
    pasted = QMimeData()
    pasted.setText(rude)
    window.window.composer.edit.insertFromMimeData(pasted)
    window.window.composer.button.click()
    assert window.wait_for_end().text == "Hello there."
    stored = window.shown()[0].text
    clean = rude.replace("\x00", "\ufffd")
    assert stored == clean
    assert ("replaced" in window.sentences()) == (clean != rude)


@pytest.mark.slow
def test_one_megabyte_of_one_line(open_window: OpenWindow) -> None:
    window = open_window().ready()
    line = "deep water " * 95_000
    pasted = QMimeData()
    pasted.setText(line)
    window.window.composer.edit.insertFromMimeData(pasted)
    assert len(window.window.composer.edit.toPlainText()) < 1000  # it became a chip
    window.window.composer.edit.insertPlainText("What is this?")
    window.window.composer.button.click()
    window.wait(lambda: len(window.shown()) == 2, 60_000)
    answer = window.wait_for_end()
    # The script's context is smaller than the text: said in one sentence, and the question is kept.
    assert answer.status == "failed" and answer.error is not None
    assert answer.error.code == "prompt_too_long" and "tokens" in answer.error.text
    assert window.shown()[0].text.startswith("What is this?") and line.strip() in window.shown()[0].text


@pytest.mark.slow
def test_a_broken_model_file_is_explained_and_the_model_stays(
    open_window: OpenWindow, folder: DataFolder
) -> None:
    broken = folder.root / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 16)
    window = open_window().ready()
    window.desk.add_model(str(broken))
    window.wait(lambda: "broken.gguf" in window.sentences())
    window.ask("Still there?")
    assert window.wait_for_end().text == "Hello there."


def test_a_data_folder_that_cannot_be_written(qtbot, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    window = LiveWindow(DataFolder(tmp_path / "file" / "data"), qtbot.waitUntil)
    window.wait(lambda: "cannot write to its data folder" in window.sentences())
    window.ask("Is anybody there?")
    assert window.window.composer.draft.text == "Is anybody there?"
    window.close()


def test_the_starter_model_answers(open_window: OpenWindow, folder: DataFolder) -> None:
    save_settings(folder.settings, Settings(model_id="starter"))
    window = open_window().ready()
    window.ask("What is the capital of France?")
    answer = window.wait_for_end()
    assert "Paris" in answer.text
    assert answer.usage is not None and answer.usage.generated_tokens > 3
    assert running_engine(folder) is not None
