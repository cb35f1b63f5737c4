"""How far work is, on one line or as lines of JSON."""

import json

import pytest

from engine.progress_line import ProgressLine, line_text
from engine.protocol_jobs import JobProgress

HALF = JobProgress(
    done_bytes=10**9, total_bytes=2 * 10**9, bytes_per_s=1e7, seconds_left=100, stage="fetching",
    item="model-1.safetensors", items_done=3, items=9,
)  # fmt: skip


def test_bytes_rate_time_files_and_what_it_waits_for() -> None:
    assert line_text(HALF) == "1.0 GB of 2.0 GB, 10 MB/s, 2 min left, 3 of 9  model-1.safetensors"
    waiting = HALF.model_copy(update={"bytes_per_s": 0, "seconds_left": None, "note": "No net\x1b[2Jwork."})
    assert line_text(waiting) == "1.0 GB of 2.0 GB, 3 of 9  No net[2Jwork."
    late = HALF.model_copy(update={"seconds_left": 3 * 3600 + 300, "items": 0, "item": ""})
    assert line_text(late).strip() == "1.0 GB of 2.0 GB, 10 MB/s, 3 h 05 min left"


def test_it_is_told_seldom_but_for_its_end_and_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    line = ProgressLine(events=True, write=told.append)
    for _ in range(5):
        line.progress(HALF)
    assert len(told) == 1
    line.progress(HALF.model_copy(update={"note": "It waits."}))
    now_s = 0.3
    line.progress(HALF.model_copy(update={"note": "It waits."}))
    end = HALF.model_copy(update={"done_bytes": HALF.total_bytes, "note": "It waits."})
    line.progress(end)
    events = [json.loads(each) for each in told]
    assert [each["event"] for each in events] == ["progress"] * 4
    assert JobProgress.model_validate(events[-1]) == end


def test_without_a_terminal_people_see_only_results(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(events=False)
    line.progress(HALF)
    line.end({"event": "done"}, ["m.gguf"])
    assert capsys.readouterr() == ("m.gguf\n", "")


def test_the_line_stays_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    ProgressLine(events=False).progress(HALF)
    assert capsys.readouterr().err == "\r\x1b[K1.0 GB of 2.0 GB, 10 MB/s, 2 "
