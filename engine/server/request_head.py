"""What the head of a request may look like, before anybody reads it as HTTP.

Owns: the rules that make a head mean one thing only, to us and to whatever may stand before us (RFC 9112): parsers that
differ about where a request ends let one client speak in another's name. What is ambiguous is refused, never mended:
bare line feeds, folded lines, two lengths, a length beside chunks, targets that are whole URLs. Each rule has a name,
so that a test can take it away and see the attack succeed. Does not know keys, routes or sockets.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import BadRequest

MOST_HEAD_BYTES = 32 * 1024
MOST_HEADERS = 100
LONGEST_TARGET = 8 * 1024
_WHAT = "The request was refused"
_ONCE = (b"host", b"authorization", b"x-api-key", b"content-length", b"transfer-encoding", b"origin")
_REQUEST_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])")


class HeadRefused(BadRequest):
    """A head that is too large, or could be read in two ways. `status` is its own."""

    code = "bad_head"

    def __init__(self, why: str, remedy: str = "send it as HTTP/1.1 says", status: int = 400) -> None:
        super().__init__(_WHAT, why, remedy)
        self.status = status


@dataclass(frozen=True)
class Head:
    """A head, cut at its line ends; nothing in it has been checked."""

    raw: bytes
    lines: tuple[bytes, ...]

    @property
    def target(self) -> bytes:
        """What is asked for, as it was written; b"" where there is no request line."""
        parts = self.lines[0].split(b" ") if self.lines else []
        return parts[1] if len(parts) > 1 else b""

    @property
    def names(self) -> list[bytes]:
        """The headers' names in small letters."""
        return [line.partition(b":")[0].strip().lower() for line in self.lines[1:]]


def head_of(data: bytes) -> Head | None:
    """The head that `data` begins with; None while it is not whole. A parser that is lenient about line ends (as h11
    is) would find the end of a head at an empty line of either kind, so that is where it is looked for."""
    start = len(data) - len(data.lstrip(b"\r\n"))
    end = re.search(rb"\n\r?\n", data[start:])
    if end is None:
        return None
    raw = data[start : start + end.end()]
    return Head(raw, tuple(raw.rstrip(b"\r\n").replace(b"\r\n", b"\n").split(b"\n")))


def check(head: Head) -> None:
    """Raises HeadRefused by the first rule that it breaks."""
    for rule in RULES.values():
        rule(head)


def _size(head: Head) -> None:
    if len(head.raw) > MOST_HEAD_BYTES:
        raise too_large()


def _headers(head: Head) -> None:
    if len(head.lines) - 1 > MOST_HEADERS:
        raise HeadRefused(f"it has more than {MOST_HEADERS} headers", "send fewer", 431)


def _line_ends(head: Head) -> None:
    bare = head.raw.replace(b"\r\n", b"")
    if b"\n" in bare or b"\r" in bare:
        raise HeadRefused("a line of its head does not end with CR and LF")


def _folds(head: Head) -> None:
    if any(line[:1] in (b" ", b"\t") for line in head.lines):
        raise HeadRefused("a line of its head goes on in the next one")


def _line(head: Head) -> None:
    found = _REQUEST_LINE.fullmatch(head.lines[0])
    if found is None:
        raise HeadRefused("its first line is not that of a request")
    if found[2] not in (b"1.0", b"1.1"):
        raise HeadRefused("it is not of HTTP/1.1", status=505)


def _target(head: Head) -> None:
    if not head.target.startswith(b"/") or b"#" in head.target:
        raise HeadRefused("what it asks for is not a path that begins with /")
    if len(head.target) > LONGEST_TARGET:
        raise HeadRefused(f"its path is longer than {LONGEST_TARGET} bytes", "send a shorter one", 414)


def _once(head: Head) -> None:
    names = head.names
    for name in _ONCE:
        if names.count(name) > 1:
            raise HeadRefused(f"it has the header {name.decode()} twice")


def _framing(head: Head) -> None:
    names = head.names
    if b"transfer-encoding" in names and b"content-length" in names:
        raise HeadRefused("it says both how long its body is and that it comes in chunks")
    if b"transfer-encoding" in names and head.lines[0].endswith(b"HTTP/1.0"):
        raise HeadRefused("its body comes in chunks, which HTTP/1.0 has not")


def _length(head: Head) -> None:
    for line in head.lines[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and not re.fullmatch(rb"[ \t]*[0-9]{1,19}[ \t]*", value):
            raise HeadRefused("the length of its body is not one number")


RULES: dict[str, Callable[[Head], None]] = {
    "size": _size,
    "headers": _headers,
    "line ends": _line_ends,
    "folds": _folds,
    "request line": _line,
    "target": _target,
    "once": _once,
    "framing": _framing,
    "length": _length,
}
"""In this order; the first that is broken is what is told."""


def too_large() -> HeadRefused:
    """The head is larger than may be, whole or not."""
    return HeadRefused(
        f"its head is larger than {MOST_HEAD_BYTES // 1024} KB", "send fewer or shorter headers", 431
    )
