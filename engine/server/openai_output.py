"""The output of responses: items, and the events by which a stream tells them.

Owns: the shapes of a response and of its items, the order of events, and their numbers. Does not know where the answer
comes from, nor HTTP. The order follows OpenAI's reference: an item is added, its content part is added, deltas, the
whole text, the part is done, the item is done.
"""

import json
import secrets
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from engine.completion_news import CompletionEnd, LoggedText, LoggedToken, Reasoning
from engine.errors import SeamountError
from engine.protocol import ToolCall
from engine.server.openai_items import kept_reasoning
from engine.server.openai_shapes import additions_of, logprob_shapes


class ResponseHead:
    """What every telling of one response has in common: its id, and what was asked.

    `asked`: fields of the response that repeat the request. `keeps_reasoning`: clients get it in a form that they give
    back unread.
    """

    def __init__(
        self, created: float, model_id: str, asked: Mapping[str, Any], *, keeps_reasoning: bool
    ) -> None:
        self._fields = {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": created,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": model_id,
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            **asked,
        }
        self.keeps_reasoning = keeps_reasoning

    def begun(self) -> dict[str, Any]:
        """The response before anything of it is there."""
        return {**self._fields, "status": "in_progress", "output": [], "usage": None}

    def ended(self, output: Sequence[Mapping[str, Any]], end: CompletionEnd) -> dict[str, Any]:
        """The whole response."""
        whole = is_whole(end)
        response = {
            **self._fields,
            "status": "completed" if whole else "incomplete",
            "incomplete_details": None if whole else {"reason": "max_output_tokens"},
            "output": list(output),
            "usage": _usage(end),
        }
        if additions := additions_of(end):
            response["seamount"] = additions
        return response

    def failed(self, output: Sequence[Mapping[str, Any]], error: SeamountError, text: str) -> dict[str, Any]:
        """The response that ended in `error`, whose sentence is `text`."""
        problem = {"code": _failure_code(error), "message": text}
        return {**self._fields, "status": "failed", "output": list(output), "error": problem, "usage": None}


