"""The network's socket: listening, TLS, and what a connection is counted by before it has shown who it is.

Owns: binding, accepting within bounds (a handshake that does not come to its end holds a file of this process, so it is
counted from its first packet on, and its time is bounded), and serving the application there. Does not know whether it
is wanted (`access/network_door`) or who may come in (`auth`).
"""

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
import sys
from collections.abc import Sequence

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from engine.errors import BadRequest, PortTaken, SeamountError
from engine.server.connection import (
    KEEP_ALIVE_S,
    NETWORK_PATIENCE,
    ClientConnection,
    Crowd,
    Patience,
    Place,
    connection_class,
)

HANDSHAKE_S = 10.0
_BACKLOG = 64
_ALL = ("0.0.0.0", "::")  # noqa: S104 - that is what was asked for
_GRACE_S = 2.0

_log = logging.getLogger(__name__)


class NetworkListener:
    """Open sockets of one port, from `open` until `close`."""

    def __init__(
        self, app: ASGIApp, sockets: Sequence[socket.socket], context: ssl.SSLContext, patience: Patience
    ) -> None:
        self._sockets = list(sockets)
        self.port = int(sockets[0].getsockname()[1])
        """Where it listens."""
        self._context = context
        self._crowd = Crowd(patience)
        self._state = ServerState()
        self._made = connection_class(self._crowd)
        config = uvicorn.Config(
            app,  # pyright: ignore[reportArgumentType] - an ASGI application is not uvicorn's protocol
            http=self._made,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()
        self._config = config
        self._entering: set[asyncio.Task[None]] = set()
        self._accepting: list[asyncio.Task[None]] = []

    @classmethod
    def open(
        cls,
        app: ASGIApp,
        addresses: Sequence[str],
        port: int,
        liked: int,
        context: ssl.SSLContext,
        patience: Patience = NETWORK_PATIENCE,
    ) -> "NetworkListener":
        """Listen at `addresses` ([]: all). `port` 0: `liked` where it is free, else any.

        Raises PortTaken; BadRequest for an address that is not this machine's.
        """
        try:
            sockets = _bound(addresses, port or liked)
        except PortTaken:
            if port or not liked:
                raise
            sockets = _bound(addresses, 0)
        listener = cls(app, sockets, context, patience)
        loop = asyncio.get_running_loop()
        listener._accepting = [loop.create_task(listener._accept(each)) for each in sockets]
        return listener

    async def close(self) -> None:
        """Nobody more comes in, and who is in is sent away."""
        for task in (*self._accepting, *self._entering):
            task.cancel()
        await asyncio.gather(*self._accepting, *self._entering, return_exceptions=True)
        for each in self._sockets:
            each.close()
        connections = list(self._state.connections)
        for connection in connections:
            connection.transport.abort()
        if tasks := set(self._state.tasks):
            await asyncio.wait(tasks, timeout=_GRACE_S)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:
                _log.warning("the network's socket cannot take a connection now: %s", error.strerror or error)
                await asyncio.sleep(1.0)  # as asyncio's own servers do when files run out
                continue
            address = str(peer[0])
            entering = _Entering()
            place = self._crowd.enter(address, entering.send_away)
            if place is None:
                connection.close()
                continue
            task = entering.task = loop.create_task(self._enter(connection, place, entering))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    async def _enter(self, connection: socket.socket, place: Place, entering: "_Entering") -> None:
        """TLS first; then it is served."""
        loop = asyncio.get_running_loop()

        def made() -> ClientConnection:
            entering.protocol = self._made(config=self._config, server_state=self._state, app_state={})
            entering.protocol.place = place
            return entering.protocol

        try:
            connection.setblocking(False)
            await loop.connect_accepted_socket(
                made,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=HANDSHAKE_S,
            )
        except BaseException as error:
            place.leave()
            connection.close()
            if not isinstance(error, OSError | TimeoutError):
                raise


class _Entering:
    """A connection from its first packet on, so that it can be sent away at any time."""

    task: asyncio.Task[None] | None = None
    protocol: ClientConnection | None = None

    def send_away(self) -> None:
        """In the middle of its handshake, or later."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
        elif self.protocol is not None:
            self.protocol.transport.abort()


def _bound(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """A socket for each address, all of one port. Raises PortTaken, BadRequest for an address that is not here."""
    bound: list[socket.socket] = []
    try:
        for address in addresses or _ALL:
            try:
                made = _one(address, port)
            except ValueError as error:
                raise _refused(address, port, OSError(errno.EINVAL, "it is no address")) from error
            except OSError as error:
                if not addresses and ":" in address and bound and error.errno != errno.EADDRINUSE:
                    continue  # a machine without IPv6
                raise _refused(address, port, error) from error
            bound.append(made)
            port = int(made.getsockname()[1])
    except SeamountError:
        for each in bound:
            each.close()
        raise
    return bound


def _one(address: str, port: int) -> socket.socket:
    # An address, never a name: nobody is asked what it stands for.
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind((address, port))
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _refused(address: str, port: int, error: OSError) -> SeamountError:
    what = "The network's socket is not open"
    if error.errno == errno.EADDRINUSE or getattr(error, "winerror", 0) == 10048:
        return PortTaken(what, f"another program listens on port {port}", "choose another port")
    if error.errno == errno.EACCES:
        return PortTaken(what, f"this user may not listen on port {port}", "choose one from 1024 on")
    why = f"this machine cannot listen at {address} ({error.strerror or error})"
    return BadRequest(what, why, "choose an address that it has, or none for all")
