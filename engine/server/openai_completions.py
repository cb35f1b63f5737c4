"""The OpenAI dialect's older completions, of a bare text: `/v1/completions`.

Owns: that request, its reply and its stream. Does not know the queue (`answers`) or the model. The text is put to the
model as it is, behind the token that begins every prompt, if the model has one: no template, no reasoning, no calls.
"""

import json
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import Field

from engine.completion_news import CompletionEnd, LoggedText, LoggedToken, News, Progress
from engine.completions import CompletionRequest
from engine.errors import SeamountError
from engine.server import answers
from engine.server.openai_shapes import (
    LogitBias,
    Penalty,
    Shape,
    Stop,
    StreamOptions,
    Temperature,
    TopLogprobs,
    Unsupported,
    bias_of,
    finish_reason,
    notices_of,
    refuse,
    stops_of,
    usage_shape,
)
from engine.server.replies import body_of, error_body
from engine.server.room import EngineOf

router = APIRouter(prefix="/v1")
_PATH = "/v1/completions"
USUAL_TOKENS = 16
"""What the dialect gives a request that names no length."""

_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "suffix": ("",),
    "top_k": (0, -1),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
}


class TextRequest(Shape):
    """`POST /v1/completions`."""

    model: str
    prompt: str | Annotated[list[Any], Field(max_length=1_048_576)]
    """A text, or a list of one."""
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: Stop | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    logprobs: TopLogprobs | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


@router.post("/completions")
async def completions(
    asked: Annotated[TextRequest, Depends(body_of(TextRequest))], request: Request, engine: EngineOf
) -> Response:
    """The text goes on, whole or as a stream. It waits in the same queue as the window's turns."""
    refuse(asked, _UNSUPPORTED)
    text = _prompt(asked.prompt)
    if asked.echo and asked.logprobs is not None:
        raise Unsupported("logprobs", "of the prompt's own tokens, which `echo` asks for")
    served = await answers.served(engine, asked.model)
    completion = await answers.begin(
        engine,
        served.id,
        CompletionRequest(
            messages=(),
            text=text,
            sampling=await answers.sampling_of(
                engine,
                served.id,
                seed=asked.seed,
                temperature=asked.temperature,
                top_p=asked.top_p,
                min_p=asked.min_p,
            ),
            max_tokens=USUAL_TOKENS if asked.max_tokens is None else asked.max_tokens,
            stop=stops_of(asked.stop),
            top_logprobs=asked.logprobs,
            frequency_penalty=asked.frequency_penalty or 0.0,
            presence_penalty=asked.presence_penalty or 0.0,
            logit_bias=bias_of(asked.logit_bias),
            caller=answers.caller_of(request),
        ),
        "completions",
    )
    head = _Head(f"cmpl-{secrets.token_hex(12)}", int(time.time()), served.id)
    before = text if asked.echo else ""
    if not asked.stream:
        answer = await answers.whole(engine, completion, request)
        return answers.nobody_reads() if answer is None else _whole(head, answer, asked, before)
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    return await answers.streamed(
        engine, completion, lambda items: _stream(items, head, before, with_usage=with_usage)
    )


def _prompt(prompt: str | list[Any]) -> str:
    if isinstance(prompt, str):
        return prompt
    if prompt and not all(isinstance(each, str) for each in prompt):
        raise Unsupported("prompt", "token ids are not taken; it is a text")
    if len(prompt) != 1:
        raise Unsupported("prompt", "one text at a time is answered")
    return prompt[0]


class _Head:
    """What every chunk of one answer begins with."""

    def __init__(self, completion_id: str, created: int, model_id: str) -> None:
        self.fields = {
            "id": completion_id,
            "object": "text_completion",
            "created": created,
            "model": model_id,
        }
        self._start = b"data: " + json.dumps(self.fields)[:-1].encode()
        self._text_start = self._start + b', "choices": [{"index": 0, "logprobs": null, "text": '

    def text(self, text: str) -> bytes:
        """A piece of text. Once per piece, so its frame is made beforehand."""
        return b'%b%b, "finish_reason": null}]}\n\n' % (self._text_start, json.dumps(text).encode())

    def chunk(self, choice: dict[str, Any], notices: tuple[str, ...] = ()) -> bytes:
        """Any other step. `notices` are ours, beside what the dialect knows."""
        more = b', "seamount": %b' % json.dumps({"notices": notices}).encode() if notices else b""
        return b'%b, "choices": [%b]%b}\n\n' % (self._start, json.dumps(choice).encode(), more)

    def usage(self, end: CompletionEnd) -> bytes:
        """The cost, in a chunk of its own."""
        return b'%b, "choices": [], "usage": %b}\n\n' % (self._start, json.dumps(usage_shape(end)).encode())


async def _stream(
    items: AsyncGenerator[News, None], head: _Head, before: str, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    offset = 0
    try:
        if before:
            yield head.text(before)
        async for item in items:
            if isinstance(item, str):
                yield head.text(item)
            elif isinstance(item, Progress):
                yield answers.comment(item)
            elif isinstance(item, LoggedText):
                yield head.chunk(_choice(item.text, None, _logprobs(item.tokens, offset)))
                offset += len(item.text)
            elif isinstance(item, CompletionEnd):
                yield head.chunk(_choice("", finish_reason(item), None), notices_of(item))
                if with_usage:
                    yield head.usage(item)
    except SeamountError as error:
        body = json.dumps(error_body(_PATH, error, error.http_status))
        yield f"data: {body}\n\n".encode()
    yield b"data: [DONE]\n\n"


def _whole(head: _Head, answer: answers.WholeAnswer, asked: TextRequest, before: str) -> Response:
    logprobs = None if asked.logprobs is None else _logprobs(answer.tokens, 0)
    choice = _choice(before + answer.text, finish_reason(answer.end), logprobs)
    body: dict[str, Any] = {**head.fields, "choices": [choice], "usage": usage_shape(answer.end)}
    if notices := notices_of(answer.end):
        body["seamount"] = {"notices": notices}
    return Response(json.dumps(body), media_type="application/json")


def _choice(text: str, finish: str | None, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}


def _logprobs(tokens: Sequence[LoggedToken], offset: int) -> dict[str, Any]:
    """The older shape: lists beside each other; the first token begins at `offset` of the answer's text."""
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [_name(token) for token in tokens],
        "token_logprobs": [token.log_probability for token in tokens],
        # Of two tokens that read the same the likelier one is told, which comes first.
        "top_logprobs": [
            {_name(other): other.log_probability for other in reversed(token.top)} for token in tokens
        ],
        "text_offset": offsets,
    }


def _name(token: LoggedToken) -> str:
    """The token's text; for a piece of a character its bytes, as the dialect writes them."""
    try:
        return token.data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.data)
