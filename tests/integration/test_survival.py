"""What goes wrong must go well: killed engines, full disks, taken ports, broken models."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contexts.turn_context import MOST_TRIES
from engine.launch import EngineProcess, running_engine
from engine.paths import DataFolder
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import (
    SCRIPT,
    SCRIPT_MODEL,
    SLOW_TEXT,
    LiveEngine,
    read_events,
    write_script,
)

pytestmark = pytest.mark.slow

STARTER_QUESTION = "Write a story about a ship that sails south."


def kill_mid_answer(engine: LiveEngine, question: str, characters: int, **more: Any) -> tuple[Any, str]:
    """Ask, kill -9 the engine once `characters` were shown; the turn and what was shown."""
    turn = engine.ask(question, **more)
    shown = ""
    # The stream breaks off, cleanly or not: that is what a killed engine looks like.
    import httpx

    with contextlib.suppress(httpx.HTTPError):
        for _, event in engine.events(turn["id"]):
            if event["kind"] == "text":
                shown += event["text"]
            if len(shown) >= characters:
                engine.process.kill()
                engine.process.wait(10)
    assert engine.process.wait(10) == -9
    return turn, shown


def finish_after_restart(engine: LiveEngine, turn: Any, shown: str) -> str:
    """The interrupted answer is stored, and is continued to its end; its whole text."""
    message = engine.message(turn["session_id"], turn["answer"]["id"])
    assert message["status"] == "interrupted"
    assert message["text"].startswith(shown)
    more = engine.continue_answer(turn["session_id"], turn["answer"]["id"])
    end = engine.finish(more["id"])
    assert end["kind"] == "done", end
    assert end["message"]["id"] == turn["answer"]["id"]
    return end["message"]["text"]


@pytest.mark.skipif(sys.platform == "win32", reason="exit statuses of killed processes are POSIX's")
@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1, "seed": 5}])
def test_an_answer_survives_the_death_of_its_engine(start_engine: StartEngine, sampling: Any) -> None:
    first = start_engine()
    turn, shown = kill_mid_answer(first, "Talk slowly", 50, sampling=sampling)
    sentence = first.process.failure()
    assert "signal 9" in sentence
    assert "memory" in sentence
    assert "restart" in sentence
    assert running_engine(first.folder) is None
    second = start_engine()
    assert finish_after_restart(second, turn, shown) == SLOW_TEXT
    stored = second.message(turn["session_id"], turn["answer"]["id"])
    assert (stored["status"], stored["finish_reason"]) == ("complete", "stop")


@pytest.mark.skipif(sys.platform == "win32", reason="exit statuses of killed processes are POSIX's")
def test_the_starters_answer_is_the_same_as_if_nothing_had_happened(start_engine: StartEngine) -> None:
    first = start_engine("--model", "starter", scripted=False)
    asked: Any = {"sampling": {"temperature": 0}, "max_tokens": 60}
    whole = first.answer(STARTER_QUESTION, **asked)
    assert whole["usage"]["generated_tokens"] == 60
    turn, shown = kill_mid_answer(first, STARTER_QUESTION, 40, sampling={"temperature": 0})
    second = start_engine("--model", "starter", scripted=False)
    assert whole["text"].startswith(shown)
    message = second.message(turn["session_id"], turn["answer"]["id"])
    assert message["status"] == "interrupted"
    more = second.continue_answer(turn["session_id"], turn["answer"]["id"])
    text = message["text"]
    for _, event in second.events(more["id"]):
        if event["kind"] == "text":
            text = text[: event["offset"]] + event["text"]
        if len(text) >= len(whole["text"]):
            second.client.delete(f"/api/turns/{more['id']}")
    assert text.startswith(whole["text"])


def test_a_model_that_takes_the_process_with_it(start_engine: StartEngine) -> None:
    first = start_engine()
    turn = first.ask("Please crash")
    import httpx

    shown = ""
    with contextlib.suppress(httpx.HTTPError):
        for _, event in first.events(turn["id"]):
            shown += event.get("text", "")
    assert first.process.wait(10) == 70
    assert "status 70" in first.process.failure()
    for _ in range(MOST_TRIES):  # it goes on just as it came, and so to the same end
        second = start_engine()
        second.continue_answer(turn["session_id"], turn["answer"]["id"])
        assert second.process.wait(20) == 70
    last = start_engine()
    assert finish_after_restart(last, turn, shown) == "This engine dies somewhere."
    assert last.message(turn["session_id"], turn["answer"]["id"])["continued"] == "different"


def test_an_engine_that_is_asked_to_end_stores_and_says_goodbye(start_engine: StartEngine) -> None:
    engine = start_engine()
    turn = engine.ask("Talk slowly")
    events = engine.events(turn["id"])
    next(event for _, event in events if event["kind"] == "text")
    waiting = engine.ask("Hello")
    engine.process.terminate()
    if sys.platform != "win32":  # where it cannot be asked, it is ended
        end = [event for _, event in events][-1]
        assert (end["kind"], end["finish_reason"]) == ("done", "interrupted")
    assert engine.process.wait(15) is not None
    assert not engine.folder.engine_address.exists() or sys.platform == "win32"
    again = start_engine()
    for each in (turn, waiting):
        message = again.message(each["session_id"], each["answer"]["id"])
        assert (message["status"], message["finish_reason"]) == ("interrupted", "interrupted")


def test_a_lingering_engine_stays_for_a_program_that_it_answers(start_engine: StartEngine) -> None:
    engine = start_engine(linger_s=0.1)
    engine.wait_model()  # a listener that has come and gone
    asked = {
        "model": SCRIPT_MODEL,
        "messages": [{"role": "user", "content": "Talk slowly"}],
        "stream": True,
    }
    with engine.client.stream("POST", "/v1/chat/completions", json=asked) as reply:
        assert reply.read().endswith(b"data: [DONE]\n\n")
    assert engine.process.poll() is None


def test_a_lingering_engine_ends_after_its_last_listener(start_engine: StartEngine) -> None:
    engine = start_engine(linger_s=0.2)
    with engine.client.stream("GET", "/api/events") as first:
        # Kept: a reader that is collected closes its connection.
        reader = read_events(first)
        next(reader)
        with engine.client.stream("GET", "/api/events") as second:
            next(read_events(second))
        turn = engine.ask("Talk slowly")
        next(event for _, event in engine.events(turn["id"]) if event["kind"] == "text")
        assert engine.process.wait(0.5) is None
        assert any(event["kind"] == "session" for _, event in reader)
    assert engine.process.wait(15) == 0
    again = start_engine()
    message = again.message(turn["session_id"], turn["answer"]["id"])
    assert message["status"] == "interrupted"
    assert message["text"]


def test_a_second_engine_on_the_folder_gives_way(start_engine: StartEngine) -> None:
    first = start_engine()
    second = EngineProcess.start(first.folder, linger_s=None)
    assert second.wait(30) == 3
    assert "already serves" in second.failure()
    assert running_engine(first.folder) == first.address
    assert first.get("/api/status")["pid"] == first.address.pid


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = EngineProcess.start(DataFolder(tmp_path), linger_s=None, arguments=["--port", str(port)])
        assert process.wait(30) == 5
    assert process.address() is None
    assert f"port {port}" in process.failure()
    assert "--port" in process.failure()


def test_an_unknown_model_on_the_command_line(tmp_path: Path) -> None:
    process = EngineProcess.start(DataFolder(tmp_path), linger_s=None, arguments=["--model", "nowhere"])
    assert process.wait(30) == 1
    assert "nowhere" in process.failure()


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own at `folder`; skips where that is not permitted."""
    folder.mkdir()
    if shutil.which("mount") is None or sys.platform != "linux":
        pytest.skip("needs Linux's mount")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def serve(root: Path) -> "subprocess.CompletedProcess[str]":
    """`seamount serve` in the foreground, for a folder that has no room for a log."""
    packages = Path(__file__).resolve().parents[2] / "packaging"
    return subprocess.run(
        [sys.executable, "-m", "seamount", "--data", str(root), "serve"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(packages)},
    )


