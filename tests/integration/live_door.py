"""The engine's real sockets, guards and application in this process, so that a test can take a guard away."""

import json
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import serve
from engine.engine import Engine
from engine.paths import DataFolder
from engine.protocol_access import KeyLimits, NewKey, OpenNetwork
from engine.server.connection import Crowd
from tests.integration.live_engine import SCRIPT_MODEL, write_script

TIMEOUT_S = 60.0
_SMALL_BUFFER = 16 * 1024
"""Of the sockets: a client that reads nothing is noticed after less text."""


class LiveDoor:
    """An engine that is served by a thread of this process."""

    def __init__(self, root: Path) -> None:
        folder = DataFolder(root)
        folder.create()
        write_script(folder)
        listener = serve._bound(0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_BUFFER)
        self.port: int = listener.getsockname()[1]
        self.own_key = secrets.token_urlsafe(32)
        self.engine = Engine.open(folder, model=SCRIPT_MODEL)
        self.engine.access.listens(f"http://127.0.0.1:{self.port}", None)
        self.server = serve._Server(self.engine, folder, self.own_key, self.port, None)
        self._thread = threading.Thread(target=self.server.run, args=([listener],), daemon=True)
        self._listener = listener
        self._thread.start()
        wait_for(lambda: self.server.started and self.engine.host.loaded is not None)
        self.local_id, self.local_key = self.make("local")
        self.network_id, self.network_key = self.make("network", is_network=True)

    @property
    def crowd(self) -> Crowd:
        """The connections on loopback."""
        return self.server.config.http_protocol_class.crowd  # type: ignore[union-attr, no-any-return]

    def make(self, name: str, *, is_network: bool = False) -> tuple[str, str]:
        """(id, secret) of a new key."""
        key, secret = self.engine.access.keys.make(NewKey(name=name, is_network=is_network))
        return key.id, secret

    def limit(self, **limits: int) -> None:
        """Give the local key other limits."""
        keys = self.engine.access.keys
        keys.change(self.local_id, keys_change(KeyLimits(**limits)))

    def open_network(self) -> int:
        """The port of the network's socket, which is open then."""
        body = OpenNetwork(wanted=True).model_dump()
        status, _, door = self.ask("/api/access/network", method="PUT", body=body, key=self.own_key)
        assert status == 200, door
        assert door["problem"] is None
        return int(door["port"])

    def connect(self, *, network_port: int | None = None) -> socket.socket:
        """A connection; to the network's socket in TLS."""
        made = socket.socket()
        made.settimeout(TIMEOUT_S)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        made.connect(("127.0.0.1", network_port or self.port))
        if network_port is None:
            return made
        context = ssl.create_default_context(cafile=str(self.engine.folder.network_certificate))
        return context.wrap_socket(made, server_hostname="localhost")

    def raw(self, data: bytes, *, network_port: int | None = None) -> bytes:
        """What is answered to these bytes, until the engine closes."""
        with self.connect(network_port=network_port) as connection:
            connection.sendall(data)
            return read_all(connection)

    def request(
        self,
        path: str = "/v1/models",
        *,
        method: str = "GET",
        key: str | None = None,
        headers: str = "",
        body: Any = None,
        host: str | None = None,
        port: int | None = None,
    ) -> bytes:
        """A whole request that is the last of its connection."""
        content = b"" if body is None else json.dumps(body).encode()
        length = f"Content-Length: {len(content)}\r\n" if body is not None else ""
        shown = f"Authorization: Bearer {key}\r\n" if key is not None else ""
        host = host or f"127.0.0.1:{port or self.port}"
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{shown}{headers}{length}\r\n"
        )
        return head.encode() + content

    def ask(self, path: str = "/v1/models", *, network_port: int | None = None, **more: Any) -> Any:
        """(status, raw head, JSON) of the answer."""
        answer = self.raw(self.request(path, port=network_port, **more), network_port=network_port)
        head, _, content = answer.partition(b"\r\n\r\n")
        return status_of(answer), head, json.loads(content) if content else None

    def close(self) -> None:
        """End it."""
        self.server.should_exit = True
        self._thread.join(TIMEOUT_S)
        self._listener.close()
        self.engine.store.close()


def keys_change(limits: KeyLimits) -> Any:
    """A change of a key's limits."""
    from engine.protocol_access import ChangeKey

    return ChangeKey(limits=limits)


def chat(text: str, **more: Any) -> dict[str, Any]:
    """A request of the chat dialect."""
    return {"model": SCRIPT_MODEL, "messages": [{"role": "user", "content": text}], **more}


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, in whatever way."""
    parts: list[bytes] = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except (ConnectionError, ssl.SSLError):
        pass
    return b"".join(parts)


def status_of(answer: bytes) -> int:
    """The status of an answer; 0 for none."""
    parts = answer.split(b" ", 2)
    return int(parts[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def wait_for(condition: Callable[[], bool]) -> None:
    """Look again until it is so."""
    looking = threading.Event()
    for _ in range(int(TIMEOUT_S / 0.02)):
        if condition():
            return
        looking.wait(0.02)
    raise AssertionError("it did not come about")
