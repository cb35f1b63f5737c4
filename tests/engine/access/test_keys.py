"""Keys of other programs: what is kept of them, what opens, and files that are not in order."""

import json
import os
from pathlib import Path

import pytest

from engine.access import keys as access_keys
from engine.access.keys import PREFIX, ClientKeys
from engine.errors import BadRequest, Conflict, DataFolderError, DiskFull, NewerData, NotFound
from engine.protocol_access import ChangeKey, KeyLimits, NewKey, SteadyRules


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "client-keys.json"


def test_a_secret_opens_its_key_and_is_in_no_file(path: Path) -> None:
    keys = ClientKeys(path)
    key, secret = keys.make(NewKey(name=" My \t editor\n", is_network=True))
    other, other_secret = keys.make(NewKey(name="Agent"))
    assert secret.startswith(PREFIX)
    assert len(secret) > 40
    assert (key.name, key.is_network) == ("My editor", True)
    assert keys.find(secret.encode()) == key
    assert keys.find(other_secret.encode()) == other
    for wrong in (b"", secret[:-1].encode(), secret.upper().encode(), secret.encode() + b" ", b"x" * 10_000):
        assert keys.find(wrong) is None
    content = path.read_bytes()
    assert secret.encode() not in content
    assert secret[len(PREFIX) :].encode() not in content
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    assert ClientKeys(path).listed() == [key, other]
    assert ClientKeys(path).find(secret.encode()) == key


def test_a_revoked_key_opens_nothing_then_and_later(path: Path) -> None:
    keys = ClientKeys(path)
    key, secret = keys.make(NewKey(name="Editor"))
    keys.revoke(key.id)
    assert keys.find(secret.encode()) is None
    assert ClientKeys(path).listed() == []
    keys.used(key.id, "late")  # a request of it was still under way
    keys.settle()
    assert ClientKeys(path).listed() == []
    for call in (keys.revoke, keys.get):
        with pytest.raises(NotFound):
            call(key.id)


def test_what_is_named_is_changed_and_the_rest_stays(path: Path) -> None:
    keys = ClientKeys(path)
    key, _ = keys.make(NewKey(name="Editor"))
    keys.make(NewKey(name="Agent"))
    changed = keys.change(key.id, ChangeKey(limits=KeyLimits(answer_tokens=5)))
    assert (changed.name, changed.limits.answer_tokens) == ("Editor", 5)
    changed = keys.change(key.id, ChangeKey(name="Other", steady=SteadyRules(pin=True)))
    assert (changed.name, changed.limits.answer_tokens, changed.steady.pin) == ("Other", 5, True)
    assert ClientKeys(path).get(key.id) == changed
    with pytest.raises(Conflict):
        keys.change(key.id, ChangeKey(name="Agent"))
    with pytest.raises(Conflict):
        keys.make(NewKey(name="Agent"))
    with pytest.raises(BadRequest):
        keys.make(NewKey(name="\x1b \n"))


def test_there_are_not_more_than_may_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_keys, "MOST_KEYS", 2)
    keys = ClientKeys(path)
    for name in "ab":
        keys.make(NewKey(name=name))
    with pytest.raises(Conflict, match="revoke"):
        keys.make(NewKey(name="c"))


def test_the_file_follows_by_and_by(path: Path) -> None:
    clock = Clock()
    keys = ClientKeys(path, clock)
    key, _ = keys.make(NewKey(name="Editor"))
    clock.now += 5
    keys.used(key.id, "Editor/1.2")
    listed = keys.listed()[0]
    assert (listed.last_used_at, listed.last_used_by) == (clock.now, "Editor/1.2")
    assert ClientKeys(path).listed()[0].last_used_at is None
    keys.settle()
    assert ClientKeys(path).listed() == [listed]


def _file(**key: object) -> bytes:
    return json.dumps({"format": 1, "keys": [{"name": "a", "created_at": 0, **key}]}).encode()


BROKEN = {
    "not json": b"{",
    "not an object": b"[]",
    "no format": b"{}",
    "deep": b"[" * 100_000,
    "large": b" " * (2 << 20),
    "a digest that is none": _file(id="0123456789abcdef", digest="x"),
    "an id of another form": _file(id="../../x", digest="0" * 64),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_opens_nothing_and_is_left_as_it_is(path: Path, name: str) -> None:
    path.write_bytes(BROKEN[name])
    keys = ClientKeys(path)
    assert isinstance(keys.problem, DataFolderError)
    assert str(path) in keys.problem.text
    assert keys.listed() == []
    assert keys.find(b"sm-x") is None
    with pytest.raises(DataFolderError):
        keys.make(NewKey(name="Editor"))
    keys.settle()
    assert path.read_bytes() == BROKEN[name]


def test_a_key_that_is_there_twice_is_damage(path: Path) -> None:
    ClientKeys(path).make(NewKey(name="a"))
    body = json.loads(path.read_bytes())
    body["keys"] *= 2
    path.write_text(json.dumps(body))
    assert ClientKeys(path).problem is not None


def test_a_newer_file_is_left_alone(path: Path) -> None:
    path.write_text('{"format": 2, "keys": []}')
    keys = ClientKeys(path)
    assert isinstance(keys.problem, NewerData)
    with pytest.raises(NewerData):
        keys.make(NewKey(name="a"))


@pytest.mark.skipif(os.name != "posix", reason="this system has no such permissions")
def test_a_file_that_others_may_write_opens_nothing(path: Path) -> None:
    _, secret = ClientKeys(path).make(NewKey(name="a"))
    path.chmod(0o622)
    keys = ClientKeys(path)
    assert keys.find(secret.encode()) is None
    assert keys.problem is not None
    assert "other users may write it" in keys.problem.text
    path.chmod(0o600)
    assert ClientKeys(path).find(secret.encode()) is not None


def test_a_disk_that_takes_nothing_lets_nobody_in_and_keeps_nobody_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ClientKeys(path)
    key, secret = keys.make(NewKey(name="a"))
    other, _ = keys.make(NewKey(name="b"))

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(access_keys, "write_atomically", full)
        with pytest.raises(DataFolderError):
            keys.make(NewKey(name="c"))
        with pytest.raises(DataFolderError):
            keys.change(key.id, ChangeKey(name="d"))
        assert keys.listed() == [key, other]
        keys.used(key.id, "x")
        keys.settle()
        with pytest.raises(DiskFull, match=r"'a' opens nothing while this engine runs.*full"):
            keys.revoke(key.id)
        assert keys.find(secret.encode()) is None
        assert keys.listed() == [other]
        assert ClientKeys(path).find(secret.encode()) is not None
    keys.settle()  # as at the engine's end
    assert ClientKeys(path).find(secret.encode()) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_in_its_place_opens_nothing_and_holds_nobody_up(path: Path) -> None:
    os.mkfifo(path)
    problem = ClientKeys(path).problem
    assert problem is not None
    assert "it is no file" in problem.text