def test_a_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = serve(tmp_path / "file" / "data")
    assert done.returncode == 4
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("seamount: Seamount cannot write to its data folder")
    assert "Traceback" not in done.stderr


def test_a_data_folder_without_permission_to_write(tmp_path: Path) -> None:
    with mounted(tmp_path / "mount", "size=1m,ro"):
        done = serve(tmp_path / "mount")
    assert done.returncode == 4
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("seamount: Seamount cannot write to its data folder")
    assert "permission" in last


def test_a_disk_that_fills_up_while_an_answer_streams(tmp_path: Path, start_engine: StartEngine) -> None:
    with mounted(tmp_path / "mount", "size=4m"):
        root = tmp_path / "mount" / "data"
        write_script(DataFolder(root))
        (root / "settings.toml").write_text("context_tokens = 1_000_000\nanswer_tokens = 0\n")
        engine = start_engine(root=root)
        try:
            engine.wait_model()
            turn = engine.ask("Talk endlessly")
            shown = ""
            end: Any = {}
            for _, event in engine.events(turn["id"]):
                shown += event.get("text", "")
                end = event
            assert end["kind"] == "error"
            assert end["error"]["code"] == "disk_full"
            assert "full" in end["error"]["text"]
            assert end["message"]["text"] == shown
            assert 0 < len(shown) < 900_000
            # The engine lives, and refuses what it cannot record.
            session = engine.get(f"/api/sessions/{turn['session_id']}")
            assert session["messages"][-1]["text"] == shown
            assert engine.get("/api/status")["active_turn_id"] is None
            # With room again it goes on, in this answer and in others.
            subprocess.run(["mount", "-o", "remount,size=64m", tmp_path / "mount"], check=True)
            assert engine.answer("Hello")["text"] == "Hello there."
            more = engine.continue_answer(turn["session_id"], turn["answer"]["id"])
            first = next(event for _, event in engine.events(more["id"]) if event["kind"] == "text")
            assert first["offset"] == len(shown)
            engine.client.delete(f"/api/turns/{more['id']}")
            stored = engine.message(turn["session_id"], turn["answer"]["id"])
            assert stored["text"].startswith(shown)
            assert stored["status"] == "complete"
        finally:
            engine.close()


