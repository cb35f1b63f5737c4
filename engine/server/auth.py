"""Who may come in.

Owns: the checks that every request passes before any route sees it: Host and Origin (against pages that rebind a name
to this address or post from elsewhere), the key and what it opens, wrong keys, and the size of the body. Puts a Caller
into the request's state. Each check has a name, so that a test can take it away and see the attack succeed. Does not
know routes, nor what is before HTTP (`connection`). Refusals carry a sentence in the dialect of the path (`replies`).
"""

import asyncio
import hmac
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.access.guessing import Guesses
from engine.callers import WINDOW_KEY, Caller
from engine.errors import BadRequest, Busy, MissingKey, NotAllowed, SeamountError, TooManyRequests
from engine.protocol_access import ClientKey
from engine.server import cross_origin
from engine.server.connection import PLACE, Place
from engine.server.cross_origin import Headers
from engine.server.replies import error_reply

HTTP_PORT, HTTPS_PORT = 80, 443
MOST_BODY_BYTES = 32 * 1024 * 1024
MOST_BODIES_BYTES = 8 * MOST_BODY_BYTES
"""Of all requests of other programs together that are being read or answered."""
BODY_BYTES = {"/api/access": 64 * 1024, "/api/settings": 256 * 1024, "/v1/": MOST_BODY_BYTES}
"""What a body may have by the beginning of its path; elsewhere MOST_BODY_BYTES."""
LONGEST_PROGRAM = 80
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
CLIENT_PATHS = ("/v1/", "/openapi.json")
"""What a client's key opens. The engine's own key opens all, and only on loopback."""
_BODY = (b"content-length", b"transfer-encoding")
"""What a request with a body has one of."""
_DRAIN_BYTES = 8 * MOST_BODY_BYTES
_DRAIN_S = 10.0
_REFUSED = "The request was refused"


class BodyTooLarge(BadRequest):
    """A request body above what its path takes."""

    code = "too_large"
    http_status = 413

    def __init__(self, most_bytes: int) -> None:
        size = f"{most_bytes // 2**20} MB" if most_bytes >= 2**20 else f"{most_bytes // 2**10} KB"
        super().__init__(_REFUSED, f"its body is larger than {size}", "send less at once")


class KeyRing(Protocol):
    """Where clients' keys are found."""

    @property
    def problem(self) -> SeamountError | None: ...
    def find(self, secret: bytes) -> ClientKey | None: ...
    def used(self, key_id: str, program: str) -> None: ...


@dataclass
class Door:
    """What one socket lets in. `hosts` and `origins` are asked for at each request: they change while it is open."""

    keys: KeyRing
    hosts: Callable[[], Iterable[str]]
    """Names and addresses that are this engine's own, without the port."""
    port: int
    own_key: str = ""
    """Opens everything; "": there is none here."""
    is_network: bool = False
    origins: Callable[[], Iterable[str]] = lambda: ()
    """Those of web pages that may come in."""
    seen: Callable[[Caller], None] = lambda _caller: None
    """A program came in with a key of its own."""
    clock: Callable[[], float] = time.monotonic
    guesses: Guesses = field(init=False)
    bodies_bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.guesses = Guesses(self.clock, pauses=self.is_network)

    @property
    def own(self) -> set[bytes]:
        """What a Host header may be here."""
        names = [name.lower() for name in self.hosts()]
        usual = HTTPS_PORT if self.is_network else HTTP_PORT
        own = [f"{name}:{self.port}" for name in names]
        if self.port == usual:
            own += names  # clients leave the usual port out
        return {each.encode() for each in own}


@dataclass
class Knock:
    """One request at a door, and what the checks have found of it."""

    door: Door
    method: str
    path: str
    headers: Headers
    address: str
    caller: Caller | None = None

    def values(self, name: bytes) -> list[bytes]:
        """Of all headers of that name."""
        return [value for each, value in self.headers if each == name]

    @property
    def page(self) -> bytes | None:
        """The origin of the page that it comes from, where that is another than the engine itself."""
        origins = [value.lower() for value in self.values(b"origin")]
        scheme = b"https" if self.door.is_network else b"http"
        foreign = [each for each in origins if each not in {scheme + b"://" + own for own in self.door.own}]
        return foreign[0] if foreign else None

    @property
    def program(self) -> str:
        """What it says of itself, in what can be shown."""
        said = b" ".join(self.values(b"user-agent"))[:400].decode("ascii", "replace")
        return "".join(each for each in said if each.isprintable())[:LONGEST_PROGRAM].strip()


