"""Other programs at the real engine process: keys, who is connected, the network's socket, the port of last time."""

import hashlib
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine import own_program
from engine.launch import child_environment
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import LONG_TOKENS, SCRIPT_MODEL, LiveEngine, in_thread, read_events

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def engine(shared_engine: LiveEngine) -> LiveEngine:
    return shared_engine


def make(engine: LiveEngine, name: str, **more: Any) -> Any:
    return engine.post("/api/access/keys", {"name": name, **more})


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": SCRIPT_MODEL, "messages": [{"role": "user", "content": text}], **more}


def as_client(engine: LiveEngine, secret: str, agent: str = "Editor/1.2") -> httpx.Client:
    headers = {"Authorization": f"Bearer {secret}", "User-Agent": agent}
    return httpx.Client(base_url=engine.address.url, headers=headers, trust_env=False, timeout=30)


@pytest.fixture
def key(engine: LiveEngine) -> Iterator[Any]:
    """A key of this test's own."""
    made = make(engine, f"test {os.urandom(4).hex()}")
    yield made
    engine.client.delete(f"/api/access/keys/{made['key']['id']}")


def access(engine: LiveEngine) -> Any:
    return engine.get("/api/access")


def test_a_key_opens_the_dialects_and_says_who_used_it(engine: LiveEngine, key: Any) -> None:
    assert access(engine)["base_url"] == f"{engine.address.url}/v1"
    with as_client(engine, key["secret"]) as client:
        assert client.get("/v1/models").status_code == 200
        answer = client.post(CHAT, json=chat("Hello"))
        assert answer.json()["choices"][0]["message"]["content"] == "Hello there."
        for path in ("/api/status", "/api/access", "/api/sessions", "/api/settings"):
            assert client.get(path).status_code == 403
        assert client.put("/api/access/network", json={"wanted": True}).status_code == 403
    (listed,) = [each for each in access(engine)["keys"] if each["id"] == key["key"]["id"]]
    assert listed["last_used_by"] == "Editor/1.2"
    assert listed["last_used_at"] >= listed["created_at"]
    assert key["secret"] not in json.dumps(access(engine))
    # This machine has no keyring that counts, or has one: either way it is said.
    assert listed["is_kept"] == (key["problem"] is None)


def test_no_secret_reaches_the_log_or_the_disk(engine: LiveEngine, key: Any) -> None:
    secret = key["secret"].encode()
    with as_client(engine, key["secret"]) as client:
        client.get("/v1/models")
        client.get("/v1/" + key["secret"])
        client.get("/v1/models", headers={"Authorization": f"Bearer {key['secret']}x"})
    for path in engine.folder.root.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path


def test_who_is_connected_is_told_and_can_be_ended(engine: LiveEngine, key: Any) -> None:
    with as_client(engine, key["secret"]) as client:
        body = chat("take your time", stream=True)
        with (
            engine.client.stream("GET", "/api/events") as events,
            client.stream("POST", CHAT, json=body) as reply,
        ):
            lines = reply.iter_lines()
            next(line for line in lines if '"content": "' in line)
            assert any(event["kind"] == "access" for _, event in read_events(events))
            (mine,) = [each for each in access(engine)["clients"] if each["key_id"] == key["key"]["id"]]
            assert (mine["program"], mine["address"]) == ("Editor/1.2", "127.0.0.1")
            (request,) = mine["requests"]
            assert (request["dialect"], request["state"], request["model_id"]) == (
                "chat",
                "writing",
                SCRIPT_MODEL,
            )
            assert request["generated_tokens"] > 0
            assert engine.client.delete(f"/api/access/requests/{request['id']}").status_code == 204
            rest = list(lines)
            assert "data: [DONE]" in rest
            assert len(rest) < LONG_TOKENS  # lines, of which each piece of text has two
    (mine,) = [each for each in access(engine)["clients"] if each["key_id"] == key["key"]["id"]]
    assert mine["requests"] == []
    gone = engine.client.delete(f"/api/access/requests/{request['id']}")
    assert gone.status_code == 404


