"""The feed of newer versions, from a server on this machine that misbehaves on demand."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from engine import update_feed
from engine.errors import BadRequest, FeedRefused
from engine.protocol_about import UpdateFound
from engine.update_feed import LARGEST_BYTES, built_in_address, checked_address, fetch, page_of, parsed

GOOD = {
    "version": "9.9.9",
    "notes_url": "https://example.org/notes",
    "sha256": {"a.deb": "00"},
    "run": "rm -rf /",
}


class Feed:
    """A server whose next answers a test chooses."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, json.dumps(GOOD).encode(), dict[str, str]()
        self.asked: list[tuple[str, dict[str, str]]] = []
        feed = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                """Quiet."""

            def do_GET(self) -> None:
                feed.asked.append((self.path, dict(self.headers.items())))
                self.send_response(feed.status)
                for name, value in feed.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for start in range(0, len(feed.body), 65_536):
                    try:
                        self.wfile.write(feed.body[start : start + 65_536])
                    except OSError:
                        return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.address = f"http://{self.host}/feed.json"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    made = Feed()
    yield made
    made.close()


def test_the_newest_version_and_its_page(feed: Feed) -> None:
    assert fetch(feed.address) == UpdateFound(version="9.9.9", notes_url="https://example.org/notes")
    [(path, headers)] = feed.asked
    assert path == "/feed.json" and headers["User-Agent"] == "seamount"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"), (b"<html>", "not JSON"), (b"[" * 60_000, "not JSON"), (b"\xff\xfe", "not JSON"),
        (b"[]", "names no version"), (b"{}", "names no version"), (b'{"version": 9}', "names no version"),
        (b'{"version": "9.9.9; rm"}', "names no version"), (b'{"version": "' + b"9" * 5000 + b'"}', "names no version"),
        (b" " * (LARGEST_BYTES + 1), "larger than any feed"), (b"x" * (8 << 20), "larger than any feed"),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_feed_is_a_sentence(feed: Feed, body: bytes, why: str) -> None:
    feed.body = body
    with pytest.raises(FeedRefused, match=why) as refused:
        fetch(feed.address)
    assert feed.host in refused.value.text and refused.value.text.isprintable()


def test_a_small_answer_that_swells_is_stopped(feed: Feed) -> None:
    feed.body, feed.headers = gzip.compress(b" " * (64 << 20)), {"Content-Encoding": "gzip"}
    assert len(feed.body) < LARGEST_BYTES
    with pytest.raises(FeedRefused, match="larger than any feed"):
        fetch(feed.address)
    feed.body = b"not gzip"
    with pytest.raises(FeedRefused, match="cannot be read"):
        fetch(feed.address)


@pytest.mark.parametrize("status", [404, 500, 204, 403])
def test_another_answer_than_200_is_a_sentence(feed: Feed, status: int) -> None:
    feed.status, feed.body = status, b""
    with pytest.raises(FeedRefused, match=f"it answered {status}"):
        fetch(feed.address)


def test_a_redirect_within_the_place_is_followed_and_not_for_ever(feed: Feed) -> None:
    feed.status, feed.headers = 302, {"Location": "/feed.json"}
    with pytest.raises(FeedRefused, match="from one place to the next"):
        fetch(feed.address)
    assert len(feed.asked) == update_feed.MOST_REDIRECTS + 1


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("https://evil.example/feed.json", "another place"), ("http://evil.example/", "no address of https"),
        ("file:///etc/passwd", "no address of https"), ("//localhost:1/x", "another place"),
        ("https://user:pw@evil.example/", "no address of https"), ("", "another place"),
    ],
)  # fmt: skip
def test_a_redirect_elsewhere_is_not_followed(feed: Feed, location: str, why: str) -> None:
    other = Feed()
    try:
        feed.status, feed.headers = 302, {"Location": location or other.address}
        with pytest.raises(FeedRefused, match=why):
            fetch(feed.address)
        assert other.asked == [] and len(feed.asked) == 1
    finally:
        other.close()


def test_nobody_there(feed: Feed) -> None:
    feed.close()
    with pytest.raises(FeedRefused, match="cannot be reached"):
        fetch(feed.address)


def test_one_that_drips_is_left(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_feed, "WHOLE_S", -1.0)
    with pytest.raises(FeedRefused, match="did not end in time"):
        fetch(feed.address)


@pytest.mark.parametrize(
    "address",
    ["http://example.org/", "ftp://example.org/", "https://", "https://u@h/", "https://u:p@h/", "https://h:99999/",
     "https://h/a b", "https://h/\n", "https://h/#x", "https://ä.example/", "https://[/", "h", "",
     "https://h/" + "x" * 600, "http://127.0.0.1.example.org/"],
)  # fmt: skip
def test_addresses_that_are_not_asked(address: str) -> None:
    with pytest.raises(BadRequest, match="updates_address"):
        checked_address(address)
    assert page_of(address) is None


def test_pages_are_of_https_alone() -> None:
    assert page_of("https://example.org/notes?v=1") == "https://example.org/notes?v=1"
    assert page_of("http://127.0.0.1/") is None and page_of(7) is None
    told = parsed(b'{"version": "1.0", "notes_url": "javascript:alert(1)"}', "h")
    assert told == UpdateFound(version="1.0")


def test_the_address_of_the_build_is_one_or_none() -> None:
    address = built_in_address()
    assert address is None or checked_address(address) == address
