"""Turns: a question is recorded, put to the model, and its answer kept as it arrives.

Owns: how a `TurnRequest` becomes a message tree's next answer, and the turns that run and the last that
ended. Does not know how an answer comes about (`turn_job`), threads and queues (`generation_thread`), tables
(`store/`), or HTTP.
"""

import asyncio
import contextlib
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine import fault_points
from engine.engine_events import Change
from engine.errors import BadRequest, Conflict, ContextTooSmall, NotFound, Retold, SeamountError
from engine.generation_thread import GenerationThread, no_model
from engine.protocol import (
    Ask,
    Continue,
    Edit,
    ErrorBody,
    LoadedModel,
    Message,
    ReasoningMode,
    RemotePlace,
    Results,
    Retry,
    Reuse,
    ReuseRequest,
    Sampling,
    Settings,
    Turn,
    TurnRequest,
    Usage,
)
from engine.reuse import Question
from engine.store.journal import TurnJournal
from engine.store.journals import Journals
from engine.store.sessions import SessionStore
from engine.turn_job import TurnJob
from engine.turn_log import TurnLog
from engine.turn_prompts import cost_of_mode

if TYPE_CHECKING:
    from engine.contexts.keeper import ContextKeeper
    from engine.placement.load_plan import LoadPlan

_logger = logging.getLogger(__name__)
ENDED_TURNS_KEPT = 64
REUSE_WAIT_S = 5.0
RETRY_SAMPLING = Sampling(temperature=0.5, top_p=0.95, min_p=0.1)
"""Mild: the models that are greedy by default are those whose answers fall apart when drawn freely."""
SEED_BITS = 53
"""Seeds stay below 2**53, so that a client whose numbers are doubles keeps them exactly."""


def with_seed(sampling: Sampling) -> Sampling:
    """`sampling` with a seed, drawn now when it has none."""
    if sampling.seed is not None:
        return sampling
    return sampling.model_copy(update={"seed": secrets.randbits(SEED_BITS)})


