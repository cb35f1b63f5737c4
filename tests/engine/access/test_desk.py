"""What is done with a key in its several places. The keyring is one in memory."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import kept_secrets
from engine.access import key_copies
from engine.access.desk import AccessDesk
from engine.callers import Caller
from engine.errors import MissingKey, NotFound, PortTaken
from engine.paths import DataFolder
from engine.protocol_access import ChangeKey, NewKey
from engine.protocol_settings import Settings
from engine.system_keyring import KeyringUnusableError
from tests.engine.access.test_client_watch import Answer
from tests.engine.access.test_key_copies import Keyring


class Desk:
    def __init__(self, root: Path) -> None:
        self.settings = Settings(allowed_origins=["http://localhost:3000"])
        self.desk = AccessDesk(DataFolder(root), lambda: self.settings)
        self.loop = asyncio.new_event_loop()
        self.cancelled: list[Any] = []
        self.told = 0
        self.desk.start(self.loop, cancel=self.cancelled.append, tell=self._tell)

    def _tell(self) -> None:
        self.told += 1


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Keyring:
    made = Keyring()
    for module in (key_copies, kept_secrets):
        monkeypatch.setattr(module, "usable_keyring", lambda: (made, "test"))
    return made


@pytest.fixture
def open_desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.loop.close()


def test_a_key_is_kept_shown_again_and_revoked_everywhere(open_desk: Desk, keyring: Keyring) -> None:
    desk = open_desk.desk
    made = desk.make(NewKey(name="Editor"))
    assert made.key.is_kept
    assert made.problem is None
    assert desk.secret(made.key.id) == made
    assert desk.state().keys == [made.key]
    answer: Any = Answer()
    desk.clients.begin(answer, Caller(made.key.id, "Editor"), "chat", "m")
    forgotten: list[str] = []
    desk.revoked = forgotten.append
    told = open_desk.told
    desk.revoke(made.key.id)
    assert open_desk.cancelled == [answer]
    assert forgotten == [made.key.id]
    assert open_desk.told > told
    assert desk.keys.find(made.secret.encode()) is None
    with pytest.raises(MissingKey):
        desk.clients.begin(answer, Caller(made.key.id, "Editor"), "chat", "m")
    for _ in range(500):
        if not keyring.kept:
            break
        open_desk.loop.run_until_complete(asyncio.sleep(0.01))
    assert keyring.kept == {}


def test_one_that_is_to_be_shown_once_is_kept_nowhere(open_desk: Desk, keyring: Keyring) -> None:
    made = open_desk.desk.make(NewKey(name="Editor", keep=False))
    assert not made.key.is_kept
    assert keyring.kept == {}
    with pytest.raises(NotFound, match="shown once"):
        open_desk.desk.secret(made.key.id)


def test_without_a_keyring_a_key_counts_all_the_same(
    open_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here() -> None:
        raise KeyringUnusableError("this system has no keyring")

    monkeypatch.setattr(key_copies, "usable_keyring", none_here)
    made = open_desk.desk.make(NewKey(name="Editor"))
    assert made.problem == "The key is shown this once, because this system has no keyring."
    assert open_desk.desk.keys.find(made.secret.encode()) == made.key


def test_another_secret_in_the_keyring_is_not_shown(open_desk: Desk, keyring: Keyring) -> None:
    made = open_desk.desk.make(NewKey(name="Editor"))
    for name in keyring.kept:
        keyring.kept[name] = "sm-another"
    with pytest.raises(NotFound, match="another one"):
        open_desk.desk.secret(made.key.id)
    keyring.kept.clear()
    with pytest.raises(NotFound, match="not in the keyring any more"):
        open_desk.desk.secret(made.key.id)


def test_a_keyring_that_took_a_secret_late(open_desk: Desk, keyring: Keyring) -> None:
    desk = open_desk.desk
    made = desk.make(NewKey(name="Editor", keep=False))
    desk._note_kept(made.key.id)
    assert desk.keys.get(made.key.id).is_kept
    desk.revoke(made.key.id)
    desk._note_kept(made.key.id)  # revoked meanwhile: it is taken out again
    assert desk.keys.listed() == []


def test_the_state_says_where_and_what_is_wrong(open_desk: Desk, tmp_path: Path) -> None:
    desk = open_desk.desk
    desk.listens("http://127.0.0.1:8642", None)
    state = desk.state()
    assert (state.base_url, state.origins, state.problem) == (
        "http://127.0.0.1:8642/v1",
        ["http://localhost:3000"],
        None,
    )
    desk.listens("http://127.0.0.1:1234", PortTaken("Others do not find it", "it is taken", "tell them"))
    problem = desk.state().problem
    assert problem is not None
    assert problem.code == "port_taken"
    DataFolder(tmp_path).client_keys.write_text("{")
    damaged = Desk(tmp_path)
    problem = damaged.desk.state().problem
    damaged.loop.close()
    assert problem is not None
    assert "not in order" in problem.text


def test_a_change_is_told(open_desk: Desk) -> None:
    made = open_desk.desk.make(NewKey(name="Editor", keep=False))
    told = open_desk.told
    assert open_desk.desk.change(made.key.id, ChangeKey(name="Other")).name == "Other"
    assert open_desk.told == told + 1
