"""The process of a job: what it is handed, what it says, and that there is one of it."""

import contextlib
import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from engine.errors import DataFolderError
from engine.library.jobs import work as working
from engine.library.jobs.job_folder import JobFolder
from engine.library.jobs.job_plan import JobPlan, plan_of
from engine.library.jobs.jobs import Jobs
from engine.library.jobs.work import LiveSettings, work
from engine.protocol import Settings
from engine.protocol_jobs import ConvertRequest, FetchRequest, VerifyRequest
from engine.settings import save_settings
from tests.convert.conversions import checkpoint

ROOT = Path(__file__).parents[4]
TOKEN = "hf_thisIsTheTokenThatNobodyMaySee"


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "seamount", "work", str(folder)]


def noted(tmp_path: Path, plan: JobPlan) -> Path:
    return JobFolder.create(tmp_path / "jobs" / "1", plan, 1.0).path


def said(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def wait(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.slow
def test_a_check_says_what_it_found(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    source = checkpoint(tmp_path / "s", "0731")
    convert = noted(tmp_path, plan_of(ConvertRequest(source=str(source), target=str(target), draft="skip")))
    done = subprocess.run(command(convert), capture_output=True, stdin=subprocess.DEVNULL, check=True)
    assert said(done.stdout)[-1] == {"event": "done", "files": [str(target)]}
    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)
    check = noted(tmp_path / "2", plan_of(VerifyRequest(path=str(target))))
    done = subprocess.run(command(check), capture_output=True, stdin=subprocess.DEVNULL, check=True)
    *progress, verdict, last = said(done.stdout)
    assert progress[-1]["stage"] == "checking"
    assert (verdict["event"], verdict["good"]) == ("verdict", False)
    assert last == {"event": "done", "files": [str(target)]}


def test_an_error_is_the_last_word_and_a_bug_is_one_too(tmp_path: Path) -> None:
    missing = noted(tmp_path, plan_of(VerifyRequest(path=str(tmp_path / "no.gguf"))))
    done = subprocess.run(command(missing), capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    [error] = said(done.stdout)
    assert error["code"] == "conversion"
    assert "no.gguf" in str(error["text"])
    (tmp_path / "sitecustomize.py").write_text(
        "import sys; sys.modules['engine.library.jobs.conversion_work'] = sys\n", "utf-8"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command(missing), capture_output=True, stdin=subprocess.DEVNULL, env=environment)
    [error] = said(done.stdout)
    assert (done.returncode, error["code"]) == (1, "internal")
    assert str(error["text"]).startswith("The check has failed: of ImportError, which should not be; resume")
    assert b"Traceback" in done.stderr


def test_two_processes_do_not_do_one_job(tmp_path: Path) -> None:
    folder = noted(tmp_path, plan_of(VerifyRequest(path=str(tmp_path / "m.gguf"))))
    with FileLock(folder / "work.lock"):
        done = subprocess.run(command(folder), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (1, "")
    assert "another process does it already; let that one finish" in done.stderr


def test_a_folder_without_a_job_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(DataFolderError, match="it cannot be read"):
        work(tmp_path)


# --- the token --------------------------------------------------------------------------------------

# In the place of the download: notes whether it got the token, then works until it is asked to stop.
HUB = "https://hub.example"
STAND_IN = """
import hashlib, sys, time, types
module = types.ModuleType("engine.library.fetching.fetch_work")
def fetch(asked, *, settings, access, report, stopped, begun):
    from engine.errors import FetchStopped
    with open(asked.folder, "w") as file:
        file.write(hashlib.sha256(" ".join(access or ()).encode()).hexdigest())
    while not stopped():
        time.sleep(0.02)
    raise FetchStopped("It", "was stopped", "go on")
module.fetch = fetch
sys.modules["engine.library.fetching.fetch_work"] = module
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what a process was given is looked at in /proc")
@pytest.mark.parametrize("token", [TOKEN, None], ids=["with", "without"])
def test_the_token_goes_to_the_process_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(STAND_IN, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    seen = tmp_path / "seen"
    jobs = Jobs(tmp_path / "data" / "jobs")
    access = None if token is None else (HUB, token)
    jobs.access_for = lambda: access
    job = jobs.start(plan_of(FetchRequest(what="a/b", revision="main", folder=str(seen))))
    try:
        wait(lambda: seen.is_file() and seen.read_text())
        assert seen.read_text() == hashlib.sha256(" ".join(access or ()).encode()).hexdigest()
        [process] = [each for each in psutil.process_iter() if job.id in " ".join(_command(each))]
        given = Path(f"/proc/{process.pid}")
        for name in ("cmdline", "environ"):
            assert TOKEN.encode() not in (given / name).read_bytes(), name
    finally:
        jobs.pause(job.id)
        wait(lambda: jobs.get(job.id).state != "running")
    assert jobs.get(job.id).state == "paused"
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


# --- settings and output ----------------------------------------------------------------------------


def test_settings_are_read_again_when_they_change(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    settings = LiveSettings(path)
    assert settings() == Settings()
    save_settings(path, Settings(download_limit_mb_s=5))
    assert settings().download_limit_mb_s == 5
    save_settings(path, Settings(download_limit_mb_s=12.5, keep_awake=False))
    assert (settings().download_limit_mb_s, settings().keep_awake) == (12.5, False)
    path.write_text("download_limit_mb_s = [")  # somebody is writing it just now
    assert settings().download_limit_mb_s == 12.5
    assert [each.name for each in tmp_path.iterdir()] == ["settings.toml"]
    path.unlink()
    assert settings() == Settings()


def test_on_a_full_disk_progress_is_left_out_and_the_last_word_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[bytes] = []
    answers: list[int | None] = [None, 4, None, None]  # refused, torn, refused twice, then there is room

    def write(_descriptor: int, content: bytes) -> int:
        room = answers.pop(0) if answers else len(content)
        if room is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(content[:room])
        return room

    monkeypatch.setattr(os, "write", write)

    def at_once(_s: float) -> None: ...

    monkeypatch.setattr(time, "sleep", at_once)
    monkeypatch.setattr("sys.stdout", sys.__stdout__)
    voice = working._Voice()  # pyright: ignore[reportPrivateUsage]
    voice.say('{"event": "progress"}')
    voice.say('{"event": "progress"}')
    voice.is_last = True
    voice.say('{"event": "done"}')
    assert b"".join(written) == b'{"ev\n{"event": "done"}\n'


def test_a_job_of_days_does_not_fill_the_disk_with_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "LARGEST_EVENTS_BYTES", 1000)
    path = tmp_path / "events.jsonl"
    with path.open("a") as output:
        monkeypatch.setattr("sys.stdout", output)
        voice = working._Voice()  # pyright: ignore[reportPrivateUsage]
        for number in range(200):
            voice.say(f'{{"event": "progress", "number": {number}}}')
            assert path.stat().st_size < 1100
        voice.is_last = True
        voice.say('{"event": "done"}')
        monkeypatch.undo()
    assert path.read_text().endswith('"number": 199}\n{"event": "done"}\n')
