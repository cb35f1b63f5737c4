"""Each guard of the engine's sockets is taken away, and the attack that it is there for succeeds then, and only then.

`GUARDS` is the list of them. What has a table of its own (`auth.CHECKS`, `request_head.RULES`) is in it whole.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from engine.access import guessing
from engine.access.client_watch import ClientWatch
from engine.access.guessing import Guesses
from engine.access.key_limits import AnswerLimits
from engine.callers import Caller
from engine.completions import Completion
from engine.protocol_access import Dialect, KeyLimits
from engine.server import auth, connection, replies, request_head
from engine.server.auth import _Bounded
from engine.server.connection import PATIENCE, ClientConnection, Crowd, Place
from tests.integration.live_door import LiveDoor, chat, read_all, status_of, wait_for

MP = pytest.MonkeyPatch
CHAT = "/v1/chat/completions"
EVER = 3600.0


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDoor]:
    live = LiveDoor(tmp_path_factory.mktemp("door"))
    yield live
    live.close()


@pytest.fixture(autouse=True)
def calm(door: LiveDoor, monkeypatch: MP) -> Iterator[None]:
    """As it is by default, but nobody waits long; what a test has left behind is gone."""
    monkeypatch.setattr(auth, "_DRAIN_S", 0.2)
    yield
    door.crowd.patience = PATIENCE
    door.limit()
    door.engine.clients.end_all(door.local_id)
    wait_for(lambda: not any(each.requests for each in door.engine.clients.connected()))


@dataclass(frozen=True)
class Guarded:
    """A guard: how it is taken away, and whether the attack succeeds."""

    remove: Callable[[LiveDoor, MP], None]
    attack: Callable[[LiveDoor, MP], bool]
    prepare: Callable[[LiveDoor, MP], None] = lambda _door, _patch: None


def without_check(name: str) -> Callable[[LiveDoor, MP], None]:
    left = {each: check for each, check in auth.CHECKS.items() if each != name}
    return lambda _door, patch: patch.setattr(auth, "CHECKS", left)


def without_rule(name: str) -> Callable[[LiveDoor, MP], None]:
    left = {
        each: rule for each, rule in request_head.RULES.items() if each != name.removesuffix(" of a head")
    }
    return lambda _door, patch: patch.setattr(request_head, "RULES", left)


# --- attacks -------------------------------------------------------------------------------------------


def rebinding(door: LiveDoor, _patch: MP) -> bool:
    """A page whose name was made to lead here asks with a key that it got hold of."""
    return door.ask(key=door.local_key, host=f"evil.example:{door.port}")[0] == 200


def cross_origin(door: LiveDoor, _patch: MP) -> bool:
    """A page of another origin posts."""
    origin = "Origin: https://evil.example\r\n"
    return door.ask(CHAT, method="POST", key=door.local_key, headers=origin, body=chat("Hello"))[0] == 200


def no_key(door: LiveDoor, _patch: MP) -> bool:
    """Somebody of this machine asks without a key."""
    return door.ask()[0] == 200


def key_of_the_network_here(door: LiveDoor, _patch: MP) -> bool:
    """A key that is for other machines is used on this one, and the other way round."""
    port = door.open_network()
    here = door.ask(key=door.network_key)[0] == 200
    return here and door.ask(key=door.local_key, network_port=port)[0] == 200


def client_reads_everything(door: LiveDoor, _patch: MP) -> bool:
    """A program with a client's key looks at the conversations."""
    return door.ask("/api/sessions", key=door.local_key)[0] == 200


def guessing_from_the_network(door: LiveDoor, patch: MP) -> bool:
    """Another machine tries one key after the other, and each is looked at."""
    patch.setattr(Guesses, "wrong", _counted_without_waiting)
    patch.setattr(guessing, "MOST_BEFORE_PAUSE", 3)
    port = door.open_network()
    tried = [door.ask(key=f"sm-{n}", network_port=port)[0] for n in range(5)]
    return tried == [401] * len(tried)


_wrong = Guesses.wrong


def _counted_without_waiting(self: Guesses, address: str) -> float:
    _wrong(self, address)
    return 0.0


def guessing_on_loopback(door: LiveDoor, patch: MP) -> bool:
    """A program of this machine tries one key after the other, as fast as it can."""
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)

    patch.setattr(auth, "pause", pause)
    assert [door.ask(key=f"sm-{n}")[0] for n in range(12)] == [401] * 12
    # Whatever was tried, the right key comes in.
    assert door.ask(key=door.local_key)[0] == 200
    return not waits