def truncated(path: Path, starter: Path) -> None:
    with starter.open("rb") as file:
        path.write_bytes(file.read(5_000_000))


def no_gguf(path: Path, _starter: Path) -> None:
    path.write_text("Dear model,\n" * 100)


def unknown_architecture(path: Path, starter: Path) -> None:
    data = starter.read_bytes()
    at = data.index(b"llama", data.index(b"general.architecture"))
    path.write_bytes(data[:at] + b"llamQ" + data[at + 5 :])


@pytest.mark.parametrize(
    ("damage", "at_once", "said"),
    [
        (truncated, True, "broken.gguf"),
        (no_gguf, True, "broken.gguf"),
        (unknown_architecture, False, "llamQ"),
    ],
)
def test_a_model_that_cannot_be_loaded(
    start_engine: StartEngine, damage: Callable[[Path, Path], None], at_once: bool, said: str
) -> None:
    engine = start_engine()
    engine.wait_model()
    models = engine.get("/api/models")["models"]
    starter = next(m["path"] for m in models if m["id"] == "starter")
    damage(engine.folder.models / "broken.gguf", Path(starter))
    reply = engine.client.post("/api/models/load", json={"model_id": "folder:broken.gguf"})
    if at_once:
        # Its headers tell, so the loaded model is not given up.
        assert reply.status_code == 422, reply.text
        text = reply.json()["error"]["text"]
        assert reply.json()["error"]["code"] == "model_file"
        assert engine.get("/api/status")["error"] is None
    elif reply.status_code == 202:
        status = engine.wait_status(lambda s: s["error"] and s["loading_model_id"] is None)
        assert status["error"]["code"] in ("model_load", "model_file")
        text = status["error"]["text"]
    else:
        text = reply.json()["error"]["text"]
    assert said in text
    # The model before it still answers, and the choice was not kept.
    assert engine.answer("Hello")["text"] == "Hello there."
    assert engine.get("/api/settings")["model_id"] is None
    entry = next(m for m in engine.get("/api/models")["models"] if m["id"] == "folder:broken.gguf")
    assert (entry["problem"] is not None) == at_once or not at_once


