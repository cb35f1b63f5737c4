"""Turns: a question is recorded, put to the model, and its answer kept as it arrives.

Owns: how a `TurnRequest` becomes a message tree's next answer, the job that writes it (stored first, told
second), and the logs of the turns that run and of the last that ended. Does not know threads and queues
(`generation_thread`), tables (`store/`), or HTTP.
"""

import asyncio
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from engine.conversation import Message as PromptMessage
from engine.engine_events import Change
from engine.errors import BadRequest, Conflict, NotFound, SeamountError
from engine.generation_thread import GenerationThread, Job, no_model, unforeseen
from engine.protocol import (
    Ask,
    Continue,
    Done,
    Edit,
    ErrorBody,
    Failed,
    FinishReason,
    Message,
    MessageStatus,
    Prefill,
    Queued,
    Retry,
    Sampling,
    Settings,
    Text,
    Turn,
    TurnRequest,
    Usage,
    UsageEvent,
)
from engine.store.sessions import SessionStore
from engine.text_groups import TextGroups
from engine.turn_log import TurnLog

if TYPE_CHECKING:
    from engine.backends.base import Backend
    from engine.generation import NewText, PrefillProgress

_logger = logging.getLogger(__name__)
ENDED_TURNS_KEPT = 64
RETRY_SAMPLING = Sampling(temperature=0.5, top_p=0.95, min_p=0.1)
"""Mild: the models that are greedy by default are those whose answers fall apart when drawn freely."""
SEED_BITS = 53
"""Seeds stay below 2**53, so that a client whose numbers are doubles keeps them exactly."""


def with_seed(sampling: Sampling) -> Sampling:
    """`sampling` with a seed, drawn now when it has none."""
    if sampling.seed is not None:
        return sampling
    return sampling.model_copy(update={"seed": secrets.randbits(SEED_BITS)})


def prompt_messages(system_message: str, branch: Iterable[Message]) -> list[PromptMessage]:
    """What is put to the model: the system message (unless empty) and the branch's texts in order.

    An answer without text says nothing and is left out; the questions that then follow each other become one,
    because many templates insist that question and answer alternate.
    """
    messages: list[PromptMessage] = []
    if system_message.strip():
        messages.append(PromptMessage("system", system_message))
    for message in branch:
        if message.role == "assistant" and not message.text:
            continue
        if messages and messages[-1].role == message.role == "user":
            messages[-1] = PromptMessage("user", f"{messages[-1].text}\n\n{message.text}")
        else:
            messages.append(PromptMessage(message.role, message.text))
    return messages


