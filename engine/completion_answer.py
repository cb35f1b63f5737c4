"""How the answer to a program's request comes about, on the generation thread.

Owns: writing it behind a prompt of each kind, what of it the client is told in which part, and by which names it is
remembered. Does not know how prompts are made (`completion_prompt`), who asks in which dialect, nor queues
(`completions`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from engine.access.key_limits import AnswerLimits
from engine.completion_news import CompletionEnd, LoggedText, LoggedToken, News, Reasoning
from engine.completion_prompt import template_prompt, text_prompt, v4_prompt
from engine.completions import CallMemory, CompletionRequest
from engine.encoding.answer_mask import answer_mask
from engine.encoding.reasoning import ThinkingGuard
from engine.encoding.v4_chat import V4Chat, v4_chat
from engine.errors import BadRequest, SeamountError
from engine.generation import GenerationRequest, NewText, Outcome, PrefillProgress, TokenMask, generate
from engine.protocol import Message as StoredMessage
from engine.protocol import Settings, Thought, ToolCall
from engine.text_groups import TextGroups
from engine.token_bias import TokenBias
from engine.token_chances import TokenChances
from engine.v4_answer import StoredPart, V4Answer

if TYPE_CHECKING:
    import threading

    from engine.contexts.keeper import ContextKeeper
    from engine.expert_meter import ExpertCost

_logger = logging.getLogger(__name__)

GROUP_S = 0.05
"""A client of a dialect is told of text this far apart, at least, while it is written faster: a fast model does not pay
for every telling then, and a slow one's tokens still go out one by one."""


class Asking(Protocol):
    """What is asked, and whom it is told: a `completions.Completion`."""

    request: CompletionRequest
    memory: CallMemory | None
    settings: Callable[[], Settings]
    cancelled: "threading.Event"

    def tell(self, news: News) -> None: ...
    def reading(self, done: int, total: int, reused: int) -> None: ...
    def wrote(self, tokens: int) -> None: ...


def answer(keeper: "ContextKeeper", asking: Asking) -> Outcome:
    """Write the answer and tell it, its end included. Raises SeamountError."""
    chat = v4_chat(keeper.backend, asking.settings().release)
    writing = _Writing(keeper, asking)
    if asking.request.text is not None:
        return writing.by_text(asking.request.text)
    return writing.by_template() if chat is None else writing.by_v4(chat)


