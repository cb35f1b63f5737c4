"""One question to a model on another machine: what is asked again, what is not, and the sentence for all that fails."""

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.backends.remote import RemoteModel, RemotePoint
from engine.backends.remote_address import read_address
from engine.backends.remote_faults import CertificateChanged, CertificateUnknown, Limits
from engine.backends.remote_request import RemoteRequest
from engine.backends.remote_stream import Piece, ReasoningPiece, TextPiece
from engine.conversation import Message
from engine.errors import (
    RemoteBrokeOff,
    RemoteBusy,
    RemoteError,
    RemoteKeyRefused,
    RemoteUnreachable,
    SeamountError,
)
from engine.protocol import Sampling
from engine.protocol_remote import RemotePrice
from tests.support.hostile_server import (
    DONE,
    GOOD,
    Exchange,
    HostileServer,
    chunk,
    hostile,
    own_certificate,
    replying,
    streaming,
    usage,
)

KEY = "sk-very-secret-0123456789"
SHORT = Limits(connect_s=5.0, first_byte_s=5.0, idle_s=5.0)
ASKED = RemoteRequest(messages=[Message("user", "Hello?")], sampling=Sampling(seed=7))
NOBODY = "http://127.0.0.1:1/v1"
"""Nothing listens there."""


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile() as found:
        yield found


def model_at(*urls: str, fingerprint: str | None = None, limits: Limits = SHORT) -> RemoteModel:
    points = [RemotePoint(read_address(url), fingerprint) for url in urls]
    return RemoteModel(
        id="remote:x",
        name="X",
        kind="openai",
        model="m",
        points=points,
        key=KEY,
        limits=limits,
        backoff_s=0.01,
    )


def ask(model: RemoteModel, pieces: list[Piece] | None = None) -> Any:
    return model.answer(ASKED, (pieces if pieces is not None else []).append, lambda: False)


def failing(model: RemoteModel, pieces: list[Piece] | None = None) -> SeamountError:
    with pytest.raises(SeamountError) as caught:
        ask(model, pieces)
    sentence = caught.value.text
    assert "\n" not in sentence and KEY not in sentence
    return caught.value


def text_of(pieces: list[Piece]) -> str:
    return "".join(each.text for each in pieces if isinstance(each, TextPiece))


def test_an_answer_and_what_it_cost(server: HostileServer) -> None:
    pieces: list[Piece] = []
    model = replace(model_at(server.url), price=RemotePrice(read=1.0, written=10.0, read_cached=0.5))
    server.answer = streaming(
        *GOOD[:-2], usage(1_000_000, 100_000, prompt_tokens_details={"cached_tokens": 400_000}), DONE
    )
    outcome = ask(model, pieces)
    assert text_of(pieces) == "Hello there."
    assert (outcome.reason, outcome.notices, outcome.point) == ("stop", (), 0)
    assert outcome.usage.reused_tokens == 400_000
    assert outcome.usage.cost == pytest.approx(0.6 + 0.2 + 1.0)
    assert server.keys == [f"Bearer {KEY}"]
    assert KEY not in repr(model)
    assert server.chats[0]["messages"] == [{"role": "user", "content": "Hello?"}]


def test_a_cost_that_is_not_known_is_said(server: HostileServer) -> None:
    server.answer = streaming(*GOOD[:-2], DONE)
    outcome = ask(replace(model_at(server.url), price=RemotePrice(read=1.0)))
    assert outcome.usage is None
    assert "cost is not known" in outcome.notices[0]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("api.example.com; elsewhere", "sent the conversation on to api.example.com"),
        ("127.0.0.1; this machine", ""),
        ("", ""),
    ],
)
def test_one_that_asks_a_third_machine(server: HostileServer, header: str, told: str) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.head(Seamount_Sent_To=header)
        exchange.send(*GOOD)

    server.answer = answer
    notices = " ".join(ask(model_at(server.url)).notices)
    assert (told in notices) if told else not notices


# --- what is not begun may be asked again ------------------------------------------------------------------


def test_another_address_takes_the_question(server: HostileServer) -> None:
    pieces: list[Piece] = []
    outcome = ask(model_at(NOBODY, server.url), pieces)
    assert text_of(pieces) == "Hello there." and outcome.point == 1
    assert len(server.chats) == 1
    assert "127.0.0.1:1" in outcome.notices[0] and "nothing listens" in outcome.notices[0]


def test_that_another_address_took_it_is_known_also_when_it_breaks_off(server: HostileServer) -> None:
    server.answer = break_off
    told: list[Any] = []
    with pytest.raises(RemoteBrokeOff):
        model_at(NOBODY, server.url).answer(
            ASKED, lambda _piece: None, lambda: False, lambda *given: told.append(given)
        )
    ((point, notices),) = told
    assert point == 1 and "127.0.0.1:1" in notices[0]


