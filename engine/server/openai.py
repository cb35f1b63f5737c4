"""The OpenAI dialect: `/v1/models` and `/v1/chat/completions`.

Owns: that dialect's shapes, which of its features are refused, and its stream; DeepSeek's own additions to
it (`reasoning_content`, `thinking`) and tools for V4 models. Does not know the queue or
the model (`completions`). The shapes follow OpenAI's API reference for chat completions.

A request brings its own system message or none: nothing is added to what a client says.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, FailFast, Field

from engine.completions import Completion, CompletionEnd, CompletionRequest, News, Reasoning
from engine.conversation import Message
from engine.encoding.dialects import from_openai
from engine.engine import Engine
from engine.errors import BadRequest, NotFound, SeamountError
from engine.protocol import Sampling, ToolCall, Usage
from engine.server.replies import KEEP_ALIVE_S, EventStream, body_of, error_body
from engine.server.room import EngineOf

router = APIRouter(prefix="/v1")

FIRST_WORD_S = 1.0
"""How long a stream waits for its first text; until it has answered 200, an error has its own status."""

# What is asked for by these is not done, so it is refused; a value in the tuple asks for nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}


# What only a V4 model has: other models have no agreed way to write a call.
_V4_ONLY: dict[str, tuple[Any, ...]] = {"tools": ([],), "tool_choice": ("none", "auto")}


class Unsupported(BadRequest):
    """A feature of the dialect that this engine does not have."""

    code = "unsupported"

    def __init__(self, feature: str) -> None:
        super().__init__(
            "The request was refused", f"`{feature}` is not supported here", "send the request without it"
        )
        self.param = feature


class UnknownModel(NotFound):
    """A model that this engine does not serve now."""

    code = "model_not_found"

    def __init__(self, named: str, served: str | None) -> None:
        super().__init__(
            "The request was refused",
            f"the model {named!r} is not loaded",
            f"ask for {served!r}, or load the other one in Seamount" if served else "load it in Seamount",
        )
        self.param = "model"


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class ChatMessage(_Shape):
    """One message; `content` is a text or a list of parts."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(_Shape):
    """What a stream carries besides text."""

    include_usage: bool = False


class ChatRequest(_Shape):
    """`POST /v1/chat/completions`."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1), FailFast()]
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None


@router.get("/models")
async def models(engine: EngineOf) -> dict[str, Any]:
    """The model that is loaded or being loaded; none otherwise."""
    model_id = engine.thread.model_id
    created = int(engine.status().started_at)
    data = (
        [{"id": model_id, "object": "model", "created": created, "owned_by": "seamount"}] if model_id else []
    )
    return {"object": "list", "data": data}


@router.post("/chat/completions")
async def chat_completions(
    asked: Annotated[ChatRequest, Depends(body_of(ChatRequest))], request: Request, engine: EngineOf
) -> Response:
    """One answer, whole or as a stream. It waits in the same queue as the window's turns."""
    _refuse_unsupported(asked, _UNSUPPORTED)
    # Finding the model and its sampling may read files.
    model_id = await run_in_threadpool(_served_model, engine, asked.model)
    sampling = await run_in_threadpool(_sampling, engine, asked, model_id)
    loaded = engine.host.loaded
    is_v4 = loaded is not None and loaded.id == model_id and loaded.release is not None
    messages, tools = _v4_conversation(asked) if is_v4 else (_template_conversation(asked), ())
    completion = Completion(
        model_id,
        CompletionRequest(
            messages=messages,
            sampling=sampling,
            max_tokens=asked.max_completion_tokens or asked.max_tokens,
            stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
            tools=tools,
            effort=_effort(asked),
        ),
        asyncio.get_running_loop(),
        engine.store,
        engine.settings,
    )
    engine.thread.submit(completion)
    head = _Head(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), model_id)
    if not asked.stream:
        return await _whole(engine, completion, head, request)
    first = _First(completion)
    try:
        await first.wait(FIRST_WORD_S)
    except BaseException:  # an error before the first word keeps its own status
        engine.thread.cancel(completion)
        raise
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    # When the client has gone away its answer ends; one that has ended stays as it is.
    return EventStream(
        _stream(completion, first, head, with_usage=with_usage),
        on_close=lambda: engine.thread.cancel(completion),
    )


