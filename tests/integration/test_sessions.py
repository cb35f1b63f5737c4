"""Conversations over HTTP: what a PATCH changes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import StartEngine
from tests.integration.live_engine import LiveEngine


def tool(name: str, **more: Any) -> Any:
    return {"type": "function", "function": {"name": name, **more}}


@pytest.mark.slow
def test_a_session_gets_tools_and_loses_them(engine: LiveEngine) -> None:
    session_id = engine.new_session()
    path = f"/api/sessions/{session_id}"
    assert engine.get(path)["tools"] == []
    tools = [tool("weather", z=1, a={"b": [1.5, None, "é"]}), tool("time")]
    summary = engine.client.patch(path, json={"tools": tools})
    assert (summary.status_code, summary.json()["id"]) == (200, session_id)
    assert json.dumps(engine.get(path)["tools"]) == json.dumps(tools), "in their order of keys"
    engine.client.patch(path, json={"title": "Named"})
    session = engine.get(path)
    assert (session["tools"], session["summary"]["title"]) == (tools, "Named")
    engine.client.patch(path, json={"tools": []})
    assert engine.get(path)["tools"] == []


def test_tools_that_cannot_be_kept_are_refused_with_a_sentence(engine: LiveEngine) -> None:
    session_id = engine.new_session()
    path = f"/api/sessions/{session_id}"
    kept = [tool("kept")]
    engine.client.patch(path, json={"tools": kept})
    deep = '{"tools": [{"function": {"name": "f", "x": %s}}]}' % ("[" * 220 + "]" * 220)
    for body, said in (
        (deep, "nested too deeply"),
        (json.dumps({"tools": [tool("f")] * 257}), "tools"),
        ('{"tools": [{"type": "custom", "function": {}}]}', "type"),
        ('{"tools": [{"function": 1}]}', "function"),
    ):
        reply = engine.client.patch(path, content=body)
        assert reply.status_code == 400, body[:100]
        assert said in reply.json()["error"]["text"]
    assert engine.get(path)["tools"] == kept


def states(engine: LiveEngine) -> set[Path]:
    return set(engine.folder.snapshots.glob("*.kv"))


@pytest.mark.slow
def test_a_purged_conversation_takes_its_states_with_it_and_an_undone_deletion_does_not(
    start_engine: StartEngine,
) -> None:
    engine = start_engine()
    engine.wait_model()
    kept, gone, later = (engine.new_session() for _ in range(3))
    for number, session_id in enumerate((kept, gone, later)):
        turn = engine.ask(f"{number} " + "Tell me of the sea. " * 60, session_id=session_id)
        engine.finish(turn["id"])
    # The next turn waits until what came before is written.
    engine.finish(engine.ask("Hello", session_id=engine.new_session())["id"])
    before = states(engine)
    engine.client.post(f"/api/sessions/{gone}/purge").raise_for_status()
    left = states(engine)
    assert left and before - left
    for session_id in (kept, later):
        engine.client.delete(f"/api/sessions/{session_id}").raise_for_status()
    engine.client.post(f"/api/sessions/{kept}/restore").raise_for_status()
    assert left <= states(engine)
    engine.close()
    all_kept = states(engine)
    again = start_engine()
    again.wait_model()
    again.finish(again.ask("Hello", session_id=again.new_session())["id"])
    still = states(again)
    assert still and all_kept - still
    again.client.post(f"/api/sessions/{kept}/purge").raise_for_status()
    assert still - states(again)
