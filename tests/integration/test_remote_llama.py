"""A real server of others' making as the model: llama-cpp-python's own, with the starter model."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engine.paths import DataFolder
from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine, write_script

pytest.importorskip("llama_cpp.server.app", reason="what llama-cpp-python's server needs is not installed")
pytestmark = pytest.mark.slow
KEY = "sk-llama-0123456789"
START_S = 120.0


@pytest.fixture(scope="module")
def address(starter_path: Path) -> Iterator[str]:
    """Where the server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["--model", str(starter_path), "--model_alias", "smol", "--host", "127.0.0.1"]
    arguments += [
        "--port",
        str(port),
        "--n_ctx",
        "2048",
        "--n_threads",
        "1",
        "--api_key",
        KEY,
        "--verbose",
        "0",
    ]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "llama_cpp.server", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        until_s = time.monotonic() + START_S
        # Another program's socket appears: there is nothing to wait on but time.
        while True:
            assert process.poll() is None and time.monotonic() < until_s
            try:
                httpx.get(f"{url}/models", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, address: str) -> Iterator[LiveEngine]:
    """An engine that has it as its model."""
    root = tmp_path_factory.mktemp("asks")
    write_script(DataFolder(root))
    engine = LiveEngine(root, "--model", SCRIPT_MODEL)
    body = {"name": "Smol", "addresses": [{"url": address}], "key": KEY, "price": {"read": 1, "written": 1}}
    engine.client.timeout = httpx.Timeout(240)  # a few words, on a machine that may be busy
    made = engine.post("/api/remotes", body)
    engine.post("/api/models/load", {"model_id": made["id"]})
    engine.wait_status(lambda s: s["model"] is not None and s["model"]["id"] == made["id"])
    yield engine
    engine.close()


def test_what_it_is_and_can_do(live: LiveEngine) -> None:
    remote = live.get("/api/remotes")["remotes"][0]
    features = remote["features"]
    assert remote["model"] == "smol"
    assert "llama.cpp" in features["software"]
    assert (features["reasoning"], features["efforts"]) == ("no", "no")
    # It writes an end behind the last message, so it begins another answer.
    assert features["continues"] == "no"
    assert live.get("/api/status")["model"]["modes"] == []


def test_a_conversation_with_it(live: LiveEngine) -> None:
    session_id = live.new_session()
    sampling, most = {"temperature": 0, "seed": 1}, 40
    first = live.finish(
        live.ask("What is the capital of France?", session_id, sampling=sampling, max_tokens=most)["id"]
    )["message"]
    assert "Paris" in first["text"] and first["status"] == "complete"
    asked = live.ask("Tell me a long story about it.", session_id, sampling=sampling, max_tokens=8)
    second = live.finish(asked["id"])["message"]
    assert second["finish_reason"] == "length" and second["text"]
    whole = live.finish(live.continue_answer(session_id, second["id"], max_tokens=most)["id"])["message"]
    assert whole["text"].startswith(second["text"]) and len(whole["text"]) > len(second["text"])
    assert whole["continued"] == "different" and "asked once more" in " ".join(whole["notices"])


def test_a_program_asks_through_it(live: LiveEngine) -> None:
    body = {
        "model": "Smol",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 8,
    }
    whole = live.post("/v1/chat/completions", body)
    assert whole["choices"][0]["message"]["content"] and whole["choices"][0]["finish_reason"] == "length"


def test_another_key_is_told(live: LiveEngine, address: str) -> None:
    asked = {"name": "Smol", "addresses": [{"url": address}], "key": "sk-wrong"}
    found = live.post("/api/remotes/check", {"remote": asked})
    assert found["problem"]["code"] == "remote_key" and "sk-wrong" not in found["problem"]["text"]
