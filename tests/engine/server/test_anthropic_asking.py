"""What a request of Anthropic's dialect means for a model."""

import json
from typing import Any

import pytest

from engine.answer_form import ANY_FORM, AnswerForm
from engine.conversation import Message
from engine.errors import BadRequest
from engine.server.anthropic_asking import Asked, Way, asked_of
from engine.server.anthropic_shapes import Conversation
from engine.server.replies import parse_body

TOOL = {"name": "f", "description": "F", "input_schema": {"type": "object", "properties": {}}}
DECLARED = '{"name": "f", "description": "F", "parameters": {"type": "object", "properties": {}}}'


def ask(way: Way = "v4", **more: Any) -> Asked:
    body = {"model": "m", "messages": [{"role": "user", "content": "Q"}], **more}
    return asked_of(parse_body(json.dumps(body).encode(), Conversation), way)


def refused(way: Way = "v4", **more: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        ask(way, **more)
    return caught.value.text


@pytest.mark.parametrize(
    ("more", "effort", "budget"),
    [
        ({}, "none", None),
        ({"output_config": {"effort": "max"}}, "none", None),
        ({"thinking": {"type": "disabled"}}, "none", None),
        ({"thinking": {"type": "adaptive"}}, None, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low", None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, None, 2048),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": {"effort": "max"}}, "max", 2048),
    ],
)  # fmt: skip
def test_thinking_is_an_effort_and_a_budget(
    more: dict[str, Any], effort: str | None, budget: int | None
) -> None:
    asked = ask(**more)
    assert (asked.effort, asked.thinking_tokens) == (effort, budget)


def test_tools_stand_in_the_system_message() -> None:
    asked = ask(system=[{"type": "text", "text": "A"}, {"type": "text", "text": "B"}], tools=[TOOL])
    assert asked.messages == [Message("system", "A\n\nB", tools=(DECLARED,)), Message("user", "Q")]
    assert asked.functions == (json.loads(DECLARED),)
    assert asked.form == ANY_FORM


def test_what_is_checked_of_a_call_changes_nothing_of_what_the_model_reads() -> None:
    asked = ask(
        tools=[{**TOOL, "strict": True, "cache_control": {"type": "ephemeral"}, "defer_loading": True}]
    )
    assert asked.messages[0].tools == (DECLARED,)
    assert asked.functions[0]["strict"] is True
    none = ask(tools=[TOOL], tool_choice={"type": "none"})
    assert none.messages == ask(tools=[TOOL]).messages


@pytest.mark.parametrize(
    ("choice", "form"),
    [
        ({"type": "auto"}, ANY_FORM),
        ({"type": "none"}, AnswerForm(calls="none")),
        ({"type": "any", "disable_parallel_tool_use": True}, AnswerForm(calls="required", parallel=False)),
        ({"type": "tool", "name": "f"}, AnswerForm(calls="named", call_names=("f",))),
        ({"type": "auto", "disable_parallel_tool_use": True}, AnswerForm(parallel=False)),
    ],
)
def test_a_choice_of_tools_is_a_form(choice: dict[str, Any], form: AnswerForm) -> None:
    assert ask(tools=[TOOL], tool_choice=choice).form == form


def test_a_schema_is_a_form_that_the_model_is_told() -> None:
    schema = {"type": "object", "properties": {"é": {"type": "string"}}}
    for place in ({"output_format": {"type": "json_schema", "schema": schema}},
                  {"output_config": {"format": {"type": "json_schema", "schema": schema}}}):  # fmt: skip
        asked = ask(**place)
        assert asked.form.json_schema == json.dumps(schema, ensure_ascii=False)
        assert asked.messages[0] == Message("system", response_format=asked.form.json_schema)
        # Other models have their own ways to be told, or none.
        for way in ("template", "remote", "unknown"):
            assert ask(way, **place).messages == [Message("user", "Q")]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tools": [{**TOOL, "input_schema": {"type": "object", "properties": {"a": {"type": "objekt"}}}}]},
         "tools.0.input_schema"),
        ({"output_format": {"type": "json_schema", "schema": {"required": "a"}}}, "the schema of its output"),
        ({"tool_choice": {"type": "any"}}, "there are no tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "'g'"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "none of the tools"),
        ({"messages": [{"role": "system", "content": "S"}]}, "no other"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(more: dict[str, Any], said: str) -> None:
    assert said in refused(**more)


def test_the_last_answer_is_gone_on_with() -> None:
    asked = ask(messages=[{"role": "user", "content": "Q"}, {"role": "assistant", "content": "It is"}])
    assert asked.messages[-1] == Message("assistant", "It is", is_open=True)


def test_a_system_message_among_the_others() -> None:
    first = ask(system="A", messages=[{"role": "system", "content": "B"}, {"role": "user", "content": "Q"}])
    assert first.messages == [Message("system", "A\n\nB"), Message("user", "Q")]
    last = ask(messages=[{"role": "user", "content": "Q"}, {"role": "system", "content": "B"}])
    assert last.messages == [Message("user", "Q\n\nB")]


def test_a_model_with_a_chat_template_has_no_calls() -> None:
    assert "chat template" in refused("template", tools=[TOOL])
    assert ask("template", tools=[TOOL], tool_choice={"type": "none"}).messages == [Message("user", "Q")]
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    history = [{"role": "assistant", "content": [call]}, {"role": "user", "content": "Q"}]
    assert "messages.0" in refused("template", messages=history)
