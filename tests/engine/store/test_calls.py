"""What models wrote before their calls is found by the calls' ids, for as long as it may be."""

from pathlib import Path

import pytest

from engine.protocol import Sampling, ToolCall
from engine.store import calls
from engine.store.sessions import SessionStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path: Path):
    opened = SessionStore.open(path)
    yield opened
    opened.close()


def called(store: SessionStore, *call_ids: str, thought: str = "Hm.") -> str:
    """A session with an answer that makes these calls."""
    session = store.create_session()
    _, answer = store.begin_turn(
        session.id, parent_id=None, question="q", model_id="v4", sampling=Sampling(seed=1), mode="high"
    )
    store.append(answer.id, thought, [1, 2], "reasoning")
    store.append(answer.id, "<call>", [2**32 - 1], "call")
    store.end_turn(
        answer.id,
        status="complete",
        finish_reason="tool_calls",
        tool_calls=[ToolCall(id=call_id, name="f", arguments="{}") for call_id in call_ids],
    )
    return session.id


def test_calls_that_no_session_keeps_are_known_again(store: SessionStore, path: Path) -> None:
    store.remember_calls(["a", "b"], "Let me\0 see.", [1, 2, 2**32 - 1])
    store.remember_calls([], "of nothing", [9])
    store.remember_calls(["c"], "", [])
    store.close()
    store = SessionStore.open(path)
    whole = ("Let me� see.", [1, 2, 2**32 - 1])
    assert store.recall(["b", "a", "nowhere", "a"]) == {"a": whole, "b": whole}
    assert store.recall(["c"]) == {"c": ("", [])}
    assert store.recall([]) == store.recall(["\ud800", "\0"]) == {}
    store.close()


def test_a_call_that_is_remembered_again_is_what_it_was_last(store: SessionStore) -> None:
    store.remember_calls(["a"], "first", [1])
    store.remember_calls(["a"], "second", [2])
    assert store.recall(["a"]) == {"a": ("second", [2])}


def test_the_calls_of_a_session_are_known_too(store: SessionStore) -> None:
    called(store, "a", "b")
    whole = ("Hm.", [1, 2, 2**32 - 1])
    assert store.recall(["a", "b"]) == {"a": whole, "b": whole}


def test_the_oldest_are_forgotten(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert calls.WRITTEN_CALLS_KEPT == 10_000
    monkeypatch.setattr(calls, "WRITTEN_CALLS_KEPT", 5)
    names = [f"c{index}" for index in range(7)]
    for name in names[:5]:
        store.remember_calls([name], name, [])
    store.remember_calls(["c1"], "again", [])
    assert set(store.recall(names)) == set(names[:5])
    # A clock that is set back does not make the newest the oldest.
    monkeypatch.setattr("engine.store.calls.time.time", lambda: 1.0)
    called(store, *names[5:])
    assert set(store.recall(names)) == {"c1", "c3", "c4", "c5", "c6"}


def test_a_session_that_is_removed_takes_its_calls_along(store: SessionStore, path: Path) -> None:
    kept, gone, deleted = (
        called(store, "kept"),
        called(store, "gone", "gone too", thought="xylograph"),
        called(store, "deleted", thought="xylophone"),
    )
    store.remember_calls(["elsewhere"], "", [])
    names = ["kept", "gone", "gone too", "deleted", "elsewhere"]
    store.purge_session(gone)
    assert set(store.recall(names)) == {"kept", "deleted", "elsewhere"}
    assert b"xylograph" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    store.delete_session(deleted)
    assert "deleted" in store.recall(names), "its deletion can still be undone"
    store.close()
    store = SessionStore.open(path)
    assert set(store.recall(names)) == {"kept", "elsewhere"}
    assert [each.id for each in store.list_sessions()] == [kept]
    assert b"xylophone" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    store.close()


def test_very_many_calls_are_asked_for_at_once(store: SessionStore) -> None:
    store.remember_calls(["a"], "Hm.", [1])
    assert store.recall(["a", *(f"c{index}" for index in range(100_000))]) == {"a": ("Hm.", [1])}


def test_what_is_older_than_a_month_is_forgotten(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "SIZES_EVERY", 2)
    monkeypatch.setattr("engine.store.calls.time.time", lambda: 1000.0)
    names = [f"c{index}" for index in range(4)]
    for name in names:
        store.remember_calls([name], "Hm.", [1])
    monkeypatch.setattr("engine.store.calls.time.time", lambda: 1000.0 + calls.KEPT_S)
    store.remember_calls(["just in time"], "Hm.", [1])
    assert set(store.recall([*names, "just in time"])) == {*names, "just in time"}
    monkeypatch.setattr("engine.store.calls.time.time", lambda: 1001.0 + calls.KEPT_S)
    store.remember_calls(["new"], "Hm.", [2])
    assert set(store.recall(names)) == {"c2", "c3"}, "two at a time"
    store.remember_calls(["newer"], "Hm.", [2])
    assert set(store.recall([*names, "just in time", "new", "newer"])) == {"just in time", "new", "newer"}


@pytest.mark.parametrize(
    ("reasoning", "ids"), [("Hm.", [7] * 300), ("x" * 1200, [])], ids=["tokens", "of another machine"]
)
def test_the_oldest_go_where_all_of_them_are_too_large(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch, reasoning: str, ids: list[int]
) -> None:
    monkeypatch.setattr(calls, "IDS_BYTES_KEPT", 4 * 1000)
    monkeypatch.setattr(calls, "SIZES_EVERY", 4)
    for index in range(12):
        store.remember_calls([f"c{index}"], reasoning, ids)
    kept = sorted(int(name[1:]) for name in store.recall([f"c{index}" for index in range(12)]))
    assert kept == list(range(kept[0], 12))
    assert 3 <= len(kept) <= 3 + 4


def test_all_of_them_are_forgotten_and_nothing_is_left(store: SessionStore, path: Path) -> None:
    store.remember_calls(["a"], "xylograph", [1])
    with store.database.transaction() as connection:
        calls.forget_all_calls(connection)
    store.database.forget()
    assert store.recall(["a"]) == {}
    assert b"xylograph" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