def announced_large(door: LiveDoor, patch: MP) -> bool:
    """A body that says of itself that it is too large is read."""
    read: list[int] = []
    bounded = _Bounded.__call__

    async def counted(self: _Bounded) -> object:
        read.append(1)
        return await bounded(self)

    patch.setattr(_Bounded, "__call__", counted)
    patch.setitem(auth.BODY_BYTES, "/v1/", 1000)
    door.ask(CHAT, method="POST", key=door.local_key, body=chat("Hello" * 1000))
    return bool(read)


def large_in_chunks(door: LiveDoor, patch: MP) -> bool:
    """A body in chunks, which says nothing of its size, grows above all measure."""
    patch.setitem(auth.BODY_BYTES, "/v1/", 1000)
    body = json.dumps(chat("Hello")).encode().ljust(3000)
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:], b""))
    head = door.request(CHAT, method="POST", key=door.local_key, headers="Transfer-Encoding: chunked\r\n")
    return status_of(door.raw(head + chunks)) == 200


def many_large_bodies(door: LiveDoor, _patch: MP) -> bool:
    """Bodies, each of which would do, fill the memory together."""
    return door.ask(CHAT, method="POST", key=door.local_key, body=chat("Hello" * 1000))[0] != 503


def smuggled(*lines: str, target: str = "/v1/models", version: str = "1.1", end: str = "\r\n") -> object:
    """A request that others might read otherwise; it succeeds when it is not refused as ambiguous."""

    def attack(door: LiveDoor, _patch: MP) -> bool:
        host, key = f"127.0.0.1:{door.port}", door.local_key
        head = [
            f"GET {target} HTTP/{version}",
            f"Host: {host}",
            "Connection: close",
            f"Authorization: Bearer {key}",
            *lines,
        ]
        data = end.join(head).encode() + b"\r\n\r\n0\r\n\r\n"
        return status_of(door.raw(data)) in (200, 403)

    return attack


def slow_head(door: LiveDoor, _patch: MP) -> bool:
    """A client sends a bit of a head, and the rest when it likes."""
    return _slowly(door, door.request(key=door.local_key), cut=20)


def slow_body(door: LiveDoor, _patch: MP) -> bool:
    """A client sends a bit of a body, and the rest when it likes."""
    data = door.request(CHAT, method="POST", key=door.local_key, body=chat("Hello"))
    return _slowly(door, data, cut=len(data) - 10)


def _slowly(door: LiveDoor, data: bytes, *, cut: int) -> bool:
    """Where the rest is never asked for, the engine says why and closes; that is what is waited for."""
    with door.connect() as connection:
        connection.sendall(data[:cut])
        if door.crowd.patience.head_s == EVER:
            threading.Event().wait(0.6)  # the attack itself: longer than the guard allows
            connection.sendall(data[cut:])
        answer = read_all(connection)
    if status_of(answer) != 200:
        assert status_of(answer) == 408
        assert b"did not arrive in time" in answer
    return status_of(answer) == 200


def unread(door: LiveDoor, _patch: MP) -> bool:
    """A client has an answer written that it never takes."""
    with door.connect() as connection:
        body = chat("quickly", stream=True, logprobs=True, top_logprobs=20, max_tokens=400)
        connection.sendall(door.request(CHAT, method="POST", key=door.local_key, body=body))
        connections = door.server.server_state.connections

        def waits() -> bool:
            return any(each.flow.write_paused for each in list(connections))

        wait_for(waits)
        if door.crowd.patience.unread_s == EVER:
            threading.Event().wait(0.6)  # the attack itself: longer than the guard allows
            return waits()
        wait_for(lambda: not waits())
        assert b"[DONE]" not in read_all(connection)
        return False


def crowding(door: LiveDoor, _patch: MP) -> bool:
    """One address opens connection after connection."""
    wait_for(lambda: len(door.crowd) == 0)
    door.crowd.patience = replace(PATIENCE, per_address=3)
    with ExitStack() as stack:
        for _ in range(6):
            connection = stack.enter_context(door.connect())
            connection.sendall(b"GET")
        door.ask(key=door.local_key)  # all that came before it are in, or were sent away
        return len(door.server.server_state.connections) > 3


def keeping_others_out(door: LiveDoor, _patch: MP) -> bool:
    """Somebody without a key holds as many connections as there may be."""
    wait_for(lambda: len(door.crowd) == 0)
    door.crowd.patience = replace(PATIENCE, per_address=3)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(door.connect()).sendall(b"GET")
        wait_for(lambda: len(door.crowd) == 3)
        return door.ask(key=door.own_key)[0] != 200


