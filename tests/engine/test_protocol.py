"""Shapes that go over the wire come back the same, and what does not fit is refused."""

import math
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from engine.protocol import (
    Ask,
    Continue,
    Done,
    Edit,
    EngineStatus,
    ErrorBody,
    Failed,
    Message,
    Prefill,
    Queued,
    Retry,
    Sampling,
    Settings,
    Text,
    TurnEvent,
    TurnRequest,
    Usage,
    UsageEvent,
    Wire,
)

USAGE = Usage(
    prompt_tokens=1,
    reused_tokens=2,
    generated_tokens=3,
    context_tokens=4,
    first_token_s=0.5,
    prefill_rate=6,
    generation_rate=7,
    seed=2**63 - 1,
)
MESSAGE = Message(
    id="m",
    parent_id=None,
    role="assistant",
    text="ä\u202e😀",
    status="failed",
    created_at=1.5,
    usage=USAGE,
    error=ErrorBody(code="c", text="t"),
)


@pytest.mark.parametrize(
    "event",
    [
        Queued(place=2),
        Prefill(done=1, total=2, reused=0),
        Text(offset=3, text="x", generated_tokens=1),
        UsageEvent(usage=USAGE),
        Done(finish_reason="length", message=MESSAGE),
        Failed(error=ErrorBody(code="c", text="t"), message=MESSAGE),
    ],
)
def test_an_event_is_known_by_its_kind(event: Wire) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(TurnEvent)
    again = adapter.validate_json(event.model_dump_json())
    assert again == event and type(again) is type(event)


@pytest.mark.parametrize(
    "turn",
    [
        Ask(session_id="s", text="t"),
        Ask(session_id="s", text="t", parent_id="p", at_leaf=False),
        Retry(session_id="s", message_id="m"),
        Edit(session_id="s", message_id="m", text="t"),
        Continue(session_id="s", message_id="m"),
    ],
)
def test_a_turn_is_known_by_its_kind(turn: Ask | Retry | Edit | Continue) -> None:
    request = TurnRequest(turn=turn, sampling=Sampling(seed=1), max_tokens=5)
    assert TurnRequest.model_validate_json(request.model_dump_json()) == request


def test_a_newer_engine_may_say_more() -> None:
    assert Queued.model_validate({"kind": "queued", "place": 1, "mood": "good"}) == Queued(place=1)
    status = {"version": "9", "pid": 1, "started_at": 1.0, "data_folder": "/", "news": [1]}
    assert EngineStatus.model_validate(status).queue_length == 0


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        (Sampling, {"temperature": -0.1}),
        (Sampling, {"temperature": math.nan}),
        (Sampling, {"temperature": math.inf}),
        (Sampling, {"top_p": 0}),
        (Sampling, {"top_p": 1.01}),
        (Sampling, {"min_p": -1}),
        (Sampling, {"seed": -1}),
        (Sampling, {"seed": 2**63}),
        (Settings, {"context_tokens": 255}),
        (Settings, {"threads": 1025}),
        (TurnRequest, {"turn": {"kind": "sing", "session_id": "s"}}),
        (TurnRequest, {"turn": {"kind": "ask", "session_id": "s", "text": "t"}, "max_tokens": 0}),
        (Message, MESSAGE.model_dump() | {"status": "sleeping"}),
    ],
)
def test_what_does_not_fit_is_refused(shape: type[Wire], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        shape.model_validate(values)


def test_values_do_not_change() -> None:
    with pytest.raises(ValidationError):
        MESSAGE.text = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_a_cost_that_was_stored_before_experts_were_counted_still_reads() -> None:
    old = {
        name: value
        for name, value in USAGE.model_dump().items()
        if name not in ("disk_bytes_per_token", "experts_in_memory")
    }
    assert Usage.model_validate(old) == USAGE
