"""Which addresses, origins and keys are let in. tests/integration knocks at the real door and takes guards away."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from engine.access.guessing import FREE, MOST_BEFORE_PAUSE
from engine.errors import DataFolderError, SeamountError
from engine.protocol_access import ClientKey, KeyLimits
from engine.server import auth
from engine.server.auth import LOOPBACK_NAMES, Door, Guard
from engine.server.connection import PLACE, Crowd, Patience

KEY = "the-engines-own"
LOCAL = ClientKey(id="local", name="Editor", created_at=0.0, limits=KeyLimits(waiting=3))
NETWORK = ClientKey(id="network", name="Laptop", created_at=0.0, is_network=True)


class Ring:
    """Two keys of clients."""

    problem: SeamountError | None = None

    def __init__(self) -> None:
        self.uses: list[tuple[str, str]] = []

    def find(self, secret: bytes) -> ClientKey | None:
        return {b"sm-local": LOCAL, b"sm-network": NETWORK}.get(secret)

    def used(self, key_id: str, program: str) -> None:
        self.uses.append((key_id, program))


class Knocker:
    """A guard around an application that says who came in."""

    def __init__(self, port: int = 8642, *, is_network: bool = False, origins: Sequence[str] = ()) -> None:
        self.ring = Ring()
        self.now_s = 0.0
        hosts = ["192.168.1.5", "desk.local"] if is_network else LOOPBACK_NAMES
        self.door = Door(
            self.ring,
            lambda: hosts,
            port,
            own_key="" if is_network else KEY,
            is_network=is_network,
            origins=lambda: origins,
            clock=lambda: self.now_s,
        )
        self.host = f"{hosts[0]}:{port}"
        self.admitted: list[Any] = []
        self.body_bytes = 0

    def knock(
        self,
        path: str = "/api/status",
        *more: tuple[str, str],
        key: str | None = KEY,
        method: str = "GET",
        body: Sequence[bytes] = (b"",),
        address: str = "127.0.0.1",
        host: str | None = None,
    ) -> tuple[int, dict[str, str], Any]:
        """(status, headers, JSON) of what a request is answered; 200 when it comes as far as the application."""
        sent: list[Any] = []
        chunks = list(body)

        async def application(scope: Any, receive: Any, send: Any) -> None:
            self.admitted.append(scope["state"]["caller"])
            reply = {"status": 200}
            try:
                while (message := await receive()).get("more_body"):
                    self.body_bytes += len(message["body"])
            except SeamountError as error:
                reply = {"status": error.http_status}
            await send({"type": "http.response.start", "status": reply["status"], "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

        async def receive() -> Any:
            if not chunks:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [("host", host or self.host), *more]
        if key is not None:
            headers.append(("authorization", f"Bearer {key}"))
        scope: Any = {
            "type": "http",
            "method": method,
            "path": path,
            "client": (address, 1234),
            "headers": [(name.encode(), value.encode()) for name, value in headers],
        }
        asyncio.run(Guard(application, self.door)(scope, receive, send))
        content = sent[1]["body"]
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], told, json.loads(content) if content else None

    def status(self, *arguments: Any, **named: Any) -> int:
        return self.knock(*arguments, **named)[0]


@pytest.mark.parametrize(
    ("port", "host", "expected"),
    [
        (8642, "127.0.0.1:8642", 200),
        (8642, "LOCALHOST:8642", 200),
        (8642, "[::1]:8642", 200),
        (8642, "127.0.0.1", 403),
        (8642, "127.0.0.1:80", 403),
        (8642, "127.0.0.1.evil.example:8642", 403),
        # Clients leave the usual port out.
        (80, "127.0.0.1", 200),
        (80, "localhost", 200),
        (80, "localhost:80", 200),
        (80, "evil.example", 403),
    ],
)
def test_the_host_is_this_engines_own(port: int, host: str, expected: int) -> None:
    assert Knocker(port).status(host=host) == expected


@pytest.mark.parametrize(
    ("port", "origin", "expected"),
    [
        (8642, "http://127.0.0.1:8642", 200),
        (8642, "https://127.0.0.1:8642", 403),
        (8642, "null", 403),
        (80, "http://localhost", 200),
        (80, "http://localhost:8080", 403),
    ],
)
def test_a_page_is_of_this_origin_or_refused(port: int, origin: str, expected: int) -> None:
    assert Knocker(port).status("/api/status", ("origin", origin)) == expected


@pytest.mark.parametrize("given", ["", KEY, "Bearer", f"Bearer {KEY[:-1]}", f"Bearer {KEY}2", f"Basic {KEY}"])
def test_the_key_is_the_whole_key(given: str) -> None:
    assert Knocker().status("/api/status", ("authorization", given), key=None) == 401


def test_anthropics_header_is_a_key_too_and_two_keys_are_none() -> None:
    knocker = Knocker()
    assert knocker.status("/v1/models", ("x-api-key", "sm-local"), key=None) == 200
    assert knocker.status("/v1/models", ("x-api-key", "sm-local"), key="sm-local") == 200
    assert knocker.status("/v1/models", ("x-api-key", "sm-local"), key=KEY) == 401
    assert knocker.status("/v1/models", ("authorization", "Bearer sm-local"), key="sm-wrong") == 401


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models", 200),
        ("/v1/chat/completions", 200),
        ("/openapi.json", 200),
        ("/v1", 403),
        ("/v1x/models", 403),
        ("/api/status", 403),
        ("/api/access/keys", 403),
        ("//v1/models", 403),
        ("/", 403),
    ],
)
def test_a_clients_key_opens_the_dialects_alone(path: str, expected: int) -> None:
    assert Knocker().status(path, key="sm-local") == expected
    assert Knocker(is_network=True).status(path, key="sm-network") == expected
    assert Knocker().status(path) == 200


def test_neither_sockets_keys_count_at_the_other() -> None:
    assert Knocker(is_network=True).status("/v1/models", key="sm-local") == 401
    assert Knocker().status("/v1/models", key="sm-network") == 401
    # Not even the engine's own, which opens everything, comes in from the network; nor does an empty one.
    assert Knocker(is_network=True).status("/v1/models", key=KEY) == 401
    assert Knocker(is_network=True).status("/v1/models", ("authorization", "Bearer "), key=None) == 401


def test_a_caller_is_told_on() -> None:
    knocker = Knocker()
    agent = ("user-agent", "Editor/1.2 \x1b[31m" + "x" * 500)
    assert knocker.status("/v1/models", agent, key="sm-local", address="127.0.0.9") == 200
    assert knocker.status("/api/status", agent) == 200
    client, window = knocker.admitted
    assert (client.key_id, client.key_name, client.address, client.limits.waiting) == (
        "local",
        "Editor",
        "127.0.0.9",
        3,
    )
    assert client.program.startswith("Editor/1.2 [31mxx")
    assert len(client.program) == auth.LONGEST_PROGRAM
    assert window.key_id == "window"
    assert knocker.ring.uses == [("local", client.program)]


def test_a_damaged_file_of_keys_is_said() -> None:
    knocker = Knocker()
    knocker.ring.problem = DataFolderError("Keys cannot be used", "the file is damaged", "look at it")
    status, _, body = knocker.knock("/v1/models", key="sm-lost")
    assert status == 401
    assert "the file with the keys of other programs is not in order" in body["error"]["message"]
    assert knocker.status("/api/status") == 200


# --- pages ---------------------------------------------------------------------------------------------

PAGE = "http://localhost:3000"
PREFLIGHT = (("origin", PAGE), ("access-control-request-method", "POST"))


def test_a_named_page_may_ask_and_read() -> None:
    knocker = Knocker(origins=[PAGE + "/"])
    status, headers, _ = knocker.knock("/v1/models", ("origin", PAGE), key="sm-local")
    assert status == 200
    assert headers["access-control-allow-origin"] == PAGE
    assert headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in headers
    # Its errors can be read, too; but only the dialects are a page's.
    status, headers, _ = knocker.knock("/v1/models", ("origin", PAGE), key="sm-wrong")
    assert (status, headers["access-control-allow-origin"]) == (401, PAGE)
    assert knocker.status("/api/status", ("origin", PAGE)) == 403


def test_a_browser_asks_beforehand_without_a_key() -> None:
    knocker = Knocker(origins=[PAGE])
    names = ("access-control-request-headers", "authorization,content-type,x-stainless-os")
    private = ("access-control-request-private-network", "true")
    status, headers, _ = knocker.knock(
        "/v1/chat/completions", *PREFLIGHT, names, private, key=None, method="OPTIONS"
    )
    assert status == 204
    assert headers["access-control-allow-origin"] == PAGE
    assert headers["access-control-allow-headers"] == names[1]
    assert headers["access-control-allow-private-network"] == "true"
    assert knocker.admitted == []
    for more in (
        (("origin", "https://evil.example"), PREFLIGHT[1]),
        (PREFLIGHT[0], ("access-control-request-method", "DELETE")),
        (*PREFLIGHT, ("access-control-request-headers", "a\x01b")),
        (*PREFLIGHT, ("access-control-request-headers", "a," * 100 + "a")),
    ):
        assert knocker.status("/v1/models", *more, key=None, method="OPTIONS") == 403
    assert knocker.status("/api/status", *PREFLIGHT, key=None, method="OPTIONS") == 403
    assert Knocker().status("/v1/models", *PREFLIGHT, key=None, method="OPTIONS") == 403
    # A name that was rebound to this address does not get that far.
    assert (
        knocker.status("/v1/models", *PREFLIGHT, key=None, method="OPTIONS", host="evil.example:8642") == 403
    )


@pytest.mark.parametrize(
    "named", ["*", "null", "http://", "http://a/path", "file://", "a b", "localhost:3000"]
)
def test_what_is_no_origin_lets_nobody_in(named: str) -> None:
    knocker = Knocker(origins=[named])
    for origin in ("null", "http://a", named):
        assert knocker.status("/v1/models", ("origin", origin), key="sm-local") == 403


# --- guessing ------------------------------------------------------------------------------------------


def held(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What wrong keys are kept waiting."""
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(auth, "pause", pause)
    return waits


