"""Server-sent events out of bytes.

Owns: the incremental parser of `text/event-stream` (WHATWG HTML, section 9.2.6), in any chunking. Does not
know the network or what the events mean: `data` stays bytes, ready for a JSON parser.
"""

from dataclasses import dataclass

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class ServerEvent:
    """One dispatched event. `id` is the last event id seen so far in the stream, "" before any."""

    kind: str
    data: bytes
    id: str


class EventStreamParser:
    """Feed it chunks; it gives the events that are complete, each once, in order."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of the unfinished line; joined only when its end has come
        self._after_cr = False
        self._at_start = True
        self._kind = ""
        self._data: list[bytes] = []
        self._id = ""

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events completed by `chunk`. A line may end in LF, CR or CRLF, split anywhere."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        head, newline, tail = chunk.partition(b"\n")
        self._pieces.append(head)
        if not newline:
            return []
        first = b"".join(self._pieces)
        lines = tail.split(b"\n")
        self._pieces = [lines.pop()]
        events: list[ServerEvent] = []
        if self._at_start:
            self._at_start = False
            first = first.removeprefix(BOM)
        for line in (first, *lines):
            if line:
                self._take(line)
            elif self._data:
                events.append(ServerEvent(self._kind or "message", b"\n".join(self._data), self._id))
                self._kind, self._data = "", []
            else:
                self._kind = ""
        return events

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._kind = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        # `retry` and comments say nothing to us: the engine is on this machine.
