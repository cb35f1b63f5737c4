"""One connection of a client: how long it may take, and what it is told when it takes longer.

Owns: uvicorn's protocol with what that does not have: the rules of `request_head` held against every head, a time for
the head and a pace for the body (a client that sends a byte now and then would hold a connection for ever), a time for
a client that does not take its answer (its text would pile up), how small the chunks of a body may be, and how many
connections there may be and which of them makes room. Does not know keys or routes (`auth`, which says whose request is
answered). Everything here happens on the event loop's thread.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
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


KEEP_ALIVE_S = 90
"""An open connection waits so long for its next request: longer than clients do, who would otherwise send one just as
it is closed. Where others need its place it is closed before."""
FREE_CHUNKS = 4096
"""A body may come in so many chunks of any size; beyond that they have this many bytes on average:"""
LEAST_CHUNK_BYTES = 128
PLACE = "place"
"""Under which name the state of a request has the Place of its connection."""
PATIENCE = Patience()
"""On loopback, where all programs have one address."""
NETWORK_PATIENCE = Patience(connections=128, per_address=48)


class Place:
    """One connection's place in a crowd, until `leave`."""

    def __init__(self, crowd: "Crowd", address: str, send_away: Callable[[], None]) -> None:
        self.address = address
        self.send_away = send_away
        self._crowd = crowd

    def answered(self, now: bool) -> None:
        """Whether a request of it that was let in is being answered; it keeps its place as long as that is so."""
        self._crowd.answered(self, now)

    def leave(self) -> None:
        """It has gone. Again: nothing."""
        self._crowd.leave(self)


class Crowd:
    """The connections of one socket, by address.

    Where there are as many as there may be, the one makes room that has waited longest without a request that was let
    in: whoever opens many and says nothing, or has no key, keeps nobody out.
    """

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._addresses: Counter[str] = Counter()
        self._answered: set[Place] = set()
        self._waiting: dict[Place, None] = {}
        """In the order in which they began to wait."""

    def __len__(self) -> int:
        return self._addresses.total()

    def enter(self, address: str, send_away: Callable[[], None]) -> Place | None:
        """Count one in; None where nobody can make room. `send_away` closes it when it has to."""
        while (is_own := self._addresses[address] >= self.patience.per_address) or (
            len(self) >= self.patience.connections
        ):
            longest = next((each for each in self._waiting if not is_own or each.address == address), None)
            if longest is None:
                return None
            self.leave(longest)
            longest.send_away()
        place = Place(self, address, send_away)
        self._addresses[address] += 1
        self._waiting[place] = None
        return place

    def answered(self, place: Place, now: bool) -> None:
        """See `Place.answered`."""
        if place in self._waiting and now:
            del self._waiting[place]
            self._answered.add(place)
        elif place in self._answered and not now:
            self._answered.remove(place)
            self._waiting[place] = None

    def leave(self, place: Place) -> None:
        """See `Place.leave`."""
        if place in self._waiting:
            del self._waiting[place]
        elif place in self._answered:
            self._answered.remove(place)
        else:
            return
        self._addresses[place.address] -= 1
        if self._addresses[place.address] <= 0:
            del self._addresses[place.address]


class CarefulReader(h11.Connection):
    """h11, which sees no head that breaks a rule. What it merges or mends is refused before."""

    refused: request_head.HeadRefused | None = None
    _chunks = 0
    _body_bytes = 0

    def next_event(self) -> Any:
        """As h11's; raises RemoteProtocolError, and `refused` says why."""
        if self.their_state is h11.IDLE:
            self._chunks = self._body_bytes = 0
            try:
                if (head := request_head.head_of(self.trailing_data[0])) is not None:
                    request_head.check(head)
            except request_head.HeadRefused as error:
                self.refused = error
                raise h11.RemoteProtocolError(error.text, error_status_hint=error.status) from error
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            # What h11 finds quotes the request; a secret may be in it.
            self.refused = (
                request_head.too_large()
                if error.error_status_hint == 431
                else request_head.HeadRefused("it is not HTTP/1.1")
            )
            raise
        if isinstance(event, h11.Data):
            self._count(event)
        return event

    def _count(self, event: h11.Data) -> None:
        """Each chunk costs the same however small it is: in chunks of a byte, a body would keep everybody waiting."""
        self._chunks += event.chunk_start
        self._body_bytes += len(event.data)
        if self._chunks > FREE_CHUNKS + self._body_bytes // LEAST_CHUNK_BYTES:
            self.refused = request_head.HeadRefused(
                "its body comes in too many small chunks", "send more in each, or say its length"
            )
            raise h11.RemoteProtocolError(self.refused.text)


class ClientConnection(H11Protocol):
    """Made by `connection_factory` for each connection."""

    crowd: Crowd

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn: CarefulReader = CarefulReader(h11.SERVER, request_head.MOST_HEAD_BYTES)
        self.place: Place | None = None
        """In the crowd; on the network's socket it is taken before the handshake."""
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._last_words: asyncio.TimerHandle | None = None
        self._body_began_s: float | None = None
        self._body_bytes = 0

    # --- what asyncio calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it in, and wait for its first head."""
        super().connection_made(transport)
        if self.place is None:
            self.place = self.crowd.enter(self.client[0] if self.client else "", transport.abort)
            if self.place is None:
                self._refuse(
                    Busy(
                        "The connection was refused",
                        "as many are open as there may be",
                        "close some, or use one for several requests",
                    ),
                    503,
                )
                return
        self.app_state = {**self.app_state, PLACE: self.place}
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        if self.place is not None:
            self.place.leave()
        self._stop_waiting()
        self._stop_unread()
        if self._last_words is not None:
            self._last_words.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass it on, and see what is waited for then."""
        if self.transport.is_closing():
            return
        if self._body_began_s is not None:
            self._body_bytes += len(data)
        super().data_received(data)
        self._look()

    def eof_received(self) -> None:
        """It says no more, and is closed."""
        self._see_last_words_off()

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
        self._see_last_words_off()
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
        self._see_last_words_off()
        if self.cycle and not self.cycle.response_complete:
            # Whoever reads the body hears that nobody is there any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _see_last_words_off(self) -> None:
        """A connection that is closed stays until its client has taken what was said, be it so little that nothing
        was held back for it: that has its time, too."""
        if self._last_words is None and self.transport.get_write_buffer_size():
            self._last_words = self.loop.call_later(self.crowd.patience.unread_s, self._look_at_last_words)

    def _look_at_last_words(self) -> None:
        self._last_words = None
        if self.transport.is_closing():
            self.transport.abort()
        else:
            self._see_last_words_off()

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


def connection_class(crowd: Crowd) -> type[ClientConnection]:
    """The protocol of one socket, whose connections are counted by `crowd`."""
    return type("CountedConnection", (ClientConnection,), {"crowd": crowd})


def _too_slow(part: str) -> TooSlow:
    return TooSlow("The request was refused", f"its {part} did not arrive in time", "send it without pauses")
