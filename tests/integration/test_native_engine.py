"""The native engine under the whole program: commands, conversations, and an engine that dies with it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from convert.conversion import convert
from engine.paths import DataFolder
from tests.convert.conversions import checkpoint, job
from tests.integration.live_engine import LiveEngine

pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.slow

SETTINGS = """format = 1
context_tokens = 2048
answer_tokens = 24
threads = 1
model_titles = false
mode = "non-think"
"""
ASKED: Any = {"sampling": {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": 7}, "mode": "non-think"}
QUESTION = "The deep sea begins where the light of day ends. " * 8


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    source = checkpoint(root / "source", "0731", layers=4, seed=8)
    return convert(job(source, root / "DeepSeek-V4-Flash-0731.gguf", draft="skip"))[0]


def folder(root: Path, path: Path, more: str = "") -> DataFolder:
    data = DataFolder(root)
    data.create()
    (data.models / path.name).hardlink_to(path)
    data.settings.write_text(SETTINGS + more)
    return data


@contextlib.contextmanager
def engine(root: Path, path: Path, *arguments: str) -> Iterator[LiveEngine]:
    live = LiveEngine(root, "--model", f"folder:{path.name}", *arguments)
    try:
        live.wait_model()
        yield live
    finally:
        live.close()


def seamount(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "seamount", "--data", str(root), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def test_a_chat_in_a_terminal(tmp_path: Path, path: Path) -> None:
    """The model is named by its file, and another engine than the settings' is asked for."""
    (tmp_path / "settings.toml").write_text(SETTINGS)
    done = seamount(
        tmp_path, "chat", "--backend", "native", "--model", str(path), "--prompt", "What is a sea?"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    log = DataFolder(tmp_path).engine_log.read_text("utf-8")
    assert "Seamount's own engine computes it (it was asked for)" in log


def test_another_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(SETTINGS)
    done = seamount(tmp_path, "chat", "--backend", "native", "--model", "starter", "--prompt", "Hello")
    assert (done.returncode, done.stdout) == (1, "")
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("seamount: ")]
    assert "computes deepseek4 alone; let llama.cpp compute it" in sentence


def test_a_model_is_measured(tmp_path: Path, path: Path) -> None:
    arguments = ("--prompt-tokens", "16", "--threads", "1", "--json")
    done = seamount(tmp_path, "bench", str(path), "--backend", "native", *arguments)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["plan"]["computed_by"] == "native" and facts["forecast"] is None
    (run,) = facts["runs"]
    assert run["prefill_tokens_per_s"] > 0 < run["decode_tokens_per_s"]
    assert run["foretold_decode_tokens_per_s"] is None


def test_what_computes_is_changed_by_a_request_and_by_the_settings(tmp_path: Path, path: Path) -> None:
    folder(tmp_path, path)
    model_id = f"folder:{path.name}"

    def computed_by(live: LiveEngine) -> str:
        done = live.wait_status(lambda status: status["loading_model_id"] is None)
        assert done["error"] is None, done["error"]
        return done["model"]["backend"]

    with engine(tmp_path, path, "--backend", "native") as live:
        assert computed_by(live) == "native"
        told = live.get(f"/api/models/{model_id}/placement")
        assert told["loaded"] and told["problem"] is None
        assert told["forecast_problem"] == "Nothing is foretold of the native engine."
        assert told["taken"]["host_bytes"] >= path.stat().st_size
        assert {part["what"] for place in told["places"] for part in place["parts"]} >= {"dense", "cache"}
        live.post("/api/models/load", {"model_id": model_id, "backend": "auto"})
        assert computed_by(live) == "llama.cpp"
        settings = live.get("/api/settings")
        live.put("/api/settings", settings | {"backend": "native"})
        assert computed_by(live) == "native"
        assert live.answer("Hello", **ASKED)["text"]


@pytest.mark.skipif(sys.platform == "win32", reason="exit statuses of killed processes are POSIX's")
def test_an_answer_of_a_killed_engine_goes_on_and_is_the_same(tmp_path: Path, path: Path) -> None:
    wanted = ASKED | {"max_tokens": 80}
    for name in ("whole", "killed"):
        folder(tmp_path / name, path, 'backend = "native"\nresume = "continue"\n')
    with engine(tmp_path / "whole", path) as live:
        whole = live.answer(QUESTION, **wanted)
    assert whole["usage"]["generated_tokens"] > 40
    first = LiveEngine(tmp_path / "killed", "--model", f"folder:{path.name}")
    first.wait_model()
    turn = first.ask(QUESTION, **wanted)
    shown = 0
    with contextlib.suppress(httpx.HTTPError):
        for _, event in first.events(turn["id"]):
            shown += event["kind"] == "text"
            if shown == 20:
                first.process.kill()
                first.process.wait(10)
    first.client.close()
    assert first.process.wait(10) == -9
    with engine(tmp_path / "killed", path) as second:
        second.wait_status(lambda status: not status["active_turn_id"])
        message = second.message(turn["session_id"], turn["answer"]["id"])
        if message["status"] != "complete":  # it had not been begun again yet
            second.wait_status(lambda status: status["active_turn_id"])
            second.wait_status(lambda status: not status["active_turn_id"])
            message = second.message(turn["session_id"], turn["answer"]["id"])
    assert (message["continued"], message["status"]) == ("identical", "complete")
    assert message["text"] == whole["text"]


def test_branches_of_a_conversation(tmp_path: Path, path: Path) -> None:
    """A retry with the same seed is the same answer, whatever the context held in between; an edit is another one."""
    folder(tmp_path, path, 'backend = "native"\n')
    with engine(tmp_path, path) as live:
        session_id = live.new_session()
        first = live.finish(live.ask(QUESTION, session_id, **ASKED)["id"])["message"]
        second = live.finish(live.ask("And who lives there?", session_id, **ASKED)["id"])["message"]
        retry = {"kind": "retry", "session_id": session_id, "message_id": first["id"]}
        again = live.finish(live.post("/api/turns", {"turn": retry, **ASKED})["id"])["message"]
        assert (again["text"], again["parent_id"]) == (first["text"], first["parent_id"])
        edit = {
            "kind": "edit",
            "session_id": session_id,
            "message_id": second["parent_id"],
            "text": "Who not?",
        }
        edited = live.finish(live.post("/api/turns", {"turn": edit, **ASKED})["id"])["message"]
        assert edited["text"] != second["text"]
        assert edited["usage"]["reused_tokens"] > 0
        retry = {"kind": "retry", "session_id": session_id, "message_id": second["id"]}
        once_more = live.finish(live.post("/api/turns", {"turn": retry, **ASKED})["id"])["message"]
        assert once_more["text"] == second["text"]
