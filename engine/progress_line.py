"""How far work is, for whoever waits: one line that is written over, or lines of JSON.

Owns: how often it is told, and the wording of the line. Does not know the work, or whether a job or a command does
it.

Events, one JSON object a line on stdout, `event` first: `progress` with the members of `protocol_jobs.JobProgress`, at
most four a second; what ends the work is its own event.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from engine.model_table import size_text
from engine.protocol_jobs import JobProgress

EVENT_EVERY_S = 0.25


class ProgressLine:
    """Tells progress: JSON lines on stdout, or one line on stderr that is written over, where that can be."""

    def __init__(self, *, events: bool, write: Callable[[str], None] | None = None) -> None:
        """`write` takes each line of JSON instead of stdout."""
        self._events = events
        self._write = write or _print
        self._line = not events and sys.stderr.isatty()
        self._last_s = float("-inf")
        self._last: tuple[str, str] = ("", "")

    def progress(self, progress: JobProgress) -> None:
        """Tell it, unless something was told a moment ago. What is the end, or another stage, is always told."""
        now = time.monotonic()
        done = progress.done_bytes >= progress.total_bytes
        place = (progress.stage, progress.note)
        if now - self._last_s < EVENT_EVERY_S and not done and place == self._last:
            return
        self._last_s, self._last = now, place
        if self._events:
            self.say({"event": "progress", **progress.model_dump(exclude_none=True)})
        elif self._line:
            # What ran over into a second line could not be written over.
            columns = shutil.get_terminal_size().columns
            sys.stderr.write(f"\r\x1b[K{line_text(progress)[: max(1, columns - 1)]}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._line:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def end(self, event: dict[str, Any], lines: list[str]) -> None:
        """Tell a result: as the event, or as lines for people."""
        if self._events:
            self.say(event)
            return
        self.clear()
        for line in lines:
            print(line, flush=True)

    def say(self, event: dict[str, Any]) -> None:
        """One event."""
        self._write(json.dumps(event, ensure_ascii=False))


def _print(line: str) -> None:
    print(line, flush=True)


def line_text(progress: JobProgress) -> str:
    """Bytes, rate, time left, files or tensors, and what it waits for."""
    parts = [f"{size_text(progress.done_bytes)} of {size_text(progress.total_bytes)}"]
    if progress.bytes_per_s > 0:
        parts.append(f"{size_text(round(progress.bytes_per_s))}/s")
    if progress.seconds_left is not None:
        parts.append(f"{time_text(progress.seconds_left)} left")
    if progress.items:
        parts.append(f"{progress.items_done:,} of {progress.items:,}")
    line = ", ".join(parts)
    where = "".join(each for each in progress.note or progress.item if each.isprintable())
    return f"{line}  {where}"


def time_text(seconds: float) -> str:
    """A span of time for people: "42 s", "17 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
