"""One connection of a client: how long it may take, and what it is told when it takes longer.

Owns: uvicorn's protocol with what that does not have: the rules of `request_head` held against every head, a time for
the head and a pace for the body (a client that sends a byte now and then would hold a connection for ever), a time for
a client that does not take its answer (its text would pile up), and how many connections there may be. Does not know
keys or routes (`auth`). Everything here happens on the event loop's thread.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from engine.errors import Busy, SeamountError, TooSlow
from engine.server import request_head
from engine.server.replies import error_body


@dataclass(frozen=True)
class Patience:
    """How long, in seconds, and how much a client may take."""

    head_s: float = 15.0
    """For a head, from its first byte on, or from the beginning of the connection."""
    body_s: float = 30.0
    """For a body, and more as it comes at this pace:"""
    body_bytes_per_s: float = 32 * 1024
    unread_s: float = 60.0
    """For taking what was sent, once as much waits as is kept for it."""
    connections: int = 256
    per_address: int = 256


PATIENCE = Patience()
"""On loopback, where all programs have one address."""
NETWORK_PATIENCE = Patience(connections=128, per_address=48)


class Crowd:
    """The connections of one socket, by address."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._addresses: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._addresses.total()

    def enter(self, address: str) -> bool:
        """Count one in, unless there are as many as there may be."""
        if len(self) >= self.patience.connections or self._addresses[address] >= self.patience.per_address:
            return False
        self._addresses[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One of those that were counted in has gone."""
        self._addresses[address] -= 1
        if self._addresses[address] <= 0:
            del self._addresses[address]


class CarefulReader(h11.Connection):
    """h11, which sees no head that breaks a rule. What it merges or mends is refused before."""

    refused: request_head.HeadRefused | None = None

    def next_event(self) -> Any:
        """As h11's; raises RemoteProtocolError, and `refused` says why."""
        if self.their_state is h11.IDLE:
            try:
                if (head := request_head.head_of(self.trailing_data[0])) is not None:
                    request_head.check(head)
            except request_head.HeadRefused as error:
                self.refused = error
                raise h11.RemoteProtocolError(error.text, error_status_hint=error.status) from error
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            # What h11 finds quotes the request; a secret may be in it.
            self.refused = (
                request_head.too_large()
                if error.error_status_hint == 431
                else request_head.HeadRefused("it is not HTTP/1.1")
            )
            raise


class ClientConnection(H11Protocol):
    """Made by `connection_factory` for each connection."""

    crowd: Crowd
    counts = True
    """It counts itself in; on the network's socket that was done before the handshake."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn: CarefulReader = CarefulReader(h11.SERVER, request_head.MOST_HEAD_BYTES)
        self.gone: asyncio.Future[None] = self.loop.create_future()
        """Done once the connection is lost."""
        self._address = ""
        self._is_in = False
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._body_began_s: float | None = None
        self._body_bytes = 0

    # --- what asyncio calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it in, and wait for its first head."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        if self.counts:
            self._is_in = self.crowd.enter(self._address)
            if not self._is_in:
                self._refuse(
                    Busy(
                        "The connection was refused",
                        "as many are open as there may be",
                        "close some, or use one for several requests",
                    ),
                    503,
                )
                return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        if self._is_in:
            self._is_in = False
            self.crowd.leave(self._address)
        self._stop_waiting()
        self._stop_unread()
        super().connection_lost(exc)
        if not self.gone.done():
            self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Pass it on, and see what is waited for then."""
        if self.transport.is_closing():
            return
        if self._body_began_s is not None:
            self._body_bytes += len(data)
        super().data_received(data)
        self._look()

    def pause_writing(self) -> None:
        """The client does not take what is sent: nothing more is made for it, and it has a time to take it."""
        super().pause_writing()
        self._stop_unread()
        self._unread = self.loop.call_later(self.crowd.patience.unread_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It took enough."""
        self._stop_unread()
        super().resume_writing()

    # --- what uvicorn calls ------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says more
        """Refuse what is no request, in a sentence."""
        error = self.conn.refused or request_head.HeadRefused("it is not HTTP/1.1")
        self._refuse(error, error.status)

    def on_response_complete(self) -> None:
        """What is left of a body that nobody wanted is not waited for: its end could be anywhere."""
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self.transport.close()
        super().on_response_complete()
        if not self.transport.is_closing():
            self._look()

    # --- inside ------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Wait for what has to come next, if anything has."""
        state = self.conn.their_state
        if state is h11.IDLE:
            self._body_began_s = None
            # Between two requests uvicorn waits by itself, until something comes.
            if self.timeout_keep_alive_task is None and self._deadline is None:
                self._wait_for_head()
        elif state is h11.SEND_BODY:
            if self._body_began_s is None:
                self._stop_waiting()
                self._body_began_s = self.loop.time()
                self._body_bytes = 0
                self._wait(self.crowd.patience.body_s, self._look_at_body)
        else:
            self._body_began_s = None
            self._stop_waiting()

    def _wait_for_head(self) -> None:
        self._wait(self.crowd.patience.head_s, lambda: self._refuse(_too_slow("head"), 408))

    def _look_at_body(self) -> None:
        if self._body_began_s is None:
            return
        patience = self.crowd.patience
        allowed_s = patience.body_s + self._body_bytes / patience.body_bytes_per_s
        left_s = self._body_began_s + allowed_s - self.loop.time()
        if left_s > 0 or self.flow.read_paused:  # paused: we are the ones who take our time
            self._wait(max(left_s, 1.0), self._look_at_body)
            return
        if self.cycle and self.cycle.response_started:
            self.transport.abort()
            return
        self._refuse(_too_slow("body"), 408)

    def _refuse(self, error: SeamountError, status: int) -> None:
        """Say why, and close. Where nothing can be said any more, only that."""
        self._stop_waiting()
        data = self.conn.trailing_data[0] if self.conn.their_state is h11.IDLE else b""
        path = data.split(b" ", 2)[1:2] or [self.scope["path"].encode() if self.scope else b""]
        body = json.dumps(error_body(path[0][:64].decode("latin-1"), error, status)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        try:
            for event in (
                h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # an answer has begun
        self.transport.close()
        if self.cycle and not self.cycle.response_complete:
            # Whoever reads the body hears that nobody is there any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _wait(self, seconds: float, then: Any) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def connection_class(crowd: Crowd, *, counts: bool = True) -> type[ClientConnection]:
    """The protocol of one socket, whose connections are counted by `crowd`."""
    return type("CountedConnection", (ClientConnection,), {"crowd": crowd, "counts": counts})


def _too_slow(part: str) -> TooSlow:
    return TooSlow("The request was refused", f"its {part} did not arrive in time", "send it without pauses")