class ResponseStream:
    """The events of one response. Every method gives the bytes of those that follow from it."""

    def __init__(self, head: ResponseHead) -> None:
        self._head = head
        self._number = 0
        self._output: list[dict[str, Any]] = []
        self._item: _OpenItem | None = None

    def begin(self) -> bytes:
        """Before everything else."""
        begun = {"response": self._head.begun()}
        return self._event("response.created", begun) + self._event("response.in_progress", begun)

    def reasoning(self, news: Reasoning) -> bytes:
        """More of the reasoning."""
        opened = self._open("reasoning")
        return opened + self._delta("response.reasoning_text.delta", news.text)

    def text(self, news: str | LoggedText) -> bytes:
        """More of the text."""
        opened = self._open("message")
        if isinstance(news, str):
            return opened + self._delta("response.output_text.delta", news)
        return opened + self._delta("response.output_text.delta", news.text, news.tokens)

    def end(self, end: CompletionEnd) -> bytes:
        """The calls, each whole, and the end."""
        told = [self._close(complete=is_whole(end))]
        told += [event for call in end.tool_calls for event in self._call(call)]
        kind = "response.completed" if is_whole(end) else "response.incomplete"
        told.append(self._event(kind, {"response": self._head.ended(self._output, end)}))
        return b"".join(told)

    def fail(self, error: SeamountError, text: str) -> bytes:
        """It ended in an error, whose sentence is `text`."""
        told = [self._close(complete=False)]
        told.append(self._event("error", {"code": error.code, "message": text, "param": None}))
        failed = {"response": self._head.failed(self._output, error, text)}
        told.append(self._event("response.failed", failed))
        return b"".join(told)

    def _open(self, kind: str) -> bytes:
        """See to it that an item of `kind` is open."""
        if self._item is not None and self._item.kind == kind:
            return b""
        closed = self._close(complete=True)
        item = self._item = _OpenItem(kind, len(self._output))
        added = {"output_index": item.index, "item": _text_item(kind, item.id, None, "in_progress")}
        part = {**item.place, "part": _part(kind, "")}
        return b"".join(
            [
                closed,
                self._event("response.output_item.added", added),
                self._event("response.content_part.added", part),
            ]
        )

    def _delta(self, kind: str, text: str, tokens: Sequence[LoggedToken] = ()) -> bytes:
        item = self._item
        if item is None:
            raise ValueError("no item is open")
        item.texts.append(text)
        item.tokens += tokens
        if item.kind == "message" and tokens:
            return self._event(kind, {**item.place, "delta": text, "logprobs": logprob_shapes(tokens)})
        # Once per piece, so its frame is made beforehand.
        number, self._number = self._number, self._number + 1
        return b'%b%d, "delta": %b}\n\n' % (item.frame(kind), number, json.dumps(text).encode())

    def _close(self, *, complete: bool) -> bytes:
        item, self._item = self._item, None
        if item is None:
            return b""
        text = "".join(item.texts)
        done = _done_item(item, text, "completed" if complete else "incomplete", self._head)
        self._output.append(done)
        part = _part(item.kind, text, item.tokens)
        whole: dict[str, Any] = {**item.place, "text": text}
        if item.kind == "message":
            whole["logprobs"] = logprob_shapes(item.tokens)
        told = "response.output_text.done" if item.kind == "message" else "response.reasoning_text.done"
        return b"".join(
            [
                self._event(told, whole),
                self._event("response.content_part.done", {**item.place, "part": part}),
                self._event("response.output_item.done", {"output_index": item.index, "item": done}),
            ]
        )

    def _call(self, call: ToolCall) -> Generator[bytes, None, None]:
        index, done = len(self._output), _call_item(call)
        self._output.append(done)
        place = {"item_id": done["id"], "output_index": index}
        begun = {**done, "arguments": "", "status": "in_progress"}
        yield self._event("response.output_item.added", {"output_index": index, "item": begun})
        yield self._event("response.function_call_arguments.delta", {**place, "delta": call.arguments})
        whole = {**place, "arguments": call.arguments, "name": call.name}
        yield self._event("response.function_call_arguments.done", whole)
        yield self._event("response.output_item.done", {"output_index": index, "item": done})

    def _event(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        number, self._number = self._number, self._number + 1
        data = json.dumps({"type": kind, "sequence_number": number, **fields})
        return f"event: {kind}\ndata: {data}\n\n".encode()


class _OpenItem:
    """An item whose text is being written."""

    def __init__(self, kind: str, index: int) -> None:
        self.kind = kind
        self.index = index
        self.id = _new_id(kind)
        self.place = {"item_id": self.id, "output_index": index, "content_index": 0}
        self.texts: list[str] = []
        self.tokens: list[LoggedToken] = []
        self._frame = b""

    def frame(self, kind: str) -> bytes:
        """The beginning of its delta's event, up to the number."""
        if not self._frame:
            fields: dict[str, Any] = {"type": kind, **self.place}
            if self.kind == "message":
                fields["logprobs"] = []
            data = json.dumps(fields)[:-1]
            self._frame = f'event: {kind}\ndata: {data}, "sequence_number": '.encode()
        return self._frame


def items_of(
    head: ResponseHead, reasoning: str, text: str, tokens: Sequence[LoggedToken], end: CompletionEnd
) -> list[dict[str, Any]]:
    """The items of a whole answer, the same that a stream ends with."""
    items: list[dict[str, Any]] = []
    status = "completed" if is_whole(end) else "incomplete"
    for kind, content in (("reasoning", reasoning), ("message", text)):
        if content:
            item = _OpenItem(kind, len(items))
            item.tokens += tokens if kind == "message" else ()
            cut = kind == "message" or not text
            items.append(_done_item(item, content, status if cut else "completed", head))
    return [*items, *map(_call_item, end.tool_calls)]


def is_whole(end: CompletionEnd) -> bool:
    """Whether the answer came to an end of its own."""
    return end.reason in ("stop", "tool_calls")


def _done_item(item: _OpenItem, text: str, status: str, head: ResponseHead) -> dict[str, Any]:
    done = _text_item(item.kind, item.id, _part(item.kind, text, item.tokens), status)
    if item.kind == "reasoning" and head.keeps_reasoning:
        done["encrypted_content"] = kept_reasoning(text)
    return done


def _text_item(kind: str, item_id: str, part: Mapping[str, Any] | None, status: str) -> dict[str, Any]:
    content = [] if part is None else [part]
    if kind == "reasoning":
        return {"id": item_id, "type": kind, "summary": [], "content": content, "status": status}
    return {"id": item_id, "type": kind, "role": "assistant", "content": content, "status": status}


def _part(kind: str, text: str, tokens: Sequence[LoggedToken] = ()) -> dict[str, Any]:
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprob_shapes(tokens)}


def _call_item(call: ToolCall) -> dict[str, Any]:
    return {
        "id": _new_id("function_call"),
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": "completed",
    }


def _new_id(kind: str) -> str:
    prefixes = {"reasoning": "rs", "message": "msg", "function_call": "fc"}
    return f"{prefixes[kind]}_{secrets.token_hex(12)}"


def _failure_code(error: SeamountError) -> str:
    """The dialect has a closed list of what a response may fail of, and strict clients read no other word."""
    if error.http_status == 429:
        return "rate_limit_exceeded"
    return "server_error" if error.http_status >= 500 else "invalid_prompt"


def _usage(end: CompletionEnd) -> dict[str, Any]:
    usage = end.usage
    return {
        "input_tokens": usage.prompt_tokens,
        # Nothing is charged for what is kept, so nothing is counted as written.
        "input_tokens_details": {"cached_tokens": usage.reused_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": end.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
    }
