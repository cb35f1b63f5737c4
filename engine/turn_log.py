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
from engine.protocol import Done, Failed, Prefill, Queued, Text, UsageEvent

AnyTurnEvent = Queued | Prefill | Text | UsageEvent | Done | Failed


@dataclass(frozen=True, slots=True)
class Record:
    """One event as it is sent: its number, its kind, and the protocol shape as JSON (no line breaks)."""

    id: int
    kind: str
    json: bytes


class TurnLog:
    """The events of one turn. Numbers begin at 1 and grow; a coalesced event keeps the last number."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended = False
        self._loop = loop
        self._bell = Bell()
        self._last_id = 0
        # An answer's text stands between what comes before it and what ends it. Its pieces are kept as
        # text, not as events: a piece costs some bytes, and any run of them can be told as one event.
        self._before: list[Record] = []
        self._after: list[Record] = []
        self._pieces: list[str] = []
        self._piece_ids = array("q")
        self._piece_offsets = array("q")
        self._piece_tokens = array("q")
        self._latest_piece: Record | None = None

    def post(self, event: AnyTurnEvent) -> None:
        """Add `event`, from any thread. After the loop has closed nobody listens and nothing happens."""
        json = event.model_dump_json().encode()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._add, event, json)

    def since(self, after: int) -> list[Record]:
        """What came after event number `after`, runs of text joined to one event."""
        records = [record for record in self._before if record.id > after]
        if self._piece_ids and self._piece_ids[-1] > after:
            records.append(self._text_since(after))
        records.extend(record for record in self._after if record.id > after)
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
        if isinstance(event, Text):
            self._pieces.append(event.text)
            self._piece_ids.append(record.id)
            self._piece_offsets.append(event.offset)
            self._piece_tokens.append(event.generated_tokens)
            self._latest_piece = record
        elif isinstance(event, Queued | Prefill):
            # Only the newest progress is of use to anybody.
            if self._before and self._before[-1].kind == "prefill" == event.kind:
                self._before.pop()
            self._before.append(record)
        else:
            self._after.append(record)
            self.ended = isinstance(event, Done | Failed)
        self._bell.ring()

    def _text_since(self, after: int) -> Record:
        index = bisect_right(self._piece_ids, after)
        if index == len(self._pieces) - 1 and self._latest_piece:
            return self._latest_piece
        text = Text(
            offset=self._piece_offsets[index],
            text="".join(self._pieces[index:]),
            generated_tokens=self._piece_tokens[-1],
        )
        return Record(self._piece_ids[-1], "text", text.model_dump_json().encode())