def test_a_revoked_key_ends_what_it_runs(engine: LiveEngine, key: Any) -> None:
    with (
        as_client(engine, key["secret"]) as client,
        client.stream("POST", CHAT, json=chat("take your time", stream=True)) as reply,
    ):
        lines = reply.iter_lines()
        next(line for line in lines if '"content": "' in line)
        assert engine.client.delete(f"/api/access/keys/{key['key']['id']}").status_code == 204
        rest = list(lines)
        assert "data: [DONE]" in rest
        assert len(rest) < LONG_TOKENS  # lines, of which each piece of text has two
        assert client.get("/v1/models").status_code == 401
    assert engine.client.get(f"/api/access/keys/{key['key']['id']}/secret").status_code == 404


def test_limits_hold_in_each_dialect(engine: LiveEngine, key: Any) -> None:
    path = f"/api/access/keys/{key['key']['id']}"
    limits = {"answer_tokens": 5, "prompt_tokens": 200}
    changed = engine.client.patch(path, content=json.dumps({"limits": limits})).json()
    assert changed["limits"]["answer_tokens"] == 5
    with as_client(engine, key["secret"]) as client:
        asked = {
            CHAT: chat("Hello"),
            "/v1/completions": {"model": SCRIPT_MODEL, "prompt": "Hello"},
            "/v1/responses": {"model": SCRIPT_MODEL, "input": "Hello"},
            "/v1/messages": chat("Hello", max_tokens=100),
        }
        for each, body in asked.items():
            usage = client.post(each, json=body).json()["usage"]
            assert 5 in (usage.get("completion_tokens"), usage.get("output_tokens")), each
        long = client.post(CHAT, json=chat("word " * 100))
        assert long.status_code == 413
        assert "its key may send 200" in long.json()["error"]["message"]
        # Anthropic's dialect knows a prompt that is too long by another status.
        long = client.post("/v1/messages", json=chat("word " * 100, max_tokens=5))
        assert long.status_code == 400
        assert long.json()["error"]["type"] == "invalid_request_error"


def test_a_client_that_asks_too_much_at_once_is_told_when_to_come_again(engine: LiveEngine, key: Any) -> None:
    path = f"/api/access/keys/{key['key']['id']}"
    engine.client.patch(path, content=json.dumps({"limits": {"waiting": 1}}))
    with (
        as_client(engine, key["secret"]) as client,
        client.stream("POST", CHAT, json=chat("take your time", stream=True)) as reply,
    ):
        lines = reply.iter_lines()
        next(line for line in lines if '"content": "' in line)
        for each, kind in ((CHAT, "rate_limit_error"), ("/v1/messages", "rate_limit_error")):
            refused = client.post(each, json=chat("Hello", max_tokens=5))
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
            assert refused.json()["error"]["type"] == kind
        # Another key's requests, and the window's, wait in the queue as ever.
        status = engine.client.get("/api/status").json()
        assert status["queue_length"] == 0


