"""Which programs use the engine, what runs and waits for each, and ending it.

Owns: the list of what clients wait for, how many each key may have at once, and that windows hear of changes a few
times a second at most. Forgets a program some minutes after it was last heard of; all that is kept is bounded. Does not
know dialects' shapes, nor how an answer is generated. Any thread may call it.
"""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from engine.callers import Caller
from engine.errors import Busy, MissingKey, NotFound, TooManyRequests
from engine.protocol_access import ClientRequest, ConnectedClient, Dialect

REMEMBERED_S = 300.0
MOST_PROGRAMS = 128
MOST_REQUESTS = 512
"""That wait or run for all keys together."""
TELL_EVERY_S = 0.4
LOOK_EVERY_S = 1.0
"""While something runs: how far it is changes by itself."""


class Standing(Protocol):
    """How far an answer is."""

    @property
    def state(self) -> Literal["queued", "reading", "writing"]: ...
    @property
    def place(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...


class Watched(Protocol):
    """An answer on its way: a `completions.Completion`."""

    @property
    def progress(self) -> Standing: ...
    @property
    def generated_tokens(self) -> int: ...
    def at_end(self, call: Callable[[], None]) -> None: ...


Answer = TypeVar("Answer", bound=Watched)
_Who = tuple[str, str, str]


@dataclass
class _Program:
    caller: Caller
    last_at: float


@dataclass(frozen=True)
class _Request(Generic[Answer]):
    id: str
    who: _Who
    dialect: Dialect
    model_id: str
    since: float
    answer: Answer = field(repr=False)


class ClientWatch(Generic[Answer]):
    """The clients of one engine. `cancel` ends an answer, `tell` says that the list has changed, `counts` whether a key
    is still one. `clock` gives Unix seconds."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        cancel: Callable[[Answer], None],
        tell: Callable[[], None],
        counts: Callable[[str], bool] = lambda _key_id: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._loop = loop
        self._cancel = cancel
        self._tell = tell
        self._counts = counts
        self._clock = clock
        self._lock = threading.Lock()
        self._programs: dict[_Who, _Program] = {}
        self._requests: dict[str, _Request[Answer]] = {}
        self._told_s = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def saw(self, caller: Caller) -> None:
        """A program has asked for something."""
        with self._lock:
            is_new = self._note(caller)
        if is_new:
            self._changed()

    def begin(self, answer: Answer, caller: Caller, dialect: Dialect, model_id: str) -> None:
        """An answer is about to be queued; it is watched until its own end.

        Raises TooManyRequests, Busy, MissingKey for a key that was revoked meanwhile; it must not be queued then.
        """
        with self._lock:
            most = caller.limits.waiting
            theirs = sum(each.who[0] == caller.key_id for each in self._requests.values())
            if most and theirs >= most:
                raise TooManyRequests(
                    "The request was refused",
                    f"{theirs} requests of its key wait or run already",
                    "wait until one of them has ended",
                )
            if len(self._requests) >= MOST_REQUESTS:
                raise Busy(
                    "The request was refused", f"{MOST_REQUESTS} others wait already", "try again later"
                )
            self._note(caller)
            request = _Request(secrets.token_hex(8), _who(caller), dialect, model_id, self._clock(), answer)
            self._requests[request.id] = request
        # Looked at once it is among those that revoking a key ends: it comes before that, or is seen here.
        if not self._counts(caller.key_id):
            with self._lock:
                self._requests.pop(request.id, None)
                self._programs.pop(request.who, None)
            raise MissingKey("The request was refused", "its key was revoked", "use one that counts")
        answer.at_end(lambda: self._ended(request.id))
        self._changed()

    def drop(self, answer: Answer) -> None:
        """It could not be queued after all."""
        with self._lock:
            gone = [each.id for each in self._requests.values() if each.answer is answer]
        for request_id in gone:
            self._ended(request_id)

    def connected(self) -> list[ConnectedClient]:
        """Who is there, who was heard of last first, each with what it waits for in the order of asking."""
        now = self._clock()
        with self._lock:
            self._forget_old(now)
            requests = list(self._requests.values())
            programs = sorted(self._programs.items(), key=lambda each: -each[1].last_at)
        return [
            ConnectedClient(
                key_id=program.caller.key_id,
                key_name=program.caller.key_name,
                program=program.caller.program,
                address=program.caller.address,
                last_at=program.last_at,
                requests=[_shown(each) for each in requests if each.who == who],
            )
            for who, program in programs
        ]

    @property
    def is_used(self) -> bool:
        """Whether a program waits for something, or was heard of within the last minutes and may ask again."""
        with self._lock:
            self._forget_old(self._clock())
            return bool(self._programs)

    def end(self, request_id: str) -> None:
        """End one. Raises NotFound for one that has ended already."""
        with self._lock:
            request = self._requests.get(request_id)
        if request is None:
            raise NotFound("Nothing was ended", "it has come to its end already", "look at the list again")
        self._cancel(request.answer)

    def end_all(self, key_id: str) -> None:
        """End what a key runs and waits for, and forget its programs."""
        with self._lock:
            theirs = [each for each in self._requests.values() if each.who[0] == key_id]
        for each in theirs:
            self._cancel(each.answer)
        with self._lock:
            self._programs = {who: each for who, each in self._programs.items() if who[0] != key_id}
        self._changed()

    # --- inside ------------------------------------------------------------------------------------------

    def _note(self, caller: Caller) -> bool:
        """With the lock held: whether the program was not there."""
        now, who = self._clock(), _who(caller)
        is_new = who not in self._programs
        self._programs.pop(who, None)
        self._programs[who] = _Program(caller, now)
        if is_new:
            self._forget_old(now)
        return is_new

    def _forget_old(self, now: float) -> None:
        busy = {each.who for each in self._requests.values()}
        old = [w for w, each in self._programs.items() if now - each.last_at > REMEMBERED_S and w not in busy]
        idle = [who for who in self._programs if who not in busy and who not in old]
        surplus = len(self._programs) - len(old) - MOST_PROGRAMS
        for who in [*old, *idle[: max(0, surplus)]]:
            del self._programs[who]

    def _ended(self, request_id: str) -> None:
        with self._lock:
            request = self._requests.pop(request_id, None)
            if request is not None and (program := self._programs.get(request.who)) is not None:
                program.last_at = self._clock()
        self._changed()

    def _changed(self) -> None:
        with contextlib.suppress(RuntimeError):  # a loop that has closed tells nobody
            self._loop.call_soon_threadsafe(self._tell_soon, TELL_EVERY_S)

    def _tell_soon(self, every_s: float) -> None:
        """On the loop: tell now, or as soon as it is not too often."""
        due_s = self._told_s + every_s
        if self._timer is not None:
            if self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(max(due_s, self._loop.time()), self._tell_now)

    def _tell_now(self) -> None:
        self._timer = None
        self._told_s = self._loop.time()
        self._tell()
        if self._requests:
            self._tell_soon(LOOK_EVERY_S)


def _who(caller: Caller) -> _Who:
    return caller.key_id, caller.program, caller.address


def _shown(request: _Request[Answer]) -> ClientRequest:
    standing = request.answer.progress
    return ClientRequest(
        id=request.id,
        dialect=request.dialect,
        model_id=request.model_id,
        state=standing.state,
        place=standing.place,
        done=standing.done,
        total=standing.total,
        generated_tokens=request.answer.generated_tokens,
        since=request.since,
    )
