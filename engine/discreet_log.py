"""Log lines that do not repeat what a failure was about.

Owns: how an exception is written down while conversations are encrypted: where it happened and of which kind it is,
not what it says. What it says may be a piece of a conversation (a text that could not be parsed, a value that a check
refused), and logs are not encrypted. What Python itself would print of an exception that nobody caught goes the same
way, because what an engine prints is its log. Does not know what is logged.
"""

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import TypeAlias

_ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


_log = logging.getLogger(__name__)


class DiscreetFormatter(logging.Formatter):
    """Writes of an exception its kind and the lines of code it came through."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Of what asyncio says of a task that failed, the first line: the next ones show the task, words and all."""
        if record.name == "asyncio":
            record.message = record.message.partition("\n")[0]
        return super().formatMessage(record)

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
    # Others' hooks stay: they have been put there on purpose.
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    _log.critical("an exception that nobody caught", exc_info=(kind, error, at))


def _uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is None or isinstance(told.exc_value, SystemExit):
        return
    _log.critical(
        "an exception that nobody caught in the thread %s",
        told.thread.name if told.thread else "that is gone",
        exc_info=(told.exc_type, told.exc_value, told.exc_traceback),
    )


def _unraisable(told: "sys.UnraisableHookArgs") -> None:
    if told.exc_value is not None:
        _log.error(
            "an exception that could not be raised",
            exc_info=(told.exc_type, told.exc_value, told.exc_traceback),
        )
