"""A server of OpenAI's dialect that does what a test wants, good or bad, and counts what it was asked."""

import contextlib
import datetime
import hashlib
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Generator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SSE = "text/event-stream"
WAIT_S = 20.0


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """One event of a stream."""
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


def usage(prompt: int, written: int, **more: Any) -> bytes:
    """The event that tells the cost."""
    told = {"prompt_tokens": prompt, "completion_tokens": written, **more}
    return b"data: " + json.dumps({"choices": [], "usage": told}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
GOOD = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hello"}),
    chunk({"content": " there."}),
    chunk({}, "stop"),
    usage(10, 3),
    DONE,
)


class Exchange:
    """One request, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        self._handler = handler
        self.body = body
        self.headers = handler.headers

    def head(self, status: int = 200, content_type: str | None = SSE, **headers: str) -> None:
        """The head of a reply whose body goes on until the connection ends."""
        self._handler.send_response_only(status)
        if content_type is not None:
            self._handler.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.send_header("Connection", "close")
        self._handler.end_headers()

    def send(self, *data: bytes) -> None:
        for each in data:
            self._handler.wfile.write(each)
            self._handler.wfile.flush()

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.head(status, "application/json", **headers)
        self.send(json.dumps(value).encode())


Answer = Callable[[Exchange], None]


def streaming(*events: bytes) -> Answer:
    """Answers with a stream of these events, and its end."""

    def answer(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(*events)

    return answer


def replying(status: int, value: Any = None, **headers: str) -> Answer:
    """Answers with a status and a body of JSON."""
    return lambda exchange: exchange.json({} if value is None else value, status, **headers)


class HostileServer:
    """Listens on loopback until it is closed. `answer` is what the next questions get; `chats` are their bodies."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.models: list[dict[str, Any]] | None = [{"id": "m", "object": "model", "owned_by": "test"}]
        self.answer: Answer = streaming(*GOOD)
        self.pages: dict[str, Any] = {}
        self.chats: list[Any] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.release = threading.Event()
        """Answers that wait, wait for this."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.note(self)
                exchange = Exchange(self, None)
                if self.path == "/v1/models" and server.models is not None:
                    exchange.json({"object": "list", "data": server.models})
                elif self.path in server.pages:
                    exchange.json(server.pages[self.path])
                else:
                    exchange.json({"detail": "Not Found"}, 404)
                self.close_connection = True

            def do_POST(self) -> None:
                server.note(self)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.chats.append(body)
                with contextlib.suppress(OSError):
                    server.answer(Exchange(self, body))
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._scheme = "http" if context is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/v1"

    def note(self, handler: BaseHTTPRequestHandler) -> None:
        self.paths.append(handler.path)
        self.keys.append(handler.headers.get("Authorization"))

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(WAIT_S)


@contextlib.contextmanager
def hostile(context: ssl.SSLContext | None = None) -> Generator[HostileServer]:
    """One that ends with the block."""
    server = HostileServer(context)
    try:
        yield server
    finally:
        server.close()


def own_certificate(folder: Path, name: str = "own") -> tuple[ssl.SSLContext, str]:
    """(a server's context with a certificate that nobody vouches for, its fingerprint)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    digest = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()
    return context, digest.hex(":").upper()


def texts_of(messages: Sequence[dict[str, Any]]) -> list[str]:
    """What messages in OpenAI's shape say."""
    return [str(each["content"]) for each in messages]
