"""Another machine's Seamount through ssh; a stand-in takes ssh's place, and notes how it is called."""

import contextlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.backends.remote import RemoteModel, RemotePoint
from engine.backends.remote_address import Address, read_address
from engine.backends.remote_faults import LIMITS
from engine.backends.remote_request import RemoteRequest
from engine.backends.remote_stream import Piece, TextPiece
from engine.backends.remote_tunnel import HOLDING_COMMAND, REMOTE_COMMAND, Tunnels
from engine.conversation import Message
from engine.errors import RemoteBrokeOff, RemoteUnreachable
from tests.support import hostile_server
from tests.support.hostile_server import hostile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its ssh forwards from ports alone")
STAND_IN = Path(hostile_server.__file__).with_name("stand_in_ssh.py")
ADDRESS = read_address("ssh://me@box.example.com:2222")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("STAND_IN_SSH", str(tmp_path))
    return tmp_path


@pytest.fixture
def tunnels() -> Iterator[Tunnels]:
    made = Tunnels()
    yield made
    made.close()


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def test_questions_go_through_it_with_their_key(folder: Path, tunnels: Tunnels) -> None:
    with hostile() as server:
        (folder / "port").write_text(str(server.port))
        model = RemoteModel(
            "remote:a", "A", "seamount", "m", [RemotePoint(ADDRESS)], key="sk-there", tunnels=tunnels
        )
        pieces: list[Piece] = []
        for _ in range(2):
            model.answer(RemoteRequest([Message("user", "Hello?")]), pieces.append, lambda: False)
        assert "".join(each.text for each in pieces if isinstance(each, TextPiece)) == "Hello there." * 2
        assert server.keys == ["Bearer sk-there"] * 2
        assert server.paths == ["/v1/chat/completions"] * 2
    asked, forwarded = calls(folder)
    assert asked[-3:] == ["--", "box.example.com", REMOTE_COMMAND]
    assert forwarded[-3:] == ["--", "box.example.com", HOLDING_COMMAND] and "-L" in forwarded
    for each in (asked, forwarded):
        assert "BatchMode=yes" in each and "StrictHostKeyChecking=yes" in each
        assert each[each.index("-p") + 1] == "2222" and each[each.index("-l") + 1] == "me"
        assert "sk-there" not in " ".join(each)
    assert model.points[0].address.place == "box.example.com:2222"


def test_one_that_has_ended_is_opened_anew(folder: Path, tunnels: Tunnels) -> None:
    (folder / "port").write_text("4321")
    first = tunnels.target(ADDRESS, None, LIMITS)
    assert tunnels.target(ADDRESS, "k", LIMITS).socket_path == first.socket_path
    assert first.address == Address("http", "127.0.0.1", 4321, "/v1") and first.place == ADDRESS.place
    held = Path(first.socket_path or "").parent
    assert held.stat().st_mode & 0o077 == 0
    tunnels.forget(ADDRESS)
    assert not held.exists()
    assert tunnels.target(ADDRESS, None, LIMITS).socket_path != first.socket_path
    assert len(calls(folder)) == 4


def test_a_seamount_that_came_back_elsewhere_is_found(folder: Path, tunnels: Tunnels) -> None:
    model = RemoteModel(
        "remote:a", "A", "seamount", "m", [RemotePoint(ADDRESS)], tunnels=tunnels, backoff_s=0.01
    )
    asked = RemoteRequest([Message("user", "Hello?")])
    with hostile() as before:
        (folder / "port").write_text(str(before.port))
        model.answer(asked, lambda _piece: None, lambda: False)
    with hostile() as server:
        (folder / "port").write_text(str(server.port))
        with pytest.raises(RemoteBrokeOff):
            model.answer(asked, lambda _piece: None, lambda: False)
        model.answer(asked, lambda _piece: None, lambda: False)
        assert len(server.chats) == 1


def test_a_way_that_cannot_be_had_is_one_sentence(
    folder: Path, tunnels: Tunnels, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RemoteUnreachable, match=r"Host key verification failed.*ssh me@box"):
        tunnels.target(ADDRESS, None, LIMITS)
    for nonsense in ("", "http://evil.example/", "99999999", "0", "70000", "12;id"):
        (folder / "port").write_text(nonsense)
        with pytest.raises(RemoteUnreachable, match="does not say its port"):
            tunnels.target(ADDRESS, None, LIMITS)
    monkeypatch.setenv("PATH", str(folder / "nothing"))
    with pytest.raises(RemoteUnreachable, match="no ssh"):
        tunnels.target(ADDRESS, None, LIMITS)


def test_it_ends_with_the_engine_however_that_ends(folder: Path) -> None:
    (folder / "port").write_text("4321")
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from engine.backends.remote_address import read_address\n"
        "from engine.backends.remote_faults import LIMITS\n"
        "from engine.backends.remote_tunnel import Tunnels\n"
        "tunnels = Tunnels(); address = read_address('ssh://box')\n"
        "target = tunnels.target(address, None, LIMITS)\n"
        "print(tunnels._open[address].process.pid, target.socket_path, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(STAND_IN.parents[2])], capture_output=True, text=True, timeout=60
    )
    pid, path = done.stdout.split()
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(pid)).wait(20)
    shutil.rmtree(Path(path).parent)


@contextlib.contextmanager
def ssh_that(tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program in ssh's place; (the file that is there once it runs)."""
    program, runs = tmp_path / "bin" / "ssh", tmp_path / "runs"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\necho > "{runs}"\n{words}\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    yield runs


def test_a_machine_that_says_much_is_not_listened_to(
    tmp_path: Path, tunnels: Tunnels, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ssh_that(tmp_path, "exec yes 22", monkeypatch),
        pytest.raises(RemoteUnreachable, match="does not say its port"),
    ):
        tunnels.target(ADDRESS, None, LIMITS)


def test_closing_does_not_wait_for_a_machine_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnels, ended = Tunnels(), list[BaseException]()

    def ask() -> None:
        try:
            tunnels.target(ADDRESS, None, LIMITS)
        except RemoteUnreachable as error:
            ended.append(error)

    with ssh_that(tmp_path, "exec sleep 25", monkeypatch) as runs:
        asking = threading.Thread(target=ask)
        asking.start()
        while not runs.exists():
            assert asking.is_alive()
        closing = threading.Thread(target=tunnels.close)
        closing.start()
        closing.join(15)
        was_closing = closing.is_alive()
        closing.join()
        asking.join()
        assert ended and not was_closing
