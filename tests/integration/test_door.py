"""Who may come in, and what is said to those who may not."""

import json
import select
import socket
from typing import Any

import httpx
import pytest

from tests.integration.live_engine import LiveEngine


@pytest.fixture(scope="module")
def engine(shared_engine: LiveEngine) -> LiveEngine:
    return shared_engine


def raw(engine: LiveEngine, path: str = "/api/status", **headers: str) -> httpx.Response:
    """A request with exactly these headers beside the usual ones."""
    with httpx.Client(base_url=engine.address.url, trust_env=False) as client:
        return client.get(path, headers=headers)


def test_the_status_tells_what_runs(engine: LiveEngine) -> None:
    status = engine.get("/api/status")
    assert status["pid"] == engine.address.pid == engine.process.pid
    assert status["data_folder"] == str(engine.folder.root)
    assert status["model"]["backend"] == "scripted"
    assert status["version"]


def test_an_answer_that_needs_no_body_comes_behind_it(engine: LiveEngine) -> None:
    """A client that sends its body late would see a broken connection in the answer's place."""
    host, port = engine.address.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        head = f"POST /v1/nowhere HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {engine.address.key}\r\n"
        client.sendall(f"{head}Content-Length: 2\r\n\r\n".encode())
        engine.get("/api/status")  # the head has been read by now
        engine.get("/api/status")
        assert not select.select([client], [], [], 0)[0]
        for late in ("{}", f"{head}Content-Length: 2\r\n\r\n{{}}"):  # and the connection is good for more
            client.sendall(late.encode())
            answer = b""
            while not answer.endswith(b"}}"):
                answer += (more := client.recv(65536))
                assert more
            assert answer.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer", "Basic KEY", "KEY", "Bearer KEY KEY"])
def test_without_the_key_nobody_comes_in(engine: LiveEngine, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.replace("KEY", engine.address.key)}
    for path in ("/api/status", "/api/events", "/v1/models", "/nowhere"):
        reply = raw(engine, path, **headers)
        assert reply.status_code == 401, path
        error = reply.json()["error"]
        assert error["code"] == "missing_key"
        assert "engine.json" in error["message"]
        assert ("type" in error) == path.startswith("/v1/")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:PORT"])
def test_a_foreign_host_is_refused(engine: LiveEngine, host: str) -> None:
    """A page whose name was rebound to this address sends its own name here."""
    port = engine.address.url.rpartition(":")[2]
    key = {"Authorization": f"Bearer {engine.address.key}"}
    assert raw(engine, Host=host.replace("PORT", port), **key).status_code == 403
    assert raw(engine, Host=f"localhost:{port}", **key).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1"])
def test_a_page_of_another_origin_is_refused(engine: LiveEngine, origin: str) -> None:
    key = {"Authorization": f"Bearer {engine.address.key}"}
    reply = raw(engine, Origin=origin, **key)
    assert reply.status_code == 403
    assert "access-control-allow-origin" not in reply.headers
    assert raw(engine, Origin=engine.address.url, **key).status_code == 200


def test_it_listens_nowhere_else_and_shows_no_pages(engine: LiveEngine) -> None:
    assert engine.address.url.startswith("http://127.0.0.1:")
    for path in ("/docs", "/redoc"):
        assert engine.client.get(path).status_code == 404


