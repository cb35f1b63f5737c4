from typing import Any

import pytest

from engine.errors import BadRequest
from engine.server.openai_items import KEPT, functions_of, kept_reasoning, messages_of


def call(call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}


def told(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "function": {"name": "f", "arguments": "{}"}}


def text(value: str) -> dict[str, Any]:
    return {"type": "output_text", "text": value}


def test_a_text_is_a_users_message_behind_the_instructions() -> None:
    assert messages_of("Be kind.", "Hi") == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
    ]
    assert messages_of(None, [{"role": "developer", "content": "Hm"}]) == [
        {"role": "developer", "content": "Hm"}
    ]


def test_items_that_lie_together_are_one_answer() -> None:
    items = [
        {"role": "user", "content": "Hi"},
        {
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "I "}, {"text": "see."}],
        },
        {"type": "message", "role": "assistant", "content": [text("a"), text("b")]},
        call("1"),
        call("2"),
        {"type": "function_call_output", "call_id": "1", "output": "one"},
        {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "two"}]},
        call("3"),
        # A message behind a call is another answer's, and reasoning begins one.
        {"type": "message", "role": "assistant", "content": "Done."},
        {"type": "reasoning", "summary": [{"text": "no"}], "encrypted_content": kept_reasoning("So.")},
        call("4"),
    ]
    assert messages_of(None, items) == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "reasoning_content": "I see.",
            "content": [text("a"), text("b")],
            "tool_calls": [told("1"), told("2")],
        },
        {"role": "tool", "tool_call_id": "1", "content": "one"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "input_text", "text": "two"}]},
        {"role": "assistant", "tool_calls": [told("3")]},
        {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
        {"role": "assistant", "reasoning_content": "So.", "tool_calls": [told("4")]},
    ]


def test_reasoning_that_nobody_here_can_read_is_left_out() -> None:
    items = [
        {"role": "user", "content": "Hi"},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "x"}],
            "encrypted_content": "gAAA",
        },
        {"role": "user", "content": "And?"},
    ]
    assert [message["content"] for message in messages_of(None, items)] == ["Hi", "And?"]


def test_kept_reasoning_comes_back_as_it_was_and_clean() -> None:
    assert kept_reasoning("né").startswith(KEPT)
    item = {"type": "reasoning", "encrypted_content": kept_reasoning("a\x00é")}
    assert messages_of(None, [item])[0]["reasoning_content"] == "a�é"


@pytest.mark.parametrize(
    ("item", "place"),
    [
        ("text", "input.0"),
        ({"type": "item_reference", "id": "x"}, "item_reference"),
        ({"type": "web_search_call"}, "web_search_call"),
        ({"type": "x" * 5000}, "x" * 80),
        ({"type": 7}, "input.0.type = 7"),
        ({"type": "function_call", "call_id": "1", "name": "f", "arguments": {}}, "input.0"),
        ({"type": "function_call_output", "output": "x"}, "input.0.call_id"),
        ({"type": "function_call_output", "call_id": "1", "output": {"a": 1}}, "input.0.content"),
        ({"role": "user", "content": None}, "input.0.content"),
        ({"role": "user", "content": [{"type": "input_file", "file_url": "http://x"}]}, "reads text alone"),
        ({"role": "user", "content": ["x"]}, "input.0.content.0"),
        ({"type": "reasoning", "encrypted_content": KEPT + "?"}, "encrypted_content"),
        ({"type": "reasoning", "encrypted_content": KEPT + "/w=="}, "encrypted_content"),
    ],
)
def test_what_cannot_be_read_is_named(item: Any, place: str) -> None:
    with pytest.raises(BadRequest) as refused:
        messages_of(None, [item])
    assert place in refused.value.text
    assert len(refused.value.text) < 400


@pytest.mark.parametrize("items", ["", [], [{"type": "reasoning", "summary": []}]])
def test_nothing_is_no_question(items: Any) -> None:
    with pytest.raises(BadRequest, match="empty"):
        messages_of(None, items)


def test_functions_are_written_as_the_model_knows_them() -> None:
    tool = {
        "type": "function",
        "strict": False,
        "parameters": {"type": "object"},
        "name": "f",
        "description": None,
    }
    assert functions_of([tool]) == [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    ]
    assert functions_of([tool | {"strict": True}])[0]["function"]["strict"] is True  # type: ignore[index]
    assert functions_of(None) is None
    with pytest.raises(BadRequest, match=r"tools\.0\.type = file_search"):
        functions_of([{"type": "file_search"}])
