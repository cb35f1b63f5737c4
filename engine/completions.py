"""Answers that no session keeps: what the public dialects ask for.

Owns: the job that writes one, and how its client takes the text as it comes. Does not know a dialect's
shapes (`server/openai.py`); shares the queue and the backend with the turns.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from engine.answer_form import ANY_FORM, AnswerForm
from engine.bell import Bell
from engine.callers import WINDOW, Caller
from engine.conversation import Message
from engine.errors import EngineUnreachable, SeamountError
from engine.generation_thread import Job, unforeseen
from engine.protocol import Message as StoredMessage
from engine.protocol import Sampling, Settings, Thought, ToolCall, Usage
from engine.text_groups import TextGroups

if TYPE_CHECKING:
    from engine.contexts.keeper import ContextKeeper
    from engine.encoding.v4_chat import V4Chat
    from engine.expert_meter import ExpertCost
    from engine.generation import NewText, Outcome, PrefillProgress

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reasoning:
    """More of the reasoning, which comes before the text."""

    text: str


@dataclass(frozen=True)
class CompletionEnd:
    """How it ended: by itself, by its length or stopped from outside, and what it cost."""

    reason: Literal["stop", "length", "cancelled", "tool_calls"]
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that may be carried out. They are told whole and at the end: what was written of a call that
    turns out to be wrong must not reach anybody who would carry it out."""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompletionRequest:
    """What is asked: `sampling` has its seed, `stop` strings end the answer and are not part of it.

    `tools` (the functions) and `effort` (what the dialect calls it) count for a V4 model alone.
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
    form: AnswerForm = ANY_FORM
    """What the answer's text has to look like."""
    caller: Caller = WINDOW


class CallMemory(Protocol):
    """Where calls are remembered, so that a client need not send back the reasoning before them."""

    def remember_calls(self, call_ids: Sequence[str], reasoning: str, token_ids: Sequence[int]) -> None:
        """Keep the reasoning and tokens of the answer that made these calls."""
        ...

    def recall(self, call_ids: Sequence[str]) -> Mapping[str, tuple[str, Sequence[int]]]:
        """What is known of each call."""
        ...


News = str | Reasoning | CompletionEnd