def test_a_load_that_fails_brings_the_model_before_back(start_engine: StartEngine) -> None:
    engine = start_engine()
    heavy: Any = {"load_delay_s": 0.5, "load_error": "there is no memory left", "replies": [{}]}
    write_script(engine.folder, heavy, "heavy")
    write_script(engine.folder, {"load_delay_s": 0.5, "replies": [{"text": "Other."}]}, "other")
    engine.wait_model()
    engine.post("/api/models/load", {"model_id": "folder:heavy.script.json"})
    failed = engine.ask("Hello")
    status = engine.wait_status(lambda s: s["error"] and s["loading_model_id"] is None)
    assert "no memory left" in status["error"]["text"]
    assert status["model"]["name"] == "talk"
    # What was asked of the model that did not load is not answered by another one.
    end = engine.finish(failed["id"])
    assert end["kind"] == "error"
    assert "no memory left" in end["error"]["text"]
    assert engine.answer("Hello")["text"] == "Hello there."
    # A load tells its progress, and the choice is kept for the next start.
    fractions: list[float] = []
    engine.post("/api/models/load", {"model_id": "folder:other.script.json"})
    status = engine.wait_status(
        lambda s: fractions.append(s["loading_fraction"] or 0) or s["loading_model_id"] is None
    )
    assert status["model"]["name"] == "other"
    assert any(0 < fraction < 1 for fraction in fractions)
    assert engine.get("/api/settings")["model_id"] == "folder:other.script.json"
    assert engine.answer("Hello")["text"] == "Other."


def test_a_template_that_is_missing_or_hostile(start_engine: StartEngine) -> None:
    engine = start_engine()
    templates = {"none": None, "hostile": "{{ ''.__class__.__mro__[1].__subclasses__() }}", "broken": "{% if"}
    for name, template in templates.items():
        write_script(engine.folder, {"chat_template": template, "replies": [{}]}, name)
        engine.post("/api/models/load", {"model_id": f"folder:{name}.script.json"})
        failed = engine.finish(engine.ask("Hello")["id"])
        assert failed["kind"] == "error", name
        assert failed["error"]["code"] == "chat_template", name
    engine.post("/api/models/load", {"model_id": "folder:talk.script.json"})
    assert engine.answer("Hello")["text"] == "Hello there."


def test_settings_that_cannot_be_read_are_said_and_kept(start_engine: StartEngine, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "settings.toml").write_text("= nonsense")
    engine = start_engine(root=root)
    engine.wait_model()
    status = engine.get("/api/status")
    assert "settings" in status["error"]["text"]
    assert engine.answer("Hello")["text"] == "Hello there."
    engine.put("/api/settings", engine.get("/api/settings"))
    assert engine.get("/api/status")["error"] is None


def test_the_address_is_its_owners_alone(start_engine: StartEngine) -> None:
    engine = start_engine()
    found = json.loads(engine.folder.engine_address.read_text())
    assert found == {"url": engine.address.url, "key": engine.address.key, "pid": engine.address.pid}
    assert len(found["key"]) >= 40
    if sys.platform != "win32":
        assert engine.folder.engine_address.stat().st_mode & 0o077 == 0
    log = engine.folder.engine_log.read_text()
    assert found["key"] not in log
    assert SCRIPT["replies"][-1]["text"] not in log
