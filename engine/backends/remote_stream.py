"""What a server says while it answers: bytes of a stream into pieces of an answer.

Owns: server-sent events read with suspicion (every length bounded, UTF-8 or nothing) and the meaning of chat
completions' chunks in the shapes that servers give them: reasoning in `reasoning_content`, in `reasoning`, or between
`<think>` and `</think>` in the text; calls whose fragments belong together by index; usage. Does not know connections
(`remote_wire`) or what becomes of an answer (`remote_answer`).
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from engine.backends.remote_faults import words_of
from engine.conversation import REPLACEMENT, clean_text
from engine.errors import RemoteBrokeOff, RemoteError

LONGEST_LINE_BYTES = 4 << 20
MOST_CHARACTERS = 64 << 20
"""Of one answer, its reasoning and calls included."""
MOST_CALLS = 256
LONGEST_NAME = 256
_THINK, _THINK_END = "<think>", "</think>"
_MOST_TOKENS = 1 << 40


@dataclass(frozen=True)
class TextPiece:
    """More of the text."""

    text: str


@dataclass(frozen=True)
class ReasoningPiece:
    """More of the reasoning."""

    text: str


@dataclass(frozen=True)
class CallPiece:
    """More of call number `index`, counted from 0 in the order of their beginnings. `id` and `name` stand in its first
    piece."""

    index: int
    id: str
    name: str
    arguments: str


Piece = TextPiece | ReasoningPiece | CallPiece


@dataclass(frozen=True)
class CountedTokens:
    """What the server says that it read and wrote."""

    prompt: int
    cached: int
    written: int
    reasoning: int


class AnswerStream:
    """The pieces of one answer. `place` and `key`: whose errors are quoted, and what is never quoted of them. `thinks`:
    the text begins inside the reasoning, though nothing marks its beginning."""

    def __init__(self, place: str, key: str | None = None, *, thinks: bool = False) -> None:
        self.finish: str | None = None
        """Why the answer ended, in the server's word."""
        self.usage: CountedTokens | None = None
        self.is_done = False
        """The stream has said that nothing more comes."""
        self._place = place
        self._key = key
        self._rest = bytearray()
        self._data: list[str] = []
        self._waiting = 0
        self._left = MOST_CHARACTERS
        self._calls: dict[int, int] = {}
        self._tags = _Tags(inside=thinks)

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces in the bytes that came. Raises RemoteError and its kinds."""
        pieces: list[Piece] = []
        self._rest += data
        lines: list[bytearray] = []
        if b"\n" in data:  # else nothing is looked through again, however small the bits are that come
            *lines, self._rest = self._rest.split(b"\n")
        if max(map(len, [*lines, self._rest])) > LONGEST_LINE_BYTES:
            raise self._refused(f"it sent a line of more than {LONGEST_LINE_BYTES:,} bytes")
        for line in lines:
            if self.is_done:
                break
            self._line(bytes(line).removesuffix(b"\r"), pieces)
        return _joined(pieces)

    def end(self) -> list[Piece]:
        """No more bytes come: what was held back."""
        pieces: list[Piece] = []
        if (self._rest or self._data) and not self.is_done:
            # The last event of some has no empty line behind it; of a stream that broke off it is no event.
            with contextlib.suppress(RemoteBrokeOff):
                self._line(bytes(self._rest).removesuffix(b"\r"), pieces)
                self._line(b"", pieces)
        return _joined([*pieces, *self._tags.end()])

    def require_whole(self) -> None:
        """Raises RemoteBrokeOff when the stream ended before the answer did."""
        if self.finish is None and not self.is_done:
            raise RemoteBrokeOff(
                f"{self._place} stopped answering",
                "its stream ended before the answer did, which may have been charged",
                "what arrived is kept; continue, or ask again",
            )

    def held_back(self) -> list[Piece]:
        """What came and was not told yet, of an answer that breaks off."""
        return self._tags.end()

    def _line(self, line: bytes, pieces: list[Piece]) -> None:
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                try:
                    self._data.append(value.removeprefix(b" ").decode())
                except UnicodeDecodeError as error:
                    raise self._refused("what it sent is not UTF-8") from error
                self._waiting += len(self._data[-1]) + 1
                if self._waiting > LONGEST_LINE_BYTES:
                    raise self._refused(f"it sent an event of more than {LONGEST_LINE_BYTES:,} characters")
            return
        self._waiting = 0
        data, self._data = "\n".join(self._data), []
        if data.strip() == "[DONE]":
            self.is_done = True
        elif data:
            self._event(data, pieces)

    def _event(self, data: str, pieces: list[Piece]) -> None:
        try:
            chunk: Any = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._refused("what it sent is not JSON") from error
        fields = _fields(chunk)
        if fields.get("error"):
            words = words_of(fields, self._key)
            said = f": “{words}”" if words else ""
            raise RemoteBrokeOff(
                f"{self._place} stopped answering",
                f"it failed in the middle{said}",
                "what arrived is kept; continue, or ask again",
            )
        if (usage := _usage(fields.get("usage"))) is not None:
            self.usage = usage
        choices = fields.get("choices")
        for each in cast("list[Any]", choices)[:1] if isinstance(choices, list) else []:
            self._choice(_fields(each), pieces)

    def _choice(self, choice: Mapping[str, Any], pieces: list[Piece]) -> None:
        delta = _fields(choice.get("delta"))
        for name in ("reasoning_content", "reasoning"):
            if isinstance(words := delta.get(name), str) and words:
                pieces.append(ReasoningPiece(self._taken(words)))
                break
        text = delta.get("content", choice.get("text"))
        if isinstance(text, str) and text:
            pieces += self._tags.feed(self._taken(text))
        calls = delta.get("tool_calls")
        for each in cast("list[Any]", calls) if isinstance(calls, list) else []:
            self._call(_fields(each), pieces)
        if isinstance(reason := choice.get("finish_reason"), str) and reason:
            self.finish = _printable(reason[:60])

    def _call(self, call: Mapping[str, Any], pieces: list[Piece]) -> None:
        given, function = call.get("index"), _fields(call.get("function"))
        named, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
        if isinstance(given, bool) or not isinstance(given, int):
            # Some leave the index out: what has an id or a name begins a call, the rest goes on with the last one.
            begins = bool(named or name) or not self._calls
            given = max(self._calls, default=-1) + (1 if begins else 0)
        is_new = given not in self._calls
        if is_new and len(self._calls) >= MOST_CALLS:
            raise self._refused(f"it makes more than {MOST_CALLS} calls at once")
        index = self._calls.setdefault(given, len(self._calls))
        if not isinstance(arguments, str):
            try:
                arguments = "" if arguments is None else json.dumps(arguments)
            except RecursionError as error:
                raise self._refused("the arguments of its call are nested too deeply") from error
        if not (is_new or arguments):
            return  # a name and an id that are told again
        pieces.append(
            CallPiece(
                index,
                _printable(named[:LONGEST_NAME]) if is_new and isinstance(named, str) else "",
                _printable(name[:LONGEST_NAME]) if is_new and isinstance(name, str) else "",
                self._taken(arguments),
            )
        )

    def _taken(self, text: str) -> str:
        self._left -= len(text)
        if self._left < 0:
            raise self._refused(f"its answer has more than {MOST_CHARACTERS:,} characters")
        return clean_text(text)[0]

    def _refused(self, why: str) -> RemoteError:
        return RemoteBrokeOff(
            f"{self._place} was stopped", why, "what arrived before is kept; check its server"
        )


class _Tags:
    """Reasoning that stands in the text between its tags, at the beginning and nowhere else."""

    def __init__(self, *, inside: bool) -> None:
        self._place = "inside" if inside else "before"
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """The same, told apart."""
        pieces: list[Piece] = []
        text, self._held = self._held + text, ""
        if self._place == "before":
            bare = text.lstrip()
            if bare.startswith(_THINK):
                self._place, text = "inside", bare[len(_THINK) :]
            elif _THINK.startswith(bare):
                self._held = text
                return pieces
            else:
                self._place = "text"
        if self._place == "inside":
            thought, found, after = text.partition(_THINK_END)
            if found:
                self._place, text = "behind", after
            else:
                kept = _overlap(text, _THINK_END)
                thought, self._held, text = text[: len(text) - kept], text[len(text) - kept :], ""
            if thought:
                pieces.append(ReasoningPiece(thought))
        if self._place == "behind":
            # The empty line behind the tag belongs to it.
            text = text.lstrip("\n")
            if text:
                self._place = "text"
        if self._place == "text" and text:
            pieces.append(TextPiece(text))
        return pieces

    def end(self) -> list[Piece]:
        """What was held back."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [ReasoningPiece(held) if self._place == "inside" else TextPiece(held)]


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of `mark`."""
    longest = min(len(text), len(mark) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(mark[:n])), 0)


def _usage(shape: Any) -> CountedTokens | None:
    fields = _fields(shape)
    if not fields:
        return None
    read, written = (
        _fields(fields.get("prompt_tokens_details")),
        _fields(fields.get("completion_tokens_details")),
    )
    cached = fields.get("prompt_cache_hit_tokens", read.get("cached_tokens"))
    prompt = _count(fields.get("prompt_tokens"))
    return CountedTokens(
        prompt=prompt,
        cached=min(_count(cached), prompt),
        written=_count(fields.get("completion_tokens")),
        reasoning=_count(written.get("reasoning_tokens")),
    )


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(value, 0), _MOST_TOKENS)


def _printable(text: str) -> str:
    """On one line, with nothing in it that acts on a terminal."""
    return "".join(each if each.isprintable() else REPLACEMENT for each in clean_text(text)[0])


def _fields(shape: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", shape) if isinstance(shape, dict) else {}


def _joined(pieces: list[Piece]) -> list[Piece]:
    """The same with neighbours of one part made one: each is a record and an event."""
    whole: list[Piece] = []
    for piece in pieces:
        last = whole[-1] if whole else None
        if isinstance(piece, TextPiece) and isinstance(last, TextPiece):
            whole[-1] = TextPiece(last.text + piece.text)
        elif isinstance(piece, ReasoningPiece) and isinstance(last, ReasoningPiece):
            whole[-1] = ReasoningPiece(last.text + piece.text)
        elif isinstance(piece, CallPiece) and isinstance(last, CallPiece) and piece.index == last.index:
            whole[-1] = CallPiece(last.index, last.id, last.name, last.arguments + piece.arguments)
        else:
            whole.append(piece)
    return whole
