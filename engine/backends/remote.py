"""A model that another machine computes, spoken to in OpenAI's dialect.

Owns: one question to one model: which of its addresses is asked, when another one is, when one is asked again, and what
the answer cost. Knows httpx through `remote_wire`. Does not know which remotes there are (`engine.remotes`), sessions,
or what becomes of the pieces (`engine.remote_answer`).

The rule of asking again: only where nothing was received and the request certainly was not begun (no connection, 429 or
503 before any byte) is it sent again, to this address or the next one. All else is told, because it may have been
computed and charged.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.backends import remote_wire
from engine.backends.remote_address import Address
from engine.backends.remote_faults import LIMITS, Busy, Limits, Target
from engine.backends.remote_request import RemoteBody, RemoteRequest, body_of, modes_of
from engine.backends.remote_stream import AnswerStream, CountedTokens, Piece
from engine.backends.remote_tunnel import Tunnels
from engine.backends.remote_wire import RemoteCancelled
from engine.errors import RemoteBrokeOff, RemoteBusy, RemoteError, RemoteUnreachable
from engine.protocol import FinishReason, ModeChoice, Usage
from engine.protocol_remote import RemoteFeatures, RemoteKind, RemotePrice

ROUNDS = 3
"""So often all addresses are tried."""
BACKOFF_S = 1.0
"""Before the second round; twice that before the third."""
MOST_WAIT_S = 30.0
"""A server that asks for a longer pause is not waited for."""


@dataclass(frozen=True)
class RemotePoint:
    """One address with the certificate that is trusted there."""

    address: Address
    fingerprint: str | None = None


@dataclass(frozen=True)
class RemoteOutcome:
    """How an answer ended. `usage` None: the server did not count. `notices`: what a person is to know of it, each a
    sentence."""

    reason: FinishReason
    usage: Usage | None
    reasoning_tokens: int
    notices: tuple[str, ...]
    point: int
    """The index of the address that answered."""


@dataclass(frozen=True)
class RemoteModel:
    """One model with its addresses. `check(target, point)` is called before a question is sent there, on the loop that
    sends it: whether it is still what was agreed to; it raises RemoteChanged, and what asking raises.
    `settled(point, error)` is told by which address it went, or why not."""

    id: str
    name: str
    kind: RemoteKind
    model: str
    points: Sequence[RemotePoint]
    key: str | None = field(default=None, repr=False)
    features: RemoteFeatures | None = None
    price: RemotePrice | None = None
    tunnels: Tunnels = field(default_factory=Tunnels, repr=False)
    limits: Limits = LIMITS
    first_point: int = 0
    check: Callable[[Target, int], Coroutine[Any, Any, None]] | None = None
    settled: Callable[[int | None, RemoteError | None], None] = lambda _point, _error: None
    backoff_s: float = BACKOFF_S

    @property
    def place(self) -> str:
        """As a person is told it: the first address."""
        return self.points[0].address.place

    def answer(
        self,
        asked: RemoteRequest,
        take: Callable[[Piece], None],
        cancelled: Callable[[], bool],
        begun: Callable[[int, Sequence[str]], None] = lambda _point, _notices: None,
    ) -> RemoteOutcome:
        """Ask, and hand each piece to `take` as it comes, in this thread. `begun` is called before the first one with
        the index of the address that took the question, and the notices so far, which are the outcome's too.

        Raises RemoteError and its kinds; what `take` raises ends it. What came before stays with the caller.
        """
        asking = _Asking(self, asked, take, begun)
        try:
            outcome = remote_wire.run(asking.answered(), cancelled)
        except RemoteCancelled:
            if asking.was_taken:
                self.settled(asking.point, None)
            return asking.cancelled()
        except RemoteError as error:
            self.settled(None, error)
            raise
        self.settled(outcome.point, None)
        return outcome

    @property
    def modes(self) -> list[ModeChoice]:
        """The reasoning modes that can be asked for."""
        return modes_of(self.features, self.place)

    def reach(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """See that one of the addresses has the model as it was agreed to; nothing of a conversation is sent.

        Raises RemoteError and its kinds.
        """
        try:
            point = remote_wire.run(self._reached(), cancelled)
        except RemoteCancelled as error:
            raise RemoteError(f"{self.name} was not reached", "it was given up", "choose it again") from error
        except RemoteError as error:
            self.settled(None, error)
            raise
        self.settled(point, None)

    async def _reached(self) -> int:
        failed: list[RemoteError] = []
        for point in self.order:
            try:
                target = await self.target(point)
                if self.check is not None:
                    await self.check(target, point)
            except (RemoteUnreachable, RemoteBusy) as error:
                failed.append(error)
            else:
                return point
        raise failed[0] if len(failed) == 1 else _nobody(failed)

    @property
    def order(self) -> list[int]:
        """The indexes of the addresses, as they are tried: from the one that answered last on."""
        count = len(self.points)
        return [(self.first_point + step) % count for step in range(count)]

    def body(self, asked: RemoteRequest) -> RemoteBody:
        """What would be sent."""
        return body_of(asked, model=self.model, kind=self.kind, features=self.features)

    async def target(self, point: int) -> Target:
        """Where the address with that index leads; a tunnel is opened where it needs one. Raises RemoteError."""
        each = self.points[point]
        if each.address.scheme == "ssh":
            return await asyncio.to_thread(self.tunnels.target, each.address, self.key, self.limits)
        return Target(each.address, each.fingerprint, self.key, limits=self.limits)

    def cost(self, counted: CountedTokens) -> float | None:
        """By the person's own prices."""
        price = self.price
        if price is None:
            return None
        cached = price.read if price.read_cached is None else price.read_cached
        fresh = (counted.prompt - counted.cached) * price.read
        return (fresh + counted.cached * cached + counted.written * price.written) / 1e6


