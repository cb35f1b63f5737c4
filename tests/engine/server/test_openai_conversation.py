import json
from typing import Any

import pytest

from engine.answer_form import AnswerForm
from engine.conversation import Message
from engine.errors import BadRequest
from engine.server.answers import Served
from engine.server.openai_conversation import Said, Wanted, effort_of, said, schema_of

V4 = Served("m", "v4")
PLAIN = Served("m", "template")
HI = {"role": "user", "content": "Hi"}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]


def read(*messages: Any, served: Served = V4, goes_on: bool = False, **wanted: Any) -> Said:
    return said(served, messages, Wanted(**wanted), goes_on=goes_on)


def test_a_developers_instruction_joins_the_system_message() -> None:
    conversation = read(
        {"role": "system", "content": "A"}, {"role": "developer", "content": "B"}, HI, tools=TOOLS
    )
    first, last = conversation.messages
    assert (first.role, first.text, len(first.tools)) == ("system", "A\n\nB", 2)
    assert last == Message("user", "Hi")
    assert [function["name"] for function in conversation.functions] == ["f", "g"]
    assert read({"role": "developer", "content": "B"}, HI, served=PLAIN).messages[0].role == "system"


def test_parts_and_reasoning_by_other_names() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]
    answer = {"role": "assistant", "content": parts, "reasoning": "Hm"}
    assert read(answer, HI).messages[0] == Message("assistant", "a\n\nb", "Hm")
    assert read(answer, HI, served=PLAIN).messages[0].text == "ab"
    refused = {"role": "assistant", "content": None, "refusal": "No."}
    assert read(refused, HI).messages[0].text == "No."


@pytest.mark.parametrize("served", [V4, PLAIN])
def test_an_answer_is_gone_on_with(served: Served) -> None:
    begun = {"role": "assistant", "content": "So"}
    for conversation in (
        read(HI, begun | {"prefix": True}, served=served),
        read(HI, begun, served=served, goes_on=True),
    ):
        assert conversation.messages[-1] == Message("assistant", "So", is_open=True)


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([{"role": "assistant", "content": "So", "prefix": True}, HI], "prefix"),
        ([HI | {"prefix": True}], "messages.0.prefix"),
        ([HI, {"role": "assistant", "content": "So"}], "messages.1"),
        (
            [
                HI,
                {
                    "role": "assistant",
                    "prefix": True,
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
                },
            ],
            "prefix",
        ),
        ([{"role": "function", "name": "f", "content": "x"}], "messages.0.role"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages.0.content.0"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages.0.content.0"),
        ([{"role": "user", "content": [7]}], "messages.0.content.0"),
        ([{"role": "assistant", "function_call": {"name": "f"}}, HI], "messages.0.function_call"),
    ],
)
def test_what_cannot_be_put_to_the_model_is_named(messages: Any, place: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(*messages)
    assert f"`{place}" in refused.value.text


@pytest.mark.parametrize(
    "wanted",
    [
        {"tools": "f"},
        {"tools": ["f"]},
        {"tools": [{"type": "custom", "custom": {"name": "f"}}]},
        {"tools": [{"type": "function"}]},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "h"}}},
        {"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "f"}}},
        {"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}},
        {"tools": TOOLS, "tool_choice": "always"},
        {"tool_choice": "required"},
    ],
)
def test_tools_that_say_nothing_are_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        read(HI, **wanted)


def test_a_chat_template_has_no_tools() -> None:
    for messages, wanted in (
        ([HI], {"tools": TOOLS}),
        ([HI], {"tool_choice": "required"}),
        ([HI, {"role": "tool", "tool_call_id": "1", "content": "x"}], {}),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}, HI], {}),
    ):
        with pytest.raises(BadRequest):
            read(*messages, served=PLAIN, **wanted)  # type: ignore[arg-type]
    assert read(HI, served=PLAIN, tools=[], tool_choice="auto").functions == ()


def test_allowed_tools_stay_declared() -> None:
    for choice in (
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOLS[1]]}},
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
    ):
        conversation = read(HI, tools=TOOLS, tool_choice=choice)
        assert [function["name"] for function in conversation.functions] == ["g"]
        assert len(conversation.messages[0].tools) == 2


def test_what_format_an_answer_is_wanted_in() -> None:
    schema = {"type": "object", "properties": {"é": {"type": "string"}}}
    assert schema_of(None) is None
    assert schema_of({"type": "text"}) is None
    assert schema_of({"type": "json_object"}) == "{}"
    inner = {"name": "x", "schema": schema}
    assert schema_of({"type": "json_schema", "json_schema": inner}) == json.dumps(schema, ensure_ascii=False)
    assert schema_of({"type": "json_schema", **inner}, "text.format") == json.dumps(
        schema, ensure_ascii=False
    )
    for wrong in ("text", {"type": "grammar"}, {"type": "json_schema", "json_schema": []}, {}):
        with pytest.raises(BadRequest):
            schema_of(wrong)


@pytest.mark.parametrize(
    ("effort", "extra", "expected"),
    [
        (None, {}, (None, None)),
        ("low", {}, ("low", None)),
        ("high", {"thinking": {"type": "disabled"}}, ("none", None)),
        (None, {"thinking": {"type": "enabled", "budget_tokens": 9}}, (None, 9)),
        (None, {"chat_template_kwargs": {"thinking": False}}, ("none", None)),
        (None, {"chat_template_kwargs": {"enable_thinking": False}}, ("none", None)),
        (None, {"chat_template_kwargs": {"thinking": True, "reasoning_effort": "max"}}, ("max", None)),
        (None, {"chat_template_kwargs": "x"}, (None, None)),
    ],
)
def test_efforts(effort: str | None, extra: dict[str, Any], expected: object) -> None:
    assert effort_of(effort, extra) == expected


@pytest.mark.parametrize(
    ("effort", "extra"),
    [
        (7, {}),
        (None, {"thinking": True}),
        (None, {"thinking": {"type": "sometimes"}}),
        (None, {"thinking": {"type": "enabled", "budget_tokens": -1}}),
        (None, {"thinking": {"type": "enabled", "budget_tokens": True}}),
    ],
)
def test_efforts_that_mean_nothing(effort: Any, extra: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        effort_of(effort, extra)


def test_nothing_is_asked_for_by_nothing() -> None:
    assert read(HI).form == AnswerForm()
