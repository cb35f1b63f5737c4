"""A disk that is full at one write, whichever it is: what was shown stays, and the engine goes on."""

from pathlib import Path
from typing import Any

import pytest

from engine.fault_points import NAMES
from engine.paths import DataFolder
from tests.integration.live_engine import write_script
from tests.support.mortal_engine import MortalEngine, placed_points

pytestmark = pytest.mark.slow

TEXT = "Rain, then snow, then rain again. " * 20
SCRIPT: dict[str, Any] = {"name": "Talker", "context_tokens": 65_536, "replies": [{"text": TEXT}]}
WRITES = ("journal-write", "journal-compacting", "snapshot-write")
"""The points that stand before a write which a full disk refuses."""


def test_the_writes_are_among_the_points() -> None:
    assert set(WRITES) <= set(NAMES)
    assert set(WRITES) <= set(placed_points())


@pytest.mark.parametrize("nth", [1, 2, 7])
@pytest.mark.parametrize("point", WRITES)
def test_a_write_that_finds_no_room(tmp_path: Path, point: str, nth: int) -> None:
    folder = DataFolder(tmp_path)
    write_script(folder, SCRIPT)
    folder.settings.write_text("format = 1\ncontext_tokens = 65536\n")
    engine = MortalEngine(tmp_path, "folder:talk.script.json")
    engine.start(f"{point}:{nth}:enospc")
    session_id = engine.ask("POST", "/api/sessions", {})["id"]
    ends: list[str] = []
    for number in range(4):
        turn = {"kind": "ask", "session_id": session_id, "text": f"{number}: what is the weather? " * 40}
        reply = engine.live.client.post("/api/turns", json={"turn": turn})
        if reply.status_code >= 400:
            # Refused before it was begun: with one clear sentence, and nothing of it is stored.
            assert reply.json()["error"]["code"] == "disk_full", reply.text
            ends.append("refused")
            continue
        begun = reply.json()
        for message in (begun["question"], begun["answer"]):
            engine.note(session_id, message)
        *_, (_, end) = engine.live.events(begun["id"])
        ends.append(end["kind"])
        if end["kind"] == "error":
            assert end["error"]["code"] == "disk_full", end
            assert "full" in end["error"]["text"]
            assert "free some space" in end["error"]["text"]
        else:
            assert end["message"]["text"] == TEXT
        engine.note(session_id, end["message"], whole=end["kind"] == "done")
        engine.check()
    # The disk was full once: at most one turn suffers, and what is kept beside the answers stops none.
    assert len(ends) - ends.count("done") <= (0 if point.startswith("snapshot") else 1), ends
    engine.check()
    engine.kill("idle")
    engine.revive()
    stored = engine.ask("GET", f"/api/sessions/{session_id}")["messages"]
    assert all(message["status"] != "running" for message in stored)
    engine.stop()