def test_a_busy_server_is_asked_again(server: HostileServer) -> None:
    answers = [replying(429, {"error": {"message": "slow down"}}), replying(503), streaming(*GOOD)]
    server.answer = lambda exchange: answers.pop(0)(exchange)
    pieces: list[Piece] = []
    outcome = ask(model_at(server.url), pieces)
    assert text_of(pieces) == "Hello there." and len(server.chats) == 3
    assert outcome.notices and "slow down" not in text_of(pieces)


@pytest.mark.parametrize(("after", "asked"), [("3600", 1), ("0", 3), ("soon", 3)])
def test_one_that_stays_busy(server: HostileServer, after: str, asked: int) -> None:
    server.answer = replying(429, {"error": {"message": f"no room for {KEY}"}}, Retry_After=after)
    error = failing(model_at(server.url))
    assert isinstance(error, RemoteBusy) and "429" in error.text
    assert len(server.chats) == asked


def test_nobody_anywhere() -> None:
    error = failing(model_at(NOBODY, "http://127.0.0.1:2/v1"))
    assert isinstance(error, RemoteUnreachable)
    assert "127.0.0.1:1" in error.text and "127.0.0.1:2" in error.text


# --- what may have been computed is never sent twice --------------------------------------------------------


def close_at_once(_exchange: Exchange) -> None:
    """The connection ends before a word."""


def break_off(exchange: Exchange) -> None:
    exchange.head()
    exchange.send(chunk({"content": "Half an ans"}))


def break_off_in_reasoning(exchange: Exchange) -> None:
    exchange.head()
    exchange.send(chunk({"reasoning_content": "I thi"}))


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (close_at_once, ""),
        (break_off, "Half an ans"),
        (break_off_in_reasoning, ""),
        (replying(500, {"error": "cuda"}), ""),
        (replying(502), ""),
        (replying(504), ""),
    ],
)
def test_what_may_have_been_computed_is_told(
    server: HostileServer, answer: Callable[[Exchange], None], kept: str
) -> None:
    server.answer = answer
    pieces: list[Piece] = []
    with hostile() as other:
        error = failing(model_at(server.url, other.url), pieces)
        assert isinstance(error, RemoteBrokeOff) and "charged" in error.text
        assert (len(server.chats), len(other.chats)) == (1, 0)
    assert text_of(pieces) == kept


def test_silence_after_the_question_is_told(server: HostileServer) -> None:
    server.answer = lambda _exchange: server.release.wait(10) and None
    error = failing(model_at(server.url, limits=replace(SHORT, first_byte_s=0.2)))
    assert isinstance(error, RemoteBrokeOff) and "charged" in error.text
    assert len(server.chats) == 1


def test_a_head_that_never_ends_is_told(server: HostileServer) -> None:
    """Each of its lines comes in time."""

    def answer(exchange: Exchange) -> None:
        while not server.release.wait(0.01):
            exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    server.answer = answer
    error = failing(model_at(server.url, limits=replace(SHORT, connect_s=0.2, first_byte_s=0.2)))
    assert isinstance(error, RemoteBrokeOff) and "had begun" in error.text
    assert len(server.chats) == 1


def test_an_answer_is_whole_when_its_server_has_said_that_it_ends(server: HostileServer) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.head(Transfer_Encoding="chunked")
        data = b"".join(GOOD[:-2])
        exchange.send(b"%x\r\n%b\r\n" % (len(data), data))

    server.answer = answer
    pieces: list[Piece] = []
    outcome = ask(model_at(server.url), pieces)
    assert (outcome.reason, text_of(pieces)) == ("stop", "Hello there.")


def test_silence_in_the_middle_is_told(server: HostileServer) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(chunk({"content": "One word"}))
        server.release.wait(10)

    server.answer = answer
    pieces: list[Piece] = []
    error = failing(model_at(server.url, limits=replace(SHORT, idle_s=0.2)), pieces)
    assert isinstance(error, RemoteBrokeOff) and text_of(pieces) == "One word"
    assert len(server.chats) == 1


def test_a_silent_server_is_given_up_when_nobody_waits(server: HostileServer) -> None:
    asked = threading.Event()

    def answer(_exchange: Exchange) -> None:
        asked.set()
        server.release.wait(20)

    server.answer = answer
    settled: list[Any] = []
    model = replace(model_at(server.url, limits=Limits()), settled=lambda *given: settled.append(given))
    outcome = model.answer(ASKED, lambda _piece: None, asked.is_set)
    assert outcome.reason == "cancelled" and len(server.chats) == 1
    assert settled == []


