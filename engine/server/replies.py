"""Bodies in, replies out.

Owns: reading a JSON body into its shape (cleaned at the door: lone surrogates arrive as escapes), replies in
JSON, server-sent events, and the shape of an error in each dialect. Does not know what any route does.
"""

import json
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Receive, Scope, Send

from engine.conversation import clean_text
from engine.errors import (
    BadRequest,
    PromptTooLong,
    RemoteBusy,
    RemoteError,
    RemoteUnreachable,
    SeamountError,
)
from engine.server.side_work import beside

Shape = TypeVar("Shape", bound=BaseModel)
OPENAI_PATH = "/v1/"
KEEP_ALIVE_S = 10.0
KEEP_ALIVE = b": still here\n\n"
_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
ANTHROPIC_PATH = "/v1/messages"
REQUEST_ID = "request-id"
"""The header by which Anthropic's clients name a request."""
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_ANTHROPIC_STATUS = {"prompt_too_long": 400, "context_too_small": 400, "busy": 529, "model_loading": 529}
"""By an error's code: the status that clients of that dialect know it by, where it is another than ours."""
_WORTH_ANOTHER_TRY = (429, 500, 529)
_WHAT = "The request was refused"
MOST_VALUES = 250_000
"""Values in one body: each becomes an object of some hundred bytes here, whatever it takes there."""
_AT_ONCE_BYTES = 64 * 1024
"""A body up to here is read on the event loop; a larger one would make everybody wait."""


def body_of(shape: type[Shape]) -> Callable[[Request], Awaitable[Shape]]:
    """A dependency that reads the body as `shape`. Raises BadRequest with one sentence."""

    async def read(request: Request) -> Shape:
        body = await request.body()
        if len(body) <= _AT_ONCE_BYTES:
            return parse_body(body, shape)
        return await beside(parse_body, body, shape)

    return read


def parse_body(body: bytes, shape: type[Shape]) -> Shape:
    """JSON → `shape`; NUL and lone surrogates in its texts become U+FFFD. Raises BadRequest."""
    if _has_too_many_values(body):
        raise BadRequest(_WHAT, f"its body has more than {MOST_VALUES:,} values", "send less at once")
    try:
        # Of UTF-8 alone: in other encodings the values would have been counted wrongly.
        text = body.decode("utf-8-sig", "surrogatepass")
        value = json.loads(text, parse_constant=_refuse_constant)
        return shape.model_validate(_cleaned(value))
    except ValidationError as error:
        raise _Misshapen(list(error.errors(include_url=False))) from error
    except (ValueError, RecursionError) as error:
        raise BadRequest(_WHAT, "its body is not JSON in UTF-8", "send JSON") from error


def _has_too_many_values(body: bytes) -> bool:
    """Before any of them is made. What is no JSON may be counted otherwise; it is refused as such."""
    if _values(body) <= MOST_VALUES:
        return False
    # Long texts may hold as many commas: without them, then. An escape is within a text.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    texts = bare.count(b'"') // 2
    return texts > 2 * MOST_VALUES or _values(b"".join(bare.split(b'"')[::2])) > MOST_VALUES


