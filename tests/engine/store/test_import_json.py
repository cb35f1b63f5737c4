"""Conversations from files: what is exported comes back equal, and what anybody may have written is refused."""

import itertools
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError

from engine.errors import BadRequest, DataFolderError
from engine.protocol_storage import SessionDocument
from engine.store import import_json
from engine.store.export_json import document_of, json_of
from engine.store.import_json import add_document, parsed, read_document_file
from engine.store.inspection import Inspection
from engine.store.sealing import Ciphers, MasterKey
from engine.store.sessions import SessionStore
from tests.engine.store.conversations import documents, fill


@pytest.fixture
def store(tmp_path: Path):
    opened = SessionStore.open(tmp_path / "sessions.db")
    yield opened
    opened.close()


def without_ids(document: SessionDocument) -> Any:
    """The document with each id as the number of its first mention, so that only which are equal counts."""
    numbers: dict[str, int] = {}

    def number(given: str | None) -> int | None:
        return None if given is None else numbers.setdefault(given, len(numbers))

    table = document.model_dump(exclude={"seamount"})
    number(table["session"].pop("id"))
    for message in table["messages"]:
        message["id"], message["parent_id"] = number(message["id"]), number(message["parent_id"])
        message["tool_call_id"] = number(message["tool_call_id"])
        for call in message["tool_calls"]:
            call["id"] = number(call["id"])
    table["session"]["leaf_id"] = number(table["session"]["leaf_id"])
    return table


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=documents())
def test_out_and_in_and_out_again_is_the_same_but_for_ids(
    store: SessionStore, document: SessionDocument
) -> None:
    first = add_document(store.database, parsed(json_of(document)))
    exported = document_of(store.database, first)
    assert without_ids(exported) == without_ids(document)
    second = add_document(store.database, parsed(json_of(exported)))
    assert second != first
    assert without_ids(document_of(store.database, second)) == without_ids(document)
    # What was there is as it was, and by the rules of a store all is well.
    assert document_of(store.database, first) == exported
    assert Inspection(store.database).problems() == []


def test_ids_are_kept_where_they_are_free(store: SessionStore, tmp_path: Path) -> None:
    session_id = fill(store)
    exported = document_of(store.database, session_id)
    other = SessionStore.open(tmp_path / "other.db")
    assert add_document(other.database, parsed(json_of(exported))) == session_id
    assert document_of(other.database, session_id) == exported
    assert [each.id for each in other.list_sessions("rivers")] == [session_id]
    other.close()


def test_a_copy_that_is_removed_takes_nothing_of_the_first_with_it(store: SessionStore) -> None:
    session_id = fill(store)
    call_id = f"call_{session_id}"
    assert call_id in store.recall([call_id])
    copy = add_document(store.database, parsed(json_of(document_of(store.database, session_id))))
    messages = store.session(copy).messages
    [call] = messages[1].tool_calls
    assert call.id != call_id and messages[2].tool_call_id == call.id
    store.purge_session(copy)
    assert call_id in store.recall([call_id])


def test_into_an_encrypted_store_and_out_of_it(store: SessionStore, tmp_path: Path) -> None:
    exported = document_of(store.database, fill(store, "a very secret question"))
    path = tmp_path / "sealed.db"
    from engine.store.database import Database
    from engine.store.sealed_columns import mark_sealed

    key = MasterKey.new()
    rows = Ciphers.of(key).rows
    Database.open(path).close()
    with sqlite3.connect(path) as connection:
        mark_sealed(connection, key.id, rows)
    connection.close()
    sealed = SessionStore.open(path, rows)
    session_id = add_document(sealed.database, parsed(json_of(exported)))
    assert document_of(sealed.database, session_id) == exported
    assert [each.id for each in sealed.list_sessions("SECRET")] == [session_id]
    assert Inspection(sealed.database).problems() == []
    sealed.close()
    assert b"secret" not in path.read_bytes() and b"Rivers" not in path.read_bytes()