@pytest.mark.parametrize("way", ["http", "file", "id"])
def test_nothing_is_fetched_or_opened_on_a_clients_word(
    engine: LiveEngine, key: Any, tmp_path: Path, way: str
) -> None:
    """Pictures and files by address are refused before anything is looked for; nobody is called."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        pipe = tmp_path / "pipe"
        if hasattr(os, "mkfifo"):
            os.mkfifo(pipe)  # who opens it to read would wait for ever
        url = {"http": f"http://127.0.0.1:{port}/x.png", "file": f"file://{pipe}", "id": "file-0123456789"}[
            way
        ]
        chats = [{"type": "image_url", "image_url": {"url": url}}]
        if way == "id":
            chats.append({"type": "file", "file": {"file_id": url}})
        bodies = [(CHAT, {**chat(""), "messages": [{"role": "user", "content": [part]}]}) for part in chats]
        item = (
            {"type": "input_image", "image_url": url}
            if way != "id"
            else {"type": "input_file", "file_id": url}
        )
        bodies.append(
            ("/v1/responses", {"model": SCRIPT_MODEL, "input": [{"role": "user", "content": [item]}]})
        )
        source = {"type": "file", "file_id": url} if way == "id" else {"type": "url", "url": url}
        blocks = [{"type": kind, "source": source} for kind in ("image", "document")]
        bodies += [
            (
                "/v1/messages",
                {**chat(""), "max_tokens": 5, "messages": [{"role": "user", "content": [block]}]},
            )
            for block in blocks
        ]
        with as_client(engine, key["secret"]) as client:
            for path, body in bodies:
                reply = client.post(path, json=body)
                assert reply.status_code == 400, (path, reply.text)
                assert reply.json()["error"]["message"].endswith(".")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


# --- the network -----------------------------------------------------------------------------------------


def pinned(fingerprint: str, port: int, request: bytes) -> bytes:
    """What a client that knows the fingerprint alone is answered; it speaks to no other certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain) as secure,
    ):
        shown = hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest().upper()
        assert shown == fingerprint.replace(":", "")
        secure.sendall(request)
        return b"".join(iter(lambda: secure.recv(65536), b""))


def get(path: str, secret: str, host: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
    ).encode()


