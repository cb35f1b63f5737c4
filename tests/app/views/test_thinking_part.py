"""Thinking: a line that opens, costs nothing while it is closed, and never moves what is read."""

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.transcript_model import ShownMessage
from app.views.quiet_button import QuietButton
from app.views.thinking_part import ThinkingPart, thinking_words, thought_words
from app.views.transcript import TranscriptView
from engine.protocol import Thought

THOUGHT = Thought(tokens=340, elapsed_s=12.0)
LONG = "\n\n".join(f"Thought {i}: the sea is wide and the mountain under it is high." for i in range(60))


def part(view: TranscriptView, number: int = -1) -> ThinkingPart:
    found = view.page.views[number]._parts.thinking
    assert found is not None
    return found


def shown_reasoning(view: TranscriptView) -> str:
    body = part(view).body
    assert body is not None
    return "\n".join(document.toPlainText() for document in body.documents())


def think(view: TranscriptView, text: str, tokens: int = 5) -> None:
    view.append_reasoning("a", text, tokens)
    view.page._show_streamed()


def test_words() -> None:
    assert thinking_words(12.7, 1340) == "Thinking… 12 s · 1,340 tokens"
    assert thought_words(THOUGHT) == "Thought for 12 s · 340 tokens"
    assert thought_words(Thought(tokens=3, elapsed_s=0.01)) == "Thought for a moment · 3 tokens"
    assert thought_words(None) == "Thinking, cut off"


def test_nothing_is_built_while_it_is_closed(page_view: TranscriptView, answer: Any) -> None:
    page_view.show_messages([answer(status="running")])
    assert page_view.page.views[0]._parts.thinking is None
    for _ in range(20):
        think(page_view, "More and more. ")
    height = page_view.page.views[0].full_height
    think(page_view, LONG)
    assert part(page_view).body is None
    assert page_view.page.views[0].full_height == height
    assert part(page_view).text.endswith("high.")


def test_it_opens_by_mouse_and_keys_and_says_so(page_view: TranscriptView, answer: Any, qtbot: QtBot) -> None:
    page_view.show_messages([answer("Text.", reasoning="Because *so*.", thought=THOUGHT)])
    header = part(page_view).header
    assert (header.text(), header.accessibleName()) == (
        "Thought for 12 s · 340 tokens", "Thought for 12 s · 340 tokens, closed",
    )  # fmt: skip
    qtbot.mouseClick(header, Qt.MouseButton.LeftButton)
    assert header.accessibleName().endswith(", open")
    assert header.isChecked()
    assert shown_reasoning(page_view) == "Because so."
    for key in (Qt.Key.Key_Return, Qt.Key.Key_Space, Qt.Key.Key_Enter):
        qtbot.keyClick(header, key)
    assert not header.isChecked()
    assert header in page_view.page.views[0].stops()


def test_it_streams_into_the_open_part(page_view: TranscriptView, answer: Any, qtbot: QtBot) -> None:
    page_view.show_messages([answer(status="running")])
    think(page_view, "One ")
    part(page_view).header.click()
    think(page_view, "two.\n\nThree")
    assert shown_reasoning(page_view) == "One two.\nThree"
    page_view.update_message(answer("", status="running", reasoning="One two.\n\nThree", thought=THOUGHT))
    assert part(page_view).header.text() == "Thought for 12 s · 340 tokens"
    page_view.append_text("a", "The answer.")
    page_view.page._show_streamed()
    page_view.update_message(answer("The answer.", reasoning="One two.\n\nThree", thought=THOUGHT))
    assert shown_reasoning(page_view) == "One two.\nThree"
    assert [d.toPlainText() for d in page_view.page.views[0].documents()] == ["The answer."]


