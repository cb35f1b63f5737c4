"""A message without a view keeps what comes for it."""

from dataclasses import replace
from typing import Any

from app.page_style import PageStyle
from app.theme import Theme
from app.transcript_model import ShownCall
from app.views.message_entry import MessageEntry
from app.views.part_memory import PartMemory

CALL = ShownCall("c1", "look", "{", status="writing")


def test_text_reasoning_and_calls_grow_without_a_view(answer: Any) -> None:
    entry = MessageEntry.of(answer("Hel", status="running", reasoning="H", calls=(CALL,)), PartMemory())
    entry.append_text("lo")
    entry.append_reasoning("m", 7)
    entry.grow_call(0, "}")
    entry.grow_call(5, "lost")
    assert (entry.text, entry.reasoning) == ("Hello", "Hm")
    assert entry.message.calls == (replace(CALL, arguments="{}"),)
    assert (entry.message.text, entry.message.reasoning) == ("", "")
    assert entry.memory.tokens == 7


def test_the_end_takes_the_stored_answer(answer: Any) -> None:
    entry = MessageEntry.of(answer("Hel", status="running", reasoning="H"), PartMemory())
    entry.append_reasoning("m", 7)
    entry.progress = "Reading"
    entry.update(answer("Hello", reasoning="Hmm"), 1)
    assert (entry.text, entry.reasoning, entry.progress, entry.expanded) == ("Hello", "Hmm", "", True)
    assert entry.memory.thinking_since is None


def test_thinking_and_calls_count_in_the_guessed_height(qapp: object, answer: Any) -> None:
    style = PageStyle(Theme.light())

    def guess(**more: Any) -> int:
        return MessageEntry.of(answer("Text.", **more), PartMemory()).guessed_height(720, style)

    plain = guess()
    assert guess(reasoning="Hm. " * 10_000) - plain < 100  # it is closed
    assert guess(calls=(CALL, CALL)) > guess(calls=(CALL,)) > plain
