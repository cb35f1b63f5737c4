"""Speaking HTTP with a machine that is not trusted: one request, within bounds of size and time.

Owns: the connection: no redirects, nothing packed, nothing in the clear beyond private networks, proxies as the system
has them but never for this machine and private networks; and how far a request had come when it failed. Knows httpx.
Does not know the sentences (`remote_faults`), what is said (`remote_request`, `remote_stream`) or which address is
meant.

Everything happens on an event loop of its own in the thread that calls `run`, so that a silent server can be given up
at any moment.
"""

import asyncio
import contextlib
import ipaddress
import json
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from engine.backends.remote_address import Address, whereabouts_of
from engine.backends.remote_faults import Reply, Target, broke_off, quoted, refusal, unreachable
from engine.backends.remote_tls import pinned, trusting
from engine.conversation import clean_text
from engine.errors import RemoteBrokeOff, RemoteError

if TYPE_CHECKING:
    import httpx

Result = TypeVar("Result")
POLL_S = 0.05
"""How soon it is noticed that nobody wants the answer any more."""
_ERROR_BYTES = 64 << 10


class RemoteCancelled(Exception):  # noqa: N818 - nothing failed
    """It was given up on request."""


def run(work: Coroutine[Any, Any, Result], cancelled: Callable[[], bool] = lambda: False) -> Result:
    """Do `work` in this thread. Raises RemoteCancelled soon after `cancelled()`, and what `work` raises."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_watched(work, cancelled))
    finally:
        with contextlib.suppress(Exception):
            loop.run_until_complete(loop.shutdown_asyncgens())
        # A name that is still being looked up is not waited for.
        loop.close()


async def _watched(work: Coroutine[Any, Any, Result], cancelled: Callable[[], bool]) -> Result:
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait({task}, timeout=POLL_S)
        if cancelled() and not task.done():
            task.cancel()
            await asyncio.wait({task})
            if task.cancelled() or task.exception() is not None:
                raise RemoteCancelled
    return task.result()


async def fetch(target: Target, method: str, url: str, body: Any = None, *, timeout_s: float = 30.0) -> Reply:
    """One request and its whole reply, whatever its status. Raises RemoteError and its kinds."""
    try:
        async with asyncio.timeout(timeout_s):
            async with _sent(target, method, url, body) as reply:
                content = await _whole(target, reply, target.limits.body_bytes)
                return Reply(reply.status_code, reply.headers, _parsed(content))
    except TimeoutError as error:
        raise RemoteBrokeOff(
            f"{target.place} gave no answer", f"it took longer than {timeout_s:.0f} s", "try again later"
        ) from error


@contextlib.asynccontextmanager
async def streamed(
    target: Target, url: str, body: Any, head: Callable[[Mapping[str, str]], None] = lambda _headers: None
) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
    """A POST whose reply is a stream of events: its bytes as they come; `head` is given its headers before. Raises
    RemoteError and its kinds, also while they are read."""
    async with _sent(target, "POST", url, body) as reply:
        if reply.status_code != 200:
            raise refusal(target, await _replied(target, reply))
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream":
            found = await _replied(target, reply)
            if kind == "application/json" and quoted(target, found):
                raise refusal(target, found)
            shown = clean_text(kind)[0][:60] or "no type"
            raise RemoteError(
                f"{target.place} gave no answer",
                f"what it sent is no stream of an answer ({shown})",
                "check the address: it is what stands before /chat/completions",
            )
        head(reply.headers)
        yield _pieces(target, reply)


async def _pieces(target: Target, reply: "httpx.Response") -> AsyncGenerator[bytes, None]:
    import httpx

    size, limits = 0, target.limits
    pieces = reply.aiter_raw()
    try:
        while True:
            pause_s = limits.idle_s if size else limits.first_byte_s
            try:
                async with asyncio.timeout(pause_s):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise broke_off(target, f"it was silent for {pause_s:g} s") from error
            size += len(piece)
            if size > limits.stream_bytes:
                raise RemoteBrokeOff(
                    f"{target.place} was stopped",
                    f"its answer is larger than {limits.stream_bytes:,} bytes",
                    "ask for a shorter one",
                )
            yield piece
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        raise broke_off(target, "the connection broke") from error


@contextlib.asynccontextmanager
async def _sent(target: Target, method: str, url: str, body: Any) -> AsyncGenerator["httpx.Response", None]:
    """The head of the reply, its body not read. All that can fail becomes a sentence."""
    import httpx

    limits = target.limits
    headers = {"User-Agent": "seamount", "Accept-Encoding": "identity"}
    if target.key:
        headers["Authorization"] = f"Bearer {target.key}"
    content = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    extensions: dict[str, Any] = {}
    if target.address.scheme == "http" and not target.socket_path:
        url, extensions = await _in_private(target, url, headers)
    steps = _Steps()
    extensions["trace"] = steps.saw
    timeout = httpx.Timeout(limits.first_byte_s, connect=limits.connect_s, write=limits.idle_s)
    began_s = time.monotonic()
    try:
        async with httpx.AsyncClient(
            transport=_transport(target),
            timeout=timeout,
            follow_redirects=False,
        ) as client:
            request = client.build_request(
                method,
                url,
                headers=headers,
                content=content,
                extensions=extensions | {"timeout": timeout.as_dict()},
            )
            # The limits of httpx are those of each read: a head that comes byte by byte would never end.
            async with asyncio.timeout(limits.connect_s + limits.first_byte_s):
                reply = await client.send(request, stream=True)
            try:
                _require_plain(target, reply)
                yield reply
            finally:
                await reply.aclose()
    except RemoteError:
        raise
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise unreachable(target, error) from error
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError) as error:
        if not steps.sending:
            raise unreachable(target, error) from error
        if isinstance(error, httpx.TimeoutException | TimeoutError):
            raise broke_off(
                target, f"no answer had begun after {time.monotonic() - began_s:.0f} s"
            ) from error
        if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
            raise RemoteError(
                f"{target.place} gave no answer", "what it sent is not HTTP", "check the address and its port"
            ) from error
        raise broke_off(target, "the connection broke") from error


class _Steps:
    """How far a request has come: whether anything of it can have arrived."""

    def __init__(self) -> None:
        self.sending = False

    async def saw(self, name: str, _info: Mapping[str, Any]) -> None:
        """Called by httpcore at each of its steps."""
        self.sending |= name.endswith("send_request_headers.started")


def _transport(target: Target) -> "httpx.AsyncBaseTransport | None":
    """None: httpx's own, with the proxies of the system."""
    import httpx

    address = target.address
    if target.socket_path:
        return httpx.AsyncHTTPTransport(uds=target.socket_path)
    if target.fingerprint is not None:
        return httpx.AsyncHTTPTransport(verify=pinned(target.fingerprint))
    verify = trusting() if address.scheme == "https" else False
    if whereabouts_of(address.host) != "elsewhere":
        return httpx.AsyncHTTPTransport(verify=verify)
    proxy = _proxy_for(address)
    return httpx.AsyncHTTPTransport(verify=verify, proxy=proxy)


