"""Sealed values stay in their row and column, nothing that holds a conversation is forgotten, and no key opens less."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import DataFolderError, KeyMissing, SealBroken
from engine.protocol import ErrorBody, Sampling, Thought, Tool, ToolCall
from engine.store.compaction import compact
from engine.store.resealing import reseal
from engine.store.sealed_columns import SEALED
from engine.store.sealing import AesCipher, MasterKey
from engine.store.sessions import SessionStore

KEY = MasterKey(bytes(range(32)))
CIPHER = AesCipher(KEY, "rows")
NOT_SEALED = {
    "session": {"id", "leaf_id", "title_by"},
    "message": {
        "id", "role", "status", "model_id", "finish_reason", "error_code", "usage", "sampling", "mode",
        "tool_call_id", "continued",
    },
    "chunk": {"part"},
    "search_text": set[str](),
    "written_call": {"id"},
    "kept_state": {"state"},
    "forgotten_state": {"state"},
    "sealing": {"key_id", "proof"},
}  # fmt: skip
"""Columns that hold bytes or text, and nothing of what was said: ids, numbers, names of models."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.db"
    reseal(path, None, CIPHER, KEY.id)
    return path


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    opened = SessionStore.open(path, CIPHER)
    yield opened
    opened.close()


def talk(store: SessionStore, mark: str, *, ended: bool = True) -> tuple[str, str]:
    """(session, answer), with `mark` in everything that can hold text."""
    session = store.create_session(f"title {mark}")
    store.change_session(session.id, tools=[Tool(function={"name": "look", "description": f"tool {mark}"})])
    _, answer = store.begin_turn(
        session.id, parent_id=None, question=f"question {mark}", model_id="m", sampling=Sampling(seed=1)
    )
    store.append(answer.id, f"thought {mark}", [70_001, 70_002], "reasoning")
    store.append(answer.id, f"answer {mark}", [70_003, 70_004])
    if ended:
        store.end_turn(
            answer.id,
            status="failed",
            finish_reason="error",
            error=ErrorBody(code="generation", text=f"error {mark}"),
            thought=Thought(tokens=2, elapsed_s=1),
            tool_calls=[ToolCall(id=f"call_{answer.id}", name="look", arguments=f'{{"a": "{mark}"}}')],
            notices=[f"notice {mark}"],
        )
    return session.id, answer.id


def columns(path: Path) -> dict[str, set[str]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            table: {
                row[1]
                for row in connection.execute(f"PRAGMA table_info({table})")
                if row[2] in ("TEXT", "BLOB", "ANY")
            }
            for table in tables
        }


def test_every_column_is_sealed_or_known_to_hold_nothing_said(path: Path) -> None:
    found = columns(path)
    assert set(found) == set(NOT_SEALED)
    for table, names in found.items():
        sealed = set(SEALED.get(table, {}))
        assert sealed <= names
        assert names - sealed <= NOT_SEALED[table], f"is what {table} holds there part of a conversation?"


def test_what_is_said_comes_back_and_is_nowhere_plain(store: SessionStore, path: Path) -> None:
    session, answer = talk(store, "Märchen")
    running, unfinished = talk(store, "Märchen", ended=False)
    store.remember_calls(["call_x"], "thought Märchen", [70_005])
    message = store.session(session).messages[-1]
    assert (message.text, message.reasoning, message.notices) == (
        "answer Märchen",
        "thought Märchen",
        ["notice Märchen"],
    )
    assert message.error is not None and message.error.text == "error Märchen"
    assert message.tool_calls[0].arguments == '{"a": "Märchen"}'
    assert store.session(running).messages[-1].text == "answer Märchen"
    assert store.tools(session)[0].function["description"] == "tool Märchen"
    assert {each.title for each in store.list_sessions()} == {"title Märchen"}
    assert store.token_ids(answer) == store.token_ids(unfinished) == [70_001, 70_002, 70_003, 70_004]
    assert store.recall(["call_x", f"call_{answer}"]) == {
        "call_x": ("thought Märchen", [70_005]),
        f"call_{answer}": ("thought Märchen", [70_001, 70_002, 70_003, 70_004]),
    }
    assert {each.id for each in store.list_sessions("QUESTION mär")} == {session, running}
    assert store.list_sessions("nothing of this") == []
    for file in path.parent.iterdir():
        content = file.read_bytes()
        for mark in ("Märchen", "märchen", "marchen"):
            assert mark.encode() not in content, file
        assert (70_003).to_bytes(4, "little") not in content, file
    store.close()
    with closing(SessionStore.open(path, CIPHER)) as again:
        assert again.session(running).messages[-1].text == "answer Märchen"


