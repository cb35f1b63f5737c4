"""An answer in Anthropic's shape: a message, or the events that it is made of.

Owns: the order of blocks and events, why an answer stopped, what it cost as that dialect counts it. Does not know how
an answer comes about (`completions`) or what was asked (`anthropic_asking`). Shapes follow Anthropic's API reference.

Of what a prompt took, `cache_read_input_tokens` were in the context already and `input_tokens` were read;
`cache_creation_input_tokens` is 0, because whatever is read is kept without being asked for.
"""

import json
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, cast

from engine.completion_news import CompletionEnd, LoggedText, News, Progress, Reasoning
from engine.errors import SeamountError
from engine.protocol import ToolCall
from engine.server.answers import WholeAnswer, comment
from engine.server.openai_shapes import additions_of
from engine.server.replies import error_body

MESSAGES_PATH = "/v1/messages"
PING_S = 5.0
"""In a stream without text pings come this far apart, for clients that count events and not comments."""
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'


class MessageStream:
    """The events of one answer. `signature` is put behind its reasoning; `shows_reasoning`: the text of it is told.

    `head`: the message's fields that are known before it begins.
    """

    def __init__(
        self,
        head: Mapping[str, Any],
        signature: str,
        *,
        shows_reasoning: bool = True,
        max_tokens: int | None = None,
        request_id: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._head = head
        self._signature = signature
        self._shows_reasoning = shows_reasoning
        self._max_tokens = max_tokens
        self._request_id = request_id
        self._clock = clock
        self._told_s = clock()
        self._index = -1
        self._open = ""
        self._text_frame = b""

    async def frames(self, news: AsyncGenerator[News, None]) -> AsyncGenerator[bytes, None]:
        """The stream, from `news`; an error in it is its last event."""
        begun = False
        try:
            async for item in news:
                if not begun:
                    begun = True
                    yield self._start(item if isinstance(item, Progress) else Progress())
                if frame := self._frame(item):
                    yield frame
        except SeamountError as error:
            body = error_body(MESSAGES_PATH, error, error.http_status, self._request_id)
            yield _event("error", body)

    def _start(self, progress: Progress) -> bytes:
        usage = _usage(progress.total, min(progress.reused, progress.total), 0)
        nothing: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        message = {**self._head, **nothing, "usage": usage}
        return _event("message_start", {"message": message}) + _PING

    def _frame(self, item: News) -> bytes:
        if isinstance(item, Progress):
            return self._waiting(item)
        self._told_s = self._clock()
        if isinstance(item, Reasoning):
            begin = self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            if not self._shows_reasoning:
                return begin
            return begin + self._delta({"type": "thinking_delta", "thinking": item.text})
        if isinstance(item, CompletionEnd):
            return self._end(item)
        text = item.text if isinstance(item, LoggedText) else item
        return self._block("text", {"type": "text", "text": ""}) + self._text(text)

    def _waiting(self, progress: Progress) -> bytes:
        now_s = self._clock()
        if now_s - self._told_s < PING_S:
            return comment(progress)
        self._told_s = now_s
        return comment(progress) + _PING

    def _block(self, kind: str, shape: Mapping[str, Any]) -> bytes:
        """The beginning of a block of that kind, if none is open."""
        if self._open == kind:
            return b""
        end = self._close()
        self._open = kind
        self._index += 1
        delta = json.dumps({"type": "content_block_delta", "index": self._index})[:-1].encode()
        # Once per piece of text, so its frame is made beforehand.
        self._text_frame = (
            b'event: content_block_delta\ndata: %b, "delta": {"type": "text_delta", "text": ' % delta
        )
        return end + _event("content_block_start", {"index": self._index, "content_block": shape})

    def _text(self, text: str) -> bytes:
        return b"%b%b}}\n\n" % (self._text_frame, json.dumps(text).encode())

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})

    def _close(self) -> bytes:
        """The end of the open block, if one is."""
        if not self._open:
            return b""
        is_thinking, self._open = self._open == "thinking", ""
        signature = {"type": "signature_delta", "signature": self._signature}
        return (self._delta(signature) if is_thinking else b"") + _event(
            "content_block_stop", {"index": self._index}
        )

    def _end(self, end: CompletionEnd) -> bytes:
        frames = [self._close()]
        for call in end.tool_calls:
            given = json.dumps(arguments_of(call))
            frames.append(self._block(call.id, {**_call(call), "input": {}}))
            frames.append(self._delta({"type": "input_json_delta", "partial_json": given}))
            frames.append(self._close())
        delta = {"delta": _stop(end, self._max_tokens), "usage": _usage_of(end), **_additions(end)}
        return b"".join(frames) + _event("message_delta", delta) + _event("message_stop", {})


def message_of(
    answer: WholeAnswer,
    head: Mapping[str, Any],
    signature: str,
    *,
    shows_reasoning: bool = True,
    max_tokens: int | None = None,
) -> dict[str, Any]:
    """The whole message; see `MessageStream`."""
    content: list[dict[str, Any]] = []
    if answer.reasoning:
        told = answer.reasoning if shows_reasoning else ""
        content.append({"type": "thinking", "thinking": told, "signature": signature})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    content += [{**_call(call), "input": arguments_of(call)} for call in answer.end.tool_calls]
    end = answer.end
    return {**head, "content": content, **_stop(end, max_tokens), "usage": _usage_of(end), **_additions(end)}


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """A call's arguments as the object that the dialect wants; what is none becomes the one argument `arguments`."""
    try:
        value: Any = json.loads(call.arguments, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        value = None
    return cast(dict[str, Any], value) if isinstance(value, dict) else {"arguments": call.arguments}


def _finite(text: str) -> float:
    """A number of JSON; no JSON can be written of one that is beyond what a float reaches."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name}


def _stop(end: CompletionEnd, max_tokens: int | None) -> dict[str, Any]:
    reason = "end_turn"
    if end.reason == "tool_calls":
        reason = "tool_use"
    elif end.reason == "length":
        is_full = max_tokens is not None and end.usage.generated_tokens < max_tokens
        reason = "model_context_window_exceeded" if is_full and _fills(end) else "max_tokens"
    elif end.stop_sequence is not None:
        reason = "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": end.stop_sequence}


def _fills(end: CompletionEnd) -> bool:
    """Whether the context is full, where it is known: another machine does not tell."""
    room = end.usage.context_tokens
    return 0 < room <= end.usage.prompt_tokens + end.usage.generated_tokens


def _usage_of(end: CompletionEnd) -> dict[str, Any]:
    usage = _usage(end.usage.prompt_tokens, end.usage.reused_tokens, end.usage.generated_tokens)
    return {**usage, "output_tokens_details": {"thinking_tokens": end.reasoning_tokens}}


def _usage(total: int, reused: int, written: int) -> dict[str, Any]:
    return {
        "input_tokens": total - reused,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reused,
        "output_tokens": written,
    }


def _additions(end: CompletionEnd) -> dict[str, Any]:
    """Ours, beside what the dialect knows."""
    said = additions_of(end)
    return {"seamount": said} if said else {}


def _event(kind: str, fields: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())