class Turns:
    """The turns of one engine. Every method may be called from any thread, and may wait for the disk."""

    def __init__(
        self,
        *,
        store: SessionStore,
        journals: Journals,
        thread: GenerationThread,
        settings: Callable[[], Settings],
        suited_sampling: Callable[[str], Sampling],
        default_model: Callable[[], str | None],
        loaded: Callable[[], LoadedModel | None],
        session_changed: Callable[[str, Change], None],
        loop: asyncio.AbstractEventLoop,
        gave: "Callable[[str, LoadPlan | None, Usage], None]" = lambda _model_id, _plan, _usage: None,
        place: Callable[[str], RemotePlace | None] = lambda _model_id: None,
    ) -> None:
        """`place`: where another machine computes a model; None: it is computed here. Raises NotFound."""
        self.gave = gave
        """Told what each answer cost, by model and the plan that it was loaded by; raises nothing."""
        self.store = store
        self._journals = journals
        self.thread = thread
        self.settings = settings
        self._suited_sampling = suited_sampling
        self._default_model = default_model
        self._loaded = loaded
        self._place = place
        self._session_changed = session_changed
        self._loop = loop
        self._starting = threading.Lock()
        self._jobs: dict[str, TurnJob] = {}
        self._ended: deque[str] = deque()
        self._unsettled: list[TurnJob] = []

    def start(self, request: TurnRequest) -> Turn:
        """Record the turn and put it in the queue.

        Raises NotFound, BadRequest, Conflict for what cannot be asked, NoModel, DataFolderError; nothing is
        then recorded, but for a turn whose journal cannot be begun: that has failed.
        """
        with self._starting:
            self.settle()
            model_id = self.model_id()
            self._require_told(request.told_place, model_id)
            recorded = self._record(request, model_id, self._mode(request, model_id))
            answer, session_id = recorded.answer, request.turn.session_id
            fault_points.at("turn-stored")
            most_tokens, thinking_tokens = self._limits(request, recorded)
            journal = self._journal(session_id, recorded, model_id, most_tokens, thinking_tokens)
            job = TurnJob(
                self,
                TurnLog(self._loop),
                session_id=session_id,
                answer=answer,
                model_id=model_id,
                sampling=recorded.sampling,
                already=tuple(recorded.already),
                journal=journal,
                most_tokens=most_tokens,
                thinking_tokens=thinking_tokens,
            )
            self._jobs[job.id] = job
            self.changed(job.session_id)
            try:
                self.thread.submit(job)
            except SeamountError:
                job.refuse(None)
                raise
        return Turn(
            id=job.id,
            session_id=session_id,
            question=recorded.question,
            answer=answer,
            results=recorded.results,
        )

    def reuse(self, request: ReuseRequest) -> Reuse:
        """What a turn would cost in the given mode. Takes a model without modes as is.

        Raises NotFound, NoModel, BadRequest for what cannot be asked, Conflict while the model is busy.
        """
        session = self.store.session(request.session_id)
        above_id, mode, already = session.leaf_id, request.mode, list[int]()
        if request.message_id is not None:
            message = self.store.message(request.session_id, request.message_id)
            above_id = message.id
            if request.kind != "ask":
                _require_role(message, "user" if request.kind == "edit" else "assistant")
                above_id = message.parent_id
            if request.kind == "continue":
                mode, already = message.mode or mode, self.store.token_ids(message.id)
        elif request.kind != "ask":
            raise BadRequest("The cost cannot be told", "no message is named", "choose the message again")
        branch = [] if above_id is None else self.store.branch(request.session_id, above_id)
        model_id, answered = self.model_id(), request.kind in ("retry", "continue")

        def ask(keeper: "ContextKeeper") -> Reuse:
            tools, settings = session.tools, self.settings()
            return cost_of_mode(
                settings,
                self.store,
                keeper,
                branch,
                tools,
                model_id,
                mode,
                answered=answered,
                already=already,
            )

        question = Question(model_id, ask)
        self.thread.submit(question)
        try:
            return question.wait(REUSE_WAIT_S)
        finally:
            self.thread.cancel(question)

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

    def job_ended(self, job: "TurnJob", *, settled: bool) -> None:
        """Called by a job after its last event."""
        if not settled:
            self._unsettled.append(job)
        self._ended.append(job.id)
        while len(self._ended) > ENDED_TURNS_KEPT:
            self._jobs.pop(self._ended.popleft(), None)
        self.changed(job.session_id)

    def _job(self, turn_id: str) -> "TurnJob":
        job = self._jobs.get(turn_id)
        if job is None:
            raise NotFound(
                "The turn cannot be followed",
                "it is not known, or it ended long ago",
                "read the conversation instead",
            )
        return job

    def _require_told(self, told_place: str | None, model_id: str) -> None:
        """A conversation goes to another machine only where the person was told of that one. Raises Conflict.

        Another window, or a program, may have had another model loaded since the person looked.
        """
        place = None if told_place is None else self._place(model_id)
        if place is not None and place.host != told_place:
            raise Conflict(
                "Nothing was sent",
                f"the model that answers now runs at {place.host}, which was not shown when this was asked",
                "ask again if the conversation may go there, or load another model",
            )

    def _mode(self, request: TurnRequest, model_id: str) -> ReasoningMode | None:
        """The mode of a new answer. Raises ContextTooSmall for one that the loaded context has no room for.

        A model that is still being loaded is asked for its modes when the turn runs.
        """
        mode = request.mode or self.settings().mode
        loaded = self._loaded()
        if loaded is None or loaded.id != model_id:
            return mode
        if not loaded.modes:
            return None
        if not isinstance(request.turn, Continue):
            require_mode(mode, loaded)
        return mode

    def _limits(self, request: TurnRequest, recorded: "_Recorded") -> tuple[int | None, int | None]:
        """How many tokens the answer may come to, and how many its reasoning; None: as many as fit.

        An answer that the end of an engine cut off comes to no more than it would have.
        """
        if recorded.was_interrupted:
            try:
                cut_off = self._journals.last(request.turn.session_id, recorded.answer.id)
            except SeamountError as error:
                _logger.warning("%s", error.text)
                cut_off = None
            if cut_off is not None:
                return cut_off.begun.most_tokens, cut_off.begun.thinking_tokens
        settings = self.settings()
        more = request.max_tokens or settings.answer_tokens
        thinking = settings.thinking_tokens if request.thinking_tokens is None else request.thinking_tokens
        return len(recorded.already) + more if more else None, thinking or None

    def _journal(
        self,
        session_id: str,
        recorded: "_Recorded",
        model_id: str,
        most_tokens: int | None,
        thinking_tokens: int | None,
    ) -> TurnJournal:
        try:
            return self._journals.turn(
                session_id,
                recorded.answer,
                model_id=model_id,
                sampling=recorded.sampling,
                already=len(recorded.already),
                most_tokens=most_tokens,
                thinking_tokens=thinking_tokens,
            )
        except SeamountError as error:
            body = ErrorBody(code=error.code, text=error.text)
            with contextlib.suppress(SeamountError):
                self.store.end_turn(recorded.answer.id, status="failed", finish_reason="error", error=body)
            self.changed(session_id)
            raise

    def _record(self, request: TurnRequest, model_id: str, mode: ReasoningMode | None) -> "_Recorded":
        turn = request.turn
        store, session_id = self.store, turn.session_id
        if isinstance(turn, Continue):
            before = store.message(session_id, turn.message_id)
            wrote = before.text or before.reasoning or before.unfinished_call
            if wrote and before.model_id not in (None, model_id):
                raise Conflict(
                    "The answer cannot be continued",
                    f"it was written by the model {before.model_id}, and {model_id} is loaded",
                    "load that model, or ask for another answer",
                )
            # Of which nothing had come another model writes as a whole, and it is not said to be of the first.
            writer = None if wrote else model_id
            answer, already, sampling = store.reopen_answer(session_id, turn.message_id, writer)
            was_interrupted = before.status == "interrupted"
            return _Recorded(answer, with_seed(sampling), already=already, was_interrupted=was_interrupted)
        if isinstance(turn, Results):
            sampling = self.sampling(request.sampling, model_id)
            results, answer = store.begin_results(
                session_id, turn.message_id, turn.results, model_id=model_id, sampling=sampling, mode=mode
            )
            return _Recorded(answer, sampling, results=results)
        if isinstance(turn, Retry | Edit):
            message = store.message(session_id, turn.message_id)
            _require_role(message, "assistant" if isinstance(turn, Retry) else "user")
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
            session_id,
            parent_id=parent_id,
            question=question,
            model_id=model_id,
            sampling=sampling,
            mode=mode,
        )
        return _Recorded(answer, sampling, question=asked)


@dataclass(frozen=True)
class _Recorded:
    """A turn as it stands in the store."""

    answer: Message
    sampling: Sampling
    question: Message | None = None
    results: list[Message] = field(default_factory=lambda: list[Message]())
    already: Sequence[int] = ()
    was_interrupted: bool = False
    """It was cut off by the end of an engine, and goes on."""


def _require_role(message: Message, role: str) -> None:
    if message.role != role:
        raise BadRequest(
            "The turn cannot be begun",
            "only an answer can be given anew, and only a question can be edited",
            "choose the message again",
        )


def require_mode(mode: ReasoningMode, loaded: LoadedModel) -> None:
    """Raises ContextTooSmall with the reason why `mode` cannot be chosen for the loaded model."""
    choice = next((choice for choice in loaded.modes if choice.mode == mode), None)
    if choice is not None and choice.problem is not None:
        raise NoRoomForMode(choice.problem)


class NoRoomForMode(Retold, ContextTooSmall):
    """A mode that the loaded context is too small for, in the sentence that its choice says it with."""
