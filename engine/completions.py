"""Answers that no session keeps: what the public dialects ask for.

Owns: the job that writes one, and how its client takes the text as it comes. Does not know a dialect's shapes
(`server/`) or how an answer comes about (`completion_answer`); shares the queue and the backend with the turns.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from engine.answer_form import ANY_FORM, AnswerForm
from engine.bell import Bell
from engine.callers import WINDOW, Caller
from engine.completion_news import CompletionEnd, News, Progress, joined
from engine.conversation import Message
from engine.errors import EngineUnreachable, SeamountError
from engine.generation_thread import Job, unforeseen
from engine.key_calls import KeyCalls
from engine.prefix_watch import PrefixWatch, Steadied
from engine.protocol import RemotePlace, Sampling, Settings

if TYPE_CHECKING:
    from engine.backends.remote import RemoteModel
    from engine.contexts.keeper import ContextKeeper

PROGRESS_S = 0.5
"""Progress of one kind is told this far apart, at least."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompletionRequest:
    """What is asked: `sampling` has its seed, `stop` strings end the answer and are not part of it.

    `tools` (the functions) and `effort` (what the dialect calls it) count for a V4 model alone. Where the last message
    is an answer that `is_open`, the model goes on with it.
    """

    messages: Sequence[Message]
    sampling: Sampling
    max_tokens: int | None
    stop: tuple[str, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    effort: str | None = None
    text: str | None = None
    """A bare text to go on with, in the place of `messages`: no template, no reasoning, no calls."""
    thinking_tokens: int | None = None
    """The model is told to answer after so many tokens of reasoning; None: the settings'."""
    top_logprobs: int | None = None
    """With each piece of text, the log probabilities of its tokens and of so many others; None: none are told."""
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    """By token id of the model: see `token_bias`."""
    form: AnswerForm = ANY_FORM
    """What the answer's text has to look like."""
    kept_as: str = ""
    """A name under which what the model writes is remembered beside the ids of its calls (`Message.kept_as`)."""
    caller: Caller = WINDOW


class CallMemory(Protocol):
    """Where calls are remembered, so that a client need not send back the reasoning before them."""

    def remember_calls(self, call_ids: Sequence[str], reasoning: str, token_ids: Sequence[int]) -> None:
        """Keep the reasoning and tokens of the answer that made these calls."""
        ...

    def recall(self, call_ids: Sequence[str]) -> Mapping[str, tuple[str, Sequence[int]]]:
        """What is known of each call."""
        ...


class Completion(Job):
    """One answer on its way to one client."""

    def __init__(
        self,
        model_id: str,
        request: CompletionRequest,
        loop: asyncio.AbstractEventLoop,
        memory: CallMemory | None = None,
        settings: Callable[[], Settings] = Settings,
        watch: PrefixWatch | None = None,
    ) -> None:
        super().__init__(model_id)
        self._watch = watch if request.text is None else None
        self.steadied = Steadied(tuple(request.messages))
        """The messages as they are put to the model."""
        if self._watch is not None:
            self.steadied = self._watch.steady(request.caller, model_id, request.messages)
            request = replace(request, messages=self.steadied.messages)
        self.request = request
        self.memory: CallMemory | None = KeyCalls(memory, request.caller.key_id) if memory else None
        self.settings = settings
        self.progress = Progress()
        """What it does now."""
        self.goes_to: RemotePlace | None = None
        """Where the request goes, if another machine answers it."""
        self.generated_tokens = 0
        self._loop = loop
        self._bell = Bell()
        self._news: list[News | SeamountError] = []
        self._told_s = float("-inf")
        self._at_end: list[Callable[[], None]] = []

    async def follow(self, *, idle_s: float | None = None) -> AsyncGenerator[News, None]:
        """The pieces, those that arrived together as one, and then the end.

        The Progress again whenever `idle_s` passed without news. Raises the SeamountError that it ended in.
        """
        while True:
            if not self._news:
                if not await self._bell.wait(idle_s):
                    yield self.progress
                continue
            news, self._news = self._news, []
            for each in joined(news):
                if isinstance(each, SeamountError):
                    raise each
                yield each
                if isinstance(each, CompletionEnd):
                    return

    def at_end(self, call: Callable[[], None]) -> None:
        """`call` is called once, on any thread, when the answer has ended, however it did; before it is submitted."""
        self._at_end.append(call)

    # --- on the generation thread -----------------------------------------------------------------------

    def place_is(self, place: int) -> None:
        self._progress_is(Progress("queued", place))

    def run(self, keeper: "ContextKeeper") -> None:
        from engine.completion_answer import answer

        try:
            outcome = answer(keeper, self)
            keeper.finish(whole=outcome.reason == "stop")
        except SeamountError as error:
            self.tell(error)
        except Exception as error:
            _logger.exception("an answer failed in an unforeseen way")
            self.tell(unforeseen(error))

    def run_remote(self, remote: "RemoteModel") -> None:
        from engine.completion_remote import answer_remotely

        try:
            answer_remotely(remote, self)
        except SeamountError as error:
            self.tell(error)
        except Exception as error:
            _logger.exception("an answer failed in an unforeseen way")
            self.tell(unforeseen(error))

    def refuse(self, error: SeamountError | None) -> None:
        self.tell(
            error
            or EngineUnreachable(
                "The answer was not begun", "it was stopped before its turn came", "ask again"
            )
        )

    def reading(self, done: int, total: int, reused: int = 0) -> None:
        """So many tokens of the prompt are read; `reused` of them were before."""
        self._progress_is(Progress("reading", done=done, total=total, reused=reused))

    def wrote(self, tokens: int) -> None:
        """So many more tokens are written."""
        self.generated_tokens += tokens
        if self.progress.state != "writing":
            self.progress = replace(self.progress, state="writing")

    def tell(self, news: News | SeamountError) -> None:
        """Put `news` where the client finds it."""
        if isinstance(news, CompletionEnd) and self._watch is not None:
            self._watch.ended(self.steadied, news.usage)
            news = replace(news, steady=self.steadied.told)
        # After the loop has closed nobody listens.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._add, news)
        if isinstance(news, CompletionEnd | SeamountError):
            calls, self._at_end = self._at_end, []
            for call in calls:
                call()

    def _progress_is(self, progress: Progress) -> None:
        before, self.progress = self.progress, progress
        now_s = time.monotonic()
        # A prompt that is known already is read in no time, and nobody need be told.
        if progress.state != before.state or now_s - self._told_s >= PROGRESS_S:
            self._told_s = now_s
            self.tell(progress)

    def _add(self, news: News | SeamountError) -> None:
        self._news.append(news)
        self._bell.ring()
