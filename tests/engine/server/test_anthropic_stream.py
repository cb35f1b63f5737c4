"""An answer as a message, and as the events that the same message is made of."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from engine.completion_news import CompletionEnd, News, Progress, Reasoning
from engine.errors import GenerationError
from engine.protocol import ToolCall, Usage
from engine.server.answers import WholeAnswer
from engine.server.anthropic_stream import PING_S, MessageStream, message_of

HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
CALL = ToolCall(id="call_1", name="f", arguments='{"a": 1}', status="exact")


def ended(reason: Any = "stop", *calls: ToolCall, **more: Any) -> CompletionEnd:
    usage = Usage(
        prompt_tokens=100, reused_tokens=60, generated_tokens=20, context_tokens=1000, first_token_s=0,
        prefill_rate=0, generation_rate=0, seed=1,
    )  # fmt: skip
    return CompletionEnd(reason, usage, calls, reasoning_tokens=3, **more)


def frames(news: Sequence[News | Exception], **more: Any) -> list[bytes]:
    async def told() -> AsyncGenerator[News, None]:
        for each in news:
            if isinstance(each, Exception):
                raise each
            yield each

    async def run() -> list[bytes]:
        return [frame async for frame in MessageStream(HEAD, "sig", **more).frames(told())]

    return asyncio.run(run())


def events(news: Sequence[News | Exception], **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block in b"".join(frames(news, **more)).decode().split("\n\n"):
        if block and not block.startswith(":"):
            kind, data = block.split("\n")
            event = json.loads(data.removeprefix("data: "))
            assert kind == f"event: {event['type']}"
            found.append(event)
    return found


NEWS: list[News] = [
    Progress("reading", done=60, total=100, reused=60), Reasoning("I "), Reasoning("think."), "He", "llo",
    ended("tool_calls", CALL),
]  # fmt: skip


def test_the_order_of_events() -> None:
    told = events(NEWS)
    assert [event["type"] for event in told] == [
        "message_start", "ping", "content_block_start",
        "content_block_delta", "content_block_delta", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert [event["index"] for event in told if "index" in event] == [0] * 5 + [1] * 4 + [2] * 3
    usage = told[0]["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (40, 60, 0)
    assert told[5]["delta"] == {"type": "signature_delta", "signature": "sig"}
    assert told[12]["delta"] == {"type": "input_json_delta", "partial_json": '{"a": 1}'}


def test_a_stream_and_a_message_say_the_same() -> None:
    whole = message_of(WholeAnswer("Hello", "I think.", ended("tool_calls", CALL)), HEAD, "sig")
    told = events(NEWS)
    blocks: list[Any] = []
    for event in told:
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            delta, block = event["delta"], blocks[-1]
            for name in ("text", "thinking", "signature"):
                block[name] = block.get(name, "") + delta[name] if name in delta else block.get(name)
            if "partial_json" in delta:
                block["input"] = json.loads(delta["partial_json"])
    assert [{k: v for k, v in block.items() if v is not None} for block in blocks] == whole["content"]
    assert told[-2]["delta"] == {name: whole[name] for name in ("stop_reason", "stop_sequence")}
    assert told[-2]["usage"] == whole["usage"]
    assert whole["usage"] == {
        "input_tokens": 40, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 60, "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 3},
    }  # fmt: skip


def test_reasoning_that_is_not_to_be_told_leaves_its_signature() -> None:
    told = events(NEWS, shows_reasoning=False)
    deltas = [event["delta"]["type"] for event in told if event.get("index") == 0 and "delta" in event]
    assert deltas == ["signature_delta"]
    whole = message_of(WholeAnswer("", "secret", ended()), HEAD, "sig", shows_reasoning=False)
    assert whole["content"] == [{"type": "thinking", "thinking": "", "signature": "sig"}]


@pytest.mark.parametrize(
    ("end", "max_tokens", "reason", "sequence"),
    [
        (ended(), 50, "end_turn", None),
        (ended("cancelled"), 50, "end_turn", None),
        (ended("length"), 20, "max_tokens", None),
        (ended("length"), 50, "max_tokens", None),
        (ended("tool_calls", CALL), 50, "tool_use", None),
        (ended(stop_sequence="END"), 50, "stop_sequence", "END"),
    ],
)
def test_why_it_stopped(end: CompletionEnd, max_tokens: int, reason: str, sequence: str | None) -> None:
    whole = message_of(WholeAnswer("x", "", end), HEAD, "sig", max_tokens=max_tokens)
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, sequence)
    (delta,) = [e for e in events(["x", end], max_tokens=max_tokens) if e["type"] == "message_delta"]
    assert delta["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


def test_a_full_context_is_told_from_a_limit() -> None:
    end = ended("length")
    full = CompletionEnd("length", end.usage.model_copy(update={"context_tokens": 120}))
    whole = message_of(WholeAnswer("x", "", full), HEAD, "sig", max_tokens=50)
    assert whole["stop_reason"] == "model_context_window_exceeded"
    elsewhere = CompletionEnd("length", end.usage.model_copy(update={"context_tokens": 0}))
    assert (
        message_of(WholeAnswer("x", "", elsewhere), HEAD, "sig", max_tokens=50)["stop_reason"] == "max_tokens"
    )


def test_an_error_is_the_last_event() -> None:
    told = events(["x", GenerationError("It broke", "why", "again")], request_id="req_1")
    assert told[-1]["error"]["type"] == "api_error"
    assert told[-1]["request_id"] == "req_1"
    assert told[-1]["error"]["message"] == "It broke: why; again."
    assert events([GenerationError("It broke", "why", "again")])[0]["type"] == "error"


def test_arguments_that_are_no_object_are_put_into_one() -> None:
    """Nor can an object be written as JSON with a number that no float reaches: the client could not read it."""
    for text in ("[1]", "{", '"x"', "[" * 5000, '{"a": [1e999]}', '{"a": -1E400}', '{"a": NaN}'):
        call = CALL.model_copy(update={"arguments": text})
        whole = message_of(WholeAnswer("", "", ended("tool_calls", call)), HEAD, "sig")
        assert whole["content"][0]["input"] == {"arguments": text}


def test_while_nothing_is_written_comments_tell_how_far_it_is_and_pings_come_now_and_then() -> None:
    seconds = iter([0.0, 1.0, 2.0, PING_S + 1, PING_S + 2])
    news: list[News | Exception] = [Progress("queued", place=3)]
    news += [Progress("reading", done=done, total=900) for done in (10, 20, 30)]
    told = frames(news, clock=lambda: next(seconds))
    assert told[1] == b": queued 3\n\n"
    assert [b"event: ping" in frame for frame in told] == [True, False, False, True, False]
    assert told[3].startswith(b": reading 20/900\n\n")


def test_notices_stand_beside_what_the_dialect_knows() -> None:
    end = ended(notices=("The reasoning was ended.",))
    assert message_of(WholeAnswer("x", "", end), HEAD, "s")["seamount"] == {"notices": end.notices}
    assert events(["x", end])[-2]["seamount"] == {"notices": ["The reasoning was ended."]}
