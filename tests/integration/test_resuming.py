"""Engines that die in the middle of an answer: the next one goes on with it, and it is the one it would have been."""

import contextlib
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.launch import EngineProcess
from engine.paths import DataFolder
from engine.store.journals import Journals
from engine.store.sessions import SessionStore
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import LONG_TOKENS, SCRIPT_MODEL, SLOW_TEXT, LiveEngine, write_script
from tests.integration.test_survival import kill_mid_answer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="exit statuses of killed processes are POSIX's"),
]


def finished(engine: LiveEngine, session_id: str, answer_id: str) -> Any:
    """The answer once nobody writes it any more."""
    engine.wait_status(lambda status: status["model"] and not status["active_turn_id"])
    message = engine.message(session_id, answer_id)
    with engine.client.stream("GET", "/api/events", timeout=60) as reply:
        lines = reply.iter_lines()
        while message["status"] in ("running", "interrupted"):
            next(lines)
            message = engine.message(session_id, answer_id)
    return message


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1, "seed": 5}])
def test_a_killed_engines_answer_goes_on_by_itself(start_engine: StartEngine, sampling: Any) -> None:
    first = start_engine(resume="continue")
    turn, shown = kill_mid_answer(first, "Talk slowly", 50, sampling=sampling)
    second = start_engine()
    message = finished(second, turn["session_id"], turn["answer"]["id"])
    assert message["text"] == SLOW_TEXT and SLOW_TEXT.startswith(shown)
    assert (message["status"], message["finish_reason"]) == ("complete", "stop")
    assert message["continued"] in ("identical", "different")


def test_it_is_no_longer_than_it_would_have_been(start_engine: StartEngine) -> None:
    first = start_engine(resume="continue")
    turn, shown = kill_mid_answer(first, "Take your time", 20, max_tokens=60)
    second = start_engine()
    message = finished(second, turn["session_id"], turn["answer"]["id"])
    assert (message["finish_reason"], len(message["text"])) == ("length", 60)
    assert message["text"].startswith(shown) and LONG_TOKENS > 60


def test_a_crash_releases_the_folder_and_only_a_crash_does(start_engine: StartEngine) -> None:
    first = start_engine()
    refused = EngineProcess.start(first.folder, linger_s=None)
    assert refused.wait(30) == 3 and "already serves" in refused.failure()
    first.process.kill()
    assert first.process.wait(10) == -9
    second = start_engine()
    assert second.get("/api/status")["pid"] != first.address.pid


def test_a_window_finds_the_answer_that_goes_on(start_engine: StartEngine) -> None:
    first = start_engine(resume="continue")
    turn, _ = kill_mid_answer(first, "Take your time", 20)
    second = start_engine()
    status = second.wait_status(lambda status: status["active_answer_id"])
    assert status["active_answer_id"] == turn["answer"]["id"]
    text = ""
    for _, event in second.events(status["active_turn_id"]):
        if event["kind"] == "text":
            text = (
                text[: event["offset"]] + event["text"]
                if event["offset"] < len(text)
                else text + event["text"]
            )
        if len(text) > 100:
            second.client.delete(f"/api/turns/{status['active_turn_id']}")
    # Stopped by a person, it stays as it is.
    second.process.terminate()
    second.process.wait(20)
    third = start_engine()
    third.wait_model()
    message = third.message(turn["session_id"], turn["answer"]["id"])
    assert (message["status"], message["finish_reason"]) == ("complete", "cancelled")
    assert third.get("/api/status")["active_turn_id"] is None


def test_what_ends_every_engine_is_tried_twice_and_then_left(tmp_path: Path) -> None:
    folder, arguments = DataFolder(tmp_path), ["--model", SCRIPT_MODEL]
    # Half of a character is no text yet, so nothing comes of any of the tries.
    write_script(folder, {"name": "Killer", "replies": [{"text": "Ééé", "crash_after": 1}]})
    first = LiveEngine(tmp_path, *arguments)
    first.wait_model()
    turn = first.ask("Please crash")
    assert first.process.wait(20) == 70
    first.client.close()
    for _ in range(2):
        process = EngineProcess.start(folder, linger_s=None, arguments=arguments)
        assert process.wait(30) == 70
    last = LiveEngine(tmp_path, *arguments)
    try:
        last.wait_model()
        # It has been looked at by then, and a question of somebody's is answered.
        write_script(folder, {"name": "Other", "replies": [{"text": "Well."}]}, "other")
        last.post("/api/models/load", {"model_id": "folder:other.script.json"})
        assert last.answer("Hello")["text"] == "Well."
        message = last.message(turn["session_id"], turn["answer"]["id"])
        assert (message["status"], message["text"]) == ("interrupted", "")
    finally:
        last.close()


def test_a_power_cut_takes_nothing_that_was_synced(start_engine: StartEngine, tmp_path: Path) -> None:
    """The store falls back to the moment before the first word; the journal is what the disk has."""
    first = start_engine()
    first.put("/api/settings", {**first.get("/api/settings"), "journal_sync_ms": 0})
    turn = first.ask("Talk slowly")
    copies = tmp_path / "synced"
    shown = ""
    import httpx

    with contextlib.suppress(httpx.HTTPError):
        for _, event in first.events(turn["id"]):
            if not copies.exists():
                copies.mkdir()
                for file in first.folder.root.glob("sessions.db*"):
                    shutil.copy(file, copies)
            shown += event.get("text", "") if event["kind"] == "text" else ""
            if len(shown) > 60:
                first.process.kill()
                first.process.wait(10)
    for file in first.folder.root.glob("sessions.db*"):
        file.unlink()
    for file in copies.iterdir():
        shutil.copy(file, first.folder.root)
    before = SessionStore.open(first.folder.sessions_db)
    assert len(before.message(turn["session_id"], turn["answer"]["id"]).text) < len(shown)
    before.close()
    second = start_engine()
    message = second.message(turn["session_id"], turn["answer"]["id"])
    assert message["text"].startswith(shown) and SLOW_TEXT.startswith(message["text"])
    assert Journals(second.folder.journals, lambda: 0).verify() == []
