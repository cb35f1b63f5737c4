"""Blocks and tools of Anthropic's dialect: read, or refused by the place where they stand."""

import json
from typing import Any

import pytest

from engine.errors import BadRequest
from engine.server.anthropic_shapes import (
    Conversation,
    InputMessage,
    MessagesRequest,
    NoThreads,
    Tool,
    checked_tools,
    merged,
    refuse,
    system_text,
)
from engine.server.replies import error_body, parse_body

CALL = {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "c1", "content": "R"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}


def turns(*messages: tuple[str, Any]) -> list[dict[str, Any]]:
    return merged([InputMessage(role=role, content=content) for role, content in messages])  # type: ignore[arg-type]


def refused(*messages: tuple[str, Any]) -> str:
    with pytest.raises(BadRequest) as caught:
        turns(*messages)
    return caught.value.text


def test_neighbours_of_one_role_are_one_turn() -> None:
    whole = turns(
        ("user", "a"),
        ("user", [{"type": "text", "text": "b"}]),
        ("assistant", "c"),
        ("system", "d"),
        ("user", "e"),
    )
    assert [(turn["role"], [block["text"] for block in turn["content"]]) for turn in whole] == [
        ("user", ["a", "b"]),
        ("assistant", ["c"]),
        ("user", ["d", "e"]),
    ]
    assert turns(("system", "s"), ("user", "a"))[0]["role"] == "system"


def test_many_messages_of_one_role_take_their_time_once() -> None:
    """Looked at again with each message, a hundred thousand would take minutes."""
    whole = turns(*[("user", "a")] * 20_000)
    assert len(whole) == 1 and len(whole[0]["content"]) == 20_000


def test_results_answer_the_calls_before_them() -> None:
    assert len(turns(("user", "Q"), ("assistant", [CALL]), ("user", [RESULT]))) == 3
    assert "'c1'" in refused(("user", "Q"), ("user", [RESULT]))
    assert "'c1'" in refused(("user", [RESULT]))
    assert "'c1'" in refused(("assistant", [CALL]), ("user", [RESULT, RESULT]))
    assert "messages.3" in refused(
        ("assistant", [CALL]), ("user", [RESULT]), ("assistant", "A"), ("user", [RESULT])
    )
    # What stands between is the user's too.
    assert len(turns(("assistant", [CALL]), ("system", "note"), ("user", [RESULT]))) == 2


@pytest.mark.parametrize(
    ("role", "block", "said"),
    [
        ("user", IMAGE, "`messages.0.content.0` is an image, and the model reads text alone"),
        ("user", {"type": "document", "source": {}}, "is a document"),
        ("user", {"type": "search_result"}, "'search_result'"),
        ("user", CALL, "'tool_use'"),
        ("user", {"type": "text", "text": 1}, "content.0.text` is not a text"),
        ("user", {"type": "text", "text": [{"type": "text"}]}, "is not a text"),
        ("user", {"type": "tool_result", "content": "x"}, "tool_use_id"),
        ("user", {"type": "tool_result", "tool_use_id": ""}, "tool_use_id"),
        ("user", {**RESULT, "content": {"a": 1}}, "neither a text nor a list"),
        ("user", {**RESULT, "content": ["x"]}, "content.0.content.0"),
        ("user", {**RESULT, "content": [{"type": "text", "text": None}]}, "content.0.content.0"),
        ("user", {"text": "x"}, "has no type"),
        ("user", {"type": ["text"]}, "has no type"),
        ("assistant", {**CALL, "input": "x"}, "is not an object"),
        ("assistant", {**CALL, "name": ""}, "name"),
        ("assistant", {"type": "server_tool_use", "id": "s"}, "'server_tool_use'"),
        ("assistant", {"type": "thinking", "thinking": None}, "thinking"),
        ("system", IMAGE, "an image"),
    ],
)
def test_a_block_that_is_not_read_is_refused_by_its_place(role: str, block: Any, said: str) -> None:
    assert said in refused((role, [block]))