class _Head:
    """What every chunk of one answer begins with."""

    def __init__(self, completion_id: str, created: int, model_id: str) -> None:
        self.fields = {"id": completion_id, "created": created, "model": model_id}
        chunk = json.dumps({**self.fields, "object": "chat.completion.chunk"})[:-1]
        self._start = f"data: {chunk}".encode()
        self._text_start = self._start + b', "choices": [{"index": 0, "delta": {"content": '

    def text(self, text: str) -> bytes:
        """A piece of text. Once per piece, so its frame is made beforehand."""
        return b'%b%b}, "finish_reason": null}]}\n\n' % (self._text_start, json.dumps(text).encode())

    def chunk(self, delta: dict[str, Any], finish_reason: str | None, notices: tuple[str, ...] = ()) -> bytes:
        """Any other step of the answer. `notices` are ours, beside what the dialect knows."""
        choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        more = b', "seamount": %b' % json.dumps({"notices": notices}).encode() if notices else b""
        return b'%b, "choices": %b%b}\n\n' % (self._start, json.dumps(choices).encode(), more)

    def usage(self, usage: Usage) -> bytes:
        """The cost, in a chunk of its own."""
        return b'%b, "choices": [], "usage": %b}\n\n' % (self._start, json.dumps(_usage(usage)).encode())


class _First:
    """The beginning of an answer, awaited without losing it."""

    def __init__(self, completion: Completion) -> None:
        self._items = completion.follow(idle_s=KEEP_ALIVE_S)
        self._next = asyncio.ensure_future(anext(self._items))

    async def wait(self, timeout_s: float) -> None:
        """Until the first item is there or `timeout_s` passed; raises what the answer ended in."""
        done, _ = await asyncio.wait({self._next}, timeout=timeout_s)
        if done and (error := self._next.exception()):
            raise error

    async def items(self) -> AsyncGenerator[News, None]:
        """All items, the first included."""
        try:
            yield await self._next
            async for item in self._items:
                yield item
        finally:
            self._next.cancel()


async def _stream(
    completion: Completion, first: _First, head: _Head, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    try:
        yield head.chunk({"role": "assistant", "content": ""}, None)
        async for item in first.items():
            if isinstance(item, Reasoning):
                yield head.chunk({"reasoning_content": item.text}, None)
            elif isinstance(item, CompletionEnd):
                if item.tool_calls:
                    calls = [{"index": n, **_call(call)} for n, call in enumerate(item.tool_calls)]
                    yield head.chunk({"tool_calls": calls}, None)
                yield head.chunk({}, _finish_reason(item), item.notices)
                if with_usage:
                    yield head.usage(item.usage)
            else:
                yield head.text(item) if item else f": {completion.state}\n\n".encode()
    except SeamountError as error:
        body = json.dumps(error_body("/v1/", error, error.http_status))
        yield f"data: {body}\n\n".encode()
    yield b"data: [DONE]\n\n"


async def _whole(engine: Engine, completion: Completion, head: _Head, request: Request) -> Response:
    gone = asyncio.ensure_future(_gone(request))
    answer = asyncio.ensure_future(_collect(completion))
    try:
        await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            return Response(status_code=499)  # nobody reads it
        text, reasoning, end = answer.result()
    finally:
        engine.thread.cancel(completion)
        for task in (gone, answer):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, SeamountError):
                await task
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if reasoning:
        message["reasoning_content"] = reasoning
    if end.tool_calls:
        message["tool_calls"] = [_call(call) for call in end.tool_calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(end)}
    body = {**head.fields, "object": "chat.completion", "choices": [choice], "usage": _usage(end.usage)}
    if end.notices:
        body["seamount"] = {"notices": end.notices}
    return Response(json.dumps(body), media_type="application/json")


