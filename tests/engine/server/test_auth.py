"""Which addresses and origins are this engine's own. tests/integration knocks at the real door."""

import asyncio
import json
from typing import Any

import pytest

from engine.server.auth import Guard

KEY = "the-key"


def status(port: int, headers: dict[str, str]) -> int:
    """What a request with these headers is answered: 200 when it comes as far as the application."""
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": "/api/status",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(Guard(application, key=KEY, port=port)(scope, receive, send))
    json.loads(sent[1]["body"])
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("port", "host", "expected"),
    [
        (8642, "127.0.0.1:8642", 200),
        (8642, "LOCALHOST:8642", 200),
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
    assert status(port, {"host": host, "authorization": f"Bearer {KEY}"}) == expected


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
    host = "localhost" if port == 80 else f"localhost:{port}"
    assert status(port, {"host": host, "origin": origin, "authorization": f"Bearer {KEY}"}) == expected


@pytest.mark.parametrize(
    "given", ["", "the-key", "Bearer", "Bearer the-ke", "Bearer the-key2", "Basic the-key"]
)
def test_the_key_is_the_whole_key(given: str) -> None:
    assert status(8642, {"host": "127.0.0.1:8642", "authorization": given}) == 401