def small_chunks(door: LiveDoor, _patch: MP) -> bool:
    """Somebody without a key has the engine look at a body byte by byte, while everybody waits."""
    head = door.request(CHAT, method="POST", headers="Transfer-Encoding: chunked\r\n")
    return status_of(door.raw(head + b"1\r\na\r\n" * 5000 + b"0\r\n\r\n")) == 401


def many_values(door: LiveDoor, patch: MP) -> bool:
    """A body of the size that it may have becomes fifty times as much here."""
    seen: list[int] = []
    cleaned = replies._cleaned
    patch.setattr(replies, "_cleaned", lambda value: seen.append(1) or cleaned(value))
    body = b'{"messages":[' + b"[]," * 3000 + b"[]]}"
    head = door.request(CHAT, method="POST", key=door.local_key, headers=f"Content-Length: {len(body)}\r\n")
    assert status_of(door.raw(head + body)) == 400
    return bool(seen)


def last_words(door: LiveDoor, _patch: MP) -> bool:
    """A client never takes the end of its last answer, and its connection stays."""
    wait_for(lambda: len(door.crowd) == 0)
    with door.connect() as connection:
        connections = door.server.server_state.connections
        wait_for(lambda: len(connections) == 1)
        # More than the system keeps for it, and less than what makes the engine hold back.
        next(iter(connections)).transport.set_write_buffer_limits(high=1 << 20)
        last = door.request("/openapi.json", key=door.local_key)
        connection.sendall(last.replace(b"Connection: close\r\n", b"") * 5 + last)
        wait_for(lambda: any(each.transport.is_closing() for each in list(connections)))
        if ClientConnection._see_last_words_off is not _see_last_words_off:
            threading.Event().wait(0.6)  # the attack itself: longer than the guard allows
            return len(door.crowd) == 1
        wait_for(lambda: len(door.crowd) == 0)
        return False


_see_last_words_off = ClientConnection._see_last_words_off
_enter = Crowd.enter


def _entered_where_there_is_room(self: Crowd, address: str, send_away: Callable[[], None]) -> Place | None:
    return _enter(self, address, send_away) if len(self) < self.patience.per_address else None


_begin = ClientWatch.begin


def _begun_whatever_is_there(
    self: "ClientWatch[Completion]", answer: Completion, caller: Caller, dialect: Dialect, model_id: str
) -> None:
    _begin(self, answer, replace(caller, limits=KeyLimits(waiting=0)), dialect, model_id)


def queueing(door: LiveDoor, _patch: MP) -> bool:
    """One key fills the queue."""
    door.limit(waiting=1)
    with door.connect() as connection:
        body = chat("slowly", stream=True)
        connection.sendall(door.request(CHAT, method="POST", key=door.local_key, body=body))
        wait_for(lambda: any(each.requests for each in door.engine.clients.connected()))
        status, head, _ = door.ask(CHAT, method="POST", key=door.local_key, body=chat("Hello"))
    if status == 429:
        assert b"retry-after" in head.lower()
    return status == 200


def long_answer(door: LiveDoor, _patch: MP) -> bool:
    """A client asks for more tokens than its key gives."""
    door.limit(answer_tokens=5)
    body = chat("Hello", max_tokens=500)
    _, _, answer = door.ask(CHAT, method="POST", key=door.local_key, body=body)
    return answer["usage"]["completion_tokens"] > 5


def long_prompt(door: LiveDoor, _patch: MP) -> bool:
    """A client sends a longer prompt than its key gives."""
    door.limit(prompt_tokens=50)
    return door.ask(CHAT, method="POST", key=door.local_key, body=chat("Hello " * 50))[0] == 200


def long_time(door: LiveDoor, patch: MP) -> bool:
    """An answer takes the engine for longer than its key gives; a clock that leaps makes it short here."""
    door.limit(seconds=5)
    now_s = iter(range(0, 10_000_000, 10))
    init = AnswerLimits.__init__
    patch.setattr(AnswerLimits, "__init__", lambda self, limits: init(self, limits, lambda: next(now_s)))
    _, _, answer = door.ask(CHAT, method="POST", key=door.local_key, body=chat("Hello"))
    whole = answer["choices"][0]["finish_reason"] == "stop"
    if not whole:
        assert "ended after 5 s" in answer["seamount"]["notices"][0]
    return whole