class _Asking:
    """One question on its way."""

    def __init__(
        self,
        model: RemoteModel,
        asked: RemoteRequest,
        take: Callable[[Piece], None],
        begun: Callable[[int, Sequence[str]], None],
    ) -> None:
        self.point = 0
        self.was_taken = False
        """An address has taken the question."""
        self._model = model
        self._asked = asked
        self._take = take
        self._begun = begun
        self._began_s = time.monotonic()
        self._first_s: float | None = None
        self._notices: list[str] = []
        self._passed_on = ""

    async def answered(self) -> RemoteOutcome:
        """By the first address that takes the question."""
        model = self._model
        order = model.order
        failed: dict[int, RemoteError] = {}
        for turn in range(ROUNDS):
            for point in order:
                try:
                    return await self._through(point, failed)
                except (RemoteUnreachable, RemoteBusy) as error:
                    failed[point] = error
            pause_s = _pause(list(failed.values()), model.backoff_s * 2**turn)
            if turn == ROUNDS - 1 or pause_s is None:
                break
            await asyncio.sleep(pause_s)
        raise failed[order[0]] if len(order) == 1 else _nobody(list(failed.values()))

    async def _through(self, point: int, failed: dict[int, RemoteError]) -> RemoteOutcome:
        try:
            return await self._by(point, failed)
        except (RemoteUnreachable, RemoteBrokeOff):
            address = self._model.points[point].address
            if address.scheme == "ssh":
                # What it leads to may listen elsewhere by now.
                await asyncio.to_thread(self._model.tunnels.forget, address)
            raise

    async def _by(self, point: int, failed: dict[int, RemoteError]) -> RemoteOutcome:
        model = self._model
        target = await model.target(point)
        if model.check is not None:
            await model.check(target, point)
        body = model.body(self._asked)
        url = _url(target, body)
        stream = AnswerStream(
            target.place,
            target.key,
            thinks=bool(model.features and model.features.thinks_untold and not self._asked.so_far),
        )
        async with remote_wire.streamed(target, url, body.content, self._head) as pieces:
            self.point, self.was_taken = point, True
            if self._passed_on:
                self._notices.append(f"{target.place} sent the conversation on to {self._passed_on}.")
            if failed:
                others = "; ".join(dict.fromkeys(f"{each.what}: {each.why}" for each in failed.values()))
                self._notices.append(f"{target.place} took the question after this had failed: {others}.")
            self._begun(point, tuple(self._notices))
            try:
                async with contextlib.aclosing(pieces):
                    async for data in pieces:
                        self._give(stream.feed(data))
                        if stream.is_done:
                            break
                self._give(stream.end())
                stream.require_whole()
            except RemoteBrokeOff:
                self._give(stream.held_back())
                if stream.finish is None:
                    raise
                # It had said that the answer ends: what was missing is the end of the stream.
        return self._outcome(stream, target.place, point)

    def _head(self, headers: Mapping[str, str]) -> None:
        """Another Seamount says so when it asks a third machine in its turn."""
        place, _, whereabouts = headers.get("seamount-sent-to", "").rpartition("; ")
        if place.isprintable() and place and whereabouts != "this machine":
            self._passed_on = place[:200]

    def cancelled(self) -> RemoteOutcome:
        """How it ended when nobody wanted it any more."""
        if self._model.price is not None and self._first_s is not None:
            place = self._model.points[self.point].address.place
            self._notices.append(f"It was stopped, so {place} did not say what it cost.")
        return RemoteOutcome("cancelled", None, 0, tuple(self._notices), self.point)

    def _give(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if self._first_s is None:
                self._first_s = time.monotonic()
            self._take(piece)

    def _outcome(self, stream: AnswerStream, place: str, point: int) -> RemoteOutcome:
        reasons: dict[str, FinishReason] = {"length": "length", "tool_calls": "tool_calls"}
        reason = reasons.get(stream.finish or "stop", "stop")
        if stream.finish not in (None, "stop", "length", "tool_calls", "function_call"):
            self._notices.append(f"{place} ended the answer by itself ({stream.finish}).")
        counted = stream.usage
        if counted is None:
            if self._model.price is not None:
                self._notices.append(
                    f"{place} did not say how many tokens it counted, so the cost is not known."
                )
            return RemoteOutcome(reason, None, 0, tuple(self._notices), point)
        now_s = time.monotonic()
        first_s = now_s if self._first_s is None else self._first_s
        wrote_s = now_s - first_s
        cost = self._model.cost(counted)
        usage = Usage(
            prompt_tokens=counted.prompt,
            reused_tokens=counted.cached,
            generated_tokens=counted.written,
            context_tokens=(self._model.features.context_tokens if self._model.features else None) or 0,
            first_token_s=first_s - self._began_s,
            prefill_rate=0.0,
            generation_rate=counted.written / wrote_s if wrote_s > 0 else 0.0,
            seed=(self._asked.sampling.seed if self._asked.sampling else None) or 0,
            cost=cost,
            currency=None if cost is None or self._model.price is None else self._model.price.currency,
        )
        return RemoteOutcome(reason, usage, counted.reasoning, tuple(self._notices), point)


def _url(target: Target, body: RemoteBody) -> str:
    if body.is_beta:
        # DeepSeek's documentation: prefixes are understood beneath /beta alone.
        return f"{target.address.root}/beta{body.path}"
    return f"{target.address.base}{body.path}"


def _pause(errors: Sequence[RemoteError], least_s: float) -> float | None:
    """How long to wait before all are tried again; None: not at all, since each asks for too much."""
    asked = [each.after_s or 0.0 if isinstance(each, Busy) else 0.0 for each in errors]
    shortest = min(asked, default=0.0)
    return None if shortest > MOST_WAIT_S else max(least_s, shortest)


def _nobody(errors: Sequence[RemoteError]) -> RemoteError:
    """None of several addresses took the question."""
    told = "; ".join(dict.fromkeys(f"{each.what}: {each.why}" for each in errors))
    kind = RemoteBusy if any(isinstance(each, RemoteBusy) for each in errors) else RemoteUnreachable
    return kind("The question was not asked", f"none of the addresses took it ({told})", "try again later")
