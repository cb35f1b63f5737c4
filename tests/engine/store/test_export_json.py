"""A conversation as a file that holds all of it."""

import json
from pathlib import Path

import pytest

from engine.errors import BadRequest, NotFound
from engine.store import export_json
from engine.store.export_json import document_of, json_of
from engine.store.sessions import SessionStore
from tests.engine.store.conversations import fill


@pytest.fixture
def store(tmp_path: Path):
    opened = SessionStore.open(tmp_path / "sessions.db")
    yield opened
    opened.close()


def test_all_that_is_stored_is_in_the_file(store: SessionStore) -> None:
    session_id = fill(store)
    stored = store.session(session_id)
    table = json.loads(json_of(document_of(store.database, session_id)))
    assert (table["format"], table["version"]) == ("seamount-conversation", 1)
    assert table["session"]["tools"] == [tool.model_dump() for tool in stored.tools]
    assert table["session"]["leaf_id"] == stored.leaf_id
    assert [each["id"] for each in table["messages"]] == [each.id for each in stored.messages]
    for written, message in zip(table["messages"][:-1], stored.messages[:-1], strict=True):
        more = {name: written.pop(name) for name in ("sampling", "token_ids")}
        assert written == message.model_dump()
        assert more["token_ids"] == store.token_ids(message.id)
    answer = json.loads(json_of(document_of(store.database, session_id)))["messages"][1]
    assert answer["token_ids"] == [1, 2, 3, 2**32 - 1]
    assert answer["sampling"] == {"temperature": 0.3, "top_p": 0.95, "min_p": 0.05, "seed": 11}


def test_an_answer_that_is_being_written_is_in_it_as_cut_off(store: SessionStore) -> None:
    session_id = fill(store)
    running = store.session(session_id).messages[-1]
    assert running.status == "running"
    store.append(running.id, "so far", [7])
    last = document_of(store.database, session_id).messages[-1]
    assert (last.status, last.finish_reason, last.text) == ("interrupted", "interrupted", "so far")
    assert last.token_ids == (7,)


def test_what_no_seamount_would_read_back_is_refused(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = document_of(store.database, fill(store))
    monkeypatch.setattr(export_json, "MOST_DOCUMENT_BYTES", 100)
    with pytest.raises(BadRequest, match="export it as Markdown"):
        json_of(document)


def test_there_is_no_such_conversation(store: SessionStore) -> None:
    with pytest.raises(NotFound):
        document_of(store.database, "nobody")
