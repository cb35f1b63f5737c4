"""Bodies in, sentences out."""

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from pydantic import BaseModel, ValidationError

from engine.errors import BadRequest, NotFound
from engine.protocol import Results, Settings
from engine.server.openai_chat import ChatRequest
from engine.server.replies import EventStream, error_body, parse_body


class Shape(BaseModel):
    text: str
    more: dict[str, list[str]] = {}


def test_texts_are_cleaned_wherever_they_stand() -> None:
    body = rb'{"text": "a\u0000b\ud800c \ud83d\ude00", "more": {"k\udc00": ["\udfff"]}}'
    assert parse_body(body, Shape) == Shape(text="a\ufffdb\ufffdc \U0001f600", more={"k\ufffd": ["\ufffd"]})


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"NaN", b'{"text": Infinity}', b"[" * 200_000, b"9" * 5000, b"[]", b"null"],
)
def test_what_is_no_body_is_a_sentence(body: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_body(body, Shape)
    assert refused.value.text.endswith(".")


def test_the_first_problem_is_named_by_its_place() -> None:
    with pytest.raises(
        BadRequest, match=r"`sampling\.temperature`: input should be less than or equal to 10"
    ):
        parse_body(b'{"sampling": {"temperature": 11}}', Settings)


@pytest.mark.parametrize(("shape", "name"), [(ChatRequest, "messages"), (Results, "results")])
def test_of_many_wrong_parts_one_is_told(shape: type[BaseModel], name: str) -> None:
    """Thirty megabytes of them would take the memory of a machine if each had its error."""
    with pytest.raises(BadRequest) as caught:
        parse_body(json.dumps({name: [{}] * 20_000}).encode(), shape)
    cause = caught.value.__cause__
    assert isinstance(cause, ValidationError) and cause.error_count() < 10


def test_an_error_has_the_shape_of_its_dialect() -> None:
    error = NotFound("It\ud800", "why", "do")
    ours = error_body("/api/sessions", error, 404)
    assert ours == {
        "error": {"code": "not_found", "text": "It\ufffd: why; do.", "message": "It\ufffd: why; do."}
    }
    theirs = error_body("/v1/models", error, 404)["error"]
    assert theirs["type"] == "invalid_request_error"
    assert theirs["message"] == ours["error"]["message"]
    assert theirs["param"] is None
    json.dumps(theirs).encode()


@pytest.mark.parametrize("begun", [True, False])
def test_a_stream_is_closed_also_when_its_client_went_before_it_began(begun: bool) -> None:
    closed: list[str] = []

    async def content() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            closed.append("content")

    async def check() -> None:
        sent = asyncio.Event()

        async def send(message: object) -> None:
            sent.set()
            await asyncio.sleep(0)

        async def receive() -> dict[str, str]:
            if begun:
                await sent.wait()
                await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        stream = EventStream(content(), on_close=lambda: closed.append("stream"))
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await asyncio.wait_for(stream(scope, receive, send), 5)  # type: ignore[arg-type]

    asyncio.run(check())
    assert "stream" in closed
    assert ("content" in closed) == begun or not begun
