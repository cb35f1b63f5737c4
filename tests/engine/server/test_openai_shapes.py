import json
from typing import Any

import pytest

from engine.completion_news import CompletionEnd, LoggedToken
from engine.errors import BadRequest
from engine.protocol import Usage
from engine.server.openai_chat import ChatRequest
from engine.server.openai_shapes import (
    ENDED_BY_PERSON,
    LONGEST_STOP,
    Shape,
    bias_of,
    finish_reason,
    logprob_shapes,
    notices_of,
    refuse,
    stops_of,
    usage_shape,
)
from engine.server.replies import parse_body

HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def end(reason: Any, **more: Any) -> CompletionEnd:
    usage = Usage.model_construct(prompt_tokens=7, generated_tokens=5, reused_tokens=3)
    return CompletionEnd(reason, usage, **more)


def test_what_asks_for_nothing_is_let_pass() -> None:
    features: dict[str, tuple[Any, ...]] = {"n": (1,), "functions": ([],), "audio": ()}
    for harmless in ({}, {"n": 1}, {"n": None}, {"functions": []}, {"other": 7}):
        refuse(Shape(**harmless), features)
    for field, value in (("n", 2), ("n", "1"), ("functions", [{}]), ("audio", {})):
        with pytest.raises(BadRequest) as refused:
            refuse(Shape(**{field: value}), features)
        assert refused.value.param == field  # type: ignore[attr-defined]


def test_biases_are_by_token_id() -> None:
    assert bias_of(None) == {}
    assert bias_of({"12": -100, "0": 3}) == {12: -100, 0: 3}
    for name in ("", "-1", "x", "1.5", "٣", "1" * 5000):
        with pytest.raises(BadRequest) as refused:
            bias_of({name: 1})
        assert len(refused.value.text) < 200


def test_stops() -> None:
    assert (stops_of(None), stops_of("a"), stops_of(["a", "b"])) == ((), ("a",), ("a", "b"))


@pytest.mark.parametrize(
    "more",
    [
        {"stop": "x" * (LONGEST_STOP + 1)},
        {"stop": ["x" * (LONGEST_STOP + 1)]},
        {"stop": ["x"] * 17},
        {"logit_bias": {str(number): 1 for number in range(1025)}},
        {"logit_bias": {"1": 101}},
        {"top_logprobs": 21},
        {"presence_penalty": 3},
        {"temperature": 11},
        {"max_tokens": 0},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_is_out_of_bounds_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        parse_body(json.dumps(HI | more).encode(), ChatRequest)
    parse_body(json.dumps(HI).encode(), ChatRequest)


def test_an_answer_that_a_person_ended_is_not_told_as_whole() -> None:
    assert [finish_reason(end(reason)) for reason in ("stop", "length", "tool_calls", "cancelled")] == [
        "stop",
        "length",
        "tool_calls",
        "length",
    ]
    assert notices_of(end("cancelled", notices=("a",))) == ("a", ENDED_BY_PERSON)
    assert notices_of(end("stop")) == ()


def test_usage_and_log_probabilities() -> None:
    assert usage_shape(end("stop", reasoning_tokens=2)) == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    (shape,) = logprob_shapes([LoggedToken(b"\xc3", -1.5, (LoggedToken(b"a", -0.5),))])
    assert shape == {
        "token": "�",
        "logprob": -1.5,
        "bytes": [195],
        "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": [97]}],
    }