def _host(knock: Knock) -> None:
    hosts = [value.lower() for value in knock.values(b"host")]
    if len(hosts) != 1 or hosts[0] not in knock.door.own:
        raise NotAllowed(
            _REFUSED,
            "its Host header does not name this engine's own address",
            "use the address that the engine shows"
            + ("" if knock.door.is_network else ", with 127.0.0.1 or localhost"),
        )


def _origin(knock: Knock) -> None:
    page = knock.page
    if page is None:
        return
    if len(knock.values(b"origin")) != 1 or page not in cross_origin.named_origins(knock.door.origins()):
        raise NotAllowed(
            _REFUSED,
            "it comes from a page of another origin",
            "call the engine from a program of your own, or name the page's origin in Seamount's settings",
        )
    if not knock.path.startswith(CLIENT_PATHS):
        raise NotAllowed(_REFUSED, "a page of another origin may only use /v1", "ask there")


def _pause(knock: Knock) -> None:
    if (left_s := knock.door.guesses.paused_s(knock.address)) > 0:
        raise TooManyRequests(
            _REFUSED,
            "too many wrong keys came from its address",
            "wait, and use a key that counts",
            math.ceil(left_s),
        )


def _key(knock: Knock) -> None:
    secret = _secret(knock)
    door = knock.door
    if secret is not None:
        if door.own_key and hmac.compare_digest(secret, door.own_key.encode()):
            knock.caller = Caller(program=knock.program, address=knock.address)
            return
        if (key := door.keys.find(secret)) is not None:
            knock.caller = Caller(
                key.id, key.name, knock.program, knock.address, key.is_network, key.limits, key.steady
            )
            return
    raise _no_key(knock)


def _socket(knock: Knock) -> None:
    # Refused as one that is none: which keys there are elsewhere is nobody's affair here.
    if knock.caller is not None and knock.caller.is_network != knock.door.is_network:
        raise _no_key(knock)


def _opens(knock: Knock) -> None:
    # Where a caller is missing the key was not looked at: nobody is in then.
    is_own = knock.caller is not None and knock.caller.key_id == WINDOW_KEY and not knock.door.is_network
    if not is_own and not knock.path.startswith(CLIENT_PATHS):
        raise NotAllowed(
            _REFUSED,
            "a key for other programs opens /v1 alone",
            "ask there; the rest is for Seamount's own window and commands",
        )


def _length(knock: Knock) -> None:
    most_bytes = _most_bytes(knock.path)
    for value in knock.values(b"content-length"):
        if not value.isdigit() or len(value) > 19 or int(value) > most_bytes:
            raise BodyTooLarge(most_bytes)


CHECKS: dict[str, Callable[[Knock], None]] = {
    "host": _host,
    "origin": _origin,
    "pause": _pause,
    "key": _key,
    "socket": _socket,
    "opens": _opens,
    "length": _length,
}
"""In this order; the first that fails is what is told."""


