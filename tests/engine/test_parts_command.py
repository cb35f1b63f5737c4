"""`seamount parts`, against an engine's answers: what is said, followed, stopped and refused."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import parts_command
from engine.engine_client import EngineSaidNo
from engine.errors import NotFound
from engine.parts_command import install, lines_of, list_parts, remove
from engine.paths import DataFolder
from engine.protocol import ErrorBody
from engine.protocol_parts import PartEntry, PartTask, PartVariant

CPU = PartVariant(
    name="cpu",
    title="for the processor",
    download_bytes=200 * 10**6,
    unpacked_bytes=735 * 10**6,
    needed_bytes=10**9,
)
ABSENT = PartEntry(
    name="native",
    title="PyTorch",
    state="absent",
    variants=[CPU],
    suited="cpu",
    why="no NVIDIA GPU was found here",
)
THERE = ABSENT.model_copy(
    update={"state": "installed", "version": "2.13.0+cpu", "unpacked_bytes": 735 * 10**6}
)
RUNNING = PartTask(id="1", part="native", variant="cpu", state="running", total_bytes=200)


class Client:
    """Answers `GET /api/parts` with one entry after the other, the last one from then on."""

    def __init__(self, *entries: PartEntry) -> None:
        self.entries = list(entries)
        self.sent: list[tuple[str, str, Any]] = []

    def send(self, method: str, path: str, body: Any = None) -> Any:
        self.sent.append((method, path, body))
        if path.endswith("/install"):
            return RUNNING.model_dump()
        if method != "GET":
            return None
        entry = self.entries.pop(0) if len(self.entries) > 1 else self.entries[0]
        return {"parts": [entry.model_dump()]}


Answers = Callable[..., Client]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    def make(*entries: PartEntry) -> Client:
        client = Client(*entries)

        @contextlib.contextmanager
        def connected(_folder: DataFolder, *, linger_s: float) -> Iterator[Client]:
            yield client

        monkeypatch.setattr(parts_command, "connected", connected)
        return client

    monkeypatch.setattr(parts_command, "LOOK_S", 0.0)
    return make


def after(entry: PartEntry, **changed: Any) -> PartEntry:
    """With the task in that state."""
    return entry.model_copy(update={"task": RUNNING.model_copy(update=changed)})


def test_what_can_be_had(tmp_path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    answers(ABSENT)
    assert list_parts(DataFolder(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "native: PyTorch; not installed",
        "  cpu, for the processor: 200 MB to download, 735 MB on the disk, suits this machine (no NVIDIA GPU was "
        "found here)",
    ]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"state": "outside", "version": "2.11"},
            "native: PyTorch; the Python that runs Seamount has it (2.11)",
        ),
        (
            {"state": "elsewhere", "why": "it is for another", "how": "get it so"},
            "native: PyTorch; not to be had here, because it is for another; get it so",
        ),
        (
            {"state": "outdated", "version": "2.9", "unpacked_bytes": 10**9},
            "native: PyTorch; 2.9 is installed, 1.0 GB; this version of Seamount has a newer set: install it again",
        ),
    ],
)
def test_what_else_can_be_said_of_it(changed: dict[str, Any], line: str) -> None:
    assert lines_of(ABSENT.model_copy(update=changed)) == [line]


def test_installing_is_followed_to_its_end(
    tmp_path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    client = answers(after(ABSENT, done_bytes=100), after(THERE, state="done"), THERE)
    assert install(DataFolder(tmp_path), "native", variant="cpu", find_links="~/wheels") == 0
    body = {"variant": "cpu", "find_links": str(Path("~/wheels").expanduser())}
    assert client.sent[0] == ("POST", "/api/parts/native/install", body)
    assert capsys.readouterr().out == "native: PyTorch; 2.13.0+cpu is installed, 735 MB\n"


def test_a_failure_and_a_stop(
    tmp_path: Path, answers: Answers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(
        after(ABSENT, state="failed", error=ErrorBody(code="disk_full", text="The disk is full; free some."))
    )
    with pytest.raises(EngineSaidNo, match="The disk is full; free some"):
        install(DataFolder(tmp_path), "native", variant=None, find_links=None)

    @contextlib.contextmanager
    def at_once() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    monkeypatch.setattr(parts_command, "wish_to_stop", at_once)
    client = answers(after(ABSENT), after(ABSENT, state="stopped"))
    assert install(DataFolder(tmp_path), "native", variant=None, find_links=None) == 130
    assert [each[0] for each in client.sent] == ["POST", "DELETE", "GET", "GET"]
    assert "nothing of it is left" in capsys.readouterr().out


def test_removing(tmp_path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    client = answers(THERE)
    assert remove(DataFolder(tmp_path), "native") == 0
    assert client.sent[-1][:2] == ("POST", "/api/parts/native/remove")
    assert capsys.readouterr().out == "PyTorch: removed; 735 MB are free.\n"
    answers(ABSENT)
    assert remove(DataFolder(tmp_path), "native") == 0
    assert capsys.readouterr().out == "PyTorch: there was nothing of Seamount's to remove.\n"
    with pytest.raises(NotFound, match="none is named 'other'"):
        remove(DataFolder(tmp_path), "other")