def _values(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def reply(value: BaseModel, status: int = 200) -> Response:
    """`value` as JSON."""
    return Response(value.model_dump_json(), status, media_type="application/json")


class EventStream(StreamingResponse):
    """Server-sent events; nothing between here and the client is to keep or gather them.

    `on_close` is called when the client has all of it or has gone away, also when it went before the first
    event was made.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        on_close: Callable[[], None] = lambda: None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        headers = {
            **(headers or {}),
            "Cache-Control": "no-cache, no-transform",
            "Connection": "keep-alive",
            "X-Accel-Buffering": "no",
        }
        super().__init__(content, headers=headers)
        self._content = content
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and clean up however that ended."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_close()
            await self._content.aclose()


def error_reply(path: str, error: SeamountError, status: int | None = None) -> Response:
    """`error` in the shape of the dialect that `path` belongs to."""
    status = status or error.http_status
    retry_after_s = getattr(error, "retry_after_s", None)
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if isinstance(error, RemoteError) and not isinstance(error, RemoteUnreachable | RemoteBusy):
        # It may have been computed and charged: the clients' libraries are not to ask again by themselves.
        headers["x-should-retry"] = "false"
    request_id = ""
    if is_anthropic(path):
        status = _ANTHROPIC_STATUS.get(error.code, status)
        request_id = headers[REQUEST_ID] = new_request_id()
        if status not in _WORTH_ANOTHER_TRY:
            # Its clients would ask twice more by themselves where a status may mean something that passes.
            headers["x-should-retry"] = "false"
    body = error_body(path, error, status, request_id)
    return Response(json.dumps(body), status, headers, media_type="application/json")


def error_body(path: str, error: SeamountError, status: int, request_id: str = "") -> dict[str, Any]:
    """The JSON of an error: ours has code and text (and `message`, where others look for it)."""
    # A sentence may quote a request or a file name: what cannot be encoded must not stop the reply.
    text = clean_text(error.text)[0]
    if is_anthropic(path):
        status = _ANTHROPIC_STATUS.get(error.code, status)
        kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        details = {"error_code": error.code}
        shape = {"type": kind, "message": _as_anthropics_clients_know_it(error, text), "details": details}
        return {"type": "error", "error": shape, "request_id": request_id or None}
    if path.startswith(OPENAI_PATH):
        kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        param = getattr(error, "param", None)
        return {"error": {"message": text, "type": kind, "param": param, "code": error.code}}
    return {"error": {"code": error.code, "text": text, "message": text}}


def is_anthropic(path: str) -> bool:
    """Whether `path` belongs to Anthropic's dialect."""
    return path == ANTHROPIC_PATH or path.startswith(ANTHROPIC_PATH + "/")


def new_request_id() -> str:
    """A name for one request, as Anthropic's look."""
    return f"req_{secrets.token_hex(12)}"


def _as_anthropics_clients_know_it(error: SeamountError, text: str) -> str:
    """Agents tell by these words that a conversation is to be made shorter, and by how much."""
    if isinstance(error, PromptTooLong) and error.tokens is not None:
        return f"prompt is too long: {error.tokens} tokens > {error.most_tokens} maximum. {text}"
    return text


def add_error_handlers(app: FastAPI) -> None:
    """Every error leaves as a sentence."""

    async def seamount(request: Request, error: Exception) -> Response:
        return error_reply(request.url.path, cast(SeamountError, error))

    async def invalid(request: Request, error: Exception) -> Response:
        problems = list(cast(RequestValidationError, error).errors())
        return error_reply(request.url.path, _Misshapen(problems))

    async def http(request: Request, error: Exception) -> Response:
        cause = cast(HTTPException, error)
        return error_reply(request.url.path, _HttpError(request, cause), cause.status_code)

    async def unforeseen(request: Request, error: Exception) -> Response:
        # Starlette raises it again, and the server logs its traceback.
        trouble = SeamountError(
            "The request failed",
            f"the engine met an error of its own ({type(error).__name__})",
            "try again; the engine's log says more",
        )
        return error_reply(request.url.path, trouble)

    app.add_exception_handler(SeamountError, seamount)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(StarletteHTTPException, http)
    app.add_exception_handler(Exception, unforeseen)


class _HttpError(SeamountError):
    """What the framework itself refuses: an unknown path, a method that a path does not have."""

    def __init__(self, request: Request, cause: HTTPException) -> None:
        names = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
        self.code = names.get(cause.status_code, "bad_request")  # type: ignore[misc]
        path = clean_text(request.url.path)[0]
        whys = {404: f"there is nothing at {path}", 405: f"{path} does not take {request.method}"}
        why = whys.get(cause.status_code)
        self._sentence = None if why else str(cause.detail)
        super().__init__(_WHAT, why or str(cause.detail), "check the address and the method")

    @property
    def text(self) -> str:
        """The sentence, or the one that was raised with it."""
        return self._sentence or super().text


class _Misshapen(BadRequest):
    """A body, or another part of a request, that has not the expected shape. `param`: the field, as far as one is."""

    def __init__(self, problems: list[Any]) -> None:
        super().__init__(_WHAT, _first_problem(problems), "correct it")
        place = [part for part in problems[0]["loc"] if part != "body"] if problems else []
        self.param = str(place[0]) if place else None


def _first_problem(errors: list[Any]) -> str:
    """The first thing that validation found, as a clause."""
    if not errors:
        return "it does not have the expected shape"
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    message = str(first["msg"]).rstrip(".")
    message = message[:1].lower() + message[1:]
    return f"`{place}`: {message}" if place else message


def _cleaned(value: Any) -> Any:
    """`value` with every text in it cleaned. The JSON parser has bounded its depth already."""
    if isinstance(value, str):
        return clean_text(value)[0]
    if isinstance(value, list):
        return [_cleaned(each) for each in cast(list[Any], value)]
    if isinstance(value, dict):
        return {clean_text(key)[0]: _cleaned(each) for key, each in cast(dict[str, Any], value).items()}
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