@pytest.mark.parametrize(
    ("table", "column", "other_column"),
    [
        ("message", "text", "text"),
        ("message", "text", "reasoning"),
        ("message", "token_ids", "token_ids"),
        ("session", "title", "title"),
        ("session", "tools", "tools"),
        ("chunk", "text", "text"),
        ("chunk", "token_ids", "token_ids"),
    ],
)
def test_a_value_that_was_moved_does_not_open(
    store: SessionStore, path: Path, table: str, column: str, other_column: str
) -> None:
    first, _ = talk(store, "one", ended=table != "chunk")
    second, _ = talk(store, "two", ended=table != "chunk")
    with closing(sqlite3.connect(path)) as connection, connection:
        newest = connection.execute(f"SELECT max(number) FROM {table}").fetchone()[0]
        # Into the row before, which in `chunk` is another piece of the same answer; or into the column beside it.
        target = newest - 1 if column == other_column else newest
        connection.execute(
            f"UPDATE {table} SET {other_column} = (SELECT {column} FROM {table} WHERE number = {newest})"
            f" WHERE number = {target}"
        )
    if (table, column) == ("session", "title"):
        # The list stays readable; that one has no title.
        assert {each.title for each in store.list_sessions()} == {"", "title two"}
        return
    with pytest.raises(SealBroken) as caught:
        for session in (first, second):
            for message in store.session(session).messages:
                store.token_ids(message.id)
    assert "one" not in caught.value.text.split()


def test_an_encrypted_store_sorts_nothing_into_files(store: SessionStore) -> None:
    talk(store, "one")
    for _ in range(2):
        with store.database.reading() as connection:
            assert connection.execute("PRAGMA temp_store").fetchone()[0] == 2
        compact(store.database)
    assert [each.title for each in store.list_sessions()] == ["title one"]


def test_a_damaged_search_text_does_not_stop_the_search(store: SessionStore, path: Path) -> None:
    session, _ = talk(store, "one")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE search_text SET folded = 'plain' WHERE rowid = 1")
    assert [each.id for each in store.list_sessions("answer one")] == [session]


def test_without_the_key_nothing_is_opened_and_nothing_changed(store: SessionStore, path: Path) -> None:
    talk(store, "one", ended=False)
    store.close()
    before = path.read_bytes()
    for cipher, why in ((None, "not in the keyring"), (AesCipher(MasterKey.new(), "rows"), "not theirs")):
        with pytest.raises(KeyMissing, match=why) as caught:
            SessionStore.open(path, cipher)
        assert KEY.id in caught.value.text
        assert path.read_bytes() == before
        log = path.with_name("sessions.db-wal")
        assert not log.exists() or log.stat().st_size == 0


def test_a_plain_store_is_not_taken_for_an_encrypted_one(tmp_path: Path) -> None:
    path = tmp_path / "plain.db"
    with pytest.raises(DataFolderError, match="expected to be encrypted"):
        SessionStore.open(path, CIPHER)
    assert not path.exists()
    SessionStore.open(path).close()
    with pytest.raises(DataFolderError, match="expected to be encrypted"):
        SessionStore.open(path, CIPHER)
