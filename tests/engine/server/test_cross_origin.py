"""Which origins count, and what a browser is answered. tests/engine/server/test_auth.py has it behind the door."""

import pytest

from engine.errors import NotAllowed
from engine.server.cross_origin import is_preflight, named_origins, preflight_headers


def test_origins_are_whole_and_named() -> None:
    named = [
        "http://localhost:3000/",
        " https://App.Example ",
        "*",
        "null",
        "http://a/b",
        "vscode-webview://abc",
    ]
    assert named_origins(named) == {b"http://localhost:3000", b"https://app.example", b"vscode-webview://abc"}


def test_a_preflight_is_one_by_its_header() -> None:
    asks = [(b"access-control-request-method", b"POST")]
    assert is_preflight("OPTIONS", asks)
    assert not is_preflight("OPTIONS", [])
    assert not is_preflight("POST", asks)


def test_no_header_can_be_put_into_the_answer() -> None:
    asks = [
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"a\r\nset-cookie: x"),
    ]
    with pytest.raises(NotAllowed):
        preflight_headers(b"http://a", asks)
    answer = dict(preflight_headers(b"http://a", asks[:1]))
    assert b"access-control-allow-headers" not in answer
    assert b"access-control-allow-private-network" not in answer
    assert b"access-control-allow-credentials" not in answer
