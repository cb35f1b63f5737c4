"""What every window of one engine is told: its status, and which conversations and jobs changed,
and whether the library did or what is known of this machine.

Owns: the listeners of `GET /api/events` and what each has yet to be told. They are also the engine's lease
on life: `on_presence` is called with their number whenever it changes. Does not know how a status is made.

`post_status`, `post_session`, `post_job`, `post_library` and `post_hardware` may be called from any thread; the rest
belongs to the event loop's thread.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Literal

from engine.bell import Bell
from engine.protocol import EngineEvent, EngineStatus

Change = Literal["created", "updated", "deleted", "restored", "purged"]

MOST_UNREAD = 1_000
"""A listener that is further behind is let go: it connects again and reads the lists anew."""


class _Listener:
    def __init__(self) -> None:
        self.status: bytes | None = None
        self.news: list[tuple[str, bytes]] = []


class EngineEvents:
    """The listeners of one engine. `status` gives the status of this moment."""

    def __init__(self, loop: asyncio.AbstractEventLoop, status: Callable[[], EngineStatus]) -> None:
        self.on_presence: Callable[[int], None] = lambda _count: None
        self._loop = loop
        self._status = status
        self._bell = Bell()
        self._listeners: set[_Listener] = set()
        self._closed = False
        self._status_is_due = False

    @property
    def presence(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    def post_status(self) -> None:
        """The status has changed. Several changes between two turns of the loop are told as one."""
        if not self._status_is_due:
            self._status_is_due = True
            self._call(self._tell_status)

    def post_session(self, session_id: str, change: Change) -> None:
        """A conversation has changed."""
        event = EngineEvent(kind="session", session_id=session_id, change=change)
        self._call(self._tell, event)

    def post_job(self, job_id: str) -> None:
        """A job has changed. What a listener has not been told yet is told once."""
        self._call(self._tell, EngineEvent(kind="job", job_id=job_id))

    def post_library(self) -> None:
        """What lies in the library, or can be had, has changed. What a listener has not been told yet is told once."""
        self._call(self._tell, EngineEvent(kind="library"))

    def post_hardware(self) -> None:
        """A measurement of this machine has begun, come further, or ended."""
        self._call(self._tell, EngineEvent(kind="hardware"))

    def post_access(self) -> None:
        """Keys, who is connected, what runs for whom, or the network's socket has changed."""
        self._call(self._tell, EngineEvent(kind="access"))

    async def follow(self, *, idle_s: float) -> AsyncGenerator[list[tuple[str, bytes]], None]:
        """(kind, JSON) of each event, the status first; an empty list whenever `idle_s` passed without news.

        Ends when the engine stops.
        """
        listener = _Listener()
        listener.status = self._status_json()
        self._listeners.add(listener)
        self.on_presence(len(self._listeners))
        try:
            while not self._closed and len(listener.news) <= MOST_UNREAD:
                news = listener.news
                if listener.status is not None:
                    news.insert(0, ("status", listener.status))
                listener.status, listener.news = None, []
                if news:
                    yield news
                elif not await self._bell.wait(idle_s):
                    yield []
        finally:
            self._listeners.discard(listener)
            self.on_presence(len(self._listeners))

    def close(self) -> None:
        """Let every listener go."""
        self._closed = True
        self._bell.ring()

    def _status_json(self) -> bytes:
        return EngineEvent(kind="status", status=self._status()).model_dump_json().encode()

    def _tell_status(self) -> None:
        self._status_is_due = False
        json = self._status_json()
        for listener in self._listeners:
            listener.status = json
        self._bell.ring()

    def _tell(self, event: EngineEvent) -> None:
        told = (event.kind, event.model_dump_json(exclude_none=True).encode())
        for listener in self._listeners:
            if event.kind == "session" or told not in listener.news:
                listener.news.append(told)
        self._bell.ring()

    def _call(self, function: Callable[..., None], *arguments: EngineEvent) -> None:
        # A loop that has closed has no listeners.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)
