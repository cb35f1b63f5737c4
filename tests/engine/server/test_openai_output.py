import json
from typing import Any

import pytest

from engine.completion_news import CompletionEnd, LoggedText, LoggedToken, Reasoning
from engine.errors import GenerationError, PromptTooLong, SeamountError, TooManyRequests
from engine.protocol import ToolCall, Usage
from engine.server.openai_items import kept_reasoning
from engine.server.openai_output import ResponseHead, ResponseStream, items_of

USAGE = Usage(
    prompt_tokens=10,
    reused_tokens=4,
    generated_tokens=6,
    context_tokens=100,
    first_token_s=0,
    prefill_rate=0,
    generation_rate=0,
    seed=1,
)
CALL = ToolCall(id="call_1", name="f", arguments='{"a": 1}')
TOKEN = LoggedToken("é".encode(), -0.5, (LoggedToken(b"e", -1.0),))


def head(*, keeps: bool = False) -> ResponseHead:
    return ResponseHead(1.5, "m", {"tools": []}, keeps_reasoning=keeps)


def events(data: bytes) -> list[Any]:
    """The events, each checked to bear its kind twice."""
    found = []
    for frame in data.decode().split("\n\n")[:-1]:
        kind, body = frame.split("\n")
        event = json.loads(body.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        found.append(event)
    return found


def told(*steps: Any, keeps: bool = False) -> list[Any]:
    stream = ResponseStream(head(keeps=keeps))
    data = stream.begin()
    for step in steps:
        if isinstance(step, Reasoning):
            data += stream.reasoning(step)
        elif isinstance(step, CompletionEnd):
            data += stream.end(step)
        elif isinstance(step, GenerationError):
            data += stream.fail(step, step.text)
        else:
            data += stream.text(step)
    return events(data)


def test_every_event_has_the_next_number_and_the_place_of_its_item() -> None:
    found = told(
        Reasoning("I "), Reasoning("see."), "a", "b", CompletionEnd("tool_calls", USAGE, (CALL,)), keeps=True
    )
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    deltas = [(event["output_index"], event["delta"]) for event in found if "delta" in event]
    assert deltas == [(0, "I "), (0, "see."), (1, "a"), (1, "b"), (2, CALL.arguments)]
    added = {event["item"]["id"] for event in found if event["type"] == "response.output_item.added"}
    assert len(added) == 3
    assert {event["item_id"] for event in found if "item_id" in event} == added
    response = found[-1]["response"]
    assert [event["item"] for event in found if event["type"] == "response.output_item.done"] == response[
        "output"
    ]
    reasoning, message, call = response["output"]
    assert (reasoning["content"], reasoning["encrypted_content"]) == (
        [{"type": "reasoning_text", "text": "I see."}],
        kept_reasoning("I see."),
    )
    assert message["content"][0]["text"] == "ab"
    assert (call["call_id"], call["name"], call["status"]) == ("call_1", "f", "completed")
    assert (response["status"], response["store"], response["usage"]) == (
        "completed",
        False,
        {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 6,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 16,
        },
    )


@pytest.mark.parametrize("reason", ["length", "cancelled"])
def test_an_answer_that_is_cut_is_incomplete(reason: Any) -> None:
    end = CompletionEnd(reason, USAGE, notices=("So it is.",))
    found = told(Reasoning("I"), end)
    response = found[-1]["response"]
    assert found[-1]["type"] == "response.incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["seamount"]["notices"][0] == "So it is."
    assert [item["status"] for item in items_of(head(), "I", "", (), end)] == ["incomplete"]
    assert [item["status"] for item in items_of(head(), "I", "a", (), end)] == ["completed", "incomplete"]


def test_an_error_in_the_middle_is_told_and_ends_it() -> None:
    found = told("a", GenerationError("It broke", "so it is", "try again"))
    assert [event["type"] for event in found[-3:]] == [
        "response.output_item.done",
        "error",
        "response.failed",
    ]
    assert (
        found[-2]["message"] == found[-1]["response"]["error"]["message"] == "It broke: so it is; try again."
    )
    assert found[-1]["response"]["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GenerationError("It broke", "so it is", "try again"), "server_error"),
        (PromptTooLong("It does not fit", "so it is", "shorten it"), "invalid_prompt"),
        (TooManyRequests("It waits", "so it is", "wait", 5), "rate_limit_exceeded"),
    ],
)
def test_what_a_response_failed_of_is_in_the_dialects_own_words(error: SeamountError, code: str) -> None:
    found = events(ResponseStream(head()).fail(error, error.text))
    assert [event.get("code", "") for event in found] == [error.code, ""]
    assert found[-1]["response"]["error"] == {"code": code, "message": error.text}


def test_tokens_are_told_with_their_text_and_again_at_the_end() -> None:
    found = told(LoggedText("é", (TOKEN,)), CompletionEnd("stop", USAGE))
    shape = {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [{"token": "e", "logprob": -1.0, "bytes": [101]}],
    }
    (delta,) = [event for event in found if event["type"] == "response.output_text.delta"]
    (done,) = [event for event in found if event["type"] == "response.output_text.done"]
    assert delta["logprobs"] == done["logprobs"] == [shape]
    assert found[-1]["response"]["output"][0]["content"][0]["logprobs"] == [shape]


def test_an_answer_with_nothing_has_no_items() -> None:
    end = CompletionEnd("stop", USAGE)
    assert told(end)[-1]["response"]["output"] == items_of(head(), "", "", (), end) == []