# --- what is no answer --------------------------------------------------------------------------------------


def html(exchange: Exchange) -> None:
    exchange.head(200, "text/html")
    exchange.send(b"<html><h1>Welcome to the router</h1></html>")


def bomb(exchange: Exchange) -> None:
    exchange.head(200, Content_Encoding="gzip")
    exchange.send(gzip.compress(b"data: " + b"0" * 20_000_000))


def endless(exchange: Exchange) -> None:
    exchange.head()
    for _ in range(100_000):
        exchange.send(b": still here\n" * 100)


def one_line(exchange: Exchange) -> None:
    exchange.head()
    for _ in range(100):
        exchange.send(b"x" * 100_000)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (html, "no stream"),
        (lambda exchange: exchange.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "not HTTP"),
        (bomb, "packed"),
        (endless, "larger than"),
        (one_line, "a line of more"),
        (streaming(b"data: \xff\xfe\n\n"), "UTF-8"),
        (streaming(b"data: {nonsense\n\n"), "not JSON"),
        (streaming(b"data: " + b"[" * 100_000 + b"\n\n"), "not JSON"),
        (streaming(chunk({}, None, error={"message": "out of memory"})), "out of memory"),
        (replying(200, {"error": {"message": "wrong path"}}), "wrong path"),
        (replying(400, {"object": "error", "message": "bad\n\x1b[31mthing"}), "bad"),
        (replying(422, {"detail": [{"loc": ["body"], "msg": "extra field"}]}), "extra field"),
        (replying(404, {"error": {"message": "no model m"}}), "no model m"),
    ],
)
def test_what_is_no_answer_is_one_sentence(
    server: HostileServer, answer: Callable[[Exchange], None], word: str
) -> None:
    server.answer = answer
    most = 5 << 20 if answer is one_line else 1 << 20
    error = failing(model_at(server.url, limits=replace(SHORT, stream_bytes=most)))
    assert isinstance(error, RemoteError) and word in error.text
    assert error.text.isprintable() and len(error.text) < 700
    assert len(server.chats) == 1


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_key_that_is_not_taken_is_not_shown(server: HostileServer, status: int) -> None:
    server.answer = replying(status, {"error": {"message": f"the key {KEY} is not valid"}})
    assert isinstance(failing(model_at(server.url)), RemoteKeyRefused)


def test_a_redirect_is_not_followed(server: HostileServer) -> None:
    with hostile() as other:
        server.answer = replying(307, Location=f"{other.url}/chat/completions")
        error = failing(model_at(server.url))
        assert f"127.0.0.1:{other.port}" in error.text
        assert other.paths == []


# --- whose machine it is ------------------------------------------------------------------------------------


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    context, fingerprint = own_certificate(tmp_path)
    with hostile(context) as server:
        assert isinstance(failing(model_at(server.url)), CertificateUnknown)
        assert server.paths == []
        pieces: list[Piece] = []
        ask(model_at(server.url, fingerprint=fingerprint), pieces)
        assert text_of(pieces) == "Hello there."


def test_another_certificate_than_was_agreed_to(tmp_path: Path) -> None:
    context, fingerprint = own_certificate(tmp_path)
    _, other = own_certificate(tmp_path, "other")
    with hostile(context) as server:
        error = failing(model_at(server.url, fingerprint=other))
        assert isinstance(error, CertificateChanged) and error.fingerprint == fingerprint
        assert server.paths == [] and server.keys == []


def test_a_name_that_leads_out_of_the_network_is_not_spoken_to_in_the_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lie(_host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.7", port))]

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    error = failing(model_at("http://printer.local/v1"))
    assert "without encryption" in error.text


def test_a_name_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", gone)
    error = failing(model_at("https://models.example/v1"))
    assert isinstance(error, RemoteUnreachable) and "no such name" in error.text


def test_what_storing_raises_ends_it(server: HostileServer) -> None:
    class StoreFullError(Exception):
        pass

    def take(_piece: Piece) -> None:
        raise StoreFullError

    with pytest.raises(StoreFullError):
        model_at(server.url).answer(ASKED, take, lambda: False)


def test_reasoning_between_tags_that_breaks_off_is_kept(server: HostileServer) -> None:
    server.answer = streaming(chunk({"content": "<think>I thi"}), chunk({"content": "nk.</th"}))
    pieces: list[Piece] = []
    failing(model_at(server.url), pieces)
    assert "".join(each.text for each in pieces if isinstance(each, ReasoningPiece)) == "I think.</th"
