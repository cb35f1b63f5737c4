"""One answer being written: into its journal, then into the store, then told to its log.

Owns: the way of one answer from the stored conversation to its stored end, for models with a chat template
and for DeepSeek-V4. Does not know how a turn is recorded or found again (`turns`), threads and queues
(`generation_thread`), or tables (`store/`).
"""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from engine import fault_points
from engine.conversation import Message as PromptMessage
from engine.conversation import Written
from engine.errors import Conflict, NotFound, SeamountError
from engine.generation_thread import GenerationThread, Job, unforeseen
from engine.protocol import (
    Counters,
    Done,
    ErrorBody,
    Failed,
    FinishReason,
    Message,
    MessageStatus,
    Notice,
    Prefill,
    Queued,
    Sampling,
    Settings,
    Text,
    Thought,
    ToolCall,
    Usage,
    UsageEvent,
)
from engine.store.journal import TurnJournal, ids_digest
from engine.store.sessions import SessionStore
from engine.text_groups import TextGroups
from engine.turn_log import TurnLog
from engine.turn_prompts import prompt_messages, v4_messages

if TYPE_CHECKING:
    from engine.backends.base import Backend
    from engine.backends.remote import RemoteModel
    from engine.contexts.keeper import ContextKeeper
    from engine.contexts.turn_context import TurnContext
    from engine.encoding.v4_chat import V4Chat
    from engine.encoding.v4_prompt import Style
    from engine.expert_meter import ExpertCost
    from engine.generation import NewText, Outcome, PrefillProgress
    from engine.placement.load_plan import LoadPlan
    from engine.v4_answer import Event, StoredPart, V4Answer

_logger = logging.getLogger(__name__)


class JobOwner(Protocol):
    """What a job needs of `turns.Turns`."""

    store: SessionStore
    thread: GenerationThread
    settings: Callable[[], Settings]
    gave: "Callable[[str, LoadPlan | None, Usage], None]"

    def changed(self, session_id: str) -> None: ...
    def job_ended(self, job: "TurnJob", *, settled: bool) -> None: ...


