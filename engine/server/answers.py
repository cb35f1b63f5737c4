"""What answers have in common, whatever the dialect: which model, who asks, the beginning, the whole, the end.

Owns: handing a request to the queue, the wait for its first text, whole answers whose client may go away meanwhile, and
the comments that keep a stream alive. Does not know any dialect's shapes (`openai_*`, `anthropic_*`).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from engine.answer_form import AnswerForm
from engine.callers import WINDOW, Caller
from engine.completion_news import (
    CompletionEnd,
    LoggedText,
    LoggedToken,
    News,
    Progress,
    Reasoning,
)
from engine.completions import Completion, CompletionRequest
from engine.encoding.answer_mask import check_form
from engine.encoding.release import ARCHITECTURES
from engine.engine import Engine
from engine.errors import NotFound, SeamountError
from engine.protocol import Sampling
from engine.protocol_access import Dialect
from engine.server.replies import KEEP_ALIVE_S, EventStream
from engine.server.side_work import beside

FIRST_WORD_S = 0.7
"""How long a stream waits for its first text; until it has answered 200, an error has its own status."""

REMOTE = "remote:"
"""What the ids of models on other machines begin with."""
CLIENT_GONE = 499
"""The status of a reply that nobody reads."""

Frames = Callable[[AsyncGenerator[News, None]], AsyncGenerator[bytes, None]]
"""A dialect's stream: from news to server-sent events. The news may raise a SeamountError at any place."""


class UnknownModel(NotFound):
    """A model that this engine does not serve now."""

    code = "model_not_found"

    def __init__(self, named: str, served: str | None) -> None:
        super().__init__(
            "The request was refused",
            f"the model {named[:200]!r} is not loaded",
            f"ask for {served!r}, or load the other one in Seamount" if served else "load it in Seamount",
        )
        self.param = "model"


@dataclass(frozen=True)
class Served:
    """The model that an answer asked for now is written by.

    `way`: how its prompts are made: by V4's rules, by a chat template, by another machine; "unknown" before a model is
    loaded whose file alone does not tell.
    """

    id: str
    way: Literal["v4", "template", "remote", "unknown"]


def caller_of(request: Request) -> Caller:
    """Who asks, as the door found out."""
    return cast(Caller, getattr(request.state, "caller", WINDOW))


async def served(engine: Engine, named: str) -> Served:
    """The model that a client calls `named`. Raises UnknownModel, NoModel."""
    # Finding it may read files.
    return await run_in_threadpool(_served, engine, named)


def _served(engine: Engine, named: str) -> Served:
    model_id = engine.turns.model_id()
    entry = engine.library.entry(model_id)
    if named not in (model_id, entry.name):
        raise UnknownModel(named, model_id)
    loaded = engine.host.loaded
    if entry.source == "remote":
        return Served(model_id, "remote")
    if loaded is not None and loaded.id == model_id:
        return Served(model_id, "template" if loaded.release is None else "v4")
    return Served(model_id, "v4" if entry.architecture in ARCHITECTURES else "unknown")


async def sampling_of(
    engine: Engine, model_id: str, *, seed: int | None = None, **given: float | None
) -> Sampling:
    """What is `given` (temperature, top_p, min_p), else the settings', else what suits the model; with a seed."""
    base = await run_in_threadpool(engine.turns.sampling, None, model_id)
    update: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if seed is not None:
        update["seed"] = seed % 2**63  # the dialects allow negative ones
    return base.model_copy(update=update)


async def require_form(served: Served, form: AnswerForm, functions: Sequence[Mapping[str, Any]]) -> None:
    """That an answer of the model can be held to `form`, before anything waits for it. Raises FormRefused."""
    if served.way != "remote" and (functions or not form.is_any):
        # A hostile schema takes a fifth of a second.
        await beside(check_form, form, functions)