def test_wrong_keys_wait_on_loopback_and_the_right_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, knocker = held(monkeypatch), Knocker()
    for _ in range(30):
        assert knocker.status("/v1/models", key="sm-wrong") == 401
    assert len(waits) == 30 - FREE
    assert waits == sorted(waits)
    assert knocker.status("/v1/models", key="sm-local") == 200
    assert len(waits) == 30 - FREE


def test_an_address_of_the_network_is_not_listened_to_after_many(monkeypatch: pytest.MonkeyPatch) -> None:
    held(monkeypatch)
    knocker = Knocker(is_network=True)
    for _ in range(MOST_BEFORE_PAUSE):
        assert knocker.status("/v1/models", key="sm-wrong", address="10.0.0.9") == 401
    status, headers, _ = knocker.knock("/v1/models", key="sm-network", address="10.0.0.9")
    assert status == 429
    assert 0 < int(headers["retry-after"]) <= 60
    assert knocker.status("/v1/models", key="sm-network", address="10.0.0.8") == 200
    knocker.now_s += 61
    assert knocker.status("/v1/models", key="sm-network", address="10.0.0.9") == 200


def test_who_sends_no_key_at_all_guesses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, knocker = held(monkeypatch), Knocker()
    for _ in range(20):
        assert knocker.status("/v1/models", key=None) == 401
    assert waits == []


