"""`seamount get` and its kin against a hub on this machine: real engine, real worker, killed and refused."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.cli import main
from engine.launch import read_address
from engine.paths import DataFolder
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine, read_events
from tests.support.local_hub import LocalHub, write_random_files

pytestmark = pytest.mark.slow

NAME = "somebody/Some-Model"
TOKEN = "hf_onlyTheHubMaySeeThisOne"
SIZES = {"config.json": 300, "model-1.safetensors": 900_000, "model-2.safetensors": 700_000}
TIMEOUT_S = 60.0
needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """Serves one repository; engines and their workers know it by HF_ENDPOINT."""
    with LocalHub(send_buffer_bytes=1 << 14) as hub:
        hub.add(NAME, str(write_random_files(tmp_path / "hub", SIZES)))
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "DBUS_SESSION_BUS_ADDRESS", "HTTP_PROXY", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield hub


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose engine, if a command has started one, ends with the test."""
    root = tmp_path / "data"
    yield root
    if (address := read_address(DataFolder(root))) is not None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(address.pid)
            process.terminate()
            process.wait(20)


def seamount(data: Path, *arguments: object, given: str = "") -> subprocess.CompletedProcess[str]:
    """A command in this process, which is quicker; the engine and its workers are processes of their own."""
    out, err = io.StringIO(), io.StringIO()
    words = ["--data", str(data), *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr("sys.stdin", io.StringIO(given))
        status = main(words, open_window=lambda _: 99)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def asking(folder: Path, **more: Any) -> Any:
    return {"asked": {"kind": "fetch", "what": NAME, "folder": str(folder), **more}}


def is_whole(folder: Path, hub_folder: Path) -> bool:
    return all((folder / name).read_bytes() == (hub_folder / name).read_bytes() for name in SIZES)


def one_job(engine: LiveEngine) -> Any:
    [job] = engine.get("/api/jobs")["jobs"]
    return job


def wait(engine: LiveEngine, *states: str) -> Any:
    deadline_s = time.monotonic() + TIMEOUT_S
    while (job := one_job(engine))["state"] not in states or job["stopping"]:
        assert time.monotonic() < deadline_s, job
        time.sleep(0.05)
    return job


def wait_until_fetching(engine: LiveEngine) -> Any:
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        job = one_job(engine)
        progress = job["progress"]
        if progress and progress.get("fetched_bytes"):
            return job
        assert time.monotonic() < deadline_s, job
        time.sleep(0.02)


def is_loaded(model_id: str) -> Callable[[Any], bool]:
    return lambda status: bool(status["model"]) and status["model"]["id"] == model_id


def worker_of(job: Any) -> psutil.Process:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if command[-2:-1] == ["work"] and command[-1].endswith(job["id"]):
                return process
    raise AssertionError("no process works on it")


def test_get_jobs_verify_move_and_remove_in_a_terminal(hub: LocalHub, data: Path, tmp_path: Path) -> None:
    to = tmp_path / "é 模型"
    done = seamount(data, "get", NAME, "--to", to)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{to}\n"
    assert is_whole(to, tmp_path / "hub")
    assert hub.sent() == sum(SIZES.values())
    listed = seamount(data, "jobs").stdout
    assert " done " in listed
    assert "download" in listed
    job_id = listed.split()[0]
    assert seamount(data, "jobs", job_id, "pause").returncode == 1
    assert seamount(data, "verify", to).stdout == f"{to.name}: all 1.6 MB are as the hub has them\n"
    (tmp_path / "other disk").mkdir()
    moved = seamount(data, "move", to, tmp_path / "other disk")
    assert moved.returncode == 0, moved.stderr
    assert not to.exists()
    to = tmp_path / "other disk" / to.name
    assert moved.stdout == f"{to}\n"
    (to / "config.json").write_bytes(b"{}")
    broken = seamount(data, "verify", to)
    assert broken.returncode == 1
    assert "config.json has 2 bytes, and 300 at the hub" in broken.stdout
    assert seamount(data, "jobs", job_id, "forget").returncode == 0
    assert [line.split()[2] for line in seamount(data, "jobs").stdout.splitlines()] == ["move"]
    wrong = seamount(data, "jobs", "zz", "watch")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "seamount: No job was chosen: none begins with zz; see `seamount jobs`.\n",
    )
    assert "nobody is there to be asked; add --yes" in seamount(data, "remove", "starter").stderr
    # It lies where the person wanted it: it is only taken off the list.
    assert "is off the list" in seamount(data, "remove", NAME, "--yes").stdout
    assert (to / "model-1.safetensors").is_file()
    unknown = seamount(data, "move", "nothing-of-this-name", tmp_path)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is nothing of that name here" in unknown.stderr


