"""What is kept, over HTTP and by the commands, while the engine runs: files of conversations, checks, backups."""

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.store.backup import Progress
from engine.store.backup_reader import BackupReader
from engine.store.sessions import SessionStore
from tests.engine.store.conversations import fill
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import SLOW_TEXT, LiveEngine

PATIENCE_S = 60.0


def finished(engine: LiveEngine, **asked: Any) -> Any:
    """A task that was begun, once it is over."""
    begun = engine.post("/api/storage/tasks", asked)
    deadline = time.monotonic() + PATIENCE_S
    while (task := engine.get("/api/storage/task"))["state"] == "running":
        assert task["id"] == begun["id"] and time.monotonic() < deadline
        time.sleep(0.02)
    return task


def command(engine: LiveEngine, *words: str) -> tuple[int, str, str]:
    """The real command on the engine's folder: (exit status, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "seamount", "--data", str(engine.folder.root), *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout, done.stderr


def refusal(engine: LiveEngine, method: str, path: str, body: Any = None) -> tuple[int, str]:
    reply = engine.client.request(method, path, json=body)
    return reply.status_code, reply.json()["error"]["text"]


def test_a_conversation_goes_out_and_comes_back_in(engine: LiveEngine, tmp_path: Path) -> None:
    message = engine.answer("many scripts")
    [summary] = [each for each in engine.get("/api/sessions")["sessions"] if each["title"] == "many scripts"]
    path = f"/api/sessions/{summary['id']}/export"
    markdown = engine.client.get(path)
    assert markdown.headers["content-type"] == "text/markdown; charset=utf-8"
    assert markdown.text.startswith("# many scripts\n") and message["text"] in markdown.text
    document = engine.client.get(f"{path}?kind=json")
    assert document.headers["content-type"] == "application/json"
    file = tmp_path / "out.json"
    file.write_bytes(document.content)
    copy = engine.post("/api/sessions/import", {"path": str(file)})
    assert copy["id"] != summary["id"] and copy["message_count"] == 2
    messages = engine.get(f"/api/sessions/{copy['id']}")["messages"]
    assert messages[1]["text"] == message["text"] and messages[1]["id"] != message["id"]
    # The copy is a conversation like any other.
    assert engine.finish(engine.ask("go on", session_id=copy["id"])["id"])["message"]["status"] == "complete"


def test_what_is_refused_is_refused_with_a_sentence(engine: LiveEngine, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[" * 10_000)
    for asked, status, said in (
        (("GET", "/api/sessions/nobody/export"), 404, "cannot be found"),
        (("GET", "/api/sessions/nobody/export?kind=pdf"), 400, "kind"),
        (("POST", "/api/sessions/import", {"path": str(bad)}), 400, "not the JSON of a conversation"),
        (("POST", "/api/sessions/import", {"path": str(tmp_path / "none")}), 507, "cannot be read"),
        (("POST", "/api/sessions/import", {"path": "a\0b"}), 507, "cannot be read"),
        (("POST", "/api/storage/tasks", {"kind": "dance"}), 400, "kind"),
        (("POST", "/api/storage/restore", {"path": str(bad)}), 422, "not a backup of Seamount"),
    ):
        assert refusal(engine, *asked)[0] == status
        assert said in refusal(engine, *asked)[1]
    assert engine.client.delete("/api/storage/restore").status_code == 204


@pytest.mark.slow
def test_a_backup_while_an_answer_is_written_and_its_restore_at_the_next_start(
    start_engine: StartEngine, tmp_path: Path
) -> None:
    engine = start_engine()
    engine.wait_model()
    first = engine.answer("quickly")
    turn = engine.ask("Say it slowly")
    assert finished(engine, kind="verify")["problems"] == []
    backup = tmp_path / "b"
    task = finished(engine, kind="backup", path=str(backup), with_states=True)
    assert (task["state"], task["error"]) == ("done", None) and task["lines"][0].endswith(").")
    assert engine.finish(turn["id"])["message"]["status"] == "complete", "nothing was disturbed"
    with BackupReader(backup) as reader:
        reader.check(Progress())
    # Again, onto the same file; and the command, which an engine refuses.
    assert "is there already" in finished(engine, kind="backup", path=str(backup))["error"]["text"]
    status, _, said = command(engine, "restore", str(backup))
    assert status == 3 and "nothing was changed" in said

    later = engine.answer("Something that the backup has not")
    prepared = engine.post("/api/storage/restore", {"path": str(backup)})
    assert refusal(engine, "POST", "/api/storage/restore", {"path": str(backup)})[0] == 409
    assert engine.get("/api/storage")["notice"] is None
    titles = {each["title"] for each in engine.get("/api/sessions")["sessions"]}
    assert "Something that the backup has not" in titles and later["status"] == "complete"
    engine.close()

    engine = start_engine()
    titles = {each["title"] for each in engine.get("/api/sessions")["sessions"]}
    assert titles == {"quickly", "Say it slowly"}
    assert prepared["aside"] in engine.get("/api/storage")["notice"]
    [session] = [each for each in engine.get("/api/sessions")["sessions"] if each["title"] == "Say it slowly"]
    cut = engine.get(f"/api/sessions/{session['id']}")["messages"][-1]
    assert cut["status"] == "interrupted", "it was being written when the backup was made"
    again = engine.continue_answer(session["id"], cut["id"])
    assert engine.finish(again["id"])["message"]["text"] == engine_text(prepared["aside"], cut["id"])
    assert first["text"] in json.dumps(
        engine.get(f"/api/sessions/{find(engine, 'quickly')}"), ensure_ascii=False
    )
    assert finished(engine, kind="verify")["problems"] == []


def engine_text(aside: str, message_id: str) -> str:
    """What the answer became in the state that was put aside."""
    with sqlite3.connect(Path(aside) / "sessions.db") as connection:
        [text] = connection.execute("SELECT text FROM message WHERE id = ?", (message_id,)).fetchone()
    connection.close()
    return text


def find(engine: LiveEngine, title: str) -> str:
    return next(each["id"] for each in engine.get("/api/sessions")["sessions"] if each["title"] == title)


@pytest.mark.slow
def test_smaller_but_not_while_an_answer_is_written(start_engine: StartEngine) -> None:
    engine = start_engine()
    engine.wait_model()
    turn = engine.ask("Say it slowly")
    assert "an answer is being written" in finished(engine, kind="compact")["error"]["text"]
    engine.finish(turn["id"])
    # The turn is over for its listeners a moment before it is for the engine.
    deadline = time.monotonic() + PATIENCE_S
    while (task := finished(engine, kind="compact"))["error"] is not None:
        assert time.monotonic() < deadline
    assert " won: conversations " in task["lines"][0]
    usage = engine.get("/api/storage")
    assert usage["sessions_bytes"] > 0 and usage["states_budget_bytes"] == 20 * 10**9
    assert engine.post("/api/storage/forget")["states_count"] == 0


@pytest.mark.slow
def test_the_commands_ask_the_engine(engine: LiveEngine, tmp_path: Path) -> None:
    engine.answer("Hello")
    session_id = find(engine, "Hello")
    status, out, _ = command(engine, "sessions", "list", "Hello", "--json")
    assert status == 0 and session_id in [each["id"] for each in json.loads(out)]
    status, out, _ = command(engine, "sessions", "show", session_id)
    assert status == 0 and out.startswith("# Hello\n") and "Hello there." in out
    file = tmp_path / "hello.json"
    assert command(engine, "sessions", "export", session_id, "--format", "json", "--to", str(file))[0] == 0
    status, out, _ = command(engine, "sessions", "import", str(file))
    assert status == 0 and out.endswith("2 messages  Hello\n")
    status, out, said = command(engine, "sessions", "verify")
    assert (status, said) == (0, "") and out.endswith("all is as it should be.\n")
    status, out, said = command(engine, "backup", str(tmp_path / "b"))
    assert (status, said) == (0, "") and "of the data folder" in out
    status, out, said = command(engine, "backup", str(tmp_path / "b"))
    assert status == 1 and said.startswith("seamount: The backup was not written: ")


@pytest.mark.slow
def test_a_backup_that_is_killed_leaves_no_file(start_engine: StartEngine, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    store = SessionStore.open(root / "sessions.db")
    running = store.session(fill(store)).messages[-1]
    for _ in range(40):
        store.append(running.id, "x" * 1_000_000, [])
    store.close()
    engine = start_engine(root=root)
    backup = tmp_path / "b"
    engine.post("/api/storage/tasks", {"kind": "backup", "path": str(backup)})
    engine.process.kill()
    engine.process.wait(20)
    left = [each for each in tmp_path.iterdir() if each != root]
    assert backup not in left or len(left) == 1, "whole, or not there"
    if backup in left:
        with BackupReader(backup) as reader:
            reader.check(Progress())
        backup.unlink()
    engine = start_engine(root=root)
    assert finished(engine, kind="backup", path=str(backup))["state"] == "done"
    assert [each for each in tmp_path.iterdir() if each != root] == [backup], "what was left is gone"


@pytest.mark.slow
def test_an_answer_that_a_kill_cut_off_goes_on_by_itself_where_its_backup_is_restored(
    start_engine: StartEngine, tmp_path: Path
) -> None:
    engine = start_engine(resume="continue")
    engine.wait_model()
    turn = engine.ask("Say it slowly")
    for _, event in engine.events(turn["id"]):
        if event["kind"] == "text":
            engine.process.kill()
            break
    engine.process.wait(20)
    assert command(engine, "sessions", "verify")[0] == 0
    assert command(engine, "backup", str(tmp_path / "b"))[0] == 0
    engine.folder.root.rename(tmp_path / "lost")
    status, out, _ = command(engine, "restore", str(tmp_path / "b"))
    assert (status, out) == (0, "A backup was restored; nothing was here before.\n")
    engine = start_engine()
    deadline = time.monotonic() + PATIENCE_S
    while (answer := engine.get(f"/api/sessions/{turn['session_id']}")["messages"][-1])[
        "status"
    ] != "complete":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (answer["text"], answer["continued"]) == (SLOW_TEXT, "identical")
