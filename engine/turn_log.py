"""What a turn has said so far, numbered, for whoever listens, however late.

Owns: the order and numbers of a turn's events, and how a listener that is behind catches up: the pieces of
text that it missed come as one. Does not know where events come from (`turns`) or how they are framed for
the wire (`server/`).

`post` may be called from any thread and costs the event loop one wake-up; everything else happens on the
event loop's own thread, so nothing is locked.
"""

import asyncio
import contextlib
from array import array
from bisect import bisect_right
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from engine.bell import Bell
from engine.protocol import (
    CallEvent,
    Counters,
    Done,
    Failed,
    Notice,
    Prefill,
    Queued,
    Text,
    ThoughtEvent,
    UsageEvent,
)

AnyTurnEvent = (
    Queued | Prefill | Text | ThoughtEvent | CallEvent | Notice | Counters | UsageEvent | Done | Failed
)


@dataclass(frozen=True, slots=True)
class Record:
    """One event as it is sent: its number, its kind, and the protocol shape as JSON (no line breaks)."""

    id: int
    kind: str
    json: bytes


class _Run:
    """Pieces that follow each other in one part of an answer, told as one event from any of them on.

    They are kept as text, not as events: a piece costs some bytes.
    """

    def __init__(self, first: Text | CallEvent) -> None:
        self._first = first
        self._pieces: list[str] = []
        self._ids = array("q")
        self._offsets = array("q")
        self._tokens = 0
        self._latest: Record | None = None

    @property
    def last_id(self) -> int:
        return self._ids[-1]

    def takes(self, event: Text | CallEvent) -> bool:
        """Whether `event` goes on with the same part."""
        first = self._first
        if isinstance(first, Text):
            return isinstance(event, Text) and event.part == first.part
        return isinstance(event, CallEvent) and event.index == first.index

    def add(self, event: Text | CallEvent, record: Record) -> None:
        """One more piece."""
        self._pieces.append(event.text if isinstance(event, Text) else event.arguments)
        self._ids.append(record.id)
        self._offsets.append(event.offset)
        self._tokens = event.generated_tokens
        self._latest = record

    def since(self, after: int) -> Record:
        """What came after event number `after`, which is before the last."""
        index = bisect_right(self._ids, after)
        if index == len(self._pieces) - 1 and self._latest:
            return self._latest
        text = "".join(self._pieces[index:])
        news = {"offset": self._offsets[index], "generated_tokens": self._tokens}
        key = "text" if isinstance(self._first, Text) else "arguments"
        event = self._first.model_copy(update={**news, key: text})
        return Record(self.last_id, event.kind, event.model_dump_json().encode())


class TurnLog:
    """The events of one turn. Numbers begin at 1 and grow; a coalesced event keeps the last number."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended = False
        self._loop = loop
        self._bell = Bell()
        self._last_id = 0
        self._items: list[Record | _Run] = []
        # Beside the others: between pieces of text it would break their run.
        self._counters: Record | None = None

    def post(self, event: AnyTurnEvent) -> None:
        """Add `event`, from any thread. After the loop has closed nobody listens and nothing happens."""
        json = event.model_dump_json().encode()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._add, event, json)

    def since(self, after: int) -> list[Record]:
        """What came after event number `after`, runs of text joined to one event; of counters only the newest."""
        records: list[Record] = []
        for item in reversed(self._items):
            last_id = item.id if isinstance(item, Record) else item.last_id
            if last_id <= after:
                break
            records.append(item if isinstance(item, Record) else item.since(after))
        records.reverse()
        counters = self._counters
        if counters is not None and counters.id > after:
            records.insert(bisect_right([record.id for record in records], counters.id), counters)
        return records

    async def follow(
        self, after: int = 0, *, idle_s: float | None = None
    ) -> AsyncGenerator[list[Record], None]:
        """Everything after number `after` as it comes; an empty list whenever `idle_s` passed without news.

        Ends after the turn's last event.
        """
        while True:
            records = self.since(after)
            if records:
                after = records[-1].id
                yield records
            elif self.ended:
                return
            elif not await self._bell.wait(idle_s):
                yield []

    async def wait_end(self, timeout_s: float) -> bool:
        """Wait until the turn has ended; False when it takes longer than `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.ended:
                    await self._bell.wait()
        return self.ended

    def _add(self, event: AnyTurnEvent, json: bytes) -> None:
        if self.ended:
            return
        self._last_id += 1
        record = Record(self._last_id, event.kind, json)
        last = self._items[-1] if self._items else None
        if isinstance(event, Text | CallEvent):
            if not isinstance(last, _Run) or not last.takes(event):
                last = _Run(event)
                self._items.append(last)
            last.add(event, record)
        elif isinstance(event, Counters):
            self._counters = record
        else:
            # Only the newest progress is of use to anybody.
            if isinstance(last, Record) and last.kind == "prefill" == event.kind:
                self._items.pop()
            self._items.append(record)
            self.ended = isinstance(event, Done | Failed)
        self._bell.ring()