class Completion(Job):
    """One answer on its way to one client."""

    def __init__(
        self,
        model_id: str,
        request: CompletionRequest,
        loop: asyncio.AbstractEventLoop,
        memory: CallMemory | None = None,
        settings: Callable[[], Settings] = Settings,
    ) -> None:
        super().__init__(model_id)
        self._request = request
        self._loop = loop
        self._memory = memory
        self._settings = settings
        self._bell = Bell()
        self._news: list[News | SeamountError] = []
        self._state = "queued"
        self._reasoning: list[str] = []
        self._ids: list[int] = []

    @property
    def state(self) -> str:
        """What it does now, in a word or two, for a comment that keeps a connection alive."""
        return self._state

    async def follow(self, *, idle_s: float | None = None) -> AsyncGenerator[News, None]:
        """The pieces, those that arrived together as one, and then the end.

        An empty text whenever `idle_s` passed without news. Raises the SeamountError that it ended in.
        """
        while True:
            if not self._news:
                if not await self._bell.wait(idle_s):
                    yield ""
                continue
            news, self._news = self._news, []
            for each in _joined(news):
                if isinstance(each, SeamountError):
                    raise each
                yield each
                if isinstance(each, CompletionEnd):
                    return

    def place_is(self, place: int) -> None:
        self._state = f"queued {place}"

    def run(self, keeper: "ContextKeeper") -> None:
        from engine.encoding.v4_chat import v4_chat

        try:
            chat = v4_chat(keeper.backend, self._settings().release)
            outcome = self._answer_by_template(keeper) if chat is None else self._answer_by_v4(keeper, chat)
            keeper.finish(whole=outcome.reason == "stop")
        except SeamountError as error:
            self._tell(error)
        except Exception as error:
            _logger.exception("an answer failed in an unforeseen way")
            self._tell(unforeseen(error))

    def refuse(self, error: SeamountError | None) -> None:
        self._tell(
            error
            or EngineUnreachable(
                "The answer was not begun", "it was stopped before its turn came", "ask again"
            )
        )

    def _answer_by_template(self, keeper: "ContextKeeper") -> "Outcome":
        from engine.encoding.prompt import encode_chat
        from engine.generation import GenerationRequest

        request = GenerationRequest(
            prompt=tuple(encode_chat(keeper.backend, self._request.messages)),
            sampling=self._request.sampling,
            max_tokens=self._request.max_tokens,
            stop=self._request.stop,
        )
        outcome = self._generate(keeper, request, lambda text, _ids: self._tell(text))
        self._tell(CompletionEnd(outcome.reason, outcome.usage))
        return outcome

    def _answer_by_v4(self, keeper: "ContextKeeper", chat: "V4Chat") -> "Outcome":
        from engine.encoding.dialects import reattach
        from engine.encoding.reasoning import ThinkingGuard, require_effort_context, style_of_effort
        from engine.generation import GenerationRequest
        from engine.v4_answer import V4Answer

        asked = self._request
        style = style_of_effort(chat.release, asked.effort)
        require_effort_context(style, keeper.backend.facts.context_tokens)
        messages = [
            # A client that changed what the model wrote means what it sends.
            message if chat.says(message) else replace(message, written=None)
            for message in (reattach(asked.messages, self._memory.recall) if self._memory else asked.messages)
        ]
        budget = self._settings().thinking_tokens
        guard = ThinkingGuard(chat.think_end_id, thinking=style.thinking, budget=budget or None)
        answer = V4Answer(
            chat, guard, _Keeper(self), thinking=style.thinking, functions=asked.tools, stored=_NOTHING_YET
        )
        request = GenerationRequest(
            prompt=tuple(chat.prompt(messages, style)),
            sampling=asked.sampling,
            max_tokens=asked.max_tokens,
            stop=asked.stop,
            literals=chat.literals,
            guard=guard,
        )
        outcome = self._generate(keeper, request, answer.take)
        end = answer.end(outcome.reason)
        calls = tuple(call for call in end.tool_calls if call.status != "rejected")
        if calls and self._memory:
            try:
                ids = [call.id for call in calls]
                self._memory.remember_calls(ids, "".join(self._reasoning), self._ids)
            except SeamountError as error:  # the answer is whole without it
                _logger.warning("%s", error.text)
        reason = "tool_calls" if calls else outcome.reason
        problems = (call.problem for call in end.tool_calls if call.problem)
        self._tell(CompletionEnd(reason, outcome.usage, calls, (*end.notices, *problems)))
        return outcome

    def _generate(
        self, keeper: "ContextKeeper", request: Any, take: Callable[[str, list[int]], None]
    ) -> "Outcome":
        from engine.generation import NewText, PrefillProgress, generate

        groups = TextGroups(take)

        def emit(event: "PrefillProgress | NewText | ExpertCost") -> None:
            if isinstance(event, NewText):
                groups.add(event.text, event.token_ids)
            elif isinstance(event, PrefillProgress):
                self._state = f"reading {event.done}/{event.total}"

        outcome = generate(keeper.turn(), request, emit, self.cancelled.is_set)
        groups.flush()
        return outcome

    def keep(self, text: str, token_ids: Sequence[int], part: str) -> None:
        """A piece of a V4 answer goes to the client; calls wait for the end."""
        self._ids.extend(token_ids)
        if part == "text":
            self._tell(text)
        elif part == "reasoning":
            self._reasoning.append(text)
            self._tell(Reasoning(text))

    def _tell(self, news: News | SeamountError) -> None:
        if news != "":
            # After the loop has closed nobody listens.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._add, news)

    def _add(self, news: News | SeamountError) -> None:
        self._news.append(news)
        self._bell.ring()


_NOTHING_YET = StoredMessage(
    id="", parent_id=None, role="assistant", text="", status="running", created_at=0.0
)


class _Keeper:
    """What `V4Answer` sees of a completion."""

    def __init__(self, completion: Completion) -> None:
        self.keep = completion.keep

    def keep_thought(self, thought: Thought) -> None:
        """No client of a dialect asks for it."""

    def tell(self, event: object) -> None:
        """The pieces were told when they were kept."""


def _joined(news: Sequence[News | SeamountError]) -> list[News | SeamountError]:
    """The same with neighbouring texts made one, and neighbouring reasoning."""
    whole: list[News | SeamountError] = []
    for each in news:
        last = whole[-1] if whole else None
        if isinstance(each, str) and isinstance(last, str):
            whole[-1] = last + each
        elif isinstance(each, Reasoning) and isinstance(last, Reasoning):
            whole[-1] = Reasoning(last.text + each.text)
        else:
            whole.append(each)
    return whole
