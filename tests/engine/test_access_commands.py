"""What `seamount keys` and `seamount network` print, with an engine that is stood in for."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import access_commands
from engine.errors import BadRequest, NotFound
from engine.paths import DataFolder
from engine.protocol import ErrorBody
from engine.protocol_access import Access, ClientKey, KeyLimits, MadeKey, NetworkDoor

FOLDER = DataFolder(Path("/nowhere"))
EDITOR = ClientKey(
    id="aaaa000000000000",
    name="editor",
    created_at=1_800_000_000.0,
    last_used_at=1_800_000_100.0,
    last_used_by="Editor/1.2",
    limits=KeyLimits(seconds=60),
)
LAPTOP = ClientKey(id="aaaabbbb00000000", name="laptop", created_at=1_800_000_000.0, is_network=True)
OPEN = NetworkDoor(
    wanted=True,
    is_open=True,
    port=8643,
    addresses=["https://192.168.1.5:8643/v1"],
    fingerprint="AA:BB",
    certificate="generated",
    expires_at=1_830_000_000.0,
    notice="The certificate is a new one.",
)


class Engine:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.access = Access(base_url="http://127.0.0.1:8642/v1", keys=[EDITOR, LAPTOP], clients=[])
        self.replies: dict[tuple[str, str], Any] = {}
        self.asked: list[tuple[str, str, Any]] = []

    def send(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path, body))
        if (method, path) == ("GET", "/api/access"):
            return self.access.model_dump()
        reply = self.replies[method, path]
        return None if reply is None else reply.model_dump()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()

    @contextlib.contextmanager
    def connected(_folder: DataFolder, *, linger_s: float) -> Iterator[Engine]:
        assert linger_s > 0
        yield made

    monkeypatch.setattr(access_commands, "connected", connected)
    return made


def test_keys_are_listed_with_when_they_were_used(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert access_commands.list_keys(FOLDER, as_json=False) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("aaaa0000  editor: for this machine, made 20")
    assert "last used 20" in first
    assert "by Editor/1.2" in first
    assert first.endswith("waiting 64, seconds 60")
    assert "laptop: for the network" in second
    assert "never used" in second
    assert access_commands.list_keys(FOLDER, as_json=True) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["editor", "laptop"]
    engine.access = engine.access.model_copy(
        update={"keys": [], "problem": ErrorBody(code="x", text="The file is not in order.")}
    )
    access_commands.list_keys(FOLDER, as_json=False)
    said = capsys.readouterr().out
    assert "The file is not in order." in said
    assert "seamount keys make NAME" in said


def test_a_new_key_says_what_to_paste_where(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    made = MadeKey(key=EDITOR, secret="sm-secret", problem="The key is shown this once, because of x.")
    engine.replies["POST", "/api/access/keys"] = made
    assert access_commands.make_key(FOLDER, "editor", is_network=False, keep=True) == 0
    said = capsys.readouterr().out
    assert engine.asked[0][2] == {"name": "editor", "is_network": False, "keep": True}
    for words in ("sm-secret", "http://127.0.0.1:8642/v1", "without /v1", "because of x."):
        assert words in said
    kept = made.model_copy(update={"key": EDITOR.model_copy(update={"is_kept": True}), "problem": None})
    engine.replies["POST", "/api/access/keys"] = kept
    access_commands.make_key(FOLDER, "editor", is_network=False, keep=True)
    assert "`seamount keys show editor` shows it again" in capsys.readouterr().out
    engine.replies["GET", f"/api/access/keys/{EDITOR.id}/secret"] = kept
    assert access_commands.show_key(FOLDER, "editor") == 0
    assert "sm-secret" in capsys.readouterr().out


def test_a_key_for_the_network_names_its_addresses(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.replies["POST", "/api/access/keys"] = MadeKey(key=LAPTOP, secret="sm-secret")
    access_commands.make_key(FOLDER, "laptop", is_network=True, keep=False)
    assert "the socket is closed" in capsys.readouterr().out
    engine.access = engine.access.model_copy(update={"network": OPEN})
    access_commands.make_key(FOLDER, "laptop", is_network=True, keep=False)
    said = capsys.readouterr().out
    assert "https://192.168.1.5:8643/v1" in said
    assert "It is shown this once." in said


def test_a_key_is_named_by_its_name_or_the_beginning_of_its_id(engine: Engine) -> None:
    engine.replies["DELETE", f"/api/access/keys/{LAPTOP.id}"] = None
    assert access_commands.revoke_key(FOLDER, "aaaab") == 0
    with pytest.raises(BadRequest, match="2 ids begin so"):
        access_commands.revoke_key(FOLDER, "aaaa")
    for nobody in ("nobody", "aaa", ""):
        with pytest.raises(NotFound):
            access_commands.revoke_key(FOLDER, nobody)


def test_limits_that_are_not_named_stay(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"/api/access/keys/{EDITOR.id}"
    engine.replies["PATCH", path] = EDITOR
    assert access_commands.limit_key(FOLDER, "editor", {"waiting": 3, "seconds": None}) == 0
    limits = {"answer_tokens": 0, "prompt_tokens": 0, "waiting": 3, "seconds": 60}
    assert engine.asked[-1] == ("PATCH", path, {"limits": limits})
    assert access_commands.rename_key(FOLDER, "editor", "other") == 0
    assert engine.asked[-1] == ("PATCH", path, {"name": "other"})
    assert "editor" in capsys.readouterr().out
    with pytest.raises(BadRequest):
        access_commands.limit_key(FOLDER, "editor", {"waiting": None})


def test_the_network_is_opened_and_closed_and_says_how_it_is(
    engine: Engine, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine.replies["PUT", "/api/access/network"] = OPEN
    assert access_commands.open_network(FOLDER, 8643, "c.pem", "k.pem", ["10.0.0.1"]) == 0
    body = engine.asked[-1][2]
    assert body == {
        "wanted": True,
        "port": 8643,
        "interfaces": ["10.0.0.1"],
        "certificate_path": str(tmp_path / "c.pem"),
        "key_path": str(tmp_path / "k.pem"),
    }
    said = capsys.readouterr().out
    for words in ("https://192.168.1.5:8643/v1", "AA:BB", "signs itself", "a new one", "--network"):
        assert words in said
    failed = NetworkDoor(wanted=True, problem=ErrorBody(code="port_taken", text="It is taken."))
    engine.replies["PUT", "/api/access/network"] = failed
    assert access_commands.open_network(FOLDER, 0, None, None, []) == 1
    assert "It is taken." in capsys.readouterr().out
    engine.replies["PUT", "/api/access/network"] = NetworkDoor()
    assert access_commands.close_network(FOLDER) == 0
    assert access_commands.show_network(FOLDER) == 0
    assert capsys.readouterr().out.count("is closed") == 2