def impatient(door: LiveDoor, _patch: MP) -> None:
    door.crowd.patience = replace(PATIENCE, head_s=0.3, body_s=0.3, body_bytes_per_s=1e6, unread_s=0.3)


def patient(door: LiveDoor, _patch: MP) -> None:
    door.crowd.patience = replace(PATIENCE, head_s=EVER, body_s=EVER, unread_s=EVER)


GUARDS: dict[str, Guarded] = {
    **{
        name: Guarded(without_check(name), attack)
        for name, attack in {
            "host": rebinding,
            "origin": cross_origin,
            "pause": guessing_from_the_network,
            "key": no_key,
            "socket": key_of_the_network_here,
            "opens": client_reads_everything,
            "length": announced_large,
        }.items()
    },
    **{
        name: Guarded(without_rule(name), attack)  # type: ignore[arg-type]
        for name, attack in {
            "size": smuggled("X-Long: " + "x" * 34_000),
            "headers": smuggled(*["X: y"] * 101),
            "line ends": smuggled(end="\n"),
            "folds": smuggled("X: y", " Transfer-Encoding: chunked"),
            "request line": smuggled(version="2.0"),
            "target": smuggled(target="http://127.0.0.1/v1/models"),
            "once": smuggled("Content-Length: 5", "Content-Length: 5"),
            "framing": smuggled("Content-Length: 5", "Transfer-Encoding: chunked"),
            "length of a head": smuggled("Content-Length: 5, 5"),
        }.items()
    },
    "wrong keys wait": Guarded(
        lambda _door, patch: patch.setattr(Guesses, "wrong", lambda _self, _address: 0.0),
        guessing_on_loopback,
    ),
    "bound of a body": Guarded(
        lambda _door, patch: patch.setattr(_Bounded, "__call__", lambda self: self._receive()),
        large_in_chunks,
    ),
    "bound of all bodies": Guarded(
        lambda _door, patch: patch.setattr(auth, "MOST_BODIES_BYTES", 1 << 40),
        many_large_bodies,
        lambda _door, patch: patch.setattr(auth, "MOST_BODIES_BYTES", 1000),
    ),
    "time for a head": Guarded(patient, slow_head, impatient),
    "pace of a body": Guarded(patient, slow_body, impatient),
    "time for reading": Guarded(patient, unread, impatient),
    "connections": Guarded(
        lambda _door, patch: patch.setattr(Crowd, "enter", lambda self, *who: Place(self, *who)), crowding
    ),
    "room for others": Guarded(
        lambda _door, patch: patch.setattr(Crowd, "enter", _entered_where_there_is_room), keeping_others_out
    ),
    "chunks of a body": Guarded(
        lambda _door, patch: patch.setattr(connection, "FREE_CHUNKS", 1 << 40), small_chunks
    ),
    "values of a body": Guarded(
        lambda _door, patch: patch.setattr(replies, "MOST_VALUES", 1 << 40),
        many_values,
        lambda _door, patch: patch.setattr(replies, "MOST_VALUES", 1000),
    ),
    "time for last words": Guarded(
        lambda _door, patch: patch.setattr(ClientConnection, "_see_last_words_off", lambda _self: None),
        last_words,
        impatient,
    ),
    "requests of a key": Guarded(
        lambda _door, patch: patch.setattr(ClientWatch, "begin", _begun_whatever_is_there), queueing
    ),
    "tokens of an answer": Guarded(
        lambda _door, patch: patch.setattr(AnswerLimits, "tokens", lambda _self, asked: asked), long_answer
    ),
    "tokens of a prompt": Guarded(
        lambda _door, patch: patch.setattr(AnswerLimits, "check_prompt", lambda _self, _tokens: None),
        long_prompt,
    ),
    "seconds of an answer": Guarded(
        lambda _door, patch: patch.setattr(AnswerLimits, "is_over", lambda _self: False), long_time
    ),
}


def test_every_check_and_every_rule_is_among_them() -> None:
    names = {name.removesuffix(" of a head") for name in GUARDS}
    assert set(auth.CHECKS) <= names
    assert set(request_head.RULES) <= names


@pytest.mark.parametrize("name", GUARDS)
def test_the_attack_succeeds_without_its_guard_alone(door: LiveDoor, monkeypatch: MP, name: str) -> None:
    guarded = GUARDS[name]
    with monkeypatch.context() as patch:
        guarded.prepare(door, patch)
        assert not guarded.attack(door, patch)
    with monkeypatch.context() as patch:
        guarded.prepare(door, patch)
        guarded.remove(door, patch)
        assert guarded.attack(door, patch)
