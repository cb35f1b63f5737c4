"""Bodies in, sentences out."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import Request
from pydantic import BaseModel, ValidationError, model_validator
from starlette.types import Message

from engine.errors import (
    BadRequest,
    Busy,
    ContextTooSmall,
    GenerationError,
    MissingKey,
    ModelLoading,
    NoModel,
    NotAllowed,
    NotFound,
    PromptTooLong,
    SeamountError,
    TooManyRequests,
)
from engine.protocol import Results, Settings
from engine.server import replies
from engine.server.auth import BodyTooLarge
from engine.server.openai_chat import ChatRequest
from engine.server.replies import EventStream, body_of, error_body, error_reply, parse_body


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


def test_clients_are_told_which_field_is_wrong() -> None:
    with pytest.raises(BadRequest) as refused:
        parse_body(b'{"model": "m", "messages": [{"role": "user"}], "stop": [1]}', ChatRequest)
    assert error_body("/v1/chat/completions", refused.value, 400)["error"]["param"] == "stop"
    with pytest.raises(BadRequest) as refused:
        parse_body(b"null", ChatRequest)
    assert error_body("/v1/chat/completions", refused.value, 400)["error"]["param"] is None


@pytest.mark.parametrize(("shape", "name"), [(ChatRequest, "messages"), (Results, "results")])
def test_of_many_wrong_parts_one_is_told(shape: type[BaseModel], name: str) -> None:
    """Thirty megabytes of them would take the memory of a machine if each had its error."""
    with pytest.raises(BadRequest) as caught:
        parse_body(json.dumps({name: [{}] * 20_000}).encode(), shape)
    cause = caught.value.__cause__
    assert isinstance(cause, ValidationError) and cause.error_count() < 10


class Noted(BaseModel):
    """Notes the thread on which it was read."""

    text: str
    thread: str = ""

    @model_validator(mode="after")
    def note(self) -> "Noted":
        self.thread = threading.current_thread().name
        return self


def test_a_large_body_is_read_beside_the_event_loop() -> None:
    def thread_of(size: int) -> str:
        body = json.dumps({"text": "a" * size}).encode()

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def read() -> str:
            return (await body_of(Noted)(Request({"type": "http"}, receive))).thread

        return asyncio.run(read())

    assert thread_of(100) == threading.current_thread().name
    assert thread_of(100_000) != threading.current_thread().name


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


def _too_long() -> PromptTooLong:
    error = PromptTooLong("It does not fit", "why", "shorten it")
    error.tokens, error.most_tokens = 12_000, 8191
    return error


@pytest.mark.parametrize(
    ("error", "status", "kind", "again"),
    [
        (BadRequest("It", "why", "do"), 400, "invalid_request_error", False),
        (MissingKey("It", "why", "do"), 401, "authentication_error", False),
        (NotAllowed("It", "why", "do"), 403, "permission_error", False),
        (NotFound("It", "why", "do"), 404, "not_found_error", False),
        (BodyTooLarge(1 << 20), 413, "request_too_large", False),
        (TooManyRequests("what", "why", "do", 7), 429, "rate_limit_error", True),
        (GenerationError("It", "why", "do"), 500, "api_error", True),
        (NoModel("It", "why", "do"), 503, "api_error", False),
        (Busy("It", "why", "do"), 529, "overloaded_error", True),
        (ModelLoading("It", "why", "do"), 529, "overloaded_error", True),
        (ContextTooSmall("It", "why", "do"), 400, "invalid_request_error", False),
        (_too_long(), 400, "invalid_request_error", False),
    ],
)
def test_an_error_of_anthropics_dialect(error: SeamountError, status: int, kind: str, again: bool) -> None:
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/messages/nowhere"):
        reply = error_reply(path, error)
        body = json.loads(bytes(reply.body))
        assert (reply.status_code, body["type"], body["error"]["type"]) == (status, "error", kind)
        assert body["request_id"] == reply.headers["request-id"].strip() != ""
        assert body["error"]["message"].endswith(error.text)
        assert ("x-should-retry" not in reply.headers) == again
    assert "request-id" not in error_reply("/v1/messagesque", error).headers
    # In a stream that has begun, an error has no status of its own.
    assert error_body("/v1/messages", error, error.http_status)["error"]["type"] == kind


def test_agents_are_told_by_how_much_a_conversation_is_too_long() -> None:
    message = error_body("/v1/messages", _too_long(), 413)["error"]["message"]
    assert message == "prompt is too long: 12000 tokens > 8191 maximum. It does not fit: why; shorten it."


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


class Anything(BaseModel):
    a: Any


@pytest.mark.parametrize(
    "text",
    [
        ",[{" * 50,
        '\\",' * 50,
        "\\\\" + '",' * 50,
        "\\" * 51 + '"' + "," * 50,
        '"' * 51 + "[" * 50,
        "\n,\u2c22" * 50,
    ],
)
def test_values_are_counted_and_what_looks_like_them_in_texts_is_not(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(replies, "MOST_VALUES", 20)
    for ascii_only in (True, False):
        for few, many in (([text] * 9, [text] * 30), ({text: [text]}, [{text: n} for n in range(30)])):
            body = json.dumps({"a": few}, ensure_ascii=ascii_only).encode()
            assert parse_body(body, Anything).a == few
            with pytest.raises(BadRequest, match="more than 20 values"):
                parse_body(json.dumps({"a": many}, ensure_ascii=ascii_only).encode(), Anything)


def test_a_body_in_another_encoding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter of it could pass for the end of a text, and all values after it for one."""
    monkeypatch.setattr(replies, "MOST_VALUES", 20)
    body = json.dumps({"a": ["\u0122", *range(30)]}, ensure_ascii=False)
    with pytest.raises(BadRequest):
        parse_body(body.encode("utf-16-le"), Anything)
    assert parse_body(b"\xef\xbb\xbf" + json.dumps({"a": 1}).encode(), Anything).a == 1