class _Writing:
    """One answer being written."""

    def __init__(self, keeper: "ContextKeeper", asking: Asking) -> None:
        self._keeper = keeper
        self._backend = keeper.backend
        self._asking = asking
        self._asked = asking.request
        self._limits = AnswerLimits(asking.request.caller.limits)
        self._literals: Mapping[int, bytes] = {}
        self._logged: list[LoggedToken] = []
        """Tokens of the text that is yet to be told."""
        self._logs_behind: int | None = None
        """None: tokens are the text's; else they are from behind this one on."""
        self._forks: tuple[int, ...] = ()
        """Where other conversations will part from the prompt."""
        self._reasoning: list[str] = []
        self._ids: list[int] = []

    # --- three ways to an answer ------------------------------------------------------------------------

    def by_text(self, text: str) -> Outcome:
        """Go on with `text`."""
        return self._write_plainly(text_prompt(self._backend, text))

    def by_template(self) -> Outcome:
        """By the model's own chat template."""
        asked = self._asked
        prompt = template_prompt(self._backend, asked)
        mask = answer_mask(self._backend, None, asked.form, (), thinking=False, begun=prompt.begun)
        return self._write_plainly(prompt.tokens, mask)

    def by_v4(self, chat: V4Chat) -> Outcome:
        """By DeepSeek-V4's rules."""
        asked = self._asked
        prompt = v4_prompt(self._backend, chat, asked, self._asking.memory)
        thinking = prompt.thinking
        mask = answer_mask(
            self._backend, chat, asked.form, asked.tools, thinking=thinking, begun=prompt.begun
        )
        budget = asked.thinking_tokens
        if budget is None:
            budget = self._asking.settings().thinking_tokens or None
        guard = ThinkingGuard(chat.think_end_id, thinking=thinking, budget=budget)
        self._literals = chat.literals
        self._logs_behind = chat.think_end_id if thinking else None
        v4 = V4Answer(
            chat, guard, _Keeper(self), thinking=thinking, functions=asked.tools, stored=_NOTHING_YET
        )
        self._forks = chat.forks(prompt.tokens)
        request = self._request(
            prompt.tokens,
            literals=chat.literals,
            guard=guard,
            mask=mask,
            stops_behind=self._logs_behind,
            stops_until=chat.control[chat.release.tokens.dsml],
        )
        if asked.form.calls in ("required", "named"):
            # There is no text that they could end.
            request = replace(request, stop=())
        outcome = self._generate(request, v4.take)
        end = v4.end(outcome.reason)
        calls = tuple(call for call in end.tool_calls if call.status != "rejected")
        self._remember(calls)
        problems = (call.problem for call in end.tool_calls if call.problem)
        self._asking.tell(
            CompletionEnd(
                "tool_calls" if calls else outcome.reason,
                outcome.usage,
                calls,
                (*end.notices, *problems, *self._limit_notices()),
                outcome.stop_string,
                guard.tokens,
            )
        )
        return outcome

    def _remember(self, calls: Sequence[ToolCall]) -> None:
        """Keep what the model wrote, by the names that a client will give back.

        Without tools V4 does not see its earlier reasoning again, so an answer has a name of its own only with them.
        """
        asked, memory = self._asked, self._asking.memory
        names = [*([asked.kept_as] if asked.kept_as and asked.tools else []), *(call.id for call in calls)]
        if names and memory and not self._asking.cancelled.is_set():
            try:
                memory.remember_calls(names, "".join(self._reasoning), self._ids)
            except SeamountError as error:  # the answer is whole without it
                _logger.warning("%s", error.text)

    def _write_plainly(self, prompt: Sequence[int], mask: TokenMask | None = None) -> Outcome:
        outcome = self._generate(self._request(prompt, mask=mask), lambda text, _ids: self._tell_text(text))
        self._asking.tell(
            CompletionEnd(
                outcome.reason,
                outcome.usage,
                notices=self._limit_notices(),
                stop_sequence=outcome.stop_string,
            )
        )
        return outcome

    # --- what they have in common -----------------------------------------------------------------------

    def _request(
        self,
        prompt: Sequence[int],
        *,
        literals: Mapping[int, bytes] | None = None,
        guard: ThinkingGuard | None = None,
        mask: TokenMask | None = None,
        stops_behind: int | None = None,
        stops_until: int | None = None,
    ) -> GenerationRequest:
        asked = self._asked
        self._limits.check_prompt(len(prompt))
        return GenerationRequest(
            prompt=tuple(prompt),
            sampling=asked.sampling,
            max_tokens=self._limits.tokens(asked.max_tokens),
            stop=asked.stop,
            literals=literals or {},
            guard=guard,
            mask=mask,
            stops_behind=stops_behind,
            stops_until=stops_until,
            bias=self._bias(),
            top_chances=asked.top_logprobs,
        )

    def _bias(self) -> TokenBias | None:
        asked = self._asked
        if not (asked.logit_bias or asked.frequency_penalty or asked.presence_penalty):
            return None
        size = self._backend.facts.vocabulary_size
        for token_id in asked.logit_bias:
            if not 0 <= token_id < size:
                raise BadRequest(
                    "The request was refused",
                    f"`logit_bias` names the token {token_id}, and this model's are 0 to {size - 1:,}",
                    "leave it out",
                )
        return TokenBias(asked.logit_bias, frequency=asked.frequency_penalty, presence=asked.presence_penalty)

    def _generate(self, request: GenerationRequest, take: Callable[[str, list[int]], None]) -> Outcome:
        groups = TextGroups(take, longest_s=GROUP_S)
        asking, limits = self._asking, self._limits

        def emit(event: "PrefillProgress | NewText | ExpertCost") -> None:
            if isinstance(event, NewText):
                asking.wrote(len(event.token_ids))
                if event.chances:
                    self._log(event.chances)
                groups.add(event.text, event.token_ids)
            elif isinstance(event, PrefillProgress):
                asking.reading(event.done, event.total, event.reused)

        limits.begin()
        outcome = generate(
            self._keeper.turn(forks=self._forks),
            request,
            emit,
            lambda: asking.cancelled.is_set() or limits.is_over(),
        )
        groups.flush()
        return replace(outcome, reason="length") if self._is_cut_short(outcome) else outcome

    def _is_cut_short(self, outcome: Outcome) -> bool:
        """It was ended by the time that its key gives, and not by anybody."""
        return outcome.reason == "cancelled" and self._limits.ran_out and not self._asking.cancelled.is_set()

    def _limit_notices(self) -> tuple[str, ...]:
        return (self._limits.notice,) if self._limits.ran_out else ()

    def keep(self, text: str, token_ids: Sequence[int], part: StoredPart) -> None:
        """A piece of a V4 answer goes to the client; calls wait for the end."""
        self._ids.extend(token_ids)
        if part == "text":
            self._tell_text(text)
        elif part == "reasoning":
            self._reasoning.append(text)
            self._asking.tell(Reasoning(text))
        else:  # what came since the last text are the marks of a call
            self._logged.clear()

    def _tell_text(self, text: str) -> None:
        if not text:
            return
        if self._asked.top_logprobs is None:
            self._asking.tell(text)
        else:
            self._asking.tell(LoggedText(text, tuple(self._logged)))
            self._logged.clear()

    def _log(self, chances: Sequence[TokenChances]) -> None:
        for each in chances:
            if self._logs_behind is None:
                top = (LoggedToken(self._bytes(id_), value) for id_, value in each.top)
                self._logged.append(LoggedToken(self._bytes(each.token_id), each.log_probability, tuple(top)))
            elif each.token_id == self._logs_behind:
                self._logs_behind = None

    def _bytes(self, token_id: int) -> bytes:
        return self._literals.get(token_id) or self._backend.token_bytes(token_id)


_NOTHING_YET = StoredMessage(
    id="", parent_id=None, role="assistant", text="", status="running", created_at=0.0
)


class _Keeper:
    """What `V4Answer` sees of it."""

    def __init__(self, writing: _Writing) -> None:
        self.keep = writing.keep

    def keep_thought(self, thought: Thought) -> None:
        """No client of a dialect asks for it."""

    def tell(self, event: object) -> None:
        """The pieces were told when they were kept."""