def chunks(size_bytes: int) -> Any:
    for _ in range(size_bytes // 65536 + 1):
        yield b" " * 65536


@pytest.mark.parametrize("way", ["length", "chunked"])
def test_a_body_that_is_too_large_is_refused_with_a_sentence(engine: LiveEngine, way: str) -> None:
    size_bytes = 33 * 2**20
    content = b" " * size_bytes if way == "length" else chunks(size_bytes)
    reply = engine.client.post("/api/sessions", content=content)
    assert reply.status_code == 413
    assert "larger than 32 MB" in reply.json()["error"]["text"]
    assert engine.get("/api/status")["pid"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/api/turns", "{}", 400, "`turn`"),
        ("POST", "/api/turns", "{", 400, "not JSON"),
        ("POST", "/api/turns", b"\xff", 400, "not JSON"),
        ("POST", "/api/turns", "[" * 100_000, 400, "not JSON"),
        ("POST", "/api/turns", '{"turn": {"kind": "dance"}}', 400, "turn"),
        ("PUT", "/api/settings", '{"sampling": {"temperature": NaN}}', 400, "not JSON"),
        ("PUT", "/api/settings", '{"context_tokens": 1}', 400, "context_tokens"),
        ("PUT", "/api/settings", '{"threads": "\\ud800"}', 400, "threads"),
        ("GET", "/api/sessions/nowhere", None, 404, ""),
        ("GET", "/api/turns/nowhere/events", None, 404, ""),
        ("GET", "/api/turns/nowhere/events?after=x", None, 400, "after"),
        ("DELETE", "/api/turns/nowhere", None, 404, ""),
        ("POST", "/api/models/load", '{"model_id": "nowhere"}', 404, "nowhere"),
        ("POST", "/api/models/load", '{"model_id": "\\ud800"}', 404, ""),
        ("GET", "/api/nowhere", None, 404, "/api/nowhere"),
        ("PATCH", "/api/status", None, 405, "PATCH"),
        ("POST", "/api/turns", '{"turn": {"kind": "ask", "session_id": "x", "text": " "}}', 404, ""),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    engine: LiveEngine, method: str, path: str, body: str | bytes | None, status: int, said: str
) -> None:
    reply = engine.client.request(method, path, content=body)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"code", "text", "message"}
    assert said in error["text"]
    assert error["text"].endswith(".")
    assert "\n" not in error["text"]


def test_an_empty_question_is_refused(engine: LiveEngine) -> None:
    ask = {"kind": "ask", "session_id": engine.new_session(), "text": " \n"}
    reply = engine.client.post("/api/turns", json={"turn": ask})
    assert reply.status_code == 400
    assert "empty" in reply.json()["error"]["text"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pasted", "kept"),
    [
        ("many scripts a\x00b", "many scripts a�b"),
        ("many scripts \ud83d alone \udc00", "many scripts � alone �"),
        ("many scripts \u202eright to left\u202c \u200f \ufeff", None),
        ("many scripts " + "x" * 2**20, None),
        ("many scripts \x1b[31m \x7f \r\n tab\t", None),
    ],
    ids=["nul", "surrogates", "bidi", "1 MB line", "control"],
)
def test_pasted_text_comes_back_as_it_was(engine: LiveEngine, pasted: str, kept: str | None) -> None:
    kept = pasted if kept is None else kept
    session_id = engine.new_session()
    body = json.dumps({"turn": {"kind": "ask", "session_id": session_id, "text": pasted}})
    reply = engine.client.post("/api/turns", content=body.encode())
    assert reply.status_code == 201
    turn = reply.json()
    assert turn["question"]["text"] == kept
    end = engine.finish(turn["id"])
    if len(pasted) < 1000:
        assert end["message"]["text"] == "né 你好 👩‍👩‍👧 مرحبا \u200f!"
    else:
        assert end["error"]["code"] == "prompt_too_long"
    assert engine.message(session_id, turn["question"]["id"])["text"] == kept
    title = engine.client.patch(
        f"/api/sessions/{session_id}", content=json.dumps({"title": "a\ud800b"}).encode()
    )
    assert title.json()["title"] == "a�b"
    assert [s["id"] for s in engine.get("/api/sessions?query=many%20scripts")["sessions"]].count(
        session_id
    ) == 1


def test_a_prompt_longer_than_the_context_is_said_and_the_engine_goes_on(engine: LiveEngine) -> None:
    session_id = engine.new_session()
    turn = engine.ask("word " * 3000, session_id)
    failed = engine.finish(turn["id"])
    assert failed["kind"] == "error"
    assert failed["error"]["code"] == "prompt_too_long"
    assert "context" in failed["error"]["text"]
    assert engine.message(session_id, turn["question"]["id"])["text"] == "word " * 3000
    assert engine.message(session_id, turn["answer"]["id"])["error"] == failed["error"]
    assert engine.answer("Hello")["text"] == "Hello there."
