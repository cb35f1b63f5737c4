"""The commands in a terminal, as a person runs them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.launch import running_engine
from engine.paths import DataFolder
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import SLOW_TEXT, LiveEngine, write_script

pytestmark = pytest.mark.slow


def seamount(
    engine: LiveEngine | Path, *arguments: str, given: str = ""
) -> "subprocess.CompletedProcess[str]":
    root = engine if isinstance(engine, Path) else engine.folder.root
    return subprocess.run(
        [sys.executable, "-m", "seamount", "--data", str(root), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=90,
        input=given,
        env={**os.environ, "PYTHONUTF8": "1"},
    )


def test_a_prompt_is_answered_and_nothing_else_is_printed(engine: LiveEngine) -> None:
    done = seamount(engine, "chat", "--prompt", "Tell me of many scripts")
    assert (done.returncode, done.stdout, done.stderr) == (0, "né 你好 👩‍👩‍👧 مرحبا \u200f!\n", "")


def test_what_is_piped_in_is_the_question(engine: LiveEngine) -> None:
    done = seamount(engine, "chat", given="Please mention\nmany scripts\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "你好" in done.stdout
    nothing = seamount(engine, "chat", given=" \n")
    assert (nothing.returncode, nothing.stdout) == (0, "")


def test_no_answer_is_a_sentence_and_a_status(engine: LiveEngine) -> None:
    done = seamount(engine, "chat", "--prompt", "Please fail")
    assert done.returncode == 1
    assert done.stdout == "This answer \n"
    assert done.stderr.startswith("seamount: The answer stopped:")
    unknown = seamount(engine, "chat", "--model", "nowhere", "--prompt", "Hello")
    assert unknown.returncode == 1
    assert "nowhere" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_without_an_engine_one_is_started_and_goes_by_itself(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    write_script(folder)
    done = seamount(tmp_path, "chat", "--model", "folder:talk.script.json", "--prompt", "Hello")
    assert (done.returncode, done.stdout) == (0, "Hello there.\n"), done.stderr
    address = running_engine(folder)
    assert address is not None
    import psutil

    psutil.Process(address.pid).wait(30)
    assert running_engine(folder) is None
    assert not folder.engine_address.exists()


def test_the_models_are_listed(engine: LiveEngine) -> None:
    done = seamount(engine, "models")
    assert done.returncode == 0
    assert "folder:talk.script.json" in done.stdout


def test_the_doctor_examines_this_machine(engine: LiveEngine) -> None:
    done = seamount(engine, "doctor")
    lines = done.stdout.splitlines()
    assert all(line.startswith(("ok  ", "!!  ")) for line in lines), done.stderr
    assert done.returncode == int(any(line.startswith("!!") for line in lines))
    assert any(f"an engine runs at {engine.address.url}" in line for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_conversation_with_stops(start_engine: StartEngine) -> None:
    import pty

    engine = start_engine()
    engine.wait_model()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "seamount", "--data", str(engine.folder.root), "chat"]
    # Tests that a script runs in the background ignore Ctrl-C, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    os.close(theirs)
    seen = ""

    def until(text: str) -> None:
        nonlocal seen
        while text not in seen:
            seen += os.read(ours, 4096).decode("utf-8", "replace")
        seen = seen.partition(text)[2]

    try:
        until("> ")
        os.write(ours, b"Hello\n")
        until("Hello there.")
        until("> ")
        os.write(ours, b"Talk slowly\n")
        until("One token at a time")
        process.send_signal(signal.SIGINT)
        until("(stopped)")
        until("> ")
        os.write(ours, b"/new\n")
        until("A new conversation.")
        until("> ")
        os.write(ours, b"\x04")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    sessions = engine.get("/api/sessions")["sessions"]
    assert sorted(session["message_count"] for session in sessions) == [0, 4]
    talked = next(session for session in sessions if session["message_count"] == 4)
    last = engine.get(f"/api/sessions/{talked['id']}")["messages"][-1]
    assert last["finish_reason"] == "cancelled"
    assert SLOW_TEXT.startswith(last["text"])
