"""Requests and streams against a real socket."""

import weakref
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import RESUME_PAUSE_MS, EngineApi
from app.event_stream import ServerEvent
from engine.protocol import CreateSession, EngineStatus, ErrorBody, SessionSummary, Text


@pytest.fixture
def api(qtbot: QtBot, fake_engine: Any) -> EngineApi:
    made = EngineApi()
    made.connect_to(fake_engine.url, fake_engine.key)
    return made


class Ear:
    """Remembers what it was called with."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def __call__(self, *what: Any) -> None:
        self.heard.extend(what or [None])


def test_an_answer_is_parsed_and_the_key_is_sent(api: EngineApi, qtbot: QtBot, fake_engine: Any) -> None:
    ok, failed = Ear(), Ear()
    api.get("/api/status", EngineStatus, ok, failed)
    qtbot.waitUntil(lambda: bool(ok.heard))
    assert ok.heard[0].version == "9.9"
    assert failed.heard == []
    assert fake_engine.headers[0]["Authorization"] == "Bearer test-key"
    assert "Cookie" not in fake_engine.headers[0]


def test_a_body_is_sent_as_json(api: EngineApi, qtbot: QtBot, fake_engine: Any) -> None:
    ok = Ear()
    api.send("POST", "/api/sessions", CreateSession(title="Ünïcode"), SessionSummary, ok, Ear())
    qtbot.waitUntil(lambda: bool(ok.heard))
    assert ok.heard[0].title == "Ünïcode"


def test_an_error_is_the_engines_sentence(api: EngineApi, qtbot: QtBot, fake_engine: Any) -> None:
    body = {"error": {"code": "disk_full", "text": "The disk is full: free some."}}
    fake_engine.refusals["POST", "/api/sessions"] = (507, body)
    ok, failed = Ear(), Ear()
    api.send("POST", "/api/sessions", CreateSession(), SessionSummary, ok, failed)
    qtbot.waitUntil(lambda: bool(failed.heard))
    assert failed.heard == [ErrorBody(code="disk_full", text="The disk is full: free some.")]
    assert ok.heard == []


def test_an_error_without_a_sentence_still_has_one(api: EngineApi, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.refusals["GET", "/api/status"] = (500, ["?"])
    failed = Ear()
    api.get("/api/status", EngineStatus, Ear(), failed)
    qtbot.waitUntil(lambda: bool(failed.heard))
    assert "500" in failed.heard[0].text


def test_an_answer_of_another_shape_is_an_error(api: EngineApi, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.refusals["GET", "/api/status"] = (200, {"nothing": 1})
    failed = Ear()
    api.get("/api/status", EngineStatus, Ear(), failed)
    qtbot.waitUntil(lambda: bool(failed.heard))
    assert failed.heard[0].code == "engine_unreachable"


def test_a_dead_engine_is_an_error_not_silence(api: EngineApi, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.die()
    failed = Ear()
    api.get("/api/status", EngineStatus, Ear(), failed)
    qtbot.waitUntil(lambda: bool(failed.heard))
    assert "it is not running" in failed.heard[0].text


def test_without_an_engine_a_request_fails_later_and_once(qtbot: QtBot) -> None:
    api, failed = EngineApi(), Ear()
    api.get("/api/status", EngineStatus, Ear(), failed)
    assert failed.heard == []
    qtbot.waitUntil(lambda: bool(failed.heard))
    assert len(failed.heard) == 1


def test_another_engine_fails_what_was_asked_of_the_first(
    api: EngineApi, qtbot: QtBot, fake_engine: Any
) -> None:
    failed, ended = Ear(), Ear()
    api.get("/api/status", EngineStatus, Ear(), failed)
    api.stream("/api/events", Ear(), ended)
    api.connect_to(fake_engine.url, fake_engine.key)
    assert len(failed.heard) == len(ended.heard) == 1


def test_a_closed_api_says_nothing_more(api: EngineApi, qtbot: QtBot, fake_engine: Any) -> None:
    ok, failed, ended = Ear(), Ear(), Ear()
    api.get("/api/status", EngineStatus, ok, failed)
    api.stream("/api/events", Ear(), ended)
    api.close()
    api.get("/api/status", EngineStatus, ok, failed)
    qtbot.wait(50)
    assert ok.heard == failed.heard == ended.heard == []


def begin_turn(engine: Any) -> Any:
    session_id = engine.add_session()
    engine.begin({"turn": {"kind": "ask", "session_id": session_id, "text": "?"}})
    return engine.turns[-1]


def test_a_stream_gives_its_events_and_its_end(api: EngineApi, qtbot: QtBot, fake_engine: Any) -> None:
    turn = begin_turn(fake_engine)
    batches: list[list[ServerEvent]] = []
    ended = Ear()
    api.stream(f"/api/turns/{turn.id}/events", batches.append, ended)
    turn.text("a")
    turn.text("b")
    turn.end()
    qtbot.waitUntil(lambda: bool(ended.heard))
    assert ended.heard == [None]
    events = [event for batch in batches for event in batch]
    assert [event.id for event in events] == ["1", "2", "3"]
    assert Text.model_validate_json(events[1].data).text == "b"


def test_a_broken_stream_goes_on_after_the_last_event(api: EngineApi, qtbot: QtBot, fake_engine: Any) -> None:
    turn = begin_turn(fake_engine)
    fake_engine.break_after = 2
    events: list[ServerEvent] = []
    ended = Ear()
    for letter in "abcd":
        turn.text(letter)
    turn.end()
    api.stream(f"/api/turns/{turn.id}/events", events.extend, ended, resumes=1)
    qtbot.waitUntil(lambda: bool(ended.heard))
    assert [event.id for event in events] == ["1", "2", "3", "4", "5"]


def test_a_stream_that_is_refused_ends_with_the_sentence(
    api: EngineApi, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.refusals["GET", "/api/turns/x/events"] = (
        404,
        {"error": {"code": "not_found", "text": "Gone."}},
    )
    ended = Ear()
    api.stream("/api/turns/x/events", Ear(), ended, resumes=3)
    qtbot.waitUntil(lambda: bool(ended.heard))
    assert ended.heard == [ErrorBody(code="not_found", text="Gone.")]


def test_a_stream_of_a_killed_engine_ends_with_an_error(
    api: EngineApi, qtbot: QtBot, fake_engine: Any
) -> None:
    turn = begin_turn(fake_engine)
    events, ended = Ear(), Ear()
    api.stream(f"/api/turns/{turn.id}/events", events, ended, resumes=1)
    turn.text("a")
    qtbot.waitUntil(lambda: bool(events.heard))
    fake_engine.die()
    # The cut itself may look like an end to Qt; that nobody answers a second time does not.
    qtbot.waitUntil(lambda: bool(ended.heard))
    assert ended.heard[0].code == "engine_unreachable"


@pytest.mark.slow
def test_a_stream_that_is_let_go_while_it_waits_to_resume_is_never_called(
    api: EngineApi, qtbot: QtBot, fake_engine: Any
) -> None:
    def one() -> "weakref.ref[Any]":
        turn = begin_turn(fake_engine)
        fake_engine.break_after = 1
        turn.text("a")
        events, ended = Ear(), Ear()
        stream = api.stream(f"/api/turns/{turn.id}/events", events, ended, resumes=1)
        qtbot.waitUntil(lambda: bool(events.heard))
        qtbot.wait(5)
        stream.close()
        assert ended.heard == []
        return weakref.ref(stream)

    streams = [one() for _ in range(20)]
    qtbot.wait(2 * RESUME_PAUSE_MS)
    assert not any(stream() for stream in streams)
