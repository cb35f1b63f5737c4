"""The one thread that touches a backend or asks another machine's model, and the queue before it.

Owns: the order of what is done (loads and jobs, first come first served, so that a job runs on the model
that was current when it was asked for), each job's place, cancelling, and an end in bounded time. Does not
know what a job does (`turns`, `completions`) or how a model is opened (`model_host`).
"""

import abc
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import EngineUnreachable, GenerationError, ModelLoadError, NoModel, SeamountError
from engine.model_host import ModelHost

if TYPE_CHECKING:
    from engine.backends.remote import RemoteModel
    from engine.contexts.keeper import ContextKeeper

_logger = logging.getLogger(__name__)


class Job(abc.ABC):
    """One answer to be generated. Every job that was submitted hears exactly one of `run` and `refuse`."""

    def __init__(self, model_id: str) -> None:
        self.id = ""
        """The turn's id, where it has one."""
        self.answer_id: str | None = None
        """The stored message it writes, where there is one."""
        self.model_id = model_id
        self.cancelled = threading.Event()
        self.ended = threading.Event()
        self.place: int | None = None

    @abc.abstractmethod
    def place_is(self, place: int) -> None:
        """Its place has changed: `place` jobs stand before it. Must not block."""

    @abc.abstractmethod
    def run(self, keeper: "ContextKeeper") -> None:
        """Generate, on the generation thread. Errors are the job's own affair; `refuse` gets what escapes."""

    def run_remote(self, remote: "RemoteModel") -> None:
        """The same where another machine computes the model. What cannot be done there raises a SeamountError."""
        raise GenerationError(
            "Nothing was done",
            f"it needs a model on this machine, and {remote.name} runs on another one",
            "load a model of this machine",
        )

    @abc.abstractmethod
    def refuse(self, error: SeamountError | None) -> None:
        """It will not run, because of `error`; None: it was cancelled before it began."""


@dataclass(frozen=True)
class _Load:
    model_id: str
    remember: bool
    again: bool


