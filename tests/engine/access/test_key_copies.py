"""The keyring's side of keys, with keyrings that work, are missing, are silent."""

import threading

import pytest

from engine import kept_secrets, system_keyring
from engine.access import key_copies
from engine.access.key_copies import KeyCopies
from engine.system_keyring import KeyringUnusableError


class Keyring:
    """In memory; `let` holds each call until it is set."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.let = threading.Event()
        self.let.set()

    def get_password(self, service: str, username: str) -> str | None:
        self.let.wait(10)
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.let.wait(10)
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Keyring:
    made = Keyring()
    for module in (key_copies, kept_secrets):
        monkeypatch.setattr(module, "usable_keyring", lambda: (made, "test"))
    return made


def never() -> None:
    raise AssertionError


def test_a_secret_is_kept_found_and_forgotten(keyring: Keyring) -> None:
    secrets = KeyCopies()
    assert secrets.keep("one", "sm-1", never) is None
    assert secrets.find("one") == "sm-1"
    assert secrets.find("two") is None
    kept_secrets.forget_kept(key_copies.name_of("one"))
    assert keyring.kept == {}


def test_a_system_without_one_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here() -> None:
        raise KeyringUnusableError(system_keyring.NONE_HERE)

    for module in (key_copies, kept_secrets):
        monkeypatch.setattr(module, "usable_keyring", none_here)
    secrets = KeyCopies()
    assert secrets.keep("one", "sm-1", never) == (
        "The key is shown this once, because this system has no keyring."
    )
    with pytest.raises(KeyringUnusableError):
        secrets.find("one")
    secrets.forget("one")


def test_a_silent_one_holds_nobody_up_and_is_heard_later(keyring: Keyring) -> None:
    keyring.let.clear()
    late = threading.Event()
    problem = KeyCopies(keep_timeout_s=0.01).keep("one", "sm-1", late.set)
    assert problem is not None
    assert "did not answer" in problem
    assert "sm-1" not in problem
    assert not late.is_set()
    keyring.let.set()
    assert late.wait(10)
    assert keyring.kept == {("seamount", "program one"): "sm-1"}