class Turns:
    """The turns of one engine. Every method may be called from any thread, and may wait for the disk."""

    def __init__(
        self,
        *,
        store: SessionStore,
        thread: GenerationThread,
        settings: Callable[[], Settings],
        suited_sampling: Callable[[str], Sampling],
        default_model: Callable[[], str | None],
        session_changed: Callable[[str, Change], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.store = store
        self.thread = thread
        self.settings = settings
        self._suited_sampling = suited_sampling
        self._default_model = default_model
        self._session_changed = session_changed
        self._loop = loop
        self._starting = threading.Lock()
        self._jobs: dict[str, _TurnJob] = {}
        self._ended: deque[str] = deque()
        self._unsettled: list[_TurnJob] = []

    def start(self, request: TurnRequest) -> Turn:
        """Record the turn and put it in the queue.

        Raises NotFound, BadRequest, Conflict for what cannot be asked, NoModel, DataFolderError; nothing is
        then recorded.
        """
        with self._starting:
            self.settle()
            model_id = self.model_id()
            question, answer, already, sampling = self._record(request, model_id)
            job = _TurnJob(
                self,
                TurnLog(self._loop),
                session_id=request.turn.session_id,
                answer=answer,
                model_id=model_id,
                sampling=sampling,
                already=tuple(already),
                max_tokens=request.max_tokens,
            )
            self._jobs[job.id] = job
            self.changed(job.session_id)
            try:
                self.thread.submit(job)
            except SeamountError:
                job.refuse(None)
                raise
        return Turn(id=job.id, session_id=job.session_id, question=question, answer=answer)

    def model_id(self) -> str:
        """The model that an answer asked for now is written by; a load is begun when there is none."""
        model_id = self.thread.model_id
        if model_id is None:
            model_id = self._default_model()
            if model_id is None:
                raise no_model()
            self.thread.load(model_id)
        return model_id

    def sampling(self, asked: Sampling | None, model_id: str, *, again: bool = False) -> Sampling:
        """What was asked for, else the settings', else what suits the model; with a seed.

        `again`: another answer is wanted. Where nobody chose the sampling and what suits the model always
        gives the same answer, this one is drawn at `RETRY_SAMPLING` instead.
        """
        chosen = asked or self.settings().sampling
        if chosen is None:
            chosen = self._suited_sampling(model_id)
            if again and chosen.temperature == 0:
                chosen = RETRY_SAMPLING
        return with_seed(chosen)

    def log(self, turn_id: str) -> TurnLog:
        """The events of a turn that waits, runs, or is one of the last that ended. Raises NotFound."""
        return self._job(turn_id).log

    def cancel(self, turn_id: str) -> TurnLog:
        """Stop the turn within a token; one that has ended stays as it is. Raises NotFound."""
        job = self._job(turn_id)
        if not job.ended.is_set():
            self.thread.cancel(job)
        return job.log

    def end_session(self, session_id: str, timeout_s: float) -> None:
        """Stop what is being written in a session, and wait for it up to `timeout_s`."""
        jobs = [job for job in list(self._jobs.values()) if job.session_id == session_id]
        for job in jobs:
            if not job.ended.is_set():
                self.thread.cancel(job)
        for job in jobs:
            job.ended.wait(timeout_s)

    def settle(self) -> None:
        """Store the ends of turns that could not be stored when they came, because the disk was full."""
        for job in list(self._unsettled):
            if job.settle():
                self._unsettled.remove(job)

    def changed(self, session_id: str) -> None:
        """Tell everybody that the session has."""
        self._session_changed(session_id, "updated")

    def job_ended(self, job: "_TurnJob", *, settled: bool) -> None:
        """Called by a job after its last event."""
        if not settled:
            self._unsettled.append(job)
        self._ended.append(job.id)
        while len(self._ended) > ENDED_TURNS_KEPT:
            self._jobs.pop(self._ended.popleft(), None)
        self.changed(job.session_id)

    def _job(self, turn_id: str) -> "_TurnJob":
        job = self._jobs.get(turn_id)
        if job is None:
            raise NotFound(
                "The turn cannot be followed",
                "it is not known, or it ended long ago",
                "read the conversation instead",
            )
        return job

    def _record(
        self, request: TurnRequest, model_id: str
    ) -> tuple[Message | None, Message, list[int], Sampling]:
        turn = request.turn
        store, session_id = self.store, turn.session_id
        if isinstance(turn, Continue):
            before = store.message(session_id, turn.message_id)
            if before.text and before.model_id not in (None, model_id):
                raise Conflict(
                    "The answer cannot be continued",
                    f"it was written by the model {before.model_id}, and {model_id} is loaded",
                    "load that model, or ask for another answer",
                )
            answer, already, sampling = store.reopen_answer(session_id, turn.message_id)
            return None, answer, already, with_seed(sampling)
        if isinstance(turn, Retry | Edit):
            message = store.message(session_id, turn.message_id)
            wanted = "assistant" if isinstance(turn, Retry) else "user"
            if message.role != wanted:
                raise BadRequest(
                    "The turn cannot be begun",
                    "only an answer can be given anew, and only a question can be edited",
                    "choose the message again",
                )
            parent_id = message.parent_id
        elif turn.at_leaf:
            parent_id = store.session(session_id).leaf_id
        else:
            parent_id = turn.parent_id
        question = turn.text if isinstance(turn, Ask | Edit) else None
        if question is not None and not question.strip():
            raise BadRequest("The question was not sent", "it is empty", "write something first")
        sampling = self.sampling(request.sampling, model_id, again=isinstance(turn, Retry))
        asked, answer = store.begin_turn(
            session_id, parent_id=parent_id, question=question, model_id=model_id, sampling=sampling
        )
        return asked, answer, [], sampling


class _TurnJob(Job):
    """One answer being written into the store. What it says goes to its log after it is stored."""

    def __init__(
        self,
        turns: Turns,
        log: TurnLog,
        *,
        session_id: str,
        answer: Message,
        model_id: str,
        sampling: Sampling,
        already: tuple[int, ...],
        max_tokens: int | None,
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
        self._max_tokens = max_tokens
        self._text = answer.text
        self._generated = 0
        self._storing_failed: SeamountError | None = None
        self._end: tuple[MessageStatus, FinishReason, Usage | None, ErrorBody | None] | None = None

    def place_is(self, place: int) -> None:
        self.log.post(Queued(place=place))

    def run(self, backend: "Backend") -> None:
        from engine.encoding.prompt import encode_chat
        from engine.generation import GenerationRequest, NewText, generate

        groups = TextGroups(self._keep)

        def emit(event: "PrefillProgress | NewText") -> None:
            if isinstance(event, NewText):
                groups.add(event.text, event.token_ids)
            else:
                self.log.post(Prefill(done=event.done, total=event.total, reused=event.reused))

        try:
            settings, store = self._turns.settings(), self._turns.store
            # What stands above the answer; the answer itself, when it is continued, is token ids.
            branch = store.branch(self.session_id, self._answer.id)[:-1]
            prompt = encode_chat(backend, prompt_messages(settings.system_message, branch))
            request = GenerationRequest(
                prompt=tuple(prompt),
                sampling=self._sampling,
                max_tokens=self._max_tokens or settings.answer_tokens or None,
                already=self._already,
            )
            try:
                outcome = generate(backend, request, emit, self.cancelled.is_set)
            finally:
                groups.flush()
        except SeamountError as error:
            self._fail(self._storing_failed or error)
        except Exception as error:
            _logger.exception("an answer failed in an unforeseen way")
            self._fail(self._storing_failed or unforeseen(error))
        else:
            if self._storing_failed:
                self._fail(self._storing_failed)
            elif outcome.reason == "cancelled":
                self._cancelled(outcome.usage)
            else:
                self._finish("complete", outcome.reason, outcome.usage, None)

    def refuse(self, error: SeamountError | None) -> None:
        if error is None:
            self._cancelled(None)
        else:
            self._fail(error)

    def settle(self) -> bool:
        """Store an end that could not be stored; True when that is done, or can never be."""
        if self._end is None:
            return False
        status, reason, usage, error = self._end
        try:
            self._turns.store.end_turn(
                self._answer.id, status=status, finish_reason=reason, usage=usage, error=error
            )
        except (NotFound, Conflict):
            return True
        except SeamountError:
            return False
        self._turns.changed(self.session_id)
        return True

    def _keep(self, text: str, token_ids: list[int]) -> None:
        """Store, then tell."""
        if self._storing_failed:
            return
        try:
            self._turns.store.append(self._answer.id, text, token_ids)
        except SeamountError as error:
            self._storing_failed = error
            self.cancelled.set()
            raise
        offset = len(self._text)
        self._text += text
        self._generated += len(token_ids)
        if text:
            self.log.post(Text(offset=offset, text=text, generated_tokens=self._generated))

    def _cancelled(self, usage: Usage | None) -> None:
        if self._turns.thread.closing:
            self._finish("interrupted", "interrupted", usage, None)
        else:
            self._finish("complete", "cancelled", usage, None)

    def _fail(self, error: SeamountError) -> None:
        self._finish("failed", "error", None, ErrorBody(code=error.code, text=error.text))

    def _finish(
        self, status: MessageStatus, reason: FinishReason, usage: Usage | None, error: ErrorBody | None
    ) -> None:
        self._end = (status, reason, usage, error)
        settled = True
        try:
            message = self._turns.store.end_turn(
                self._answer.id, status=status, finish_reason=reason, usage=usage, error=error
            )
        except SeamountError as trouble:
            # What was told is stored; only its end is not. It is tried again before the next turn, and the
            # store's next opening sees to it in any case.
            settled = isinstance(trouble, NotFound | Conflict)
            error = error or ErrorBody(code=trouble.code, text=trouble.text)
            message = self._answer.model_copy(
                update={"text": self._text, "status": "failed", "finish_reason": "error", "error": error}
            )
        # Before anybody can act on the last event: this turn is in nobody's way any more.
        self.ended.set()
        if usage is not None:
            self.log.post(UsageEvent(usage=usage))
        if error is not None:
            self.log.post(Failed(error=error, message=message))
        else:
            self.log.post(Done(finish_reason=reason, message=message))
        self._turns.job_ended(self, settled=settled)
