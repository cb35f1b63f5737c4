"""A conversation in the words that each kind of server understands."""

from typing import Any

import pytest

from engine.answer_form import AnswerForm
from engine.backends.remote_request import GO_ON, RemoteRequest, body_of, chosen_sampling, modes_of
from engine.conversation import Message, ToolCall, Written
from engine.protocol import Sampling, Settings
from engine.protocol_remote import ContinueWay, EffortWay, RemoteFeatures, RemoteKind

TALK = [
    Message("system", "Be brief.", tools=('{"name": "f"}',)),
    Message("user", "One"),
    Message(
        "assistant", "1", "I think", (ToolCall("f", "{}", "c1"),), written=Written((1, 2), thinking=True)
    ),
    Message("tool", "ok", tool_call_id="c1"),
    Message("user", "Two"),
    Message("user", "Three"),
]


def known(*, effort: EffortWay = "none", goes_on: ContinueWay = "none", software: str = "") -> RemoteFeatures:
    return RemoteFeatures(
        checked_at=0,
        software=software,
        efforts="no" if effort == "none" else "yes",
        effort_by=effort,
        reasoning="yes" if effort != "none" else "unknown",
        continues="no" if goes_on == "none" else "yes",
        continue_by=goes_on,
    )


def content(
    asked: RemoteRequest, features: RemoteFeatures | None = None, kind: RemoteKind = "openai"
) -> dict[str, Any]:
    return body_of(asked, model="m", kind=kind, features=features).content


def test_only_what_every_server_knows_is_sent() -> None:
    body = content(RemoteRequest(TALK, functions=[{"name": "f"}], max_tokens=9, stop=("x",)))
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One"},
        {
            "role": "assistant",
            "content": "1",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "ok", "tool_call_id": "c1"},
        {"role": "user", "content": "Two\n\nThree"},
    ]
    assert body["tools"] == [{"type": "function", "function": {"name": "f"}}]
    assert (body["max_tokens"], body["stop"], body["stream"]) == (9, ["x"], True)
    assert set(body) == {"model", "stream", "stream_options", "max_tokens", "stop", "tools", "messages"}


@pytest.mark.parametrize(
    ("kind", "features"),
    [("deepseek", None), ("seamount", None), ("openai", known(effort="template"))],
)
def test_reasoning_before_calls_goes_back_to_who_understands_it(kind: RemoteKind, features: Any) -> None:
    messages = content(RemoteRequest(TALK, functions=[{"name": "f"}]), features, kind)["messages"]
    assert messages[2]["reasoning_content"] == "I think"
    plain = [Message("user", "a"), Message("assistant", "b", "I think"), Message("user", "c")]
    assert "reasoning_content" not in content(RemoteRequest(plain), features, kind)["messages"][1]


@pytest.mark.parametrize(
    ("way", "mode", "said"),
    [
        ("thinking", "non-think", {"thinking": {"type": "disabled"}}),
        ("thinking", "max", {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}),
        ("template", "non-think", {"chat_template_kwargs": {"thinking": False}}),
        ("template", "high", {"chat_template_kwargs": {"thinking": True, "reasoning_effort": "high"}}),
        ("effort", "non-think", {"reasoning_effort": "none"}),
        ("effort", "high", {"reasoning_effort": "high"}),
        ("none", "high", {}),
    ],
)
def test_modes(way: EffortWay, mode: Any, said: dict[str, Any]) -> None:
    body = content(RemoteRequest([Message("user", "x")], mode=mode), known(effort=way))
    told = {
        name: value for name, value in body.items() if "think" in name or "reason" in name or "kwargs" in name
    }
    assert told == said


def test_modes_that_cannot_be_said_have_their_reason() -> None:
    assert modes_of(None, "h") == [] and modes_of(known(), "h") == []
    assert [each.problem for each in modes_of(known(effort="template"), "h")] == [None, None, None]
    assert [bool(each.problem) for each in modes_of(known(effort="effort"), "h")] == [False, False, True]
    fixed = known().model_copy(update={"reasoning": "yes"})
    assert [bool(each.problem) for each in modes_of(fixed, "h")] == [True, False, True]


@pytest.mark.parametrize(
    ("way", "last", "beside"),
    [
        ("prefix", {"role": "assistant", "content": "So f", "prefix": True, "reasoning_content": "Hm."}, {}),
        (
            "final_message",
            {"role": "assistant", "content": "So f"},
            {"continue_final_message": True, "add_generation_prompt": False},
        ),
        ("tail", {"role": "assistant", "content": "So f"}, {}),
    ],
)
def test_an_answer_goes_on_from_its_beginning(way: ContinueWay, last: Any, beside: Any) -> None:
    asked = RemoteRequest([Message("user", "x")], so_far="So f", reasoning_so_far="Hm.")
    made = body_of(asked, model="m", kind="openai", features=known(goes_on=way))
    assert made.continuing == "prefix" and not made.is_beta
    assert made.content["messages"][-1] == last
    assert {name: made.content[name] for name in beside} == beside
    assert body_of(asked, model="m", kind="deepseek", features=known(goes_on="prefix")).is_beta


def test_else_it_is_asked_for_in_words() -> None:
    asked = RemoteRequest([Message("user", "x")], so_far="So f")
    made = body_of(asked, model="m", kind="openai", features=known())
    assert made.continuing == "asked"
    assert [each["content"] for each in made.content["messages"]] == ["x", "So f", GO_ON]
    reasoning = RemoteRequest([Message("user", "x")], reasoning_so_far="Hm")
    made = body_of(reasoning, model="m", kind="openai", features=known(goes_on="prefix"))
    assert made.continuing == "asked" and len(made.content["messages"]) == 1
    made = body_of(
        reasoning, model="m", kind="seamount", features=known(goes_on="prefix", software="Seamount")
    )
    assert made.continuing == "prefix"


def test_forms_and_choices_are_passed_on() -> None:
    form = AnswerForm(json_schema='{"type": "object"}', calls="named", call_names=("f",), parallel=False)
    body = content(RemoteRequest([Message("user", "x")], functions=[{"name": "f"}], form=form))
    assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert body["parallel_tool_calls"] is False
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    anything = AnswerForm(json_schema="{}", calls="none")
    body = content(RemoteRequest([Message("user", "x")], functions=[{"name": "f"}], form=anything))
    assert body["response_format"] == {"type": "json_object"} and "tools" not in body
    bare = body_of(RemoteRequest([], text="Once"), model="m", kind="openai", features=None)
    assert bare.path == "/completions" and bare.content["prompt"] == "Once" and "messages" not in bare.content


def test_how_to_draw_is_told_only_where_a_person_chose() -> None:
    usual = Sampling(seed=3)
    assert chosen_sampling(usual, Settings()) is None
    assert chosen_sampling(usual, Settings(sampling=Sampling())) == usual
    assert chosen_sampling(Sampling(temperature=0), Settings()) == Sampling(temperature=0)
    body = content(RemoteRequest([Message("user", "x")], sampling=Sampling(seed=2**40 + 5)))
    assert body["seed"] == 5 and body["temperature"] == 0.7 and "min_p" not in body
