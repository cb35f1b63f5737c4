"""What a head may look like. Each case breaks one rule and no other, so that it is let through without that rule."""

import pytest

from engine.server import request_head
from engine.server.request_head import HeadRefused, check, head_of

GOOD = b"POST /v1/x HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\n\r\n"
CASES: dict[str, list[tuple[bytes, int]]] = {
    "size": [(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431)],
    "headers": [(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431)],
    "line ends": [
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
    "folds": [
        (b"GET / HTTP/1.1\r\nX: a\r\n Content-Length: 3\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n", 400),
    ],
    "request line": [
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 400),
        (b"GET / a HTTP/1.1\r\n\r\n", 400),
        (b"GE(T / HTTP/1.1\r\n\r\n", 400),
    ],
    "target": [
        (b"GET http://127.0.0.1/v1/models HTTP/1.1\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 400),
        (b"GET evil.example:443 HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1#x HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
    ],
    "once": [
        (b"GET / HTTP/1.1\r\n%b: 1\r\n%b: 1\r\n\r\n" % (name, name.upper()), 400)
        for name in (
            b"Host",
            b"Authorization",
            b"X-Api-Key",
            b"Content-Length",
            b"Transfer-Encoding",
            b"Origin",
        )
    ],
    "framing": [
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
    "length": [
        (b"POST / HTTP/1.1\r\nContent-Length: %b\r\n\r\n" % value, 400)
        for value in (b"+3", b"-1", b"3, 3", b"0x3", b"3 3", b"", b"1" * 20)
    ],
}
ALL = [(rule, case, status) for rule, cases in CASES.items() for case, status in cases]


def test_each_rule_has_cases() -> None:
    assert set(CASES) == set(request_head.RULES)


def test_what_is_in_order_passes() -> None:
    for good in (GOOD, b"\r\n" + GOOD, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", GOOD + b"abcGET / HTTP/1.1\r\n"):
        head = head_of(good)
        assert head is not None
        check(head)


@pytest.mark.parametrize(("rule", "case", "status"), ALL)
def test_each_case_is_refused_by_its_rule_alone(
    monkeypatch: pytest.MonkeyPatch, rule: str, case: bytes, status: int
) -> None:
    head = head_of(case)
    assert head is not None
    with pytest.raises(HeadRefused) as raised:
        check(head)
    assert raised.value.status == status
    assert raised.value.text.endswith(".")
    assert b"x" * 100 not in raised.value.text.encode()
    monkeypatch.delitem(request_head.RULES, rule)
    check(head)


def test_a_head_is_whole_at_an_empty_line() -> None:
    for part in (b"", b"\r\n", GOOD[:-2], b"GET / HTTP/1.1\r\nHost: a"):
        assert head_of(part) is None
    found = head_of(GOOD + b"abc")
    assert found is not None
    assert (found.raw, found.target) == (GOOD, b"/v1/x")
    assert found.names == [b"host", b"content-length"]
