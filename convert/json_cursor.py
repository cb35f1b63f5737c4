"""JSON from a file that is not trusted, read member by member in bounded memory.

Owns: a cursor over one JSON text with a buffer of bounded size, for the two files of a checkpoint that are
long and flat: a shard's header and the index. Python's own reader needs up to 60 times the text's length for
a hostile one, and keeps only the last of two equal keys; here nothing larger than one bounded piece is ever
handed to it. Does not know what the members mean.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

MAX_STRING_BYTES = 1 << 20
"""The longest string that is read, as it is written in the file."""

_BUFFER_BYTES = 256 * 1024
_SPACE = re.compile(rb"[ \t\r\n]*+")
# Possessive, so that a match neither goes back nor remembers where it could.
_STRING = re.compile(rb'"(?>[^"\\\x00-\x1f]++|\\.)*+"', re.DOTALL)


class JsonError(ValueError):
    """The text is not the JSON that was expected; `str()` is a clause that says why."""


class JsonCursor:
    """A cursor over the next `length` bytes of `file`, which hold one JSON text.

    Raises JsonError for what is not JSON, for a key that stands twice in one object, and where `file` ends
    early; whatever else `file` raises is passed on.
    """

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length  # bytes that are not in the buffer yet
        self._buffer = b""
        self._at = 0
        self._digest = hashlib.sha256()

    def members(self, key_bytes: int, limit: int) -> Iterator[str]:
        """Each key of the object that begins here; its value must be read before the next is asked for.

        A key takes at most `key_bytes`, and there are at most `limit` of them.
        """
        self._expect(b"{")
        if self._next() == b"}":
            self._at += 1
            return
        seen: set[str] = set()
        while True:
            key = self.text(key_bytes)
            if key in seen:
                raise JsonError(f"“{key[:80]}” stands in it twice")
            seen.add(key)
            if len(seen) > limit:
                raise JsonError(f"it has more than {limit:,} entries")
            self._expect(b":")
            yield key
            mark = self._next()
            self._at += 1
            if mark == b"}":
                return
            if mark != b",":
                raise JsonError("a comma or the end of an object is missing")

    def text(self, limit: int = MAX_STRING_BYTES) -> str:
        """The string here, which takes at most `limit` bytes in the file, quotation marks included."""
        if self._next() != b'"':
            raise JsonError("a text is missing")
        self._fill(limit)
        found = _STRING.match(self._buffer, self._at, self._at + limit)
        if found is None:
            whole = len(self._buffer) - self._at >= limit
            raise JsonError(f"a text in it is longer than {limit:,} bytes" if whole else "a text is broken")
        raw = found.group()
        self._at = found.end()
        try:
            text = raw[1:-1].decode("utf-8") if b"\\" not in raw else str(json.loads(raw))
            text.encode("utf-8")  # half a surrogate pair stands for no text
        except (UnicodeError, ValueError) as error:
            raise JsonError("a text in it is not Unicode") from error
        return text

    def value(self, limit: int) -> Any:
        """The value here, which takes at most `limit` bytes in the file. Texts in it are read as Latin-1."""
        self._next()
        self._fill(limit)
        # One character a byte, so that the reader's positions are ours.
        window = self._buffer[self._at : self._at + limit].decode("latin-1")
        try:
            value, end = _DECODER.raw_decode(window)
        except JsonError:
            raise
        except (ValueError, RecursionError) as error:
            cut = len(window) == limit
            raise JsonError(
                f"a value in it is broken or longer than {limit:,} bytes" if cut else "a value is broken"
            ) from error
        # A number at the window's end may go on behind it.
        if end == limit and isinstance(value, int | float):
            raise JsonError(f"a value in it is longer than {limit:,} bytes")
        self._at += end
        return value

    def end(self) -> str:
        """Raise unless nothing but white space is left; returns the SHA-256 of the whole text."""
        if self._next() != b"":
            raise JsonError("something stands behind its end")
        return self._digest.hexdigest()

    # --- bytes --------------------------------------------------------------------------------------

    def _next(self) -> bytes:
        """The byte behind white space, which stays; nothing at the end."""
        while True:
            found = _SPACE.match(self._buffer, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at : self._at + 1]
            if not self._left:
                return b""
            self._fill(1)

    def _expect(self, mark: bytes) -> None:
        if self._next() != mark:
            raise JsonError(f"“{mark.decode()}” is missing")
        self._at += 1

    def _fill(self, count: int) -> None:
        """Have `count` bytes in the buffer, or all that are left."""
        have = len(self._buffer) - self._at
        if have >= count or not self._left:
            return
        pieces = [self._buffer[self._at :]]
        while have < count and self._left:
            piece = self._file.read(min(self._left, max(_BUFFER_BYTES, count - have)))
            if not piece:
                raise JsonError("the file became shorter while it was being read")
            self._digest.update(piece)
            pieces.append(piece)
            self._left -= len(piece)
            have += len(piece)
        self._buffer, self._at = b"".join(pieces), 0


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise JsonError("a key stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise JsonError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def read_json_object(raw: bytes) -> dict[str, Any]:
    """The object in a short text that is in memory already. Raises JsonError, also for a key that stands twice."""
    try:
        value: Any = _DECODER.decode(raw.decode("utf-8"))
    except JsonError:
        raise
    except RecursionError as error:
        raise JsonError("it is nested too deep") from error
    except ValueError as error:
        raise JsonError(f"it is not JSON ({str(error)[:80]})") from error
    if not isinstance(value, dict):
        raise JsonError("it is not an object")
    return value  # pyright: ignore[reportUnknownVariableType]