def test_a_picture_in_a_result_is_no_reason_to_end_an_agents_work() -> None:
    result = {**RESULT, "content": [{"type": "text", "text": "seen"}, IMAGE]}
    assert turns(("assistant", [CALL]), ("user", [result]))[1]["content"] == [result]


def test_an_answer_that_calls_cannot_be_gone_on_with() -> None:
    assert "calls tools" in refused(("user", "Q"), ("assistant", [CALL]))
    assert len(turns(("user", "Q"), ("assistant", "It is "))) == 2


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ({"name": "web_search", "type": "web_search_20250305"}, "'web_search_20250305'"),
        ({"name": "bash", "type": "bash_20250124"}, "'bash_20250124'"),
        ({"name": "a b", "input_schema": {"type": "object"}}, "'a b'"),
        ({"name": "", "input_schema": {"type": "object"}}, "name"),
        ({"name": "x" * 129, "input_schema": {"type": "object"}}, "at most 128"),
        ({"name": 'f">', "input_schema": {"type": "object"}}, "name"),
        ({"name": "f"}, "input_schema"),
        ({"name": "f", "input_schema": {"type": "string"}}, "input_schema"),
    ],
)
def test_a_tool_that_is_none_of_the_clients_own_is_refused(tool: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        checked_tools([Tool(**tool)])
    assert said in caught.value.text and "tools.0" in caught.value.text


def test_two_tools_of_one_name_are_refused() -> None:
    tool = Tool(name="f", type="custom", input_schema={"type": "object"})
    assert checked_tools([tool]) == [tool]
    with pytest.raises(BadRequest, match=r"tools\.1"):
        checked_tools([tool, tool])


def test_the_system_message_is_texts() -> None:
    assert system_text(None) == ""
    blocks = [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}]
    assert system_text(blocks) == blocks
    with pytest.raises(BadRequest, match=r"system\.0"):
        system_text([IMAGE])


def request(**more: Any) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Q"}], **more}
    return parse_body(json.dumps(body).encode(), MessagesRequest)


@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens": 0},
        {"messages": []},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"thinking": {"type": "sometimes"}},
        {"thinking": {"type": "enabled", "budget_tokens": 0}},
        {"tool_choice": {"type": "maybe"}},
        {"output_config": {"format": {"type": "xml"}}},
        {"temperature": -1},
        {"top_k": 5},
        {"mcp_servers": [{"url": "x"}]},
        {"container": "c"},
    ],
)
def test_what_is_asked_for_in_vain_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        refuse(request(**more))


def test_a_conversation_is_not_held_here_and_the_client_is_told_in_its_way() -> None:
    for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}):
        with pytest.raises(NoThreads) as caught:
            refuse(request(thread=thread))
        details = error_body("/v1/messages", caught.value, 400)["error"]["details"]
        assert details == {"error_code": "thread_unsupported_request"}


def test_what_changes_nothing_is_let_be() -> None:
    asked = request(
        metadata={"user_id": "u"}, service_tier="auto", context_management={"edits": []}, mcp_servers=[], top_k=0,
        container=None, cache_control={"type": "ephemeral"}, something_new={"a": 1},
    )  # fmt: skip
    refuse(asked)


def test_the_newer_place_of_a_schema_counts() -> None:
    old, new = ({"type": "json_schema", "schema": {"title": name}} for name in ("old", "new"))
    assert request(output_format=old).form_schema == {"title": "old"}
    assert request(output_format=old, output_config={"format": new}).form_schema == {"title": "new"}
    assert request(output_config={"effort": "high"}).form_schema is None


def test_of_many_wrong_parts_one_is_told() -> None:
    for body in ({"messages": [{}] * 20_000}, {"tools": [{}] * 2_000}):
        with pytest.raises(BadRequest) as caught:
            parse_body(
                json.dumps({"model": "m", "messages": [{"role": "user", "content": ""}], **body}).encode(),
                Conversation,
            )
        assert getattr(caught.value.__cause__, "error_count")() < 10  # noqa: B009