@needs_kill
def test_ctrl_c_pauses_and_the_same_command_goes_on(hub: LocalHub, data: Path, tmp_path: Path) -> None:
    hub.fault("trickle", path="model-1*", rate=60_000, times=0)
    command = [
        sys.executable,
        "-m",
        "seamount",
        "--data",
        str(data),
        "get",
        NAME,
        "--to",
        str(tmp_path / "to"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        deadline_s = time.monotonic() + TIMEOUT_S
        while hub.sent("model-1*") < 60_000:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=TIMEOUT_S)[1]
    hub.clear_faults()
    assert child.returncode == 130
    assert f"Paused; `seamount --data {data} get {NAME} --to {tmp_path / 'to'}` goes on." in said
    done = seamount(data, "get", NAME, "--to", tmp_path / "to")
    assert done.returncode == 0, done.stderr
    assert is_whole(tmp_path / "to", tmp_path / "hub")
    assert hub.sent() < sum(SIZES.values()) + 400_000
    assert len(seamount(data, "jobs").stdout.splitlines()) == 1


@needs_kill
def test_the_command_goes_on_with_another_engine(hub: LocalHub, data: Path, tmp_path: Path) -> None:
    hub.fault("trickle", path="model-1*", rate=300_000, times=0)
    command = [
        sys.executable,
        "-m",
        "seamount",
        "--data",
        str(data),
        "get",
        NAME,
        "--to",
        str(tmp_path / "to"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        deadline_s = time.monotonic() + TIMEOUT_S
        while hub.sent("model-1*") < 100_000:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        address = read_address(DataFolder(data))
        assert address is not None
        os.kill(address.pid, signal.SIGKILL)
        said = child.communicate(timeout=TIMEOUT_S)
    assert (child.returncode, said[0]) == (0, f"{tmp_path / 'to'}\n"), said
    assert is_whole(tmp_path / "to", tmp_path / "hub")
    later = read_address(DataFolder(data))
    assert later is not None
    assert later.pid != address.pid


@needs_kill
def test_worker_and_engine_killed_the_download_is_offered_again(
    hub: LocalHub, start_engine: StartEngine, tmp_path: Path
) -> None:
    hub.fault("trickle", path="model-1*", rate=60_000, times=0)
    engine = start_engine()
    job = engine.post("/api/jobs", asking(tmp_path / "to"))
    wait_until_fetching(engine)
    worker_of(job).kill()
    interrupted = wait(engine, "interrupted")
    assert interrupted["error"]["code"] == "interrupted"
    assert interrupted["title"] == "Some-Model"
    engine.post(f"/api/jobs/{job['id']}/resume")
    wait_until_fetching(engine)
    # As in a power cut: both at once.
    worker = worker_of(job)
    os.kill(engine.address.pid, signal.SIGKILL)
    worker.kill()
    engine.process.wait(10)
    hub.clear_faults()
    later = start_engine()
    wait(later, "interrupted")
    # Asked for again, to the letter, it is the same job.
    assert later.post("/api/jobs", asking(tmp_path / "to"))["id"] == job["id"]
    assert wait(later, "done")["files"] == [str(tmp_path / "to")]
    assert is_whole(tmp_path / "to", tmp_path / "hub")


def test_two_windows_share_one_download_and_others_keep_off(
    hub: LocalHub, start_engine: StartEngine, tmp_path: Path
) -> None:
    hub.fault("trickle", path="model-1*", rate=60_000, times=0)
    engine = start_engine()
    first = engine.post("/api/jobs", asking(tmp_path / "to"))
    assert engine.post("/api/jobs", asking(tmp_path / "to"))["id"] == first["id"]
    wait_until_fetching(engine)
    for asked in (
        asking(tmp_path / "to", files=["*.json"]),
        asking(tmp_path / "to" / "inside"),
        {"asked": {"kind": "verify", "path": str(tmp_path / "to")}},
        {"asked": {"kind": "convert", "source": str(tmp_path / "to"), "target": str(tmp_path / "m.gguf")}},
    ):
        refused = engine.client.post("/api/jobs", json=asked)
        assert refused.status_code == 409, asked
        assert (
            "another download in the list, of Some-Model, works on the same"
            in refused.json()["error"]["text"]
        )
    # What needs only the disk does not wait for the network.
    check = engine.post("/api/jobs", {"asked": {"kind": "verify", "path": str(tmp_path / "no.gguf")}})
    assert check["state"] == "running"
    assert [job["state"] for job in engine.get("/api/jobs")["jobs"] if job["id"] == first["id"]] == [
        "running"
    ]
    engine.post(f"/api/jobs/{check['id']}/cancel", {})
    engine.post(f"/api/jobs/{first['id']}/cancel", {"remove_partial": True})
    deadline_s = time.monotonic() + 20
    while (tmp_path / "to").exists():
        assert time.monotonic() < deadline_s, sorted((tmp_path / "to").rglob("*"))
        time.sleep(0.05)


def test_what_was_there_before_a_download_stays_when_it_is_given_up(
    hub: LocalHub, start_engine: StartEngine, tmp_path: Path
) -> None:
    hub.fault("trickle", path="model-*", rate=60_000, times=0)
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "mine.txt").write_text("mine")
    engine = start_engine()
    job = engine.post("/api/jobs", asking(tmp_path / "to"))
    wait_until_fetching(engine)
    engine.post(f"/api/jobs/{job['id']}/cancel", {"remove_partial": True})
    wait(engine, "cancelled")
    deadline_s = time.monotonic() + 20
    while (tmp_path / "to" / ".cache" / "seamount" / "parts").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert (tmp_path / "to" / "mine.txt").read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="what processes were given is looked at in /proc")
def test_a_token_is_asked_for_once_and_nobody_else_sees_it(
    hub: LocalHub, start_engine: StartEngine, tmp_path: Path
) -> None:
    hub.gate(NAME, "gated", [TOKEN])
    hub.fault("trickle", path="model-1*", rate=400_000, times=0)
    engine = start_engine()
    job = engine.post("/api/jobs", asking(tmp_path / "to"))
    failed = wait(engine, "failed")
    assert failed["error"]["code"] == "token_needed"
    state = engine.put("/api/library/token", {"token": TOKEN})
    assert state["token"] == "this_run"
    engine.post(f"/api/jobs/{job['id']}/resume")
    wait_until_fetching(engine)
    for pid in (worker_of(job).pid, engine.address.pid):
        for name in ("cmdline", "environ"):
            assert TOKEN.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    wait(engine, "done")
    assert is_whole(tmp_path / "to", tmp_path / "hub")
    assert {each["token"] for each in hub.asked(door="cdn")} == {None}
    engine.close()
    for folder in (tmp_path / "data", tmp_path / "to"):
        assert not [
            path for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
        ]


def test_a_token_comes_through_the_commands_standard_input(hub: LocalHub, data: Path, tmp_path: Path) -> None:
    hub.gate(NAME, "gated", [TOKEN])
    refused = seamount(data, "get", NAME, "--to", tmp_path / "to")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 2
    done = seamount(data, "get", NAME, "--to", tmp_path / "to", "--token-stdin", given=f"{TOKEN}\n")
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert "for this run" in done.stderr or "keyring" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_person_is_asked_for_the_token_once_and_it_is_not_shown(
    hub: LocalHub, data: Path, tmp_path: Path
) -> None:
    hub.gate(NAME, "gated", [TOKEN])
    command = [
        sys.executable,
        "-m",
        "seamount",
        "--data",
        str(data),
        "get",
        NAME,
        "--to",
        str(tmp_path / "to"),
    ]
    in_terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    command = [sys.executable, "-c", in_terminal, *command]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        said = b""
        while piece := child.stdout.read(4096):
            before, said = said, said + piece
            if b"Access token" in said and b"Access token" not in before:
                child.stdin.write(TOKEN.encode() + b"\n")
    assert child.returncode == 0, said
    assert is_whole(tmp_path / "to", tmp_path / "hub")
    assert said.count(b"Access token (it is not shown): ") == 1
    assert TOKEN.encode() not in said


def test_a_job_that_waits_keeps_its_engine_and_an_engine_that_is_gone_is_no_loss(
    hub: LocalHub, data: Path, tmp_path: Path
) -> None:
    hub.fault("trickle", path="model-1*", rate=300_000, times=0)
    first = seamount(data, "get", NAME, "--to", tmp_path / "a", "--detach")
    assert (first.returncode, first.stdout.endswith(f"{tmp_path / 'a'}\n")) == (0, True)
    second = seamount(data, "get", NAME, "--to", tmp_path / "b", "--detach")
    assert second.returncode == 0
    watched = seamount(data, "jobs", second.stdout.split()[0], "watch")
    assert (watched.returncode, watched.stdout) == (0, f"{tmp_path / 'b'}\n")
    assert is_whole(tmp_path / "a", tmp_path / "hub")


def test_a_moved_model_is_found_at_its_new_place_and_stays_the_default(
    start_engine: StartEngine, starter_path: Path, tmp_path: Path
) -> None:
    engine = start_engine()
    engine.wait_model()
    gguf = engine.folder.models / "m.gguf"
    gguf.write_bytes(starter_path.read_bytes())
    settings = engine.get("/api/settings")
    engine.put("/api/settings", {**settings, "model_id": "folder:m.gguf"})
    engine.wait_status(is_loaded("folder:m.gguf"))
    asked = {"asked": {"kind": "move", "item_id": "folder:m.gguf", "folder": str(tmp_path)}}
    refused = engine.client.post("/api/jobs", json=asked)
    assert refused.status_code == 409
    assert "is in use" in refused.json()["error"]["text"]
    engine.post("/api/models/load", {"model_id": SCRIPT_MODEL})
    engine.wait_status(is_loaded(SCRIPT_MODEL))
    engine.put("/api/settings", {**engine.get("/api/settings"), "model_id": SCRIPT_MODEL})
    with engine.client.stream("GET", "/api/events") as reply:
        told = (event for _, event in read_events(reply))
        job = engine.post("/api/jobs", asked)
        assert next(event for event in told if event["kind"] == "library")
    assert job["place"] == str(tmp_path / "m.gguf")
    assert wait(engine, "done")["files"][0] == str(tmp_path / "m.gguf")
    paths = {entry["id"]: entry["path"] for entry in engine.get("/api/models")["models"]}
    assert "folder:m.gguf" not in paths
    [moved] = [model_id for model_id, path in paths.items() if path == str(tmp_path / "m.gguf")]
    assert moved.startswith("file:")
    back = {"asked": {"kind": "move", "item_id": moved, "folder": str(engine.folder.models)}}
    job = engine.post("/api/jobs", back)
    deadline_s = time.monotonic() + TIMEOUT_S
    while moved in {entry["id"] for entry in engine.get("/api/models")["models"]}:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert "folder:m.gguf" in {entry["id"] for entry in engine.get("/api/models")["models"]}