class Guard:
    """ASGI middleware around the whole application, for one socket."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a refusal."""
        if scope["type"] != "http":
            # The lifespan; the server speaks nothing else.
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        knock = Knock(
            self._door, scope["method"], scope["path"], scope["headers"], str(client[0]) if client else ""
        )
        try:
            answer = self._preflight(knock)
            if answer is None:
                self._check(knock)
        except SeamountError as error:
            await self._refuse(knock, error, scope, receive, send)
            return
        if answer is not None:
            await send({"type": "http.response.start", "status": 204, "headers": answer})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._admit(knock, scope, receive, send)

    def _preflight(self, knock: Knock) -> Headers | None:
        """The headers of the answer to a browser that asks for a page that may come in. It has no key to show yet."""
        if not cross_origin.is_preflight(knock.method, knock.headers):
            return None
        for name in ("host", "origin"):
            if name in CHECKS:
                CHECKS[name](knock)
        page = knock.page
        return None if page is None else cross_origin.preflight_headers(page, knock.headers)

    def _check(self, knock: Knock) -> None:
        for check in tuple(CHECKS.values()):
            check(knock)

    async def _admit(self, knock: Knock, scope: Scope, receive: Receive, send: Send) -> None:
        caller = knock.caller or Caller(program=knock.program, address=knock.address)
        if knock.caller is not None and caller.key_id != WINDOW_KEY:
            self._door.guesses.right(knock.address)
            self._door.keys.used(caller.key_id, caller.program)
            self._door.seen(caller)
        scope.setdefault("state", {})["caller"] = caller
        page = knock.page
        if page is not None:
            send = _with_headers(send, cross_origin.page_headers(page))
        # Programs that fill what there is for bodies do not keep a person from asking.
        is_shared = knock.caller is None or caller.key_id != WINDOW_KEY
        body = _Bounded(receive, self._door, _most_bytes(knock.path), is_shared=is_shared)
        has_body = any(name in _BODY for name, _ in knock.headers)
        if has_body:
            send = _behind(body, send)
        place: Place | None = scope["state"].pop(PLACE, None)
        if place is not None and knock.caller is not None:
            if is_shared and has_body:
                # Who holds a key and sends slowly is to keep nobody out either.
                body.arrived = lambda: place.answered(now=True)
            else:
                place.answered(now=True)
        try:
            await self._app(scope, body, send)
        except ClientDisconnect:
            return  # it went while its body was read: nobody is there to be told anything
        finally:
            body.close()
            if place is not None:
                place.answered(now=False)

    async def _refuse(
        self, knock: Knock, error: SeamountError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if isinstance(error, MissingKey) and _secret(knock) is not None:
            guesses = self._door.guesses
            wait_s = guesses.wrong(knock.address)
            if wait_s:
                guesses.held += 1
                try:
                    await pause(wait_s)
                finally:
                    guesses.held -= 1
        # A client that sends its body all the same would see a broken connection instead of the sentence.
        if not any(value.lower() == b"100-continue" for value in knock.values(b"expect")):
            await _drain(receive)
        page = knock.page
        if page is not None and page in cross_origin.named_origins(self._door.origins()):
            send = _with_headers(send, cross_origin.page_headers(page))
        await error_reply(knock.path, error)(scope, receive, send)


async def pause(seconds: float) -> None:
    """What a wrong key waits for its answer."""
    await asyncio.sleep(seconds)


class _Bounded:
    """`receive` that counts: a body sent in chunks has no length to look at beforehand, and many at once have no bound.

    What was read counts until the request has its answer.
    """

    def __init__(self, receive: Receive, door: Door, most_bytes: int, *, is_shared: bool) -> None:
        """`is_shared`: it counts among all together."""
        self._receive = receive
        self._door = door
        self._most_bytes = most_bytes
        self._is_shared = is_shared
        self._size_bytes = 0
        self._is_over = False
        self.arrived: Callable[[], None] = lambda: None
        """Called when all of it is there."""

    async def __call__(self) -> Message:
        message = await self._receive()
        self._is_over |= not message.get("more_body")
        if message["type"] == "http.request":
            size_bytes = len(message.get("body", b""))
            self._size_bytes += size_bytes
            if self._is_shared:
                self._door.bodies_bytes += size_bytes
            if self._size_bytes > self._most_bytes:
                await self._drop(message)
                raise BodyTooLarge(self._most_bytes)
            if self._is_shared and self._door.bodies_bytes > MOST_BODIES_BYTES:
                await self._drop(message)
                raise Busy(_REFUSED, "others send as much as the engine can hold", "try again in a moment")
            if not message.get("more_body"):
                self.arrived()
        return message

    async def drop(self) -> None:
        """Read what no route wanted of it."""
        if not self._is_over:
            await self._drop(None)

    async def _drop(self, message: Message | None) -> None:
        self._is_over = True
        await _drain(self._receive, message)

    def close(self) -> None:
        """It has its answer."""
        if self._is_shared:
            self._door.bodies_bytes -= self._size_bytes
        self._size_bytes = 0


def _secret(knock: Knock) -> bytes | None:
    """The one key that it shows, as `Authorization: Bearer KEY` or `x-api-key: KEY`; None where there is none, or where
    two are shown that differ."""
    given: list[bytes] = []
    for value in knock.values(b"authorization"):
        scheme, _, key = value.partition(b" ")
        given.append(key.strip() if scheme.lower() == b"bearer" else b"")
    given += [value.strip() for value in knock.values(b"x-api-key")]
    return given[0] if given and given[0] and all(each == given[0] for each in given) else None


def _no_key(knock: Knock) -> MissingKey:
    door = knock.door
    if door.keys.problem is not None:
        return MissingKey(
            _REFUSED,
            "it carries no key that counts, and the file with the keys of other programs is not in order",
            "look at Other programs in Seamount, or `seamount keys`",
        )
    which = "one for the network" if door.is_network else "one that is not for the network"
    return MissingKey(
        _REFUSED,
        "it carries no key, or none that counts here",
        f"send `Authorization: Bearer KEY`; `seamount keys make NAME` makes a key, {which}"
        + ("" if door.is_network else ", and Seamount's own is in engine.json in the data folder"),
    )


def _most_bytes(path: str) -> int:
    return next((most for start, most in BODY_BYTES.items() if path.startswith(start)), MOST_BODY_BYTES)


def _with_headers(send: Send, headers: Headers) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *headers]}
        await send(message)

    return sending


def _behind(body: _Bounded, send: Send) -> Send:
    """Answers come behind the whole body, also those that need nothing of it, as where there is no such path: a client
    that still sends would see a broken connection in their place."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            await body.drop()
        await send(message)

    return sending


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
