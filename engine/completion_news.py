"""What a client of a public dialect is told while its answer comes about, as values.

Owns: those values, and joining what arrived together. Does not know who makes them (`completion_answer`) or in what
shape they are sent (`server/`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import SeamountError
from engine.protocol import ToolCall, Usage


@dataclass(frozen=True)
class Progress:
    """What is done before the first text, and while it comes.

    `place`: answers that stand before it, while it is queued. `done` of `total` tokens of its prompt are read, while it
    reads, and `reused` of those were in the context before.
    """

    state: Literal["queued", "reading", "writing"] = "queued"
    place: int = 0
    done: int = 0
    total: int = 0
    reused: int = 0


@dataclass(frozen=True)
class Reasoning:
    """More of the reasoning, which comes before the text."""

    text: str


@dataclass(frozen=True)
class LoggedToken:
    """A token of the text: what it says, its natural log probability, and those of the likeliest in its place.

    `data`: its bytes, which need not be whole characters. `top`: without `top` of their own, the likeliest first.
    """

    data: bytes
    log_probability: float
    top: tuple["LoggedToken", ...] = ()

    @property
    def text(self) -> str:
        """Its bytes as text, as far as they are."""
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True)
class LoggedText:
    """More of the text, with its tokens, where a client asked how likely they were."""

    text: str
    tokens: tuple[LoggedToken, ...]


@dataclass(frozen=True)
class CompletionEnd:
    """How it ended: by itself, by its length or stopped from outside, and what it cost."""

    reason: Literal["stop", "length", "cancelled", "tool_calls"]
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that may be carried out. They are told whole and at the end: what was written of a call that
    turns out to be wrong must not reach anybody who would carry it out."""
    notices: tuple[str, ...] = ()
    stop_sequence: str | None = None
    """The stop string that ended it."""
    reasoning_tokens: int = 0
    """Of the generated ones."""
    steady: dict[str, Any] | None = None
    """What of the request was put otherwise than it came, by a rule that a person agreed to (`Steadied.told`)."""


News = str | Reasoning | LoggedText | Progress | CompletionEnd


def joined(news: Sequence[News | SeamountError]) -> list[News | SeamountError]:
    """The same with neighbouring texts made one, and neighbouring reasoning; of neighbouring progress the last."""
    whole: list[News | SeamountError] = []
    for each in news:
        last = whole[-1] if whole else None
        if isinstance(each, str) and isinstance(last, str):
            whole[-1] = last + each
        elif isinstance(each, Reasoning) and isinstance(last, Reasoning):
            whole[-1] = Reasoning(last.text + each.text)
        elif isinstance(each, LoggedText) and isinstance(last, LoggedText):
            whole[-1] = LoggedText(last.text + each.text, last.tokens + each.tokens)
        elif isinstance(each, Progress) and isinstance(last, Progress):
            whole[-1] = each
        else:
            whole.append(each)
    return whole
