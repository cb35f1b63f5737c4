"""One connection over real sockets, with an application that answers what it is sent. Waits are set short here.

That each of them is needed is tests/integration/test_guards_matter.py's."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from engine.server.connection import FREE_CHUNKS, PLACE, Crowd, Patience, Place, connection_class

PATIENT = Patience()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the size of the body; `/early` before the body is there, `/long` with 60 KB and what the socket
    takes, `/hold` never. Each request counts as let in."""
    size = 0
    place: Place = scope["state"][PLACE]
    place.answered(now=True)
    if scope["path"] == "/hold":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if scope["path"] == "/long":
        body = b"x" * 60_000
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
        place.answered(now=False)
        return
    if scope["path"] != "/early":
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
    body = str(size).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    place.answered(now=False)


class Talk:
    """A server and connections to it."""

    def __init__(self, patience: Patience) -> None:
        self.crowd = Crowd(patience)
        self.state = ServerState()
        self.port = 0

    async def say(self, *parts: bytes) -> bytes:
        """What is answered to these, each sent when the one before it has had time to arrive, until the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer


def run(story: Callable[[Talk], Awaitable[None]], patience: Patience = PATIENT) -> None:
    async def whole() -> None:
        talk = Talk(patience)
        made = connection_class(talk.crowd)
        config = uvicorn.Config(
            application, http=made, ws="none", lifespan="off", log_config=None, timeout_keep_alive=1
        )
        config.load()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: made(config=config, server_state=talk.state, app_state={}), "127.0.0.1", 0
        )
        server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        talk.port = server.sockets[0].getsockname()[1]
        async with server:
            await story(talk)
        for connection in list(talk.state.connections):
            connection.transport.abort()
        while len(talk.crowd):
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(whole(), 60))


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n"
LAST = HEAD + b"Connection: close\r\n\r\n"


def test_requests_are_answered_one_after_the_other_on_one_connection() -> None:
    async def story(talk: Talk) -> None:
        answer = await talk.say(HEAD + b"\r\nabcdef", HEAD + b"\r\nabcdef" + LAST + b"abcdef")
        assert answer.count(b"HTTP/1.1 200") == 3
        # In pieces, wherever they are cut.
        whole = LAST + b"abcdef"
        for cut in (1, 20, len(LAST) - 1, len(LAST) + 3):
            answer = await talk.say(whole[:cut], whole[cut:])
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"6")

    run(story)


def test_older_clients_are_answered_and_their_connection_ends() -> None:
    async def story(talk: Talk) -> None:
        older = b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        answer = await talk.say(older + b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert answer.endswith(b"3")
        assert answer.count(b"HTTP/1.1 200") == 1

    run(story)


def test_the_second_request_of_a_connection_is_looked_at_as_the_first() -> None:
    async def story(talk: Talk) -> None:
        smuggled = b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"
        answer = await talk.say(HEAD + b"\r\nabcdef" + smuggled)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b"HTTP/1.1 200") == answer.count(b"HTTP/1.1 400") == 1

    run(story)


def test_what_follows_an_early_answer_is_not_taken_for_a_request() -> None:
    """Its body could hold anything, and where it ends is only the client's word."""

    async def story(talk: Talk) -> None:
        head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
        answer = await talk.say(head, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1

    run(story)


def test_refusals_are_a_sentence_in_the_dialect_of_the_path_without_what_was_sent() -> None:
    async def story(talk: Talk) -> None:
        for path, shape in ((b"/v1/x", "type"), (b"/v1/messages", "type"), (b"/api/x", "text")):
            answer = await talk.say(
                b"GET %b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sm-secret\r\n folded\r\n\r\n" % path
            )
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400")
            assert b"connection: close" in head.lower()
            error = json.loads(body)["error"]
            assert shape in error
            assert error["message"].endswith(".")
            assert b"sm-secret" not in answer
        # What h11 refuses by itself.
        answer = await talk.say(b"GET / HTTP/1.1\r\nHost: a\r\nsm-secret\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"sm-secret" not in answer
        answer = await talk.say(b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)
        assert answer.startswith(b"HTTP/1.1 431")
        answer = await talk.say(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")  # TLS where there is none
        assert answer.startswith(b"HTTP/1.1 400")

    run(story)


def test_who_is_slow_is_told_so_and_who_is_not_is_not() -> None:
    short = Patience(head_s=0.1, body_s=0.1, body_bytes_per_s=1e6)

    async def story(talk: Talk) -> None:
        for part in (b"", b"GET / HTTP", LAST, LAST + b"abc"):
            answer = await talk.say(part)
            assert answer.startswith(b"HTTP/1.1 408"), part
            assert b"did not arrive in time" in answer
        # A second request's head has the same time.
        answer = await talk.say(HEAD + b"\r\nabcdef", b"GET /")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in answer

    run(story, short)

    async def other(talk: Talk) -> None:
        # Behind a wait that is longer than each pause, however many there are.
        assert (await talk.say(*(LAST[n : n + 10] for n in range(0, len(LAST), 10)), b"abcdef")).endswith(
            b"6"
        )

    run(other, Patience(head_s=20, body_s=20))


def test_a_connection_that_only_waits_is_closed() -> None:
    async def story(talk: Talk) -> None:
        answer = await talk.say(HEAD + b"\r\nabcdef")  # uvicorn's own wait between requests, 1 s here
        assert answer.startswith(b"HTTP/1.1 200")

    run(story)


def test_connections_are_counted_in_and_out() -> None:
    async def story(talk: Talk) -> None:
        first = await asyncio.open_connection("127.0.0.1", talk.port)
        second = await asyncio.open_connection("127.0.0.1", talk.port)
        for each in (first, second):
            each[1].write(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        while len(talk.crowd._answered) < 2:
            await asyncio.sleep(0.001)
        answer = await talk.say()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"as many are open as there may be" in answer
        assert len(talk.crowd) == 2
        first[1].close()
        second[1].close()
        while len(talk.crowd):
            await asyncio.sleep(0.001)
        assert (await talk.say(LAST + b"abcdef")).startswith(b"HTTP/1.1 200")

    run(story, Patience(per_address=2))


def test_who_only_waits_makes_room_for_others() -> None:
    async def story(talk: Talk) -> None:
        held = await asyncio.open_connection("127.0.0.1", talk.port)
        held[1].write(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        while not talk.crowd._answered:
            await asyncio.sleep(0.001)
        waiting = [await asyncio.open_connection("127.0.0.1", talk.port) for _ in range(9)]
        for each in waiting:
            each[1].write(b"GET ")
        assert (await talk.say(LAST + b"abcdef")).startswith(b"HTTP/1.1 200")
        assert len(talk.crowd._answered) == 1
        assert len(talk.crowd) <= 3
        # Who began to wait first has gone.
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(waiting[0][0].read(), 20) == b""
        for each in (held, *waiting):
            each[1].close()

    run(story, Patience(connections=3, head_s=3600))


def test_a_crowd_has_two_bounds() -> None:
    sent_away: list[str] = []
    crowd = Crowd(Patience(connections=3, per_address=2))

    def enter(address: str) -> Place | None:
        place = crowd.enter(address, lambda: sent_away.append(address))
        if place is not None:
            place.answered(now=True)
        return place

    places = [enter(address) for address in "aaabb"]
    assert [each is not None for each in places] == [True, True, False, True, False]
    assert places[0] is not None
    assert places[3] is not None
    places[0].leave()
    places[0].leave()
    assert len(crowd) == 2
    assert enter("b") is not None
    assert sent_away == []
    # One of its own makes room for an address that has as many as it may; any one where all are there.
    places[3].answered(now=False)
    assert enter("b") is not None
    assert sent_away == ["b"]
    assert enter("c") is None
    assert len(crowd) == 3


def test_a_client_that_never_takes_what_was_said_last_is_not_waited_for() -> None:
    """Less than what makes the engine hold back, so that nothing else ends it."""

    async def story(talk: Talk) -> None:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, ("127.0.0.1", talk.port))
            await loop.sock_sendall(deaf, b"GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            while (
                not (connections := list(talk.state.connections)) or not connections[0].transport.is_closing()
            ):
                await asyncio.sleep(0.001)
            assert connections[0].transport.get_write_buffer_size() > 0
            while len(talk.crowd):
                await asyncio.sleep(0.001)

    run(story, Patience(unread_s=0.1))


def test_a_body_in_many_small_chunks_is_refused_and_one_in_some_is_not() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def story(talk: Talk) -> None:
        some, end = b"1\r\na\r\n" * FREE_CHUNKS, b"0\r\n\r\n"
        assert (await talk.say(head + some + end)).endswith(str(FREE_CHUNKS).encode())
        large = b"80\r\n" + b"a" * 128 + b"\r\n"
        assert (await talk.say(head + (some + large * 2 * FREE_CHUNKS) + end)).startswith(b"HTTP/1.1 200")
        answer = await talk.say(head + some + b"1\r\na\r\n" * 100 + end)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"too many small chunks" in answer
        # Of each request anew.
        kept = head.replace(b"Connection: close\r\n", b"")
        assert (await talk.say(kept + some + end + head + some + end)).count(b"HTTP/1.1 200") == 2

    run(story)
