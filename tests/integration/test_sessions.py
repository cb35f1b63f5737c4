"""Conversations over HTTP: what a PATCH changes."""

import json
from typing import Any

from tests.integration.live_engine import LiveEngine


def tool(name: str, **more: Any) -> Any:
    return {"type": "function", "function": {"name": name, **more}}


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
