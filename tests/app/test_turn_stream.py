"""Following one turn: repeats, gaps in time, rates and ends."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.turn_stream import TurnProgress, TurnStream, progress_sentence
from engine.protocol import CallEvent, Counters, Message, Prefill, Queued, Text


@pytest.fixture
def turn(fake_engine: Any) -> Any:
    session_id = fake_engine.add_session()
    fake_engine.begin({"turn": {"kind": "ask", "session_id": session_id, "text": "?"}})
    return fake_engine.turns[-1]


class Followed:
    def __init__(self, engine: Any, turn: Any, known: int = 0) -> None:
        self.api = EngineApi()
        self.api.connect_to(engine.url, engine.key)
        self.now = 100.0
        answer = Message.model_validate({**engine.messages[turn.answer_id], "text": "x" * known})
        self.stream = TurnStream(self.api, turn.id, answer, clock=lambda: self.now)
        self.texts: list[str] = []
        self.progress: list[TurnProgress] = []
        self.ends: list[Any] = []
        self.breaks: list[Any] = []
        self.stream.text_added.connect(self.texts.append)
        self.stream.progress_changed.connect(self.progress.append)
        self.stream.finished.connect(self.ends.append)
        self.stream.broken.connect(self.breaks.append)


def test_text_comes_once_though_it_was_sent_twice(qtbot: QtBot, fake_engine: Any, turn: Any) -> None:
    followed = Followed(fake_engine, turn)
    turn.send(Text(offset=0, text="Hello ", generated_tokens=1))
    turn.send(Text(offset=0, text="Hello ", generated_tokens=1))
    turn.send(Text(offset=3, text="lo world", generated_tokens=2))
    turn.end()
    qtbot.waitUntil(lambda: bool(followed.ends))
    assert "".join(followed.texts) == "Hello world"


def test_what_the_store_had_already_is_not_said_again(qtbot: QtBot, fake_engine: Any, turn: Any) -> None:
    followed = Followed(fake_engine, turn, known=5)
    turn.send(Text(offset=0, text="Hello world", generated_tokens=2))
    turn.end()
    qtbot.waitUntil(lambda: bool(followed.ends))
    assert followed.texts == [" world"]


def test_text_is_gathered_before_it_is_painted(qtbot: QtBot, fake_engine: Any, turn: Any) -> None:
    for number in range(200):
        turn.text(f"{number} ")
    followed = Followed(fake_engine, turn)
    qtbot.waitUntil(lambda: "".join(followed.texts).endswith("199 "))
    assert len(followed.texts) < 20


def test_the_end_comes_after_all_text(qtbot: QtBot, fake_engine: Any, turn: Any) -> None:
    followed = Followed(fake_engine, turn)
    order: list[str] = []
    followed.stream.text_added.connect(lambda _: order.append("text"))
    followed.stream.finished.connect(lambda _: order.append("end"))
    turn.text("a")
    turn.end()
    qtbot.waitUntil(lambda: "end" in order)
    assert order == ["text", "end"]
    assert followed.ends[0].text == "a"


def test_reading_tells_rate_and_time_left(qtbot: QtBot, fake_engine: Any, turn: Any) -> None:
    followed = Followed(fake_engine, turn)
    turn.send(Queued(place=2))
    turn.send(Prefill(done=0, total=2000, reused=0))
    qtbot.waitUntil(lambda: followed.stream.progress.phase == "prefill")
    followed.now += 2.0
    turn.send(Prefill(done=500, total=2000, reused=0))
    qtbot.waitUntil(lambda: followed.stream.progress.done == 500)
    assert followed.stream.progress.rate == 250
    assert followed.stream.progress.left_s == 6


def test_writing_tells_rate_and_context(qtbot: QtBot, fake_engine: Any, turn: Any) -> None:
    followed = Followed(fake_engine, turn)
    turn.send(Prefill(done=100, total=100, reused=0))
    turn.send(Text(offset=0, text="a", generated_tokens=10))
    qtbot.waitUntil(lambda: followed.stream.progress.phase == "writing")
    followed.now += 1.0
    turn.send(Text(offset=1, text="b", generated_tokens=40))
    qtbot.waitUntil(lambda: followed.stream.progress.generated_tokens == 40)
    assert followed.stream.progress.rate == 30
    assert followed.stream.progress.context_used == 140
    assert followed.stream.progress.rates == (30,)


def test_a_dead_engine_breaks_the_stream_and_keeps_its_text(
    qtbot: QtBot, fake_engine: Any, turn: Any
) -> None:
    followed = Followed(fake_engine, turn)
    turn.text("half an ans")
    qtbot.waitUntil(lambda: bool(followed.texts))
    fake_engine.die()
    qtbot.waitUntil(lambda: bool(followed.breaks))
    assert followed.texts == ["half an ans"]
    assert followed.ends == []


def test_words_under_a_running_answer() -> None:
    assert progress_sentence(TurnProgress(place=1)) == "Waiting (1 before you)"
    assert progress_sentence(TurnProgress(phase="prefill", done=512, total=2048)) == (
        "Reading 512 of 2,048 tokens"
    )
    assert progress_sentence(TurnProgress(phase="writing")) == ""


def test_reasoning_has_offsets_of_its_own_and_comes_once(qtbot: QtBot, fake_engine: Any, turn: Any) -> None:
    fake_engine.messages[turn.answer_id]["reasoning"] = "First "
    fake_engine.break_after = 2
    followed = Followed(fake_engine, turn)
    thoughts: list[str] = []
    ended: list[Any] = []
    followed.stream.reasoning_added.connect(lambda text, _tokens: thoughts.append(text))
    followed.stream.thought_ended.connect(lambda thought: ended.append((thought, "".join(thoughts))))
    turn.think("First I think", offset=0)
    turn.think(" more.")
    turn.think("First I think more. Then", offset=0)
    turn.thought(5, 1.0)
    turn.text("Answer")
    turn.end()
    qtbot.waitUntil(lambda: bool(followed.ends))
    assert "".join(thoughts) == "I think more. Then"
    assert [(thought.tokens, so_far) for thought, so_far in ended] == [(5, "I think more. Then")]
    assert "".join(followed.texts) == "Answer"


def test_calls_are_told_as_they_are_written_and_once(qtbot: QtBot, fake_engine: Any, turn: Any) -> None:
    fake_engine.break_after = 1
    followed = Followed(fake_engine, turn)
    written: dict[int, str] = {}

    def take(index: int, call_id: str, name: str, arguments: str) -> None:
        written[index] = written.get(index, f"{name} ") + arguments

    followed.stream.call_grew.connect(take)
    turn.call("look", '{"where": "here", "when": "now"}')
    event = CallEvent(index=0, id="c", name="look", offset=0, arguments='{"wh', generated_tokens=9)
    turn.send(event)
    turn.call("nothing", "")
    turn.end()
    qtbot.waitUntil(lambda: bool(followed.ends))
    assert written == {0: 'look {"where": "here", "when": "now"}', 1: "nothing "}
    assert followed.stream.progress.generated_tokens > 0


def test_notices_come_in_order_after_what_was_before_them(qtbot: QtBot, fake_engine: Any, turn: Any) -> None:
    followed = Followed(fake_engine, turn)
    order: list[str] = []
    followed.stream.text_added.connect(order.append)
    followed.stream.noticed.connect(order.append)
    turn.text("one ")
    turn.notice("Mended.")
    turn.text("two")
    turn.end()
    qtbot.waitUntil(lambda: bool(followed.ends))
    assert order == ["one ", "Mended.", "two"]


def test_what_experts_cost_is_part_of_the_progress(qtbot: QtBot, fake_engine: Any, turn: Any) -> None:
    followed = Followed(fake_engine, turn)
    counters = Counters(tokens_per_s=2.5, disk_bytes_per_token=1e9, experts_in_memory=0.75)
    turn.text("Hello")
    turn.send(counters)
    turn.text(" world")
    qtbot.waitUntil(lambda: bool(followed.progress) and followed.progress[-1].counters is not None)
    turn.end()
    qtbot.waitUntil(lambda: bool(followed.ends))
    assert followed.stream.progress.counters == counters
    assert "".join(followed.texts) == "Hello world"
