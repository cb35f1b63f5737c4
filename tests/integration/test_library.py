"""The library over HTTP, with a hub on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.library.test_models import put
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine, read_events
from tests.support.local_hub import LocalHub, write_repository

NAME = "someone/DeepSeek-V4-Flash-0731"
TOKEN = "hf_0nlyForReaders"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    with LocalHub() as hub:
        hub.add(NAME, str(write_repository(tmp_path / "hub")))
        yield hub


@pytest.fixture
def engine(
    start_engine: StartEngine, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LiveEngine:
    # No keyring can be reached, and nothing of this person's own hub.
    for name in ("DBUS_SESSION_BUS_ADDRESS", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "no session"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no hub"))
    engine = start_engine()
    engine.put("/api/settings", engine.get("/api/settings") | {"hub_endpoint": hub.address})
    engine.wait_model()
    return engine


@pytest.mark.slow
def test_the_whole_way_over_http(engine: LiveEngine, hub: LocalHub, tmp_path: Path) -> None:
    library = engine.get("/api/library")
    assert library["hub"]["endpoint"] == hub.address
    script = next(item for item in library["items"] if item["id"] == SCRIPT_MODEL)
    assert script["in_use"]
    assert script["last_used_at"] > 0
    assert json.loads((engine.folder.models / "last_used.json").read_text())["times"][SCRIPT_MODEL] > 0
    found = engine.post("/api/library/lookup", {"what": NAME})
    assert found["problem"] is None
    assert found["offer"]["release"] == "DeepSeek-V4 0731/0813"

    hub.gate(NAME, "private", [TOKEN])
    refused = engine.client.post("/api/library/lookup", json={"what": NAME})
    assert refused.status_code in (401, 404)
    with engine.client.stream("GET", "/api/events") as reply:
        told = (event["kind"] for _, event in read_events(reply))
        assert next(told) == "status"
        assert engine.put("/api/library/token", {"token": TOKEN})["token"] in ("this_run", "keyring")
        assert any(kind == "library" for kind in told)
    assert engine.post("/api/library/lookup", {"what": NAME})["offer"]["repository"] == NAME
    everything = [path for path in engine.folder.root.rglob("*") if path.is_file()]
    assert everything
    assert not any(TOKEN.encode() in path.read_bytes() for path in everything)
    assert TOKEN not in engine.client.get("/api/library").text
    assert engine.client.delete("/api/library/token").json()["token"] == "none"
    assert engine.client.post("/api/library/lookup", json={"what": NAME}).status_code in (401, 404)

    gguf = put(tmp_path / "elsewhere" / "m.gguf", "M")
    added = engine.client.post("/api/library/add", json={"path": str(gguf)})
    assert added.status_code == 201
    removed = engine.post("/api/library/remove", {"item_id": added.json()["id"]})
    assert removed == {"size_bytes": 0, "in_trash": False}
    assert gguf.exists()
    in_use = engine.client.post("/api/library/remove", json={"item_id": SCRIPT_MODEL, "for_good": True})
    assert in_use.status_code == 409
    inside = put(engine.folder.models / "m.gguf", "M")
    engine.post("/api/library/remove", {"item_id": "folder:m.gguf", "for_good": True})
    assert not inside.exists()


@pytest.mark.slow
def test_what_cannot_be_done_is_one_sentence(engine: LiveEngine) -> None:
    for method, path, body, statuses in (
        ("POST", "lookup", {"what": "nonsense"}, (400,)),
        # The hub does not tell what is not there from what is not for everybody.
        ("POST", "lookup", {"what": "someone/nothing"}, (401, 404)),
        ("POST", "lookup", {"what": "deepseek-ai/DeepSeek-V4.1-Flash"}, (400,)),
        ("POST", "lookup", {}, (400,)),
        ("POST", "remove", {"item_id": "folder:gone.gguf"}, (404,)),
        ("POST", "remove", {"item_id": "starter"}, (404, 422)),
        ("POST", "add", {"path": "relative"}, (400,)),
        ("POST", "add", {"path": str(engine.folder.logs)}, (422,)),
        ("PUT", "token", {"token": "two words"}, (400,)),
    ):
        reply = engine.client.request(method, f"/api/library/{path}", json=body)
        assert reply.status_code in statuses, (path, body, reply.text)
        assert reply.json()["error"]["text"].endswith(".")
    engine.put("/api/settings", engine.get("/api/settings") | {"offline": True})
    reply = engine.client.post("/api/library/lookup", json={"what": NAME})
    assert reply.json()["error"]["code"] == "hub_unreachable"