def test_time_and_tokens_are_told_by_the_clock(
    page_view: TranscriptView, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    page_view.show_messages([answer(status="running")])
    think(page_view, "Hm", 1)
    thinking = part(page_view)
    assert thinking.header.text() == "Thinking… 0 s · 1 token"
    now[0] += 75
    think(page_view, "m", 900)
    assert thinking.header.text() == "Thinking… 0 s · 1 token"
    thinking._tick.timeout.emit()
    assert thinking.header.text() == "Thinking… 1 min 15 s · 900 tokens"
    assert thinking.header.accessibleName() == "Thinking, closed"
    # Another conversation and back: the clock has not begun anew.
    page_view.show_messages([])
    now[0] += 5
    page_view.show_messages([answer(status="running", reasoning="Hmm")])
    assert part(page_view).header.text() == "Thinking… 1 min 20 s · 900 tokens"


def test_what_was_opened_is_open_again(page_view: TranscriptView, answer: Any) -> None:
    message: ShownMessage = answer("Text.", reasoning="Because.", thought=THOUGHT)
    page_view.show_messages([message])
    part(page_view).header.click()
    page_view.show_messages([])
    page_view.show_messages([message])
    assert part(page_view).is_open
    assert shown_reasoning(page_view) == "Because."


def test_opening_keeps_its_line_where_it_is(page_view: TranscriptView, answer: Any) -> None:
    many = [answer("Words. " * 300, name=f"m{i}") for i in range(5)]
    page_view.show_messages([*many, answer("Text.", reasoning=LONG, thought=THOUGHT)])
    header = part(page_view).header
    before = header.mapTo(page_view, header.rect().topLeft()).y()
    header.click()
    assert header.mapTo(page_view, header.rect().topLeft()).y() == before
    assert not page_view.page.is_following
    header.click()
    assert page_view.page.is_following


def test_what_is_read_stays_while_the_open_part_grows(page_view: TranscriptView, answer: Any) -> None:
    many = [answer("Words. " * 300, name=f"m{i}") for i in range(5)]
    page_view.show_messages([*many, answer(status="running")])
    think(page_view, "One.\n\n")
    part(page_view).header.click()
    bar = page_view.page.verticalScrollBar()
    bar.setValue(bar.maximum() - 300)
    top = page_view.page.visible_views()[0]
    place = top.y()
    for _ in range(20):
        think(page_view, "Another line of thought.\n\n")
    assert top.y() == place


def test_the_reasoning_is_not_the_answer(page_view: TranscriptView, answer: Any, qtbot: QtBot) -> None:
    page_view.show_messages([answer("*The answer.*", reasoning="Because *so*.", thought=THOUGHT)])
    view = page_view.page.views[0]
    view.copy_source()
    assert QGuiApplication.clipboard().text() == "*The answer.*"
    view.select_all()
    assert view.selected_text() == "*The answer.*"
    view.stops()  # the keyboard's way brings the buttons
    view.set_focus_within(True)
    (copy,) = [b for b in view.findChildren(QuietButton) if b.text() == "Copy reasoning"]
    copy.click()
    assert QGuiApplication.clipboard().text() == "Because *so*."
    assert copy.text() == "Copied"
    part(page_view).header.click()
    document = part(page_view).body.documents()[0]  # pyright: ignore[reportOptionalMemberAccess]
    qtbot.keyClick(document, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert page_view.copy_text() == "Because *so*."
    view.clear_selection()
    assert page_view.copy_text() == ""


def test_a_cut_thought_says_so(page_view: TranscriptView, answer: Any) -> None:
    page_view.show_messages([answer("", status="interrupted", reasoning="Hm")])
    assert part(page_view).header.text() == "Thinking, cut off"


def test_it_follows_theme_and_zoom(page_view: TranscriptView, answer: Any) -> None:
    page_view.show_messages([answer("Text.", reasoning="Because.", thought=THOUGHT)])
    part(page_view).header.click()
    height = page_view.page.views[0].full_height
    page_view.set_zoom(1.5)
    assert page_view.page.views[0].full_height > height
    page_view.set_theme(Theme.dark())
    assert not page_view.grab().isNull()
    assert shown_reasoning(page_view) == "Because."
    body = part(page_view).body
    assert body is not None
    assert body.documents()[0].palette().text().color() == Theme.dark().muted


@pytest.mark.timeout(60)
def test_very_long_reasoning_opens_at_once(page_view: TranscriptView, answer: Any, qtbot: QtBot) -> None:
    page_view.show_messages([answer("Text.", reasoning=LONG * 100, thought=THOUGHT)])
    part(page_view).header.click()
    body = part(page_view).body
    assert body is not None
    assert len(body.documents()) < 10
    qtbot.waitUntil(lambda: body.is_finished)
    assert len(body.documents()) < 10


def test_a_continued_thought_counts_from_then(
    page_view: TranscriptView, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    page_view.show_messages([answer(status="running")])
    think(page_view, "Hm", 1)
    page_view.update_message(answer("", status="interrupted", reasoning="Hm"))
    now[0] += 500
    page_view.update_message(answer("", status="running", reasoning="Hm"))
    assert part(page_view).header.text() == "Thinking… 0 s · 0 tokens"


def test_what_nobody_touched_is_not_remembered(page_view: TranscriptView, answer: Any) -> None:
    page_view.show_messages([answer("a", name=f"m{i}") for i in range(50)])
    page_view.show_messages([])
    assert page_view.page._memories == {}
