"""What the program is, over HTTP, and a data folder from version to version with real engines."""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine.data_version import settle
from engine.launch import EXIT_CAN_GO_BACK, EXIT_DATA_FOLDER, EXIT_NOT_BACKED_UP, PuttingBack
from engine.paths import DataFolder
from engine.protocol import Settings
from engine.settings import save_settings
from engine.version import version
from tests.engine.store.data_folders import filled
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import LiveEngine


@pytest.mark.slow
def test_about_and_the_licences(engine: LiveEngine) -> None:
    about = engine.get("/api/about")
    assert (about["version"], about["data_folder"]) == (version(), str(engine.folder.root))
    assert about["llama_cpp"].startswith("llama-cpp-python ")
    names = [each["name"] for each in about["licences"]]
    place = names.index("fastapi")
    assert "MIT" in engine.get(f"/api/about/licences/{place}")["text"]
    for place, status in ((-1, 404), (10**6, 404), ("x", 400)):
        reply = engine.client.get(f"/api/about/licences/{place}")
        assert reply.status_code == status and reply.json()["error"]["text"]


def test_nobody_is_asked_for_newer_versions_unless_a_person_wants_that(engine: LiveEngine) -> None:
    state = engine.get("/api/updates")
    assert (state["asks"], state["found"]) == (False, None)
    assert engine.get("/api/status")["update"] is None
    assert not engine.folder.updates.exists()


def serve(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """An engine that nobody listens to, or that does not begin."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "seamount", "--data", str(root), "serve", "--linger", "0", *words],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.slow
def test_an_engine_backs_up_what_an_earlier_version_left(start_engine: StartEngine, tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    (root / "settings.toml").unlink()
    engine = start_engine(root=root)
    assert (root / f"backups/before-{version()}.seamount").is_file()
    assert "backed up" in engine.get("/api/storage")["notice"]
    assert [each["title"] for each in engine.get("/api/sessions")["sessions"]] == ["Why is the sea salty?"]


@pytest.mark.slow
def test_data_of_a_newer_version_are_refused_by_every_command(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    note = {"format": 1, "version": "99.0.0", "backups": []}
    (root / "version.json").write_text(json.dumps(note))
    for words in (["serve"], ["sessions", "list"], ["sessions", "verify"], ["backup", str(tmp_path / "b")]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "seamount", "--data", str(root), *words],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == EXIT_DATA_FOLDER
        assert "99.0.0" in done.stderr and version() in done.stderr
    assert json.loads((root / "version.json").read_text()) == note


@pytest.mark.slow
def test_an_older_version_says_that_it_can_go_back_and_does(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    folder = DataFolder(root)
    note = {"version": "0.0.1", "backups": []}
    folder.version_note.write_text(json.dumps(note))
    process = PuttingBack.start(folder)
    wait_for(process)
    assert "holds no backup" in process.failure()
    assert settle(folder) is not None
    newer = json.loads(folder.version_note.read_text()) | {"version": "99.0.0"}
    folder.version_note.write_text(json.dumps(newer))
    folder.settings.write_text("format = 99\n")
    done = serve(root)
    assert done.returncode == EXIT_CAN_GO_BACK and f"before-{version()}.seamount" in done.stderr
    process = PuttingBack.start(folder)
    assert wait_for(process) == 0
    assert json.loads(folder.version_note.read_text())["version"] == "0.0.1"
    assert "Why is the sea salty?" in folder.settings.read_text()


def wait_for(process: PuttingBack) -> int:
    deadline = time.monotonic() + 60
    while (status := process.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return status


@pytest.mark.slow
def test_without_room_for_the_backup_the_engine_says_so_and_goes_on_when_told(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    DataFolder(root).backups.write_bytes(b"in the way")
    done = serve(root)
    assert done.returncode == EXIT_NOT_BACKED_UP
    assert "--without-backup" in done.stderr
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "seamount", "--data", str(root), "serve", "--without-backup"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Seamount listens")
        assert json.loads((root / "version.json").read_text())["version"] == version()
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.slow
def test_a_newer_version_is_told_to_who_wants_to_know(start_engine: StartEngine, tmp_path: Path) -> None:
    """The real engine on a feed of this machine; it begins to ask some seconds after its start."""

    class Feed(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Quiet."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"version": "99.0.0", "notes_url": "https://example.org/99"}')

    server = ThreadingHTTPServer(("127.0.0.1", 0), Feed)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        root = tmp_path / "data"
        root.mkdir()
        address = f"http://127.0.0.1:{server.server_port}/feed.json"
        save_settings(root / "settings.toml", Settings(look_for_updates=True, updates_address=address))
        engine = start_engine(root=root)
        deadline = time.monotonic() + 90
        while (update := engine.get("/api/status")["update"]) is None:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert update == {"version": "99.0.0", "notes_url": "https://example.org/99"}
        settings = engine.get("/api/settings") | {"look_for_updates": False}
        assert engine.client.put("/api/settings", json=settings).status_code == 200
        assert engine.get("/api/status")["update"] is None
    finally:
        server.shutdown()
        server.server_close()