# --- sizes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "most"), [("/api/access/keys", 64 << 10), ("/v1/x", 32 << 20)])
def test_a_body_is_as_large_as_its_path_takes(path: str, most: int) -> None:
    knocker = Knocker()
    assert knocker.status(path, ("content-length", str(most)), method="POST") == 200
    assert knocker.status(path, ("content-length", str(most + 1)), method="POST") == 413
    half = b" " * (most // 2)
    assert knocker.status(path, method="POST", body=[half, half]) == 200
    assert knocker.status(path, method="POST", body=[half, half, b"  "]) == 413


def test_all_bodies_together_have_a_bound_and_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MOST_BODIES_BYTES", 1000)
    knocker = Knocker()
    large, small = [b" " * 600, b" " * 600], [b" " * 600, b" "]
    assert knocker.status("/v1/x", key="sm-local", method="POST", body=large) == 503
    assert knocker.status("/v1/x", key="sm-local", method="POST", body=small) == 200
    assert knocker.door.bodies_bytes == 0
    # While programs fill it, the person at the window is let in as ever.
    knocker.door.bodies_bytes = 1000
    assert knocker.status("/v1/x", key="sm-local", method="POST", body=small) == 503
    assert knocker.status("/v1/x", method="POST", body=large) == 200
    assert knocker.door.bodies_bytes == 1000


@pytest.mark.parametrize("is_own", [True, False])
def test_a_program_keeps_its_connections_place_once_its_body_is_there(is_own: bool) -> None:
    crowd = Crowd(Patience(connections=2))
    place = crowd.enter("127.0.0.1", lambda: None)
    kept: list[bool] = []

    async def application(_scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            kept.append(place in crowd._answered)
            await receive()
        kept.append(place in crowd._answered)

    parts = [b"a", b"b"]

    async def receive() -> Any:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(_message: Any) -> None:
        raise AssertionError("it was refused")

    key = KEY if is_own else "sm-local"
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/x",
        "client": ("127.0.0.1", 1),
        "headers": [
            (b"host", b"127.0.0.1:8642"),
            (b"x-api-key", key.encode()),
            (b"content-length", b"2"),
        ],
        "state": {PLACE: place},
    }
    asyncio.run(Guard(application, Knocker().door)(scope, receive, send))
    assert kept == ([True] * 3 if is_own else [False, False, True])
    assert place not in crowd._answered
    assert len(crowd) == 1
