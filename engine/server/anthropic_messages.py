"""Anthropic's dialect: `POST /v1/messages` and `POST /v1/messages/count_tokens`.

Owns: its two routes. Does not know the shapes (`anthropic_shapes`), what they ask for (`anthropic_asking`), how an
answer is told (`anthropic_stream`), or the queue (`answers`). docs/anthropic.md says of each field what becomes of it.
The list of models, which both dialects have at one address, is `openai_models`.
"""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from engine.callers import Caller
from engine.completions import CompletionRequest
from engine.engine import Engine
from engine.errors import ModelLoading
from engine.key_calls import KeyCalls
from engine.protocol import Sampling
from engine.server import answers
from engine.server.anthropic_asking import Asked, asked_of
from engine.server.anthropic_shapes import Conversation, MessagesRequest, Unsupported, refuse
from engine.server.anthropic_stream import MessageStream, message_of
from engine.server.replies import ANTHROPIC_PATH, REQUEST_ID, body_of, new_request_id
from engine.server.room import EngineOf
from engine.server.side_work import beside

router = APIRouter(prefix=ANTHROPIC_PATH)

COUNTED_AT_ONCE = 1
"""Counting ten million characters takes seconds, and nobody waits in the queue for it: so many requests are counted
together, or those of one program would take up the threads that all others need."""


@router.post("")
async def messages(
    asked: Annotated[MessagesRequest, Depends(body_of(MessagesRequest))], request: Request, engine: EngineOf
) -> Response:
    """One answer, whole or as a stream. It waits in the same queue as the window's turns."""
    refuse(asked)
    served = await answers.served(engine, asked.model)
    # Schemas are checked, which takes a while for many tools.
    meant = await beside(asked_of, asked, served.way)
    await answers.require_form(served, meant.form, meant.functions)
    signature = f"seamount-{secrets.token_hex(16)}"
    sampling = await answers.sampling_of(
        engine,
        served.id,
        seed=asked.seed,
        temperature=asked.temperature,
        top_p=asked.top_p,
        min_p=asked.min_p,
    )
    completion = await answers.begin(
        engine,
        served.id,
        CompletionRequest(
            messages=meant.messages,
            sampling=sampling,
            max_tokens=asked.max_tokens,
            stop=tuple(filter(None, asked.stop_sequences or ())),
            tools=meant.functions,
            effort=meant.effort,
            thinking_tokens=meant.thinking_tokens,
            form=meant.form,
            kept_as=signature,
            caller=answers.caller_of(request),
        ),
        "messages",
    )
    request_id = new_request_id()
    head = {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": served.id,
    }
    if not asked.stream:
        answer = await answers.whole(engine, completion, request)
        if answer is None:
            return answers.nobody_reads()
        body = message_of(
            answer, head, signature, shows_reasoning=asked.shows_reasoning, max_tokens=asked.max_tokens
        )
        return JSONResponse(body, headers={**answer.headers, REQUEST_ID: request_id})
    stream = MessageStream(
        head,
        signature,
        shows_reasoning=asked.shows_reasoning,
        max_tokens=asked.max_tokens,
        request_id=request_id,
    )
    reply = await answers.streamed(engine, completion, stream.frames)
    reply.headers[REQUEST_ID] = request_id
    return reply


@router.post("/count_tokens")
async def count_tokens(
    asked: Annotated[Conversation, Depends(body_of(Conversation))], request: Request, engine: EngineOf
) -> Response:
    """How many tokens the conversation takes as it would be put to the model; beside what the model is doing."""
    served = await answers.served(engine, asked.model)
    if served.way == "remote":
        raise Unsupported(
            "count_tokens",
            "cannot be told of a model that another machine runs",
            "read the usage of an answer instead",
        )
    async with request.app.state.counting:
        meant = await beside(asked_of, asked, served.way)
        tokens = await run_in_threadpool(_count, engine, served.id, meant, answers.caller_of(request))
    return JSONResponse({"input_tokens": tokens}, headers={REQUEST_ID: new_request_id()})


def _count(engine: Engine, model_id: str, meant: Asked, caller: Caller) -> int:
    from engine.completion_prompt import count_tokens

    asked = CompletionRequest(
        messages=meant.messages,
        sampling=Sampling(),
        max_tokens=None,
        tools=meant.functions,
        effort=meant.effort,
        form=meant.form,
    )
    memory = KeyCalls(engine.store, caller.key_id)
    tokens = engine.host.ask(
        lambda backend: (
            count_tokens(backend, asked, memory, engine.settings().release)
            if engine.host.loaded_id == model_id
            else None
        )
    )
    if tokens is None:
        if error := engine.host.error:
            raise error
        raise ModelLoading(
            "The tokens cannot be counted", f"the model {model_id} is still being loaded", "ask again"
        )
    return tokens