async def _collect(completion: Completion) -> tuple[str, str, CompletionEnd]:
    """(text, reasoning, end)."""
    texts: list[str] = []
    reasoning: list[str] = []
    async for item in completion.follow():
        if isinstance(item, CompletionEnd):
            return "".join(texts), "".join(reasoning), item
        if isinstance(item, Reasoning):
            reasoning.append(item.text)
        else:
            texts.append(item)
    raise AssertionError("an answer ends with its end")


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _finish_reason(end: CompletionEnd) -> str:
    return end.reason if end.reason in ("length", "tool_calls") else "stop"


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.generated_tokens,
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.reused_tokens},
    }


def _served_model(engine: Engine, named: str) -> str:
    model_id = engine.turns.model_id()
    if named == model_id or named == engine.library.entry(model_id).name:
        return model_id
    raise UnknownModel(named, model_id)


def _sampling(engine: Engine, asked: ChatRequest, model_id: str) -> Sampling:
    given = {name: getattr(asked, name) for name in ("temperature", "top_p", "min_p")}
    base = engine.turns.sampling(None, model_id)
    update: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if asked.seed is not None:
        update["seed"] = asked.seed % 2**63  # the dialect allows negative ones
    return base.model_copy(update=update)


def _refuse_unsupported(asked: ChatRequest, features: dict[str, tuple[Any, ...]]) -> None:
    extra = asked.model_extra or {}
    for feature, harmless in features.items():
        value = extra.get(feature)
        if value is not None and value not in harmless:
            raise Unsupported(feature)


def _effort(asked: ChatRequest) -> str | None:
    """The reasoning effort; DeepSeek's `thinking: {"type": "disabled"}` is none. Raises Unsupported."""
    extra = asked.model_extra or {}
    thinking, effort = extra.get("thinking"), extra.get("reasoning_effort")
    if thinking is not None:
        kind = cast(dict[str, Any], thinking).get("type") if isinstance(thinking, dict) else None
        if kind not in ("enabled", "disabled"):
            raise Unsupported("thinking")
        if kind == "disabled":
            return "none"
    if effort is not None and not isinstance(effort, str):
        raise Unsupported("reasoning_effort")
    return effort


def _v4_conversation(asked: ChatRequest) -> tuple[list[Message], tuple[Mapping[str, Any], ...]]:
    """The messages with the tools declared, and the tools' functions."""
    extra = asked.model_extra or {}
    if extra.get("tool_choice") not in (None, "none", "auto"):
        raise Unsupported("tool_choice")
    tools = None if extra.get("tool_choice") == "none" else extra.get("tools")
    messages = from_openai([message.model_dump(exclude_unset=True) for message in asked.messages], tools)
    declared = [json.loads(text) for message in messages for text in message.tools]
    return messages, tuple(declared)


def _template_conversation(asked: ChatRequest) -> list[Message]:
    _refuse_unsupported(asked, _V4_ONLY)
    return [_message(number, message) for number, message in enumerate(asked.messages)]


def _message(number: int, message: ChatMessage) -> Message:
    place = f"messages.{number}"
    if message.role in ("tool", "function"):
        raise Unsupported(f"{place}.role = {message.role}")
    for feature in ("tool_calls", "function_call", "audio"):
        if (message.model_extra or {}).get(feature):
            raise Unsupported(f"{place}.{feature}")
    role = "system" if message.role == "developer" else message.role
    if isinstance(message.content, list):
        return Message(role, "".join(_part(place, part) for part in message.content))
    return Message(role, message.content or "")


def _part(place: str, part: dict[str, Any]) -> str:
    kind, text = part.get("type"), part.get("text")
    if kind != "text" or not isinstance(text, str):
        raise Unsupported(f"{place}.content of type {cast(object, kind)}")
    return text
