"""Conversations that outlive their engine and their window, and are told what they cost before it is paid."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.cost_words import cost_words
from engine.launch import running_engine
from engine.paths import DataFolder
from engine.protocol import Reuse
from tests.end_to_end.conftest import OpenWindow
from tests.end_to_end.live_window import START_TIMEOUT_MS, LiveWindow, end_engine, scripted_folder
from tests.integration.live_engine import SLOW_TEXT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LONG = "\n\n".join(f"Paragraph {number}: the sea is wide and the mountain is high." for number in range(120))
SLOWLY = {
    "name": "Talker",
    "context_tokens": 1_048_576,
    "replies": [
        {"match": "a long one", "text": LONG, "delay_s": 0.001},
        {"match": "slowly", "text": SLOW_TEXT, "delay_s": 0.01},
        {"text": "Hello there."},
    ],
}
KILLED_WINDOW = """
import sys

from PySide6.QtCore import QTimer

from app.views import application
from engine.paths import data_folder


class Window(application.MainWindow):
    def step(self):
        status = self.desk.shelf.status
        shown = self.desk.conversation.branch()
        if status and status.model and not shown and not self.desk.running:
            self.desk.conversation.ask("Say it slowly.")
        elif len(shown) == 2 and len(shown[1].text) > 30:
            print(shown[1].text, flush=True)
            self.timer.stop()


def made(folder):
    window = Window(folder)
    window.timer = QTimer(window)
    window.timer.timeout.connect(window.step)
    window.shown_first.connect(lambda: window.timer.start(20))
    return window


application.MainWindow = made
sys.exit(application.open_window(data_folder()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    made = scripted_folder(tmp_path / "data", SLOWLY, context_tokens=65_536, answer_tokens=0)
    yield made
    end_engine(made)


def kill(folder: DataFolder) -> int:
    """The engine of `folder`, at once; its process id."""
    address = running_engine(folder)
    assert address is not None
    psutil.Process(address.pid).kill()
    return address.pid


def reads_up_to(window: LiveWindow) -> tuple[int, str]:
    """Where the page stands, and what is at its upper edge."""
    page = window.window.transcript.page
    return page.verticalScrollBar().value(), page.views[0].message.id


def test_the_sentence_finishes_under_the_eyes_of_who_reads_above_it(
    open_window: OpenWindow, folder: DataFolder
) -> None:
    window = open_window().ready()
    window.ask("Give me a long one.")
    window.wait_for_text(len(LONG) // 3)
    bar = window.window.transcript.page.verticalScrollBar()
    bar.setValue(bar.maximum() // 2)
    assert not window.window.transcript.page.is_following
    where = reads_up_to(window)
    first = kill(folder)
    window.wait(lambda: "the answer went on where it was" in window.sentences(), START_TIMEOUT_MS)
    assert reads_up_to(window) == where
    assert window.wait_for_end().text == LONG
    assert reads_up_to(window) == where
    assert window.answer().status == "complete"
    assert window.engine().pid != first


def test_a_killed_window_and_engine_leave_a_conversation_that_goes_on(
    open_window: OpenWindow, folder: DataFolder
) -> None:
    environment = {**os.environ, "SEAMOUNT_DATA": str(folder.root), "QT_QPA_PLATFORM": "offscreen"}
    window = subprocess.Popen(
        [sys.executable, "-c", KILLED_WINDOW], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert window.stdout is not None
        seen = window.stdout.readline().strip()
    finally:
        window.kill()
        kill(folder)
        window.wait(20)
        window.stdout.close()
    assert len(seen) > 30 and SLOW_TEXT.startswith(seen)

    later = open_window().ready()
    later.wait(lambda: bool(later.shown()))
    assert later.answer().text.startswith(seen)
    later.wait(lambda: later.answer().status == "complete", START_TIMEOUT_MS)
    assert later.answer().text == SLOW_TEXT
    assert len(later.shown()) == 2


def test_editing_the_third_of_ten_turns_is_told_what_it_costs(
    open_window: OpenWindow, folder: DataFolder
) -> None:
    window = open_window().ready()
    for turn in range(10):
        window.ask(f"Question {turn}: what is a seamount?")
        window.wait(lambda turn=turn: len(window.shown()) == 2 * turn + 2)
        window.wait_for_end()
    third = window.shown()[4]
    cost = told_by_the_engine(window, third.id)
    sentence = open_editor(window, third.id)
    assert sentence == f"Asking again: {cost_words(cost)}"
    assert sentence == "Asking again: instant"  # all before it is in the context
    edit_and_compare(window, third.id, cost)


def test_without_what_was_read_the_same_edit_costs_and_is_told_before_it_is_paid(
    open_window: OpenWindow, folder: DataFolder
) -> None:
    window = open_window().ready()
    for turn in range(10):
        window.ask(f"Question {turn}: what is a seamount?")
        window.wait(lambda turn=turn: len(window.shown()) == 2 * turn + 2)
        window.wait_for_end()
    window.do("restart_engine")
    window.wait(lambda: window.desk.shelf.loaded_id is None, START_TIMEOUT_MS)
    window.ready()
    forget(window)
    window.wait(lambda: len(window.shown()) == 20)
    third = window.shown()[4]
    cost = told_by_the_engine(window, third.id)
    assert cost.kept == 0 and cost.reread > 0
    sentence = open_editor(window, third.id)
    assert sentence == f"Asking again: {cost_words(cost)}" == f"Asking again: {cost.reread:,} tokens"
    edit_and_compare(window, third.id, cost)


def forget(window: LiveWindow) -> None:
    """What models have read, on the disk."""
    done: list[object] = []
    window.desk.storage._shelf.forget_states(done.append, done.append)
    window.wait(lambda: bool(done))


def told_by_the_engine(window: LiveWindow, message_id: str) -> Reuse:
    """What an edit costs, asked beside the window."""
    import httpx

    engine = window.engine()
    body = {
        "session_id": window.desk.conversation.session_id, "mode": "high", "kind": "edit", "message_id": message_id
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {engine.key}"}
    reply = httpx.post(f"{engine.url}/api/reuse", json=body, headers=headers, trust_env=False)
    assert reply.status_code == 200, reply.text
    return Reuse.model_validate(reply.json())


def open_editor(window: LiveWindow, message_id: str) -> str:
    """Open it, and wait until it says what asking again costs."""
    transcript = window.window.transcript
    transcript.start_editing(message_id)
    [view] = [view for view in transcript.page.views if view.message.id == message_id]
    editor = view._editor
    assert editor is not None
    window.wait(lambda: bool(editor.cost.text()))
    assert editor.cost.isVisible()
    return editor.cost.text()


def edit_and_compare(window: LiveWindow, message_id: str, cost: Reuse) -> None:
    """Ask again, and see that no more was read than had been told, but for the question itself."""
    [view] = [view for view in window.window.transcript.page.views if view.message.id == message_id]
    editor = view._editor
    assert editor is not None
    editor.field.setPlainText("Another question, then?")
    editor.save_button.click()
    window.wait(lambda: len(window.shown()) == 6 and window.shown()[4].id != message_id)
    usage = window.wait_for_end().usage
    assert usage is not None
    assert usage.reused_tokens == pytest.approx(cost.kept, abs=2)
    assert usage.prompt_tokens - usage.reused_tokens < cost.reread + 100
