"""The OpenAI dialect's chat completions: `/v1/chat/completions`.

Owns: that request, its reply and its stream, with DeepSeek's own additions (`reasoning_content`, `thinking`, `prefix`).
Does not know how messages are read (`openai_conversation`), the queue (`answers`) or the model. docs/openai.md says of
each field whether it is honoured, ignored or refused.

A request brings its own system message or none: nothing is added to what a client says.
"""

import json
import secrets
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import FailFast, Field

from engine.completion_news import CompletionEnd, LoggedText, News, Progress, Reasoning
from engine.completions import CompletionRequest
from engine.errors import SeamountError
from engine.server import answers
from engine.server.openai_conversation import Said, Wanted, effort_of, said, schema_of
from engine.server.openai_shapes import (
    LogitBias,
    Penalty,
    Shape,
    Stop,
    StreamOptions,
    Temperature,
    TopLogprobs,
    WrongField,
    additions_of,
    bias_of,
    call_shape,
    finish_reason,
    logprob_shapes,
    refuse,
    stops_of,
    usage_shape,
)
from engine.server.replies import body_of, error_body
from engine.server.room import EngineOf

router = APIRouter(prefix="/v1")
_PATH = "/v1/chat/completions"

# What is asked for by these is not done, so it is refused; a value in the tuple asks for nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "n": (1,),
    "best_of": (1,),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "moderation": (),
    "web_search_options": (),
    "top_k": (0, -1),
    "repetition_penalty": (1,),
}


class ChatMessage(Shape):
    """One message; `content` is a text or a list of parts."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(Shape):
    """`POST /v1/chat/completions`."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1), FailFast()]
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Stop | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    continue_final_message: bool | None = None
    """vLLM's way to have the last answer gone on with; `prefix` on that message is DeepSeek's."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None


@router.post("/chat/completions")
async def chat_completions(
    asked: Annotated[ChatRequest, Depends(body_of(ChatRequest))], request: Request, engine: EngineOf
) -> Response:
    """One answer, whole or as a stream. It waits in the same queue as the window's turns."""
    refuse(asked, _UNSUPPORTED)
    served = await answers.served(engine, asked.model)
    wanted = Wanted(
        asked.tools, asked.tool_choice, asked.parallel_tool_calls, schema_of(asked.response_format)
    )
    # Of a thousand messages it takes a while.
    conversation = await run_in_threadpool(_said, asked, served, wanted)
    await answers.require_form(served, conversation.form, conversation.functions)
    effort, budget = effort_of(asked.reasoning_effort, asked.model_extra or {})
    completion = await answers.begin(
        engine,
        served.id,
        CompletionRequest(
            messages=conversation.messages,
            sampling=await answers.sampling_of(
                engine,
                served.id,
                seed=asked.seed,
                temperature=asked.temperature,
                top_p=asked.top_p,
                min_p=asked.min_p,
            ),
            max_tokens=asked.max_completion_tokens or asked.max_tokens,
            stop=stops_of(asked.stop),
            tools=conversation.functions,
            effort=effort,
            thinking_tokens=budget,
            top_logprobs=_top_logprobs(asked),
            frequency_penalty=asked.frequency_penalty or 0.0,
            presence_penalty=asked.presence_penalty or 0.0,
            logit_bias=bias_of(asked.logit_bias),
            form=conversation.form,
            caller=answers.caller_of(request),
        ),
        "chat",
    )
    head = _Head(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), served.id)
    if not asked.stream:
        answer = await answers.whole(engine, completion, request)
        return answers.nobody_reads() if answer is None else _whole(head, answer, asked)
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    return await answers.streamed(
        engine, completion, lambda items: _stream(items, head, with_usage=with_usage)
    )


def _said(asked: ChatRequest, served: answers.Served, wanted: Wanted) -> Said:
    shapes = [message.model_dump(exclude_unset=True) for message in asked.messages]
    return said(served, shapes, wanted, goes_on=bool(asked.continue_final_message))


def _top_logprobs(asked: ChatRequest) -> int | None:
    if not asked.logprobs:
        if asked.top_logprobs:
            raise WrongField("top_logprobs", "is set without `logprobs`", "set `logprobs` too")
        return None
    return asked.top_logprobs or 0


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

    def chunk(
        self,
        delta: dict[str, Any],
        finish: str | None = None,
        additions: dict[str, Any] | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        """Any other step of the answer. `additions` are ours, beside what the dialect knows."""
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        more = b', "seamount": %b' % json.dumps(additions).encode() if additions else b""
        return b'%b, "choices": [%b]%b}\n\n' % (self._start, json.dumps(choice).encode(), more)

    def usage(self, end: CompletionEnd) -> bytes:
        """The cost, in a chunk of its own."""
        return b'%b, "choices": [], "usage": %b}\n\n' % (self._start, json.dumps(usage_shape(end)).encode())


async def _stream(
    items: AsyncGenerator[News, None], head: _Head, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    try:
        begun = False
        async for item in items:
            if isinstance(item, Progress):
                yield answers.comment(item)
                continue
            if not begun:
                begun = True
                yield head.chunk({"role": "assistant", "content": ""})
            if isinstance(item, str):
                yield head.text(item)
            elif isinstance(item, Reasoning):
                yield head.chunk({"reasoning_content": item.text})
            elif isinstance(item, LoggedText):
                yield head.chunk({"content": item.text}, logprobs={"content": logprob_shapes(item.tokens)})
            else:
                if item.tool_calls:
                    calls = [{"index": n, **call_shape(call)} for n, call in enumerate(item.tool_calls)]
                    yield head.chunk({"tool_calls": calls})
                yield head.chunk({}, finish_reason(item), additions_of(item))
                if with_usage:
                    yield head.usage(item)
    except SeamountError as error:
        body = json.dumps(error_body(_PATH, error, error.http_status))
        yield f"data: {body}\n\n".encode()
    yield b"data: [DONE]\n\n"


def _whole(head: _Head, answer: answers.WholeAnswer, asked: ChatRequest) -> Response:
    end = answer.end
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if end.tool_calls:
        message["tool_calls"] = [call_shape(call) for call in end.tool_calls]
    logprobs = {"content": logprob_shapes(answer.tokens), "refusal": None} if asked.logprobs else None
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason(end)}
    body = {**head.fields, "object": "chat.completion", "choices": [choice], "usage": usage_shape(end)}
    if additions := additions_of(end):
        body["seamount"] = additions
    return Response(json.dumps(body), media_type="application/json", headers=answer.headers)