class TurnJob(Job):
    """The job of one turn."""

    def __init__(
        self,
        turns: JobOwner,
        log: TurnLog,
        *,
        session_id: str,
        answer: Message,
        model_id: str,
        sampling: Sampling,
        already: tuple[int, ...],
        journal: TurnJournal,
        most_tokens: int | None,
        thinking_tokens: int | None,
    ) -> None:
        super().__init__(model_id)
        self.id = secrets.token_hex(12)
        self.session_id = session_id
        self.log = log
        self._turns = turns
        self._answer = answer
        self.answer_id = answer.id
        self._sampling = sampling
        self._already = already
        self._written = list(already)
        self._journal = journal
        self._max_tokens = None if most_tokens is None else max(0, most_tokens - len(already))
        self._thinking_tokens = thinking_tokens
        self._text = answer.text
        self._generated = 0
        self._notices: list[str] = []
        """Of an answer that another machine writes, as far as they are told."""
        self._storing_failed: SeamountError | None = None
        self._end: _End | None = None

    def place_is(self, place: int) -> None:
        self.log.post(Queued(place=place))

    def run(self, keeper: "ContextKeeper") -> None:
        from engine.encoding.v4_chat import v4_chat

        try:
            chat = v4_chat(keeper.backend, self._turns.settings().release)
            if chat is None:
                self._answer_by_template(keeper)
            else:
                self._answer_by_v4(keeper, chat)
        except SeamountError as error:
            self._fail(self._storing_failed or error)
        except Exception as error:
            _logger.exception("an answer failed in an unforeseen way")
            self._fail(self._storing_failed or unforeseen(error))

    def run_remote(self, remote: "RemoteModel") -> None:
        try:
            self._answer_remotely(remote)
        except SeamountError as error:
            self._fail(self._storing_failed or error)
        except Exception as error:
            _logger.exception("an answer failed in an unforeseen way")
            self._fail(self._storing_failed or unforeseen(error))

    # --- three ways to an answer ------------------------------------------------------------------------

    def _answer_by_template(self, keeper: "ContextKeeper") -> None:
        from engine.encoding.prompt import encode_chat
        from engine.generation import GenerationRequest

        settings, backend = self._turns.settings(), keeper.backend
        context = keeper.turn(self._journal, self._journal.before, self.session_id)
        prompt = encode_chat(backend, prompt_messages(settings.system_message, self._branch()))
        request = GenerationRequest(
            prompt=tuple(prompt),
            sampling=self._sampling,
            max_tokens=self._max_tokens,
            already=self._already,
        )
        outcome = self._generate(context, request, self._keep_text)
        if outcome is not None:
            self._finish_by(outcome.reason, outcome.usage)
            self._turns.gave(self.model_id, backend.plan, outcome.usage)
            keeper.finish(whole=outcome.reason == "stop")

    def _answer_by_v4(self, keeper: "ContextKeeper", chat: "V4Chat") -> None:
        from engine.encoding.reasoning import ThinkingGuard, require_context, style_of
        from engine.generation import GenerationRequest
        from engine.v4_answer import V4Answer

        settings, store = self._turns.settings(), self._turns.store
        backend, context = keeper.backend, keeper.turn(self._journal, self._journal.before, self.session_id)
        mode = self._answer.mode or settings.mode
        require_context(mode, backend.facts.context_tokens)
        style, tools = style_of(chat.release, mode), store.tools(self.session_id)
        branch = self._branch()
        messages = v4_messages(
            settings.system_message, tools, branch, store.branch_tokens(branch), self.model_id
        )
        self._journal.profile(chat.release.id)
        guard = ThinkingGuard(
            chat.think_end_id,
            thinking=style.thinking,
            budget=self._thinking_tokens,
            already=self._already,
        )
        answer = V4Answer(
            chat,
            guard,
            _Keeper(self),
            thinking=style.thinking,
            functions=[tool.function for tool in tools],
            stored=self._answer,
            already=chat.text_of(self._already),
        )
        request = GenerationRequest(
            prompt=tuple(chat.prompt(messages, style)),
            sampling=self._sampling,
            max_tokens=self._max_tokens,
            already=self._already,
            literals=chat.literals,
            guard=guard,
        )
        outcome = self._generate(context, request, answer.take)
        if outcome is None:
            return
        self._finish_v4(answer, outcome)
        self._turns.gave(self.model_id, backend.plan, outcome.usage)
        whole, aside = outcome.reason == "stop", None
        if whole and settings.model_titles and not self._storing_failed and self._wants_title(messages):
            aside = partial(self._name_session, backend, chat, messages, style)
        keeper.finish(whole=whole, aside=aside)

    def _answer_remotely(self, remote: "RemoteModel") -> None:
        """Text comes without token ids, so what is journalled and stored is text alone."""
        from engine.remote_answer import RemoteAnswer
        from engine.turn_remote import turn_of, usage_with

        settings, tools = self._turns.settings(), self._turns.store.tools(self.session_id)
        turn = turn_of(
            remote, self._answer, self._branch(), settings, tools, self._sampling, self._max_tokens
        )
        functions = turn.request.functions
        keeper, is_anew = _Keeper(self), turn.continuing == "asked"
        answer = RemoteAnswer(keeper, functions=functions, stored=self._answer, anew=is_anew)

        def begun(point: int, notices: Sequence[str]) -> None:
            address = remote.points[point].address
            if turn.continuing is not None:
                # Before anything of it is shown: no server promises the same words.
                self._note_continued(exact=False)
            # Told now, since an answer that breaks off has no outcome.
            self._tell_notices(keeper, [*turn.notices(address.place, address.whereabouts), *notices])

        outcome = remote.answer(turn.request, answer.take, self.cancelled.is_set, begun)
        end = answer.end(outcome.reason, outcome.reasoning_tokens)
        self._tell_notices(keeper, [each for each in outcome.notices if each not in self._notices])
        self._finish_by(
            end.reason,
            usage_with(outcome.usage, self._journal.before),
            thought=end.thought,
            tool_calls=end.tool_calls,
            notices=self._notices,
        )

    def _tell_notices(self, keeper: "_Keeper", notices: Sequence[str]) -> None:
        for text in notices:
            self._notices.append(text)
            keeper.tell(Notice(code="remote", text=text))

    def _finish_v4(self, answer: "V4Answer", outcome: "Outcome") -> None:
        end = answer.end(outcome.reason)
        reason = end.reason if end.reason == "tool_calls" else outcome.reason
        self._finish_by(
            reason, outcome.usage, thought=end.thought, tool_calls=end.tool_calls, notices=end.notices
        )

    def _branch(self) -> list[Message]:
        """What stands above the answer; the answer itself, when it is continued, is token ids."""
        return self._turns.store.branch(self.session_id, self._answer.id)[:-1]

    def _generate(
        self, context: "TurnContext", request: Any, take: Callable[[str, list[int]], None]
    ) -> "Outcome | None":
        """Generate, handing text to `take`; None when it could not be stored, which is then the end."""
        from engine.generation import NewText, PrefillProgress, generate

        groups, facts, prompt = TextGroups(take), context.facts, request.prompt
        before = self._journal.before
        if before and before.was_cut_off and len(prompt) + len(self._already) == facts.context_tokens:
            # It had filled the context when the engine died, and lacks nothing but its end.
            request = replace(request, max_tokens=0)
        self._journal.prompt(len(prompt), ids_digest(prompt), facts.state_key, facts.exact_key)

        def emit(event: "PrefillProgress | NewText | ExpertCost") -> None:
            if isinstance(event, NewText):
                if context.exact is not None and len(self._written) == len(self._already):
                    # Before anything of it is shown: an answer that is cut off again remembers.
                    self._note_continued(exact=context.exact)
                self._written.extend(event.token_ids)
                groups.add(event.text, event.token_ids)
            elif not isinstance(event, PrefillProgress):
                self.log.post(
                    Counters(
                        tokens_per_s=event.tokens_per_s,
                        disk_bytes_per_token=event.disk_bytes_per_token,
                        experts_in_memory=event.in_memory,
                    )
                )
            else:
                self.log.post(Prefill(done=event.done, total=event.total, reused=event.reused))

        try:
            outcome = generate(context, request, emit, self.cancelled.is_set)
        finally:
            groups.flush()
            context.ended()
        if self._storing_failed:
            self._fail(self._storing_failed)
            return None
        return outcome

    def _wants_title(self, messages: Sequence[PromptMessage]) -> bool:
        """Whether this was the conversation's first answer, and nobody has named it."""
        asked = sum(message.role == "user" for message in messages)
        return asked == 1 and self._turns.store.wants_title(self.session_id)

    def _note_continued(self, *, exact: bool) -> None:
        """Say of an answer that goes on whether it is token for token what it would have been."""
        try:
            self._turns.store.set_continued(self._answer.id, "identical" if exact else "different")
        except SeamountError as error:
            _logger.warning("%s", error.text)

    def _name_session(
        self, backend: "Backend", chat: "V4Chat", messages: list[PromptMessage], style: "Style"
    ) -> None:
        """Ask the model for the conversation's title, over a fork of its context, after its first answer."""
        from engine.encoding.quick import read_title
        from engine.quick_answer import ask_quickly

        store, thread = self._turns.store, self._turns.thread
        written = Written(tuple(self._written), style.thinking)
        answered = [*messages, PromptMessage("assistant", self._text, written=written)]
        try:
            question = chat.quick(answered, "title", style)
            title = read_title(ask_quickly(backend, question, lambda: thread.closing or thread.waiting > 0))
            if title and store.set_model_title(self.session_id, title):
                self._turns.changed(self.session_id)
        except SeamountError as error:
            _logger.warning("the conversation got no title from the model: %s", error.text)

    # --- keeping ----------------------------------------------------------------------------------------

    def keep(self, text: str, token_ids: Sequence[int], part: "StoredPart") -> None:
        """Journal a piece and store it. Raises what that raised, now or before."""
        if self._storing_failed:
            raise self._storing_failed
        try:
            self._journal.tokens(token_ids, text, part)
            fault_points.at("piece-journalled")
            self._turns.store.append(self._answer.id, text, token_ids, part)
            fault_points.at("piece-stored")
        except SeamountError as error:
            self._storing_failed = error
            self.cancelled.set()
            raise
        if part == "text":
            self._text += text

    def keep_thought(self, thought: Thought) -> None:
        """Store what the reasoning took; that it could not be stored is no reason to stop."""
        try:
            self._journal.thought(thought)
            self._turns.store.set_thought(self._answer.id, thought)
        except SeamountError as error:
            _logger.warning("%s", error.text)

    def keep_notice(self, text: str) -> None:
        """Journal what was done to the answer; it is stored at the end."""
        try:
            self._journal.notice(text)
        except SeamountError as error:
            _logger.warning("%s", error.text)

    def _keep_text(self, text: str, token_ids: list[int]) -> None:
        """Store, then tell."""
        if self._storing_failed:
            return
        offset = len(self._text)
        self.keep(text, token_ids, "text")
        self._generated += len(token_ids)
        if text:
            self.log.post(Text(offset=offset, text=text, generated_tokens=self._generated))

    # --- the end ----------------------------------------------------------------------------------------

    def refuse(self, error: SeamountError | None) -> None:
        if error is None:
            self._finish_by("cancelled", None)
        else:
            self._fail(error)

    def settle(self) -> bool:
        """Store an end that could not be stored; True when that is done, or can never be."""
        if self._end is None:
            return False
        try:
            self._end.store(self._turns.store, self._answer.id)
        except (NotFound, Conflict):
            self._journal.close(settled=True)
            return True
        except SeamountError:
            return False
        self._journal.close(settled=True)
        self._turns.changed(self.session_id)
        return True

    def _finish_by(
        self,
        reason: FinishReason,
        usage: Usage | None,
        *,
        thought: Thought | None = None,
        tool_calls: Sequence[ToolCall] = (),
        notices: Sequence[str] = (),
    ) -> None:
        status: MessageStatus = "complete"
        if reason == "cancelled" and self._turns.thread.closing:
            status, reason = "interrupted", "interrupted"
        self._finish(_End(status, reason, usage, None, thought, tuple(tool_calls), tuple(notices)))

    def _fail(self, error: SeamountError) -> None:
        body = ErrorBody(code=error.code, text=error.text)
        self._finish(_End("failed", "error", None, body, notices=tuple(self._notices)))

    def _finish(self, end: "_End") -> None:
        self._end = end
        error, settled = end.error, True
        self._journal_end(end)
        try:
            message = end.store(self._turns.store, self._answer.id)
        except SeamountError as trouble:
            # What was told is stored; only its end is not. It is tried again before the next turn, and the
            # store's next opening sees to it in any case.
            settled = isinstance(trouble, NotFound | Conflict)
            error = error or ErrorBody(code=trouble.code, text=trouble.text)
            message = self._answer.model_copy(
                update={"text": self._text, "status": "failed", "finish_reason": "error", "error": error}
            )
        fault_points.at("turn-ended")
        self._journal.close(settled=settled)
        # Before anybody can act on the last event: this turn is in nobody's way any more.
        self.ended.set()
        if end.usage is not None:
            self.log.post(UsageEvent(usage=end.usage))
        if error is not None:
            self.log.post(Failed(error=error, message=message))
        else:
            self.log.post(Done(finish_reason=end.reason, message=message))
        self._turns.job_ended(self, settled=settled)

    def _journal_end(self, end: "_End") -> None:
        """Before the store has it, and in spite of a journal that takes no more: the store may."""
        try:
            if end.tool_calls:
                self._journal.calls(end.tool_calls)
            self._journal.ended(end.status, end.reason, end.usage, end.error)
        except SeamountError as error:
            _logger.warning("%s", error.text)
        fault_points.at("turn-ending")


@dataclass(frozen=True)
class _End:
    """How an answer ended, kept until it is stored."""

    status: MessageStatus
    reason: FinishReason
    usage: Usage | None
    error: ErrorBody | None
    thought: Thought | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    notices: tuple[str, ...] = ()

    def store(self, store: SessionStore, answer_id: str) -> Message:
        """Write it; raises what the store raises."""
        return store.end_turn(
            answer_id,
            status=self.status,
            finish_reason=self.reason,
            usage=self.usage,
            error=self.error,
            thought=self.thought,
            tool_calls=self.tool_calls,
            notices=self.notices,
        )


class _Keeper:
    """What `V4Answer` sees of a job."""

    def __init__(self, job: TurnJob) -> None:
        self._job = job
        self.keep = job.keep
        self.keep_thought = job.keep_thought

    def tell(self, event: "Event") -> None:
        """Tell whoever follows the turn."""
        if isinstance(event, Notice):
            self._job.keep_notice(event.text)
        self._job.log.post(event)
