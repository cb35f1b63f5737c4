"""The OpenAI dialect's responses: `/v1/responses`.

Owns: that request, and the reply, whole or as a stream. Does not know how items are read (`openai_items`) or told
(`openai_output`), the queue (`answers`) or the model. Nothing of a response is kept: what belongs to a conversation is
sent again with each request, as clients do that set `store` to false.
"""

import json
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import Field

from engine.completion_news import CompletionEnd, News, Progress, Reasoning
from engine.completions import CompletionRequest
from engine.errors import SeamountError
from engine.protocol import Sampling
from engine.server import answers
from engine.server.openai_conversation import Wanted, effort_of, said, schema_of
from engine.server.openai_items import functions_of, messages_of
from engine.server.openai_output import ResponseHead, ResponseStream, items_of
from engine.server.openai_shapes import (
    Shape,
    Temperature,
    TopLogprobs,
    Unsupported,
    refuse,
)
from engine.server.replies import body_of, error_body
from engine.server.room import EngineOf

router = APIRouter(prefix="/v1")
_PATH = "/v1/responses"
_KEEP_REASONING = "reasoning.encrypted_content"
_LOGPROBS = "message.output_text.logprobs"

_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "conversation": (),
    "prompt": (),
    "moderation": (),
    "context_management": ([],),
}


class ResponseRequest(Shape):
    """`POST /v1/responses`."""

    model: str
    input: str | Annotated[list[dict[str, Any]], Field(max_length=100_000)] = ""
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    """Not the dialect's own; as in chat completions."""
    top_logprobs: TopLogprobs | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=4096)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    include: Annotated[list[str], Field(max_length=100)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=64)] | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None


@router.post("/responses")
async def responses(
    asked: Annotated[ResponseRequest, Depends(body_of(ResponseRequest))], request: Request, engine: EngineOf
) -> Response:
    """One response, whole or as a stream. It waits in the same queue as the window's turns."""
    refuse(asked, _UNSUPPORTED)
    if asked.previous_response_id:
        raise Unsupported("previous_response_id", "no response is kept here; send the conversation itself")
    served = await answers.served(engine, asked.model)
    schema = schema_of((asked.text or {}).get("format"), "text.format")
    wanted = Wanted(functions_of(asked.tools), asked.tool_choice, asked.parallel_tool_calls, schema)
    # Of a thousand items it takes a while.
    conversation = await run_in_threadpool(
        lambda: said(served, messages_of(asked.instructions, asked.input), wanted)
    )
    await answers.require_form(served, conversation.form, conversation.functions)
    effort, budget = effort_of((asked.reasoning or {}).get("effort"), asked.model_extra or {})
    sampling = await answers.sampling_of(
        engine, served.id, seed=asked.seed, temperature=asked.temperature, top_p=asked.top_p
    )
    completion = await answers.begin(
        engine,
        served.id,
        CompletionRequest(
            messages=conversation.messages,
            sampling=sampling,
            max_tokens=asked.max_output_tokens,
            tools=conversation.functions,
            effort=effort,
            thinking_tokens=budget,
            top_logprobs=_top_logprobs(asked),
            form=conversation.form,
            caller=answers.caller_of(request),
        ),
        "responses",
    )
    head = ResponseHead(
        time.time(),
        served.id,
        _repeated(asked, sampling),
        keeps_reasoning=_KEEP_REASONING in (asked.include or ()),
    )
    if asked.stream:
        return await answers.streamed(engine, completion, lambda items: _stream(items, head))
    answer = await answers.whole(engine, completion, request)
    if answer is None:
        return answers.nobody_reads()
    items = items_of(head, answer.reasoning, answer.text, answer.tokens, answer.end)
    body = json.dumps(head.ended(items, answer.end))
    return Response(body, media_type="application/json", headers=answer.headers)


def _top_logprobs(asked: ResponseRequest) -> int | None:
    if asked.top_logprobs is None and _LOGPROBS not in (asked.include or ()):
        return None
    return asked.top_logprobs or 0


def _repeated(asked: ResponseRequest, sampling: Sampling) -> dict[str, Any]:
    """What a response says of its request."""
    return {
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "reasoning": {"effort": (asked.reasoning or {}).get("effort"), "summary": None},
        "temperature": sampling.temperature,
        "text": {"format": (asked.text or {}).get("format") or {"type": "text"}},
        "tool_choice": asked.tool_choice or "auto",
        "tools": asked.tools or [],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": sampling.top_p,
    }


async def _stream(items: AsyncGenerator[News, None], head: ResponseHead) -> AsyncGenerator[bytes, None]:
    stream = ResponseStream(head)
    yield stream.begin()
    try:
        async for item in items:
            if isinstance(item, Progress):
                yield answers.comment(item)
            elif isinstance(item, Reasoning):
                yield stream.reasoning(item)
            elif isinstance(item, CompletionEnd):
                yield stream.end(item)
            else:
                yield stream.text(item)
    except SeamountError as error:
        yield stream.fail(error, error_body(_PATH, error, error.http_status)["error"]["message"])
