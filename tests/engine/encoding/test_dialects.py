"""Shapes of other programs' conversations: what they can hold goes round without loss; the rest is refused."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st

from engine.conversation import Message, ToolCall, Written
from engine.encoding.dialects import from_anthropic, from_openai, reattach, to_anthropic, to_openai
from engine.encoding.dsml import to_json
from engine.errors import ConversationError
from tests.engine.encoding.completions import json_values
from tests.engine.encoding.properties import for_all

said = st.text(max_size=12)
names = st.text(min_size=1, max_size=8)
objects = st.dictionaries(st.text(max_size=5), json_values, max_size=3)
functions = st.builds(
    lambda name, about, parameters: to_json({"name": name, "description": about, "parameters": parameters}),
    names, said, objects,
)  # fmt: skip
tools = st.lists(functions, max_size=2).map(tuple)
forms = st.none() | objects.filter(bool).map(to_json)
calls = st.lists(st.builds(ToolCall, names, said | objects.map(to_json), said), max_size=3).map(tuple)
tasks = st.none() | st.sampled_from(["action", "query", "authority", "domain", "title", "read_url"])

openai_messages = st.lists(
    st.one_of(
        st.builds(
            Message, st.sampled_from(["system", "developer", "latest_reminder"]), said, tools=tools,
            response_format=forms, task=tasks, is_open=st.booleans(),
        ),
        st.builds(
            Message, st.just("assistant"), said, said, calls, tools=tools, response_format=forms, task=tasks,
            is_open=st.booleans(),
        ),
        st.builds(Message, st.just("user"), said, response_format=forms, task=tasks, is_open=st.booleans()),
        st.builds(Message, st.just("tool"), said, tool_call_id=said),
    ),
    max_size=6,
)  # fmt: skip

object_calls = st.lists(st.builds(ToolCall, names, objects.map(to_json), said), max_size=3).map(tuple)
anthropic_systems = st.builds(Message, st.just("system"), said, tools=tools).filter(
    lambda message: message.text or message.tools
)
anthropic_turns = st.lists(
    st.one_of(
        st.builds(Message, st.just("assistant"), said, said, object_calls),
        st.builds(Message, st.just("user"), said),
        st.builds(Message, st.just("tool"), said, tool_call_id=said),
    ),
    max_size=6,
)


@pytest.mark.slow
@for_all(openai_messages, examples=200)
def test_openais_shape_goes_round(messages: list[Message]) -> None:
    shapes = json.loads(json.dumps(to_openai(messages)))
    assert from_openai(shapes) == messages


@for_all(st.none() | anthropic_systems, anthropic_turns, examples=200)
def test_anthropics_shape_goes_round(system: Message | None, turns: list[Message]) -> None:
    messages = [*filter(None, [system]), *turns]
    assert from_anthropic(json.loads(json.dumps(to_anthropic(messages)))) == messages


@for_all(json_values, json_values)
def test_whatever_comes_in_is_read_or_refused(messages: Any, tools_: Any) -> None:
    for read in (lambda: from_openai(messages, tools_), lambda: from_anthropic(messages)):
        try:
            read()
        except ConversationError as error:
            assert error.text


SHAPES: list[Any] = [
    None, 1, "", "x", [], {}, [None], [{}], [{"role": None}], {"type": "text"}, {"type": "text", "text": 1},
    {"type": "text", "text": [{"type": "text", "text": "a"}]}, {"function": None}, {"function": {"name": 1}}, [[]],
]  # fmt: skip


@pytest.mark.parametrize(
    "key",
    [
        "role",
        "content",
        "tool_calls",
        "tool_call_id",
        "reasoning_content",
        "tools",
        "task",
        "response_format",
    ],
)
def test_any_value_of_any_field_is_read_or_refused(key: str) -> None:
    for value in SHAPES:
        for role in ("user", "assistant", "tool", "system"):
            for shape in ({"role": role, "content": "x", key: value}, {"role": role, "content": [value]}):
                for read in (
                    lambda shape=shape: from_openai([shape]),
                    lambda shape=shape: from_anthropic({"messages": [shape], "system": shape.get("content")}),
                ):
                    try:
                        for message in read():
                            assert isinstance(message.text, str)
                    except ConversationError as error:
                        assert error.text


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_nested_too_deeply_is_refused() -> None:
    for shape in (
        {"role": "system", "tools": [{"function": {"name": "f", "parameters": deep(100_000)}}]},
        {"role": "system", "response_format": deep(100_000)},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": deep(100_000)}}]},
    ):
        with pytest.raises(ConversationError, match="deeply"):
            from_openai([shape])
    with pytest.raises(ConversationError, match="deeply"):
        from_anthropic({"messages": [], "tools": [{"name": "f", "input_schema": deep(100_000)}]})


def test_tools_of_the_request_stand_in_the_system_message() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert from_openai([{"role": "user", "content": "Q"}], [tool]) == [
        Message("system", tools=('{"name": "f"}',)),
        Message("user", "Q"),
    ]
    both = from_openai([{"role": "system", "content": "S", "tools": [tool]}], [tool])
    assert both == [Message("system", "S", tools=('{"name": "f"}', '{"name": "f"}'))]


def test_list_content_is_joined_and_what_is_no_text_is_named() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert from_openai([{"role": "tool", "content": parts}])[0].text == "a\n\n[Unsupported image_url]\n\nb"
    assert from_openai([{"role": "assistant", "content": None}])[0].text == ""


def test_a_calls_id_may_stand_in_its_function_and_its_arguments_may_be_an_object() -> None:
    shape = {"function": {"name": "f", "arguments": {"a": 1}, "id": "7"}}
    assert from_openai([{"role": "assistant", "tool_calls": [shape]}])[0].tool_calls == (
        ToolCall("f", '{"a": 1}', "7"),
    )


def test_anthropic_has_neither_reminders_nor_a_second_system_message() -> None:
    for message in (Message("latest_reminder", "x"), Message("developer", "x")):
        with pytest.raises(ConversationError):
            to_anthropic([message])
    with pytest.raises(ConversationError):
        to_anthropic([Message("user", "x"), Message("system", "x")])


def test_anthropic_results_and_texts_share_a_turn() -> None:
    body = to_anthropic([Message("tool", "r", tool_call_id="1"), Message("user", "and")])
    assert [block["type"] for block in body["messages"][0]["content"]] == ["tool_result", "text"]


# --- reattaching ----------------------------------------------------------------------------------------


def recall_of(known: Mapping[str, tuple[str, Sequence[int]]]) -> Any:
    asked: list[list[str]] = []

    def recall(ids: Sequence[str]) -> Mapping[str, tuple[str, Sequence[int]]]:
        asked.append(list(ids))
        return {id_: known[id_] for id_ in ids if id_ in known}

    return recall, asked


@for_all(openai_messages)
def test_what_a_client_strips_is_attached_again(messages: list[Message]) -> None:
    messages = [
        dataclasses.replace(
            message,
            reasoning=message.reasoning if message.tool_calls else "",
            tool_calls=tuple(
                dataclasses.replace(call, id=f"{number}.{place}")
                for place, call in enumerate(message.tool_calls)
            ),
        )
        for number, message in enumerate(messages)
    ]
    recall, _ = recall_of(
        {message.tool_calls[-1].id: (message.reasoning, ()) for message in messages if message.tool_calls}
    )
    bare = [dataclasses.replace(message, reasoning="") for message in messages]
    assert reattach(bare, recall) == messages


def test_what_a_client_kept_stays_and_nothing_is_asked_for_in_vain() -> None:
    call = (ToolCall("f", "{}", "1"),)
    recall, asked = recall_of({"1": ("stored", (5, 6))})
    nameless = [Message("user", "Q"), Message("assistant", "B"), Message("tool", "R", tool_call_id="1")]
    assert reattach(nameless, recall) == nameless
    assert asked == []
    kept = [Message("user", "Q"), Message("assistant", "A", "mine", call), Message("assistant", "B")]
    assert reattach(kept, recall) == kept
    assert asked.pop() == ["1"]
    same = Message("assistant", "A", "stored", call)
    assert reattach([same], recall) == [dataclasses.replace(same, written=Written((5, 6), thinking=True))]
    assert asked.pop() == ["1"]
    bare = [Message("assistant", "A", "", call)]
    assert reattach(bare, recall) == [
        Message("assistant", "A", "stored", call, written=Written((5, 6), thinking=True))
    ]
    assert asked == [["1"]]
    assert reattach([Message("assistant", "A", "", (ToolCall("f", "{}", "2"),))], recall)[0].reasoning == ""


def test_an_answer_is_known_again_by_its_signature() -> None:
    recall, asked = recall_of({"sig": ("stored", (5, 6)), "plain": ("", (7,))})

    def answer(signature: str, thinking: str) -> Message:
        block = {"type": "thinking", "thinking": thinking, "signature": signature}
        content = [block, {"type": "text", "text": "A"}]
        turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": content}]
        return reattach(from_anthropic({"messages": turns}), recall)[-1]

    own = Written((5, 6), thinking=True)
    assert answer("sig", "stored").written == own
    # Left out by the client's wish, and put back.
    assert (answer("sig", "").reasoning, answer("sig", "").written) == ("stored", own)
    assert (answer("sig", "mine").reasoning, answer("sig", "mine").written) == ("mine", None)
    assert answer("another's", "stored").written is None
    assert answer("plain", "").written == Written((7,), thinking=False)
    before = len(asked)
    assert answer("x" * 5000, "").kept_as == "x" * 200
    assert len(asked) == before + 1