def changed(document: dict[str, Any], *place: str | int, to: Any) -> bytes:
    holder: Any = document
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = to
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("place", "to", "said"),
    [
        (("format",), "something else", "does not say that its format"),
        (("version",), 2, "install the newer Seamount"),
        (("session", "id"), "../../etc", "the session's id"),
        (("session", "id"), "", "the session's id"),
        (("session", "created_at"), -5, "the session's time"),
        (("session", "updated_at"), 1e300, "the session's time"),
        (("session", "leaf_id"), "nobody", "shown branch"),
        (("session", "title"), 5, "session.title"),
        (("session", "tools"), [{"function": 1}], "function"),
        (("messages", 0, "parent_id"), "nobody", "message 1 cannot be"),
        (("messages", 1, "status"), "running", "still being written"),
        (("messages", 0, "role"), "wizard", "role"),
        (("messages", 0, "token_ids"), [1], "what only an answer has"),
        (("messages", 1, "token_ids"), [-1], "token_ids"),
        (("messages", 1, "token_ids"), [2**32], "token_ids"),
        (("messages", 1, "token_ids"), "abc", "token_ids"),
        (("messages", 1, "id"), 7, "id"),
        (("messages", 1, "sampling"), {"temperature": -1}, "temperature"),
        (("messages", 1, "usage"), {}, "usage"),
        (("messages", 2, "tool_call_id"), "call_of_nobody", "did not make"),
        (("messages",), {}, "messages"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    store: SessionStore, place: tuple[str | int, ...], to: Any, said: str
) -> None:
    good = json.loads(json_of(document_of(store.database, fill(store))))
    with pytest.raises(BadRequest) as refused:
        parsed(changed(good, *place, to=to))
    assert said in refused.value.text
    assert refused.value.text.count("\n") == 0 and len(refused.value.text) < 500


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'"' + b"a" * 1000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"format": "seamount-conversation", "version": 1, "session": '
        + b'{"a":' * 5000
        + b"1"
        + b"}" * 5001,
    ],
)
def test_bytes_that_are_no_conversation_are_refused(content: bytes) -> None:
    with pytest.raises(BadRequest):
        parsed(content)


def test_tools_that_are_nested_too_deeply_are_refused_and_nothing_is_stored(store: SessionStore) -> None:
    good = json.loads(json_of(document_of(store.database, fill(store))))
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    content = changed(good, "session", "tools", to=[{"function": {"name": "f", "x": deep}}])
    before = store.list_sessions()
    for depth_is_fine in (content, changed(good, "session", "tools", to=[{"function": {"x": float("inf")}}])):
        try:
            add_document(store.database, parsed(depth_is_fine))
        except BadRequest:
            assert store.list_sessions() == before
        else:  # kept whole
            before = store.list_sessions()
    assert Inspection(store.database).problems() == []


def test_an_order_in_which_parents_come_later_is_refused(store: SessionStore) -> None:
    good = json.loads(json_of(document_of(store.database, fill(store))))
    good["messages"].reverse()
    with pytest.raises(BadRequest, match="not before it"):
        parsed(json.dumps(good).encode())


def test_a_circle_is_refused(store: SessionStore) -> None:
    good = json.loads(json_of(document_of(store.database, fill(store))))
    first, second = good["messages"][0], good["messages"][1]
    first["parent_id"] = second["id"]
    with pytest.raises(BadRequest, match="not before it"):
        parsed(json.dumps(good).encode())


def test_more_than_a_reader_takes_is_refused(
    store: SessionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json_of(document_of(store.database, fill(store)))
    monkeypatch.setattr(import_json, "MOST_MESSAGES", 2)
    with pytest.raises(BadRequest, match="more than 2 messages"):
        parsed(content)
    monkeypatch.setattr(import_json, "MOST_DOCUMENT_BYTES", 100)
    file = tmp_path / "big.json"
    file.write_bytes(content)
    read = read_document_file(file)
    assert len(read) == 101  # no more of it is read than is needed to refuse it
    with pytest.raises(BadRequest, match="more than 100 bytes"):
        parsed(read)


@pytest.mark.parametrize("place", [("messages",), ("messages", 1, "tool_calls"), ("session", "tools")])
def test_of_many_wrong_parts_one_is_told(store: SessionStore, place: tuple[str | int, ...]) -> None:
    """A million of them in three megabytes took six gigabytes and three minutes when each had its error."""
    document = json.loads(json_of(document_of(store.database, fill(store))))
    with pytest.raises(BadRequest) as caught:
        parsed(changed(document, *place, to=[{}] * 50_000))
    cause = caught.value.__cause__
    assert isinstance(cause, ValidationError) and cause.error_count() < 10


@pytest.mark.skipif(os.name == "nt", reason="no such pipes there")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataFolderError, match="no ordinary file"):
        read_document_file(tmp_path / "pipe")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="cannot be read"):
        read_document_file(tmp_path / "nowhere.json")


def test_nothing_of_a_document_is_stored_when_it_fails_in_the_middle(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = parsed(json_of(document_of(store.database, fill(store))))
    before = store.list_sessions()
    count = itertools.count()

    def full(*_: Any) -> None:
        if next(count) == 1:
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(import_json, "make_findable", full)
    with pytest.raises(sqlite3.OperationalError):
        add_document(store.database, document)
    assert store.list_sessions() == before and Inspection(store.database).problems() == []