@pytest.mark.slow
def test_the_network_comes_in_by_tls_with_keys_of_its_own(start_engine: StartEngine, tmp_path: Path) -> None:
    root = tmp_path / "data"
    engine = start_engine(root=root)
    engine.wait_model()
    network, local = make(engine, "laptop", is_network=True), make(engine, "editor")
    closed = access(engine)["network"]
    assert (closed["wanted"], closed["is_open"], closed["fingerprint"]) == (False, False, None)
    door = engine.put("/api/access/network", {"wanted": True})
    assert (door["is_open"], door["problem"], door["certificate"]) == (True, None, "generated")
    port, host = door["port"], f"localhost:{door['port']}"

    def status(path: str, secret: str, host: str = host) -> int:
        return int(pinned(door["fingerprint"], port, get(path, secret, host)).split()[1])

    assert status("/v1/models", network["secret"]) == 200
    assert status("/v1/models", local["secret"]) == 401
    assert status("/v1/models", engine.address.key) == 401
    assert status("/api/status", network["secret"]) == 403
    assert status("/v1/models", network["secret"], f"evil.example:{port}") == 403
    with as_client(engine, network["secret"]) as client:
        assert client.get("/v1/models").status_code == 401
    # A client that knows the certificate checks the names in it as it does with any other.
    certificate = str(engine.folder.network_certificate)
    with httpx.Client(
        base_url=f"https://localhost:{port}",
        verify=ssl.create_default_context(cafile=certificate),
        trust_env=False,
        headers={"x-api-key": network["secret"]},
    ) as client:
        answer = client.post("/v1/messages", json=chat("Hello", max_tokens=50)).json()
        assert answer["content"][0]["text"] == "Hello there."
    (seen,) = [each for each in access(engine)["clients"] if each["key_name"] == "laptop"][:1]
    assert seen["address"] == "127.0.0.1"

    # It stays open through a restart, at the same port and with the same certificate.
    engine.close()
    again = start_engine(root=root)
    again.wait_model()
    after = again.wait_access(lambda each: each["network"]["is_open"])["network"]
    assert (after["port"], after["fingerprint"], after["notice"]) == (port, door["fingerprint"], None)
    assert status("/v1/models", network["secret"]) == 200
    assert again.put("/api/access/network", {"wanted": False})["is_open"] is False
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_door_that_cannot_be_opened_says_why(engine: LiveEngine, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        door = engine.put("/api/access/network", {"wanted": True, "port": other.getsockname()[1]})
    assert (door["wanted"], door["is_open"]) == (True, False)
    assert "another program listens" in door["problem"]["text"]
    nowhere = str(tmp_path / "nowhere.pem")
    asked = {"wanted": True, "certificate_path": nowhere, "key_path": nowhere}
    assert "is no file" in engine.put("/api/access/network", asked)["problem"]["text"]
    refused = engine.client.put("/api/access/network", content=json.dumps({**asked, "key_path": None}))
    assert refused.status_code == 400
    assert engine.put("/api/access/network", {"wanted": False})["problem"] is None


@pytest.mark.slow
def test_keys_and_the_network_by_commands(start_engine: StartEngine, tmp_path: Path) -> None:
    root = tmp_path / "data"
    engine = start_engine(root=root)

    def seamount(*words: str) -> str:
        done = subprocess.run(
            own_program.command("--data", str(root), *words),
            capture_output=True,
            text=True,
            env=child_environment(),
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = seamount("keys", "make", "my editor", "--once")
    (secret,) = [line.strip() for line in said.splitlines() if line.strip().startswith("sm-")]
    assert f"{engine.address.url}/v1" in said
    with as_client(engine, secret) as client:
        assert client.get("/v1/models").status_code == 200
    assert "my editor: for this machine" in seamount("keys")
    opened = seamount("network", "open", "--at", "127.0.0.1")
    assert access(engine)["network"]["fingerprint"] in opened
    assert "is closed" in seamount("network", "close")
    seamount("keys", "revoke", "my editor")
    with as_client(engine, secret) as client:
        assert client.get("/v1/models").status_code == 401


# --- the port, and files that are not in order -------------------------------------------------------------


def port_of(engine: LiveEngine) -> int:
    return int(engine.address.url.rpartition(":")[2])


@pytest.mark.slow
def test_the_engine_is_found_where_it_was_unless_another_is_there(
    start_engine: StartEngine, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    first = start_engine(root=root)
    port = port_of(first)
    first.close()
    second = start_engine(root=root)
    assert port_of(second) == port
    assert access(second)["problem"] is None
    second.close()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        third = start_engine(root=root)
        assert port_of(third) != port
        problem = access(third)["problem"]
        assert f"at port {port}" in problem["text"]
        assert str(port_of(third)) in problem["text"]
        third.close()


@pytest.mark.slow
def test_a_port_of_the_settings_comes_first_and_that_of_the_command_before_it(
    start_engine: StartEngine, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        chosen, named = one.getsockname()[1], two.getsockname()[1]
    (root / "settings.toml").write_text(f"port = {chosen}\n")
    engine = start_engine(root=root)
    assert port_of(engine) == chosen
    engine.close()
    engine = start_engine("--port", str(named), root=root)
    assert port_of(engine) == named


@pytest.mark.slow
def test_a_damaged_file_of_keys_holds_no_engine_up(start_engine: StartEngine, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "client-keys.json").write_text('{"format": 1, "keys": [{"name": "a"}]}')
    engine = start_engine(root=root)
    assert engine.get("/api/status")["pid"]
    problem = access(engine)["problem"]
    assert "client-keys.json is not in order" in problem["text"]
    refused = engine.client.post("/api/access/keys", content=b'{"name": "a"}')
    assert refused.status_code == 507
    with as_client(engine, "sm-x") as client:
        told = client.get("/v1/models")
        assert told.status_code == 401
        assert "not in order" in told.json()["error"]["message"]


@pytest.mark.slow
def test_wrong_keys_slow_nobody_else_down(engine: LiveEngine, key: Any) -> None:
    """Twenty at once, most of which wait, and the right one is answered meanwhile."""

    def guess(number: int) -> int:
        with as_client(engine, f"sm-{number}") as client:
            return client.get("/v1/models").status_code

    guesses = [in_thread(guess, number) for number in range(20)]
    with as_client(engine, key["secret"]) as client:
        assert client.get("/v1/models").status_code == 200
    for thread, results in guesses:
        thread.join(30)
        assert results == [401]
