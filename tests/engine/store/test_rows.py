"""Token ids as bytes, lists as JSON, and a session's tools through the store."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.conversation import clean_text
from engine.errors import BadRequest, Conflict, NotFound
from engine.protocol import Tool, ToolCall
from engine.store.rows import calls_of, listed, packed, unpacked
from engine.store.sessions import SessionStore


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_token_ids_come_back(token_ids: list[int]) -> None:
    assert unpacked(packed(token_ids)) == token_ids


def test_the_layout_is_little_endian_uint32() -> None:
    assert packed([1, 0x01020304]) == bytes([1, 0, 0, 0, 4, 3, 2, 1])


def test_what_is_no_token_id_is_refused() -> None:
    for wrong in (-1, 2**32):
        with pytest.raises(struct.error):
            packed([wrong])


@given(st.lists(st.builds(ToolCall, id=st.text(), name=st.text(), arguments=st.text(), problem=st.text())))
def test_calls_come_back_clean(calls: list[ToolCall]) -> None:
    stored = listed(calls)
    assert (stored is None) == (not calls)
    cleaned = [
        ToolCall.model_validate({key: clean_text(value)[0] for key, value in call.model_dump().items()})
        for call in calls
    ]
    assert calls_of(stored) == cleaned


def test_what_cannot_be_read_is_logged_without_its_content(caplog: pytest.LogCaptureFixture) -> None:
    assert calls_of('[{"id": "a secret"}]') == []
    assert "tool_calls" in caplog.text and "missing" in caplog.text
    assert "secret" not in caplog.text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path: Path):
    opened = SessionStore.open(path)
    yield opened
    opened.close()


WEATHER = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"default": 1.0}}},
    "description": "Wetter \0\ud800",
    "strict": None,
}


def test_a_session_has_its_tools(store: SessionStore, path: Path) -> None:
    session, other = store.create_session("first"), store.create_session("second")
    assert store.tools(session.id) == store.session(session.id).tools == []
    before = store.list_sessions()
    tools = [Tool(function=WEATHER), Tool(function={"name": "time", "x": 2**70})]
    assert store.change_session(session.id, tools=tools) == session
    assert store.list_sessions() == before, "tools are not a use that reorders the list"
    store.close()
    store = SessionStore.open(path)
    kept = store.tools(session.id)
    assert kept == store.session(session.id).tools
    assert [list(each.function) for each in kept] == [list(WEATHER), ["name", "x"]]
    assert list(kept[0].function["parameters"]["properties"]) == ["z", "a"]
    assert kept[0].function["parameters"] == WEATHER["parameters"]
    assert kept[0].function["description"] == "Wetter ��"
    assert kept[1] == tools[1]
    assert store.tools(other.id) == []
    store.change_session(session.id, title="named")
    assert store.tools(session.id) == kept, "what is None stays"
    store.change_session(session.id, tools=[])
    assert store.tools(session.id) == []
    with pytest.raises(NotFound):
        store.tools("nowhere")
    store.delete_session(session.id)
    with pytest.raises(Conflict):
        store.change_session(session.id, tools=tools)
    store.close()


@pytest.mark.parametrize("depth", [10, 150, 190, 250, 900, 100_000])
def test_tools_are_kept_whole_or_refused(store: SessionStore, depth: int) -> None:
    deep: object = 1
    for _ in range(depth):
        deep = [deep]
    session = store.create_session()
    tools = [Tool(function={"name": "deep", "parameters": deep})]
    try:
        store.change_session(session.id, title="no", tools=tools)
    except BadRequest as error:
        assert depth > 150
        assert "nested too deeply" in error.text
        tools = []
    assert store.tools(session.id) == tools
    assert store.session(session.id).model_dump_json()
    assert store.list_sessions()[0].title == ("no" if tools else "")


def test_a_number_that_is_none_is_refused(store: SessionStore) -> None:
    session = store.create_session()
    with pytest.raises(BadRequest, match="tools cannot be kept"):
        store.change_session(session.id, tools=[Tool(function={"name": "f", "x": float("nan")})])
