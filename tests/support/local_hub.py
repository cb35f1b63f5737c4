"""A hub on this machine: a real HTTP server that answers what `huggingface_hub` asks, with faults on demand.

    with LocalHub() as hub:                                    # a thread of this process; or HubProcess()
        folder = write_repository(tmp_path / "hub")            # a seeded checkpoint, see hub_repositories
        commit = hub.add("deepseek-ai/DeepSeek-V4-Flash-0731", str(folder))
        hub.fault("cut", path="*-00003-of-*", at=100_000)      # that shard's first download breaks off there
        snapshot_download("deepseek-ai/DeepSeek-V4-Flash-0731", endpoint=hub.address, ...)
        assert hub.sent("*.safetensors") == ...                # bytes of bodies that went out

What may be called on either: `add`, `remove`, `rename`, `gate`, `tokens`, `lie`, `fault`, `clear_faults`, `go_away`,
`come_back`, `asked`, `forget`, `sent`. All arguments are plain JSON values, so that the same calls go over HTTP:
`POST /_control/METHOD` with the arguments as a JSON object. `Control(address)` calls a hub in any process;
`python -m tests.support.local_hub --root DIR --port N` serves each DIR/OWNER/NAME and prints its address.

LFS files are redirected, as at the real hub, to a signed address that expires, on another host name ("localhost",
where the hub is "127.0.0.1"): a client must not send its token there. Files go out by sendfile.
"""

import argparse
import contextlib
import fnmatch
import hashlib
import hmac
import http.client
import json
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self

from tests.support.hub_repositories import (
    Blob,
    Gate,
    Repositories,
    Repository,
    described,
    tree,
    write_random_files,
    write_repository,
)

__all__ = ["Asked", "Control", "Fault", "HubProcess", "LocalHub", "write_random_files", "write_repository"]

ROOT = Path(__file__).resolve().parents[2]
PIECE_BYTES = 1 << 20
FaultKind = Literal[
    "cut",
    "stall",
    "status",
    "wrong_bytes",
    "wrong_length",
    "ignore_range",
    "etag",
    "trickle",
    "drop",
    "expired",
]
Door = Literal["any", "api", "resolve", "cdn", "body"]


@dataclass
class Fault:
    """What goes wrong with some requests.

    path: pattern of the file's path ("*": all; of "api" requests the path is ""). door: where: "api" (listings),
    "resolve", "cdn" (behind the redirect), "body" (whichever of the two sends the file), "any". The fault spares the
    first `after` such requests and strikes the `times` ones after them (0: all).

    kinds: "cut": the connection ends after `at` bytes of the body. "stall": nothing comes after `at` bytes, for
    `seconds`. "status": answers `status` (with `retry_after`, `code` as X-Error-Code, `message`). "wrong_bytes": the
    byte at place `at` of the file is another one. "wrong_length": the body has `at` bytes less than the file, and
    says so. "ignore_range": 200 and all of it. "etag": another ETag and X-Linked-Etag. "trickle": `rate` bytes a
    second. "drop": the connection is closed without an answer. "expired": the signed address has expired (403).
    """

    kind: FaultKind
    path: str = "*"
    door: Door = "body"
    after: int = 0
    times: int = 1
    at: int = 0
    seconds: float = 3600.0
    status: int = 500
    code: str = ""
    message: str = "A fault was asked for"
    retry_after: int | None = None
    rate: int = 1 << 16
    seen: int = 0
    struck: int = 0


