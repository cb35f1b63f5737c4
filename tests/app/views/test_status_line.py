"""The words at the bottom."""

from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.turn_stream import TurnProgress
from app.views.status_line import StatusLine, progress_words
from engine.protocol import Counters


def test_progress_tells_done_total_rate_and_time_left() -> None:
    assert progress_words(TurnProgress(place=1)) == "Waiting: 1 answer before this one"
    assert progress_words(TurnProgress()) == "Waiting for the model"
    reading = TurnProgress(phase="prefill", done=512, total=2048, reused=100, rate=256.0, left_s=6.0)
    assert progress_words(reading) == "Reading 512 of 2,048 tokens · 100 were known · 256 tok/s · 6.0 s left"
    writing = TurnProgress(phase="writing", generated_tokens=1200, rate=38.24)
    assert progress_words(writing) == "1,200 tokens · 38.2 tok/s"
    thinking = TurnProgress(phase="thinking", generated_tokens=340, rate=12.0)
    assert progress_words(thinking) == "Thinking, 340 tokens · 12.0 tok/s"
    assert progress_words(TurnProgress(phase="thinking", generated_tokens=1)) == "Thinking, 1 token"


def test_experts_from_the_disk_are_told_with_the_engines_own_rate() -> None:
    counters = Counters(tokens_per_s=2.5, disk_bytes_per_token=1.25e9, experts_in_memory=0.758)
    writing = TurnProgress(phase="writing", generated_tokens=40, rate=9.0, counters=counters)
    assert (
        progress_words(writing)
        == "40 tokens · 2.5 tok/s · 1.2 GB from disk a token · 75% of experts in memory"
    )
    all_there = counters.model_copy(update={"disk_bytes_per_token": 0.0, "experts_in_memory": 1.0})
    writing = TurnProgress(phase="writing", generated_tokens=40, rate=9.0, counters=all_there)
    assert progress_words(writing) == "40 tokens · 2.5 tok/s"


def test_the_sparkline_comes_and_goes_without_moving_anything(qtbot: QtBot) -> None:
    line = StatusLine(Theme.light())
    qtbot.addWidget(line)
    line.show()
    height = line.height()
    line.show_progress(TurnProgress(phase="writing", rate=5.0, rates=(1.0, 2.0, 0.0, 5.0)))
    line.grab()
    assert line.height() == height
    line.show_rest("Ready")
    assert line.text() == "Ready"
    assert line.height() == height
