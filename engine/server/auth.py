"""Who may come in.

Owns: the checks that every request passes before any route sees it: Host and Origin (against pages that
rebind a name to this address or post from elsewhere), the bearer key, and the size of the body. Does not
know routes. Refusals carry a sentence in the dialect of the path (`replies`).
"""

import asyncio
import hmac

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import BadRequest, MissingKey, NotAllowed, SeamountError
from engine.server.replies import error_reply

HTTP_PORT = 80
MOST_BODY_BYTES = 32 * 1024 * 1024
_DRAIN_BYTES = 8 * MOST_BODY_BYTES
_DRAIN_S = 10.0


class BodyTooLarge(BadRequest):
    """A request body above `MOST_BODY_BYTES`."""

    code = "too_large"
    http_status = 413

    def __init__(self) -> None:
        super().__init__(
            "The request was refused",
            f"its body is larger than {MOST_BODY_BYTES // 2**20} MB",
            "send less at once",
        )


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, key: str, port: int) -> None:
        self._app = app
        self._key = key.encode()
        names = ("127.0.0.1", "localhost", "[::1]")
        own = [f"{name}:{port}" for name in names]
        if port == HTTP_PORT:
            own += names  # clients leave the usual port out
        self._hosts = {host.encode() for host in own}
        self._origins = {f"http://{host}".encode() for host in own}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a refusal."""
        if scope["type"] != "http":
            # The lifespan; the server speaks nothing else.
            await self._app(scope, receive, send)
            return
        error = self._refusal(scope)
        if error is None:
            await self._app(scope, _Bounded(receive), send)
            return
        # A client that still sends its body would see a broken connection instead of the sentence.
        await _drain(receive)
        await error_reply(scope["path"], error)(scope, receive, send)

    def _refusal(self, scope: Scope) -> SeamountError | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = [value.lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return NotAllowed(
                "The request was refused",
                "its Host header does not name this engine's own address",
                "use the address that the engine shows, with 127.0.0.1 or localhost",
            )
        for name, value in headers:
            if name == b"origin" and value.lower() not in self._origins:
                return NotAllowed(
                    "The request was refused",
                    "it comes from a page of another origin",
                    "call the engine from a program of your own, not from a web page",
                )
        if not self._has_key(headers):
            return MissingKey(
                "The request was refused",
                "it carries no key, or not this engine's",
                "send `Authorization: Bearer KEY` with the key from engine.json in the data folder",
            )
        lengths = [value for name, value in headers if name == b"content-length"]
        if any(int(value) > MOST_BODY_BYTES for value in lengths if value.isdigit()):
            return BodyTooLarge()
        return None

    def _has_key(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, key = given[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key)


class _Bounded:
    """`receive` that counts: a body sent in chunks has no length to look at beforehand."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size_bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size_bytes += len(message.get("body", b""))
            if self._size_bytes > MOST_BODY_BYTES:
                await _drain(self._receive, message)
                error = BodyTooLarge()
                raise HTTPException(error.http_status, error.text)
        return message


async def _drain(receive: Receive, message: Message | None = None) -> None:
    """Read what is left of a body and drop it, up to a bound in size and time."""
    size_bytes = 0
    try:
        async with asyncio.timeout(_DRAIN_S):
            while message is None or (message["type"] == "http.request" and message.get("more_body")):
                message = await receive()
                size_bytes += len(message.get("body", b""))
                if size_bytes > _DRAIN_BYTES:
                    return
    except TimeoutError:
        return