@dataclass
class Asked:
    """One request as it came, and what was answered. `authorized`: an Authorization header came with it."""

    method: str
    door: str
    repository: str
    path: str
    host: str
    range: str | None
    authorized: bool
    token: str | None
    status: int = 0
    sent_bytes: int = 0
    """Of the body; what lay in the sockets when a client was killed is counted."""
    agent: str = ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    hub: "LocalHub"

    def __init__(self, address: tuple[str, int], hub: "LocalHub") -> None:
        self.hub = hub
        self.open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what this server is for."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class LocalHub:
    """The hub as a server of this process, on a thread. Ends with `close` or as a context."""

    def __init__(self, port: int = 0, *, signed_for_s: float = 3600.0, send_buffer_bytes: int = 0) -> None:
        self.repositories = Repositories()
        self.signed_for_s = signed_for_s
        self.send_buffer_bytes = send_buffer_bytes
        """Of each socket; 0: as the system has it. Small: what a killed client has not read counts for little, but a
        system that puts off its receipts makes it slow."""
        self.key = secrets.token_bytes(16)
        self.lock = threading.Lock()
        self.faults: list[Fault] = []
        self.requests: list[Asked] = []
        self._server: _Server | None = None
        self._open(port)

    def _open(self, port: int) -> None:
        server = self._server = _Server(("127.0.0.1", port), self)
        self.port = server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving."""
        self.go_away()

    # --- what can be asked of it, also over HTTP -----------------------------------------------------

    def add(self, name: str, folder: str, branch: str = "main") -> str:
        """Serve `folder` as the newest commit of the repository; returns the commit. Again: the branch moves."""
        return self.repositories.commit(name, Path(folder), branch)

    def remove(self, name: str) -> None:
        """The repository is gone: 404."""
        self.repositories.remove(name)

    def rename(self, name: str, new: str) -> None:
        """The repository has another name; the old one answers 307."""
        self.repositories.rename(name, new)

    def gate(self, name: str, gate: Gate, readers: list[str] | None = None) -> None:
        """Who may read it: "open", "gated" (only tokens in `readers`) or "private"."""
        repository = self._repository(name)
        repository.gate, repository.readers = gate, set(readers or [])

    def tokens(self, tokens: list[str]) -> None:
        """The tokens that are valid, besides the readers of gates."""
        self.repositories.tokens = set(tokens)

    def lie(self, name: str, path: str, size: int | None = None, told: str | None = None) -> None:
        """The listing tells another size of the file, or another name."""
        repository = self._repository(name)
        if size is not None:
            repository.told_sizes[path] = size
        if told is not None:
            repository.told_names[path] = told

    def fault(self, kind: FaultKind, **wanted: Any) -> None:
        """Add a Fault; its fields are the arguments."""
        with self.lock:
            self.faults.append(Fault(kind, **wanted))

    def clear_faults(self) -> None:
        """Everything goes well again, except for sizes that lie."""
        with self.lock:
            self.faults.clear()

    def go_away(self) -> None:
        """Refuse connections and end those that are open."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        for each in list(server.open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        """Listen again at the same port."""
        if self._server is None:
            self._open(self.port)

    def asked(self, path: str = "*", door: str = "*") -> list[dict[str, Any]]:
        """What was asked so far (fields of Asked), for files by pattern."""
        with self.lock:
            return [
                asdict(each)
                for each in self.requests
                if fnmatch.fnmatchcase(each.path, path) and fnmatch.fnmatchcase(each.door, door)
            ]

    def forget(self) -> None:
        """Forget what was asked so far."""
        with self.lock:
            self.requests.clear()

    def sent(self, path: str = "*") -> int:
        """Bytes of files' bodies that went out so far, for files by pattern."""
        return sum(each["sent_bytes"] for each in self.asked(path) if each["door"] != "api")

    def _repository(self, name: str) -> Repository:
        found = self.repositories.find(name)
        if found is None:
            raise KeyError(name)
        return found

    # --- for the handler -----------------------------------------------------------------------------

    def struck(self, doors: tuple[str, ...], path: str) -> list[Fault]:
        """The faults that this request meets; each is counted."""
        found: list[Fault] = []
        with self.lock:
            for fault in self.faults:
                if fault.door not in doors or not fnmatch.fnmatchcase(path, fault.path):
                    continue
                fault.seen += 1
                if fault.seen > fault.after and (fault.times == 0 or fault.struck < fault.times):
                    fault.struck += 1
                    found.append(fault)
        return found

    def signed(self, repository: str, commit: str, path: str) -> str:
        """An address of the file behind the hub, good for `signed_for_s` seconds."""
        until = f"{time.time() + self.signed_for_s:.3f}"
        place = f"/_cdn/{repository}/{commit}/{urllib.parse.quote(path)}"
        return (
            f"http://localhost:{self.port}{place}?Expires={until}&Signature={self._signature(place, until)}"
        )

    def is_signed(self, place: str, query: dict[str, list[str]]) -> bool:
        """Whether the address was made by `signed` and has not expired."""
        until = query.get("Expires", [""])[0]
        good = hmac.compare_digest(query.get("Signature", [""])[0], self._signature(place, until))
        return good and float(until) > time.time()

    def _signature(self, place: str, until: str) -> str:
        return hmac.new(self.key, f"{place} {until}".encode(), hashlib.sha256).hexdigest()


