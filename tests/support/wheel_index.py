"""Wheels made here, and an index of them on this machine, for tests of optional parts.

Owns: writing small wheels, good and spoilt, the lock of a part that is made of them, and an HTTP server that speaks as
a package index does (the "simple" pages, HTML) and misbehaves on demand. Nothing of it reaches a network.
"""

import base64
import hashlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from engine.parts.part_lock import PartLock, Wheel, this_platform, this_python

PROBE = "sea_part_probe"
"""The module that the small part is named for."""


def record_line(name: str, content: bytes) -> str:
    """A row of RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}"


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    files: dict[str, bytes] | None = None,
    *,
    unlisted: dict[str, bytes] | None = None,
    listed_only: Iterable[str] = (),
    infos: Iterable[tuple[ZipInfo, bytes]] = (),
    record: str | None = None,
) -> Path:
    """A wheel of the module `name`. `unlisted`: files that RECORD leaves out; `listed_only`: rows without a file;
    `infos`: members as they are, listed; `record`: in RECORD's place."""
    info = f"{name}-{version}.dist-info"
    content = {f"{name}.py": f"VERSION = {version!r}\n".encode()} if files is None else dict(files)
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    content[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    rows = [record_line(each, data) for each, data in content.items()]
    rows += [record_line(each.filename, data) for each, data in infos]
    rows += [*listed_only, f"{info}/RECORD,,"]
    path = folder / f"{name}-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for each, data in (content | (unlisted or {})).items():
            archive.writestr(each, data)
        for member, data in infos:
            archive.writestr(member, data)
        archive.writestr(f"{info}/RECORD", "\n".join(rows) + "\n" if record is None else record)
    return path


def wheel_of(path: Path) -> Wheel:
    """As a lock has it."""
    name, version = path.name.split("-")[:2]
    with ZipFile(path) as archive:
        unpacked = sum(each.file_size for each in archive.infolist())
    content = path.read_bytes()
    return Wheel(
        name=name,
        version=version,
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        unpacked_bytes=unpacked,
    )


def lock_of(*wheels: Path, more: dict[str, Any] | None = None, **changed: Any) -> PartLock:
    """A part of one variant, "cpu", made of these wheels, for this Python and machine. `more`: another variant."""
    variants = [{"name": "cpu", "title": "for the processor", "wheel": tuple(map(wheel_of, wheels))}]
    facts = {
        "format": 1,
        "name": "native",
        "title": "A small part",
        "python": this_python(),
        "platform": this_platform(),
        "probe": PROBE,
        "variant": tuple(variants if more is None else [*variants, more]),
    }
    return PartLock.model_validate(facts | changed)


def small_part(folder: Path, version: str = "1.0") -> PartLock:
    """Two wheels in `folder`, and their lock."""
    probe = write_wheel(folder, PROBE, version)
    beside = write_wheel(
        folder,
        "sea_part_beside",
        "2.0",
        {"sea_part_beside/__init__.py": b"", "sea_part_beside/data.bin": bytes(range(256)) * 400},
    )
    return lock_of(probe, beside)


@dataclass
class WheelIndex:
    """What the server does: `cut` answers that break off in the middle are still to come, `hold` answers wait in the
    middle until `go_on` is set, `status` in the place of 200 for wheels."""

    folder: Path
    cut: int = 0
    hold: bool = False
    status: int = 200
    go_on: threading.Event = field(default_factory=threading.Event)
    holding: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def served(folder: Path) -> Iterator[WheelIndex]:
    """An index of the wheels in `folder`, at `url`. It answers as a proxy too: of a whole address the path counts."""
    index = WheelIndex(folder)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            index.asked.append(self.path)
            path = self.path
            if path.startswith("http://"):
                path = "/" + path.split("/", 3)[3]
            kind, _, name = path.strip("/").partition("/")
            if kind == "simple":
                self._page(name.strip("/"))
            else:
                self._wheel(name)

        def _page(self, name: str) -> None:
            wanted = name.replace("-", "_")
            found = sorted(
                each.name for each in index.folder.glob("*.whl") if each.name.split("-")[0] == wanted
            )
            page = "".join(f'<a href="/wheels/{each}">{each}</a>\n' for each in found)
            body = f"<!DOCTYPE html><html><body>{page}</body></html>".encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _wheel(self, name: str) -> None:
            content = (index.folder / name).read_bytes()
            self.send_response(index.status)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if index.hold:
                index.holding.set()
                index.go_on.wait(60)
            if index.cut > 0:
                index.cut -= 1
                self.close_connection = True
                return
            self.wfile.write(content[len(content) // 2 :])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    index.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield index
    finally:
        index.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