def _proxy_for(address: Address) -> str | None:
    """The system's proxy for an address elsewhere."""
    from urllib.request import getproxies, proxy_bypass

    try:
        if proxy_bypass(address.host):
            return None
    except OSError:
        return None
    found = getproxies().get(address.scheme) or getproxies().get("all")
    return found if found and found.startswith(("http://", "https://")) else None


async def _in_private(target: Target, url: str, headers: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """The same address by number, once it is seen to be this machine's or a private network's: a name alone could lead
    what is sent in the clear anywhere. Raises RemoteUnreachable, RemoteError."""
    address = target.address
    port = address.port or 80
    try:
        async with asyncio.timeout(target.limits.connect_s):
            found = await asyncio.get_running_loop().getaddrinfo(address.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise unreachable(target, error) from error
    numbers = list(dict.fromkeys(str(each[4][0]) for each in found))
    if not numbers or any(whereabouts_of(each) == "elsewhere" for each in numbers):
        raise RemoteError(
            f"{target.place} was not asked",
            "its name leads out of the local network, where what is sent without encryption can be read",
            "write the address with https",
        )
    # IPv4 first: what listens on the loopback of a machine listens there.
    number = min(numbers, key=lambda each: ipaddress.ip_address(each.partition("%")[0]).version)
    headers["Host"] = target.host or address.place
    shown = f"[{number}]" if ":" in number else number
    return url.replace(address.root, f"http://{shown}:{port}", 1), {}


def _require_plain(target: Target, reply: "httpx.Response") -> None:
    """What was not asked for is not unpacked: a few bytes may unpack to any number."""
    packed = reply.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("", "identity"):
        raise RemoteError(
            f"{target.place} gave no answer",
            f"what it sent is packed ({clean_text(packed)[0][:20]}), though that was not asked for",
            "set its server, or the proxy before it, to leave answers as they are",
        )


async def _whole(target: Target, reply: "httpx.Response", most_bytes: int, *, cut: bool = False) -> bytes:
    content = bytearray()
    async for piece in reply.aiter_raw():
        content += piece
        if len(content) > most_bytes:
            if cut:
                return bytes(content[:most_bytes])
            raise RemoteError(
                f"{target.place} was stopped",
                f"its reply is larger than {most_bytes:,} bytes",
                "check the address",
            )
    return bytes(content)


async def _replied(target: Target, reply: "httpx.Response") -> Reply:
    """The reply with as much of its body as an error may have."""
    import httpx

    content = b""
    with contextlib.suppress(httpx.HTTPError, httpx.StreamError, OSError, TimeoutError):
        async with asyncio.timeout(target.limits.connect_s):
            content = await _whole(target, reply, _ERROR_BYTES, cut=True)
    return Reply(reply.status_code, reply.headers, _parsed(content))


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
