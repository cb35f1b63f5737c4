"""Answers that no session keeps: what the public dialects ask for.

Owns: the job that writes one, and how its client takes the text as it comes. Does not know a dialect's
shapes (`server/openai.py`); shares the queue and the backend with the turns.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.bell import Bell
from engine.conversation import Message
from engine.errors import EngineUnreachable, SeamountError
from engine.generation_thread import Job, unforeseen
from engine.protocol import Sampling, Usage
from engine.text_groups import TextGroups

if TYPE_CHECKING:
    from engine.backends.base import Backend
    from engine.generation import NewText, PrefillProgress

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompletionEnd:
    """How it ended: by itself, by its length or stopped from outside, and what it cost."""

    reason: Literal["stop", "length", "cancelled"]
    usage: Usage


@dataclass(frozen=True)
class CompletionRequest:
    """What is asked: `sampling` has its seed, `stop` strings end the answer and are not part of it."""

    messages: Sequence[Message]
    sampling: Sampling
    max_tokens: int | None
    stop: tuple[str, ...] = ()


class Completion(Job):
    """One answer on its way to one client."""

    def __init__(self, model_id: str, request: CompletionRequest, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(model_id)
        self._request = request
        self._loop = loop
        self._bell = Bell()
        self._news: list[str | CompletionEnd | SeamountError] = []
        self._state = "queued"

    @property
    def state(self) -> str:
        """What it does now, in a word or two, for a comment that keeps a connection alive."""
        return self._state

    async def follow(self, *, idle_s: float | None = None) -> AsyncGenerator[str | CompletionEnd, None]:
        """The text in pieces and then the end. An empty piece whenever `idle_s` passed without news.

        Raises the SeamountError that it ended in.
        """
        while True:
            if not self._news:
                if not await self._bell.wait(idle_s):
                    yield ""
                continue
            news, self._news = self._news, []
            end = news[-1]
            text = "".join(each for each in news if isinstance(each, str))
            if text:
                yield text
            if isinstance(end, SeamountError):
                raise end
            if isinstance(end, CompletionEnd):
                yield end
                return

    def place_is(self, place: int) -> None:
        self._state = f"queued {place}"

    def run(self, backend: "Backend") -> None:
        from engine.encoding.prompt import encode_chat
        from engine.generation import GenerationRequest, NewText, generate

        groups = TextGroups(lambda text, _token_ids: self._tell(text))

        def emit(event: "PrefillProgress | NewText") -> None:
            if isinstance(event, NewText):
                groups.add(event.text, event.token_ids)
            else:
                self._state = f"reading {event.done}/{event.total}"

        try:
            request = GenerationRequest(
                prompt=tuple(encode_chat(backend, self._request.messages)),
                sampling=self._request.sampling,
                max_tokens=self._request.max_tokens,
                stop=self._request.stop,
            )
            outcome = generate(backend, request, emit, self.cancelled.is_set)
            groups.flush()
        except SeamountError as error:
            self._tell(error)
        except Exception as error:
            _logger.exception("an answer failed in an unforeseen way")
            self._tell(unforeseen(error))
        else:
            self._tell(CompletionEnd(outcome.reason, outcome.usage))

    def refuse(self, error: SeamountError | None) -> None:
        self._tell(
            error
            or EngineUnreachable(
                "The answer was not begun", "it was stopped before its turn came", "ask again"
            )
        )

    def _tell(self, news: str | CompletionEnd | SeamountError) -> None:
        if news != "":
            # After the loop has closed nobody listens.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._add, news)

    def _add(self, news: str | CompletionEnd | SeamountError) -> None:
        self._news.append(news)
        self._bell.ring()