class GenerationThread:
    """Runs jobs and loads, one at a time. `changed` is called, on any thread, when the queue has changed."""

    def __init__(self, host: ModelHost, changed: Callable[[], None]) -> None:
        self._host = host
        host.waits = lambda: self.waiting > 0
        self._changed = changed
        self._condition = threading.Condition()
        self._queue: list[Job | _Load] = []
        self._active: Job | _Load | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="generation", daemon=True)

    @property
    def closing(self) -> bool:
        """Whether the engine is stopping: what is cancelled now was not cancelled by a person."""
        return self._closing

    @property
    def active(self) -> Job | None:
        """The job that runs now."""
        active = self._active
        return active if isinstance(active, Job) else None

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        with self._condition:
            return sum(isinstance(item, Job) for item in self._queue)

    @property
    def model_id(self) -> str | None:
        """The model that a job submitted now would run on; None: there is none and none is asked for."""
        with self._condition:
            for item in [*reversed(self._queue), self._active]:
                if isinstance(item, _Load):
                    return item.model_id
        return self._host.loaded_id

    @property
    def load_waiting(self) -> str | None:
        """The model of the load that runs, which may not have come to its opening yet; else of the next one."""
        with self._condition:
            found = [item.model_id for item in (self._active, *self._queue) if isinstance(item, _Load)]
        return found[0] if found else None

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def load(self, model_id: str, *, remember: bool = False, again: bool = False) -> None:
        """Load `model_id` after what is asked for already.

        `remember`: keep it in the settings once it is loaded. `again`: even when it is loaded, because its
        settings have changed.
        """
        with self._condition:
            # A load that nobody has come to depend on gives way to the next one.
            if self._queue and isinstance(self._queue[-1], _Load):
                self._queue.pop()
            self._queue.append(_Load(model_id, remember, again))
            self._condition.notify()
        self._changed()

    def submit(self, job: Job) -> None:
        """Put `job` at the end of the queue. Raises EngineUnreachable when the engine is stopping."""
        with self._condition:
            if self._closing:
                raise EngineUnreachable(
                    "The answer cannot be begun", "the engine is stopping", "start it again and ask again"
                )
            self._queue.append(job)
            self._tell_places()
            self._condition.notify()
        self._changed()

    def cancel(self, job: Job) -> None:
        """End `job` within a token or a prefill chunk; at once when it has not begun. Twice is once."""
        job.cancelled.set()
        with self._condition:
            waiting = job in self._queue
            if waiting:
                self._queue.remove(job)
                self._tell_places()
        if waiting:
            self._refuse(job, None)
            self._changed()

    def close(self, timeout_s: float) -> bool:
        """Cancel everything and close the backend; False when that takes longer than `timeout_s`."""
        with self._condition:
            self._closing = True
            left = [item for item in self._queue if isinstance(item, Job)]
            self._queue.clear()
            if isinstance(self._active, Job):
                self._active.cancelled.set()
            self._condition.notify()
        self._host.stop_loading()
        for job in left:
            self._refuse(job, None)
        if not self._thread.is_alive():
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _tell_places(self) -> None:
        """Called with the lock held, so that places arrive in order."""
        ahead = [self._active, *self._queue]
        jobs = [item for item in ahead if isinstance(item, Job) and not item.ended.is_set()]
        for place, job in enumerate(jobs):
            if job.place != place:
                job.place = place
                job.place_is(place)

    def _work(self) -> None:
        while True:
            with self._condition:
                self._active = None
                self._tell_places()
                self._condition.wait_for(lambda: self._queue or self._closing)
                if self._closing:
                    break
                self._active = item = self._queue.pop(0)
                self._tell_places()
            self._changed()
            if isinstance(item, _Load):
                self._load(item)
            else:
                self._run(item)
            # The queue is looked at again before anybody is told: who waits for the end of this job must
            # not find it still active.
            with self._condition:
                self._active = None
            self._changed()
        self._host.close()

    def _load(self, load: _Load) -> None:
        try:
            self._host.load(load.model_id, remember=load.remember, again=load.again)
        except Exception:
            _logger.exception("loading %s failed in an unforeseen way", load.model_id)

    def _run(self, job: Job) -> None:
        try:
            self._require_loaded(job)
            if job.cancelled.is_set():
                self._refuse(job, None)
                return
            remote = self._host.remote()
            if remote is None:
                job.run(self._host.keeper())
            else:
                job.run_remote(remote)
            job.ended.set()
        except SeamountError as error:
            self._refuse(job, error)
        except Exception as error:
            _logger.exception("an answer failed in an unforeseen way")
            self._refuse(job, unforeseen(error))

    def _require_loaded(self, job: Job) -> None:
        """Raises why the model that `job` was asked of is not there."""
        if self._host.loaded_id == job.model_id:
            return
        if error := self._host.error:
            raise error
        if self._host.loaded_id is None:
            raise no_model()
        raise ModelLoadError(
            "The answer was not begun",
            f"the model {job.model_id} is not the one that is loaded now ({self._host.loaded_id})",
            "ask again",
        )

    def _refuse(self, job: Job, error: SeamountError | None) -> None:
        try:
            job.refuse(error)
        except Exception:
            _logger.exception("an answer could not be ended")
        job.ended.set()


def no_model() -> NoModel:
    """There is nothing to answer with."""
    return NoModel(
        "There is no model to answer with",
        "none is loaded, and none is in the models folder",
        "add a GGUF file and choose it as the model",
    )


def unforeseen(error: BaseException) -> GenerationError:
    """What a person is told of an exception that nobody foresaw; the log has its traceback."""
    return GenerationError(
        "The answer stopped",
        f"the engine met an error of its own ({type(error).__name__})",
        "try again; the engine's log says more",
    )