_CONTROLS = {
    "add", "remove", "rename", "gate", "tokens", "lie", "fault", "clear_faults", "go_away", "asked", "forget", "sent",
}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    asked: Asked

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.server.hub.send_buffer_bytes:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.server.hub.send_buffer_bytes)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silent."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        method = self.path.removeprefix("/_control/")
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if not self.path.startswith("/_control/") or method not in _CONTROLS:
            self._plain(404, b"no such control")
            return
        answer = getattr(self.server.hub, method)(**json.loads(body or b"{}"))
        self._plain(200, json.dumps(answer).encode())

    def _answer(self) -> None:
        hub = self.server.hub
        address = urllib.parse.urlsplit(self.path)
        place = urllib.parse.unquote(address.path)
        parts = place.strip("/").split("/")
        if parts[0] == "_cdn" and len(parts) >= 5:
            door, name, revision, path = "cdn", "/".join(parts[1:3]), parts[3], "/".join(parts[4:])
        elif parts[:2] == ["api", "models"] and len(parts) >= 4:
            door, name, path = "api", "/".join(parts[2:4]), ""
            revision = "/".join(parts[5:]) or "main"
        elif len(parts) >= 5 and parts[2] == "resolve":
            door, name, revision, path = "resolve", "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        else:
            door, name, revision, path = "other", "", "", place
        bearer = self.headers.get("Authorization")
        token = bearer.removeprefix("Bearer ") if bearer else None
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        self.asked = Asked(
            self.command, door, name, path, host, self.headers.get("Range"), bearer is not None, token,
            agent=self.headers.get("User-Agent", ""),
        )  # fmt: skip
        with hub.lock:
            hub.requests.append(self.asked)
        if door == "other":
            self._other(place, token)
            return
        if door == "cdn" and not hub.is_signed(address.path, urllib.parse.parse_qs(address.query)):
            self._plain(
                403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            )
            return
        repository = hub.repositories.find(name)
        if repository is None:
            new = hub.repositories.moved_to(name)
            if new is None:
                self._refuse(404, "RepoNotFound", "Repository not found")
            else:
                self._plain(307, b"", Location=self.path.replace(f"/{name}", f"/{new}", 1))
            return
        refused = None if door == "cdn" else hub.repositories.allowed(repository, token)
        gated_listing = door == "api" and repository.gate == "gated" and refused and refused[1] == "GatedRepo"
        if refused and not gated_listing:
            self._refuse(*refused)
            return
        found = hub.repositories.files(repository, revision)
        if found is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        commit, blobs = found
        if door == "api":
            faults = hub.struck(("api", "any"), "")
            if self._struck_before_body(faults):
                return
            is_tree = len(parts) > 4 and parts[4] == "tree"
            answer = tree(repository, blobs) if is_tree else described(repository, commit, blobs)
            self._plain(200, json.dumps(answer).encode(), **{"Content-Type": "application/json"})
            return
        blob = blobs.get(path)
        if blob is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
        elif door == "resolve" and blob.sha256:
            self._redirect(repository, commit, path, blob)
        else:
            self._file(door, commit, path, blob)

    def _other(self, place: str, token: str | None) -> None:
        if place == "/api/whoami-v2" and token in self.server.hub.repositories.tokens:
            self._plain(200, json.dumps({"type": "user", "name": "somebody", "auth": {}}).encode())
        elif place == "/api/whoami-v2":
            self._refuse(401, "", "Invalid credentials in Authorization header")
        else:
            self._plain(404, b"not found")

    def _redirect(self, repository: Repository, commit: str, path: str, blob: Blob) -> None:
        hub = self.server.hub
        faults = hub.struck(("resolve", "any"), path)
        if self._struck_before_body(faults):
            return
        etag = "f" * 64 if any(each.kind == "etag" for each in faults) else blob.etag
        size = repository.told_sizes.get(path, blob.size_bytes)
        self._plain(
            302,
            b"",
            Location=hub.signed(repository.name, commit, path),
            ETag=f'"{etag}"',
            **{"X-Linked-Size": str(size), "X-Linked-Etag": f'"{etag}"', "X-Repo-Commit": commit},
        )

    def _file(self, door: str, commit: str, path: str, blob: Blob) -> None:
        doors = (door, "any", "body") if self.command == "GET" else (door, "any")
        faults = self.server.hub.struck(doors, path)
        if self._struck_before_body(faults):
            return
        kinds = {each.kind: each for each in faults}
        size = blob.size_bytes - (kinds["wrong_length"].at if "wrong_length" in kinds else 0)
        begin, end, partial = 0, size, False
        asked = self.headers.get("Range")
        if asked and "ignore_range" not in kinds:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end, partial = int(first), min(int(last) + 1 if last else size, size), True
            if begin >= size:
                self._plain(416, b"", **{"Content-Range": f"bytes */{size}"})
                return
        self.asked.status = 206 if partial else 200
        self.send_response(self.asked.status)
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"%s"' % ("f" * 64 if "etag" in kinds else blob.etag))
        if door == "resolve":
            self.send_header("X-Repo-Commit", commit)
        if partial:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.end_headers()
        if self.command == "GET":
            self._body(blob.path, begin, end, kinds)

    def _body(self, path: Path, begin: int, end: int, kinds: dict[FaultKind, Fault]) -> None:
        self.wfile.flush()
        place = begin
        stop = end
        for kind in ("cut", "stall"):
            if kind in kinds:
                stop = min(stop, begin + kinds[kind].at)
        with path.open("rb") as file:
            while place < stop:
                count = min(PIECE_BYTES, stop - place)
                if "trickle" in kinds:
                    count = min(count, max(1, kinds["trickle"].rate // 20))
                    time.sleep(0.05)
                wrong = kinds.get("wrong_bytes")
                if wrong is not None and place <= wrong.at < place + count:
                    file.seek(place)
                    piece = bytearray(file.read(count))
                    piece[wrong.at - place] ^= 0xFF
                    self.connection.sendall(piece)
                    sent = count
                else:
                    sent = self.connection.sendfile(file, place, count)
                place += sent
                self.asked.sent_bytes += sent
                if not sent:
                    break
        if "stall" in kinds and stop < end:
            self._wait(kinds["stall"].seconds)
        if place < end:
            self._hang_up()

    def _wait(self, seconds: float) -> None:
        """Until then, or until the client has hung up."""
        self.connection.settimeout(seconds)
        with contextlib.suppress(OSError):
            self.connection.recv(1)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _struck_before_body(self, faults: list[Fault]) -> bool:
        for fault in faults:
            if fault.kind == "status":
                more = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
                self._refuse(fault.status, fault.code, fault.message, **more)
                return True
            if fault.kind == "expired":
                self._plain(403, b"<Error><Code>AccessDenied</Code></Error>")
                return True
            if fault.kind == "drop":
                self._hang_up()
                return True
        return False

    def _refuse(self, status: int, code: str, message: str, **more: str) -> None:
        if code:
            more["X-Error-Code"] = code
        body = json.dumps({"error": message}).encode()
        self._plain(status, body, **{"X-Error-Message": message, "Content-Type": "application/json"}, **more)

    def _plain(self, status: int, body: bytes, **headers: str) -> None:
        if hasattr(self, "asked"):
            self.asked.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@dataclass
class Control:
    """A hub in another process, by its address: the same calls as on a LocalHub."""

    address: str
    timeout_s: float = 30.0
    _host: str = field(init=False)

    def __post_init__(self) -> None:
        self._host = urllib.parse.urlsplit(self.address).netloc

    def __getattr__(self, method: str) -> Any:
        if method not in _CONTROLS:
            raise AttributeError(method)

        def call(*given: Any, **named: Any) -> Any:
            order = getattr(LocalHub, method).__code__.co_varnames[1:]
            connection = http.client.HTTPConnection(self._host, timeout=self.timeout_s)
            try:
                body = json.dumps(dict(zip(order, given, strict=False)) | named)
                connection.request("POST", f"/_control/{method}", body)
                answer = connection.getresponse()
                text = answer.read()
            finally:
                connection.close()
            assert answer.status == 200, text
            return json.loads(text)

        return call


class HubProcess(Control):
    """A hub in a process of its own, for measurements and for what must not share this one's lock."""

    def __init__(self, root: Path | None = None, *, signed_for_s: float = 3600.0) -> None:
        command = [sys.executable, "-m", "tests.support.local_hub", "--signed-for", str(signed_for_s)]
        command += ["--root", str(root)] if root else []
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        super().__init__(self._process.stdout.readline().strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the repositories DIR/OWNER/NAME as the hub does.")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--signed-for", type=float, default=3600.0, metavar="SECONDS")
    options = parser.parse_args()
    hub = LocalHub(options.port, signed_for_s=options.signed_for)
    if options.root:
        for folder in sorted(options.root.glob("*/*")):
            if folder.is_dir():
                hub.add(folder.relative_to(options.root).as_posix(), str(folder.resolve()))
    print(hub.address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
