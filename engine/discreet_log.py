"""Log lines that do not repeat what a failure was about.

Owns: how an exception is written down while conversations are encrypted: where it happened and of which kind it is,
not what it says. What it says may be a piece of a conversation (a text that could not be parsed, a value that a check
refused), and logs are not encrypted. Does not know what is logged.
"""

import logging
import traceback
from types import TracebackType
from typing import TypeAlias

_ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class DiscreetFormatter(logging.Formatter):
    """Writes of an exception its kind and the lines of code it came through."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        """Without the words of the exception, and of those that led to it."""
        lines: list[str] = []
        error = ei[1]
        while error is not None:
            kind = type(error)
            lines = [
                "Traceback (most recent call last):\n",
                *traceback.format_tb(error.__traceback__),
                f"{kind.__module__}.{kind.__qualname__} (its words are left out: conversations are encrypted)\n",
                *lines,
            ]
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "".join(lines).rstrip("\n")


def say_less() -> None:
    """Let all that is logged from now on be written so, in the form that lines had before."""
    for handler in logging.getLogger().handlers:
        before = handler.formatter
        form = getattr(before, "_fmt", None)
        formatter = DiscreetFormatter(form if isinstance(form, str) else logging.BASIC_FORMAT)
        if before is not None:
            formatter.datefmt = before.datefmt
        handler.setFormatter(formatter)