async def begin(engine: Engine, model_id: str, asked: CompletionRequest, dialect: Dialect) -> Completion:
    """Put the request at the end of the queue that the window's turns wait in too.

    Raises TooManyRequests where the caller's key has as many there as it may, Busy, EngineUnreachable.
    """
    is_remote = model_id.startswith(REMOTE)
    # What a remote server reads again is its own affair.
    watch = None if is_remote else engine.prefix_watch
    loop = asyncio.get_running_loop()
    # A long system message takes a while to be compared with earlier ones.
    completion = await run_in_threadpool(
        Completion, model_id, asked, loop, engine.store, engine.settings, watch
    )
    completion.goes_to = engine.remotes.entry(model_id).remote if is_remote else None
    engine.clients.begin(completion, asked.caller, dialect, model_id)
    try:
        engine.thread.submit(completion)
    except SeamountError:
        engine.clients.drop(completion)
        raise
    return completion


def comment(progress: Progress) -> bytes:
    """A line that clients pass over and people can read."""
    if progress.state == "queued":
        return b": queued %d\n\n" % progress.place
    if progress.state == "reading":
        return b": reading %d/%d\n\n" % (progress.done, progress.total)
    return b": writing\n\n"


async def streamed(engine: Engine, completion: Completion, frames: Frames) -> EventStream:
    """The answer as a stream. Raises the SeamountError of one that ends before its first text."""
    opening = _Opening(completion)
    try:
        await opening.wait(FIRST_WORD_S)
    except BaseException:
        engine.thread.cancel(completion)
        raise
    # When the client has gone away its answer ends; one that has ended stays as it is.
    return EventStream(
        frames(opening.items()),
        on_close=lambda: engine.thread.cancel(completion),
        headers=reply_headers(completion),
    )


def reply_headers(completion: Completion) -> dict[str, str]:
    """What a reply's headers say: that the request was put otherwise than it came, as a person had agreed to, and to
    which machines it goes."""
    said, place = completion.steadied.header, completion.goes_to
    headers = {"Seamount-Steady": said} if said else {}
    if place is not None:
        headers["Seamount-Sent-To"] = f"{place.host}; {place.whereabouts}"
    return headers


class _Opening:
    """The beginning of an answer, awaited without losing it."""

    def __init__(self, completion: Completion) -> None:
        self._items = completion.follow(idle_s=KEEP_ALIVE_S)
        self._progress: Progress | None = None
        self._next = asyncio.ensure_future(anext(self._items))

    async def wait(self, timeout_s: float) -> None:
        """Until the first text is there or `timeout_s` passed; raises what the answer ended in."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while True:
            done, _ = await asyncio.wait({self._next}, timeout=until_s - loop.time())
            if not done:
                return
            item = self._next.result()
            if not isinstance(item, Progress):
                return
            self._progress = item
            self._next = asyncio.ensure_future(anext(self._items))

    async def items(self) -> AsyncGenerator[News, None]:
        """All items, of the progress so far the last."""
        try:
            if self._progress is not None:
                yield self._progress
            yield await self._next
            async for item in self._items:
                yield item
        finally:
            self._next.cancel()


@dataclass(frozen=True)
class WholeAnswer:
    """An answer that has ended."""

    text: str
    reasoning: str
    end: CompletionEnd
    tokens: tuple[LoggedToken, ...] = ()
    """Of the text, where they were asked for."""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """Of the reply, beside the dialect's own."""


async def whole(engine: Engine, completion: Completion, request: Request) -> WholeAnswer | None:
    """The answer when it has ended; None when its client has gone away, which ends it. Raises what it ended in."""
    gone = asyncio.ensure_future(_gone(request))
    answer = asyncio.ensure_future(_collect(completion))
    try:
        await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None
    finally:
        engine.thread.cancel(completion)
        for task in (gone, answer):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, SeamountError):
                await task


def nobody_reads() -> Response:
    """The reply to a client that has gone away."""
    return Response(status_code=CLIENT_GONE)


async def _collect(completion: Completion) -> WholeAnswer:
    texts: list[str] = []
    reasoning: list[str] = []
    tokens: list[LoggedToken] = []
    async for item in completion.follow():
        if isinstance(item, CompletionEnd):
            headers = reply_headers(completion)
            return WholeAnswer("".join(texts), "".join(reasoning), item, tuple(tokens), headers)
        if isinstance(item, Reasoning):
            reasoning.append(item.text)
        elif isinstance(item, LoggedText):
            texts.append(item.text)
            tokens += item.tokens
        elif isinstance(item, str):
            texts.append(item)
    raise AssertionError("an answer ends with its end")


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
