"""Code into coloured spans.

Owns: naming the parts of code (keyword, string, …) with Pygments, within bounds of size and time. Does not
know colours or widgets. Pygments is imported when the first code is met, not before.
"""

import time
from dataclasses import dataclass
from typing import Any, Literal, cast

SIZE_LIMIT_CHARS = 200_000
LINE_LIMIT_CHARS = 2_000
"""Pygments' expressions can take quadratic time on one line; longer lines stay plain, with their code."""
BUDGET_S = 0.03

Kind = Literal["keyword", "string", "comment", "number", "name", "operator"]


@dataclass(frozen=True)
class Span:
    """Part of a line: `start` and `length` in UTF-16 units, as Qt counts."""

    start: int
    length: int
    kind: Kind


class Highlighting:
    """Work on one piece of code that can be done in slices. `lines` holds the spans of each line so far."""

    def __init__(self, code: str, language: str) -> None:
        self.lines: list[tuple[Span, ...]] = [()] * (code.count("\n") + 1)
        self._wide = not code.isascii() and max(code) > "\uffff"
        self._line = self._column = 0
        self._spans: list[Span] = []
        lexer = _lexer(language) if language and len(code) <= SIZE_LIMIT_CHARS else None
        if lexer is None or max(map(len, code.split("\n"))) > LINE_LIMIT_CHARS:
            self._tokens = None
        else:
            self._tokens = iter(lexer.get_tokens_unprocessed(code))

    def run(self, budget_s: float) -> bool:
        """Work for about `budget_s` seconds. True when everything is done."""
        if self._tokens is None:
            return True
        end = time.perf_counter() + budget_s
        for number, (_, token, value) in enumerate(self._tokens):
            self._take(_kind(token), value)
            if number % 128 == 127 and time.perf_counter() > end:
                return False
        self._end_line()
        self._tokens = None
        return True

    def _take(self, kind: Kind | None, value: str) -> None:
        for number, part in enumerate(value.split("\n")):
            if number:
                self._end_line()
                self._line, self._column = self._line + 1, 0
            length = len(part.encode("utf-16-le")) // 2 if self._wide else len(part)
            if kind and part.strip():
                self._spans.append(Span(self._column, length, kind))
            self._column += length

    def _end_line(self) -> None:
        self.lines[self._line] = tuple(self._spans)
        self._spans = []


def highlight(code: str, language: str, *, budget_s: float = BUDGET_S) -> list[tuple[Span, ...]]:
    """The spans of each line of `code`, as many as it has lines; none where they are not known.

    Unknown languages, code over the limits, and what is left when `budget_s` is spent stay without spans.
    """
    work = Highlighting(code, language)
    work.run(budget_s)
    return work.lines


_lexers: dict[str, Any] = {}
_kinds: dict[Any, Kind | None] = {}


def _lexer(language: str) -> Any:
    name = language.lower()
    if name not in _lexers:
        from pygments.lexers import get_lexer_by_name  # pyright: ignore[reportUnknownVariableType]  (untyped options)
        from pygments.util import ClassNotFound

        try:
            _lexers[name] = get_lexer_by_name(name)
        except ClassNotFound:
            _lexers[name] = None
    return _lexers[name]


def _kind(token: Any) -> Kind | None:
    if token not in _kinds:
        _kinds[token] = _named(token)
    return _kinds[token]


def _named(token: Any) -> Kind | None:
    from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String

    table = (
        (Comment, "comment"),
        (Keyword, "keyword"),
        (Operator.Word, "keyword"),
        (Operator, "operator"),
        (String, "string"),
        (Number, "number"),
        (Name.Builtin, "name"),
        (Name.Function, "name"),
        (Name.Class, "name"),
        (Name.Decorator, "name"),
        (Name.Tag, "keyword"),
        (Name.Attribute, "name"),
        (Name.Exception, "name"),
        (Generic.Deleted, "comment"),
        (Generic.Inserted, "string"),
        (Generic.Heading, "keyword"),
    )
    return next((cast(Kind, kind) for parent, kind in table if token in parent), None)
