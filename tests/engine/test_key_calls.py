"""What was written for one key is known to no other."""

from pathlib import Path

import pytest

from engine.callers import WINDOW_KEY
from engine.errors import KeyMissing
from engine.key_calls import KeyCalls
from engine.store.sessions import SessionStore

ONE, OTHER = "0" * 16, "1" * 16


@pytest.fixture
def store(tmp_path: Path):
    opened = SessionStore.open(tmp_path / "sessions.db")
    yield opened
    opened.close()


@pytest.mark.parametrize("named", ["c", f"{ONE}/c", f"/{ONE}/c", "../c", f"{WINDOW_KEY}/c"])
def test_no_key_finds_what_was_written_for_another(store: SessionStore, named: str) -> None:
    KeyCalls(store, ONE).remember_calls(["c"], "Hm.", [1])
    store.remember_calls(["w"], "the window's", [2])
    assert KeyCalls(store, ONE).recall(["c", "w"]) == {"c": ("Hm.", [1])}
    assert KeyCalls(store, OTHER).recall([named, "w"]) == {}


def test_two_keys_may_have_one_id(store: SessionStore) -> None:
    """Ids of other machines' calls are not ours, and need not be random."""
    for key_id in (ONE, OTHER, WINDOW_KEY):
        KeyCalls(store, key_id).remember_calls(["call_0"], key_id, [])
    for key_id in (ONE, OTHER, WINDOW_KEY):
        assert KeyCalls(store, key_id).recall(["call_0"]) == {"call_0": (key_id, [])}


def test_the_engines_own_key_finds_the_windows_conversations(store: SessionStore) -> None:
    store.remember_calls(["w"], "Hm.", [2])
    assert KeyCalls(store, WINDOW_KEY).recall(["w", "x"]) == {"w": ("Hm.", [2])}


def test_while_conversations_are_locked_programs_are_answered_without_it(tmp_path: Path) -> None:
    why = KeyMissing("The conversations are locked", "their key is not here", "give it")
    calls = KeyCalls(SessionStore.locked(tmp_path / "sessions.db", why), ONE)
    assert calls.recall(["c"]) == {}
    with pytest.raises(KeyMissing):  # the answer's end is told all the same, see `completion_answer`
        calls.remember_calls(["c"], "Hm.", [1])
