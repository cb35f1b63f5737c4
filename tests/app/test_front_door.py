"""What is to be opened finds the window that is open."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.front_door import LONGEST_LINE, FrontDoor, door_of, hand_over

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its pipes have no files to look at")
LINK = "seamount://get/flash-0731"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path("/tmp") / f"sm-{os.getpid()}-{abs(hash(tmp_path)) % 10**8}"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def cleared(runtime: Path) -> Iterator[None]:
    yield
    for path in sorted(runtime.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    runtime.rmdir()


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[list[FrontDoor]]:
    made: list[FrontDoor] = []
    yield made
    for door in made:
        door.close()


def opened(doors: list[FrontDoor], root: Path) -> tuple[FrontDoor, list[str]]:
    door = FrontDoor(root)
    asked: list[str] = []
    door.asked.connect(asked.append)
    door.open()
    doors.append(door)
    return door, asked


def handed(root: Path, request: str) -> "subprocess.Popen[bytes]":
    """`hand_over` in a process of its own, without a Qt application as at a start; its exit status is the answer."""
    program = (
        "import sys; from pathlib import Path; from app.front_door import hand_over\n"
        "sys.exit(not hand_over(Path(sys.argv[1]), sys.argv[2]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, str(root), request], cwd=Path(__file__).parents[2]
    )


def test_an_open_window_takes_it(doors: list[FrontDoor], tmp_path: Path, qtbot: QtBot) -> None:
    _, asked = opened(doors, tmp_path)
    request = "/a path/with “signs”\nand ä.gguf"
    start = handed(tmp_path, request)
    qtbot.waitUntil(lambda: start.poll() is not None, timeout=20_000)
    assert start.returncode == 0 and asked == [request]


def test_without_a_window_nobody_takes_it(tmp_path: Path) -> None:
    assert not hand_over(tmp_path, LINK)


def test_each_data_folder_has_its_own(doors: list[FrontDoor], tmp_path: Path, qtbot: QtBot) -> None:
    (tmp_path / "other").mkdir()
    _, asked = opened(doors, tmp_path)
    start = handed(tmp_path / "other", LINK)
    qtbot.waitUntil(lambda: start.poll() is not None, timeout=20_000)
    assert start.returncode == 1 and asked == []
    (tmp_path / "link").symlink_to(tmp_path)
    assert door_of(tmp_path / "link") == door_of(tmp_path)


@pytest.mark.parametrize("has_runtime_folder", [True, False])
def test_of_two_windows_the_second_takes_the_firsts_place(
    doors: list[FrontDoor],
    tmp_path: Path,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    runtime: Path,
    has_runtime_folder: bool,
) -> None:
    if not has_runtime_folder:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        monkeypatch.setenv("TMPDIR", str(runtime))
        monkeypatch.setattr("tempfile.tempdir", None)
    first, asked_first = opened(doors, tmp_path)
    second, asked_second = opened(doors, tmp_path)
    assert first.is_listening and not second.is_listening
    start = handed(tmp_path, LINK)
    qtbot.waitUntil(lambda: start.poll() is not None, timeout=20_000)
    assert (asked_first, asked_second) == ([LINK], [])
    first.close()
    qtbot.waitUntil(lambda: second.is_listening)
    start = handed(tmp_path, LINK)
    qtbot.waitUntil(lambda: start.poll() is not None, timeout=20_000)
    assert start.returncode == 0 and asked_second == [LINK]


def test_a_dead_windows_socket_is_taken_over(doors: list[FrontDoor], tmp_path: Path) -> None:
    name = door_of(tmp_path)
    assert name is not None
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(name)
    dead.close()
    assert Path(name).exists() and not hand_over(tmp_path, LINK)
    door, _ = opened(doors, tmp_path)
    assert door.is_listening


@pytest.mark.parametrize(
    "said",
    [b"\n", b"[]\n", b"{}\n", b'{"open": 7}\n', b"\xff\xfe\n", b"[" * 5000 + b"\n", b"GET / HTTP/1.1\r\n\r\n",
     b"x" * (LONGEST_LINE + 1)],
)  # fmt: skip
def test_what_is_no_request_is_let_go_of(
    doors: list[FrontDoor], tmp_path: Path, qtbot: QtBot, said: bytes
) -> None:
    door, asked = opened(doors, tmp_path)
    with socket.socket(socket.AF_UNIX) as guest:
        guest.connect(str(door_of(tmp_path)))
        guest.setblocking(False)
        left = said
        answers: list[bytes] = []

        def pushed_out() -> bool:
            nonlocal left
            try:
                left = left[guest.send(left) :] if left else left
                answers.append(guest.recv(100))
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                answers.append(b"")
            return not answers[-1]

        qtbot.waitUntil(pushed_out)
    assert asked == [] and b"".join(answers) == b""
    assert door.is_listening


def test_a_guest_that_says_nothing_or_half_keeps_nobody_waiting(
    doors: list[FrontDoor], tmp_path: Path, qtbot: QtBot
) -> None:
    _, asked = opened(doors, tmp_path)
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as slow:
        silent.connect(str(door_of(tmp_path)))
        slow.connect(str(door_of(tmp_path)))
        line = json.dumps({"open": LINK}).encode() + b"\n"
        slow.sendall(line[:9])
        qtbot.wait(50)
        slow.sendall(line[9:])
        qtbot.waitUntil(lambda: asked == [LINK])


def test_a_folder_that_others_may_enter_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shared))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(runtime))
    name = door_of(tmp_path)
    assert name is not None and name.startswith(f"{runtime}/seamount-{os.getuid()}/")
    Path(name).parent.chmod(0o777)
    assert door_of(tmp_path) is None and not hand_over(tmp_path, LINK)


def test_a_closed_door_leaves_nothing(doors: list[FrontDoor], tmp_path: Path, runtime: Path) -> None:
    door, _ = opened(doors, tmp_path)
    door.close()
    assert list(runtime.iterdir()) == []
