"""Jobs: begun, watched, paused, gone on with, given up, forgotten.

Owns: when each runs. What state it is in follows from the files of its folder (`job_folder`, `job_states`) and from
whether its process runs (`job_process`), never from what this engine remembers; so a new engine finds the jobs of an
earlier one. One job that fetches and one that only uses the disk run at a time; the others wait in the order they came,
and no two that work on the same files are in the list. Does no work: `seamount work` does (`work`), in a process of its
own that goes on when the engine ends.
"""

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

from engine.errors import Conflict, NotFound, SeamountError
from engine.library.jobs import job_process, job_remains
from engine.library.jobs.job_folder import Course, JobFolder
from engine.library.jobs.job_plan import Claims, JobPlan, claims_of
from engine.library.jobs.job_states import (
    NAMES,
    OPEN,
    clash,
    exactness_of,
    files_of,
    job_of,
    state_of,
    waits,
)
from engine.protocol_jobs import Exactness, FetchRequest, Job, JobState

WATCH_S = 0.4
IDLE_S = 5.0
STOP_TIMEOUT_S = 30.0
"""From asking a process to stop until it is ended; it stops after a few megabytes."""
_logger = logging.getLogger(__name__)


class Jobs:
    """The jobs of one data folder. Any thread may call it; it reads files, so not the event loop's.

    `changed` is called with a job's id, from any thread, whenever what `get` would say may have changed; `ended` with
    a job that has come to its end, before that is noted: at least once, by this engine or the next one. `access_for`
    gives the hub's address and the access token for it, or None.
    """

    def __init__(self, folder: Path, changed: Callable[[str], None] = lambda _: None) -> None:
        self.changed = changed
        self.ended: Callable[[Job, JobPlan], None] = lambda _job, _plan: None
        self.access_for: Callable[[], tuple[str, str] | None] = lambda: None
        self._folder = folder
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._closed = False
        self._stop_asked_s: dict[str, float] = {}
        self._ending: set[str] = set()
        self._shown: dict[str, Job] = {}
        self._exactness: dict[str, Exactness | None] = {}
        self._jobs = {job.id: job for job in _found(folder)}
        self._thread = threading.Thread(target=self._watch, name="jobs", daemon=True)

    def start_watching(self) -> None:
        """From now on look after the processes, and begin what waits."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; what runs goes on."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(2 * WATCH_S + 2)

    @property
    def waiting(self) -> bool:
        """Whether a job waits for its turn: an engine has to begin it."""
        with self._lock:
            return any(waits(job.course) for job in self._jobs.values())

    def entries(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._lock:
            for job in list(self._jobs.values()):
                self._note_end(job)
            jobs = [self._tell(job) for job in self._jobs.values()]
        return sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)

    def get(self, job_id: str) -> Job:
        """One job. Raises NotFound."""
        with self._lock:
            self._note_end(self._job(job_id))
            return self._tell(self._job(job_id))

    def asked_again(self, asked: FetchRequest) -> Job | None:
        """The download in the list that was asked for by the same words; None if there is none.

        It goes on if it was paused, was interrupted or has failed. So two windows that ask for one model share one job,
        and a command that is given again goes on where it was. Raises Conflict, DataFolderError.
        """
        with self._lock:
            job = self._same_download(asked)
            return None if job is None else self.resume(job.id)

    def start(self, plan: JobPlan) -> Job:
        """Note a job down; it begins when it is its turn. Raises Conflict, DataFolderError.

        A download that is asked for again is the one in the list, as in `asked_again`.
        """
        with self._lock:
            asked = plan.asked
            if isinstance(asked, FetchRequest) and (same := self._same_download(asked)) is not None:
                return self.resume(same.id)
            self._refuse_clash(plan, None)
            job = JobFolder.create(self._folder / secrets.token_hex(8), plan, time.time())
            self._jobs[job.id] = job
            self._look_after()
            return self._after(job)

    def pause(self, job_id: str) -> Job:
        """Stop it so that it can go on. Raises NotFound, Conflict for one that neither runs nor waits."""
        with self._lock:
            job = self._job(job_id)
            state = self._state(job)
            if state == "paused" or (state == "running" and job.course.wish == "pause"):
                return self._tell(job)
            if state not in ("queued", "running") or job.course.wish == "cancel":
                raise clash(job.plan.asked.kind, "paused", state)
            job.save(replace(job.course, wish="pause"))
            self._ask_to_stop(job)
            return self._after(job)

    def resume(self, job_id: str) -> Job:
        """Go on with one that was paused or interrupted, or has failed. Raises NotFound, Conflict, DataFolderError."""
        with self._lock:
            job = self._job(job_id)
            state = self._state(job)
            if state == "queued" or (state == "running" and job.course.wish == "run"):
                return self._tell(job)
            if state not in ("paused", "interrupted", "failed"):
                stops = state == "running"
                raise clash(job.plan.asked.kind, "resumed", "stopping" if stops else state)
            self._refuse_clash(job.plan, job)
            # The end of the last run is behind it: it waits as a new one does.
            job.save(Course(wish="run", run=job.course.run, ended=job.course.run == 0))
            self._stop_asked_s.pop(job_id, None)
            self._look_after()
            return self._after(job)

    def cancel(self, job_id: str, *, remove_partial: bool = False) -> Job:
        """Give it up; `remove_partial`: and delete what it wrote. Raises NotFound, Conflict."""
        with self._lock:
            job = self._job(job_id)
            state = self._state(job)
            if state in ("done", "cancelled"):
                raise clash(job.plan.asked.kind, "cancelled", state)
            if remove_partial:
                job_remains.refuse_if_needed(job.plan, job.said().progress)
                self._refuse_others_work(job)
            job.save(replace(job.course, wish="cancel", remove_partial=remove_partial))
            if state == "running":
                self._ask_to_stop(job)
            else:
                self._give_up(job)
            return self._after(job)

    def forget(self, job_id: str) -> None:
        """Take one that is over off the list; its files stay. Raises NotFound, Conflict, DataFolderError."""
        with self._lock:
            job = self._job(job_id)
            state = self._state(job)
            if state in OPEN:
                raise clash(job.plan.asked.kind, "removed from the list", state)
            job.forget()
            for known in (self._jobs, self._shown, self._exactness, self._stop_asked_s):
                known.pop(job_id, None)
        self.changed(job_id)

    # --- states -------------------------------------------------------------------------------------

    def _job(self, job_id: str) -> JobFolder:
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFound("The job cannot be found", "it is not in the list any more", "look at the list")
        return job

    def _state(self, job: JobFolder) -> JobState:
        return state_of(job.course, job.said(), runs=_runs(job))

    def _tell(self, job: JobFolder) -> Job:
        said = job.said()
        state = state_of(job.course, said, runs=_runs(job))
        if state == "done" and job.id not in self._exactness:
            self._exactness[job.id] = exactness_of(files_of(said))
        return job_of(job, state, said, self._exactness.get(job.id))

    def _after(self, job: JobFolder) -> Job:
        """What a job has become by a wish; told to everybody."""
        told = self._shown[job.id] = self._tell(job)
        self._wake.set()
        self.changed(job.id)
        return told

    def _same_download(self, asked: FetchRequest) -> JobFolder | None:
        for job in self._jobs.values():
            if asked in (job.plan.asked, job.plan.wanted) and self._state(job) in (*OPEN, "failed"):
                return job
        return None

    def _clashing(self, wanted: Claims, but: JobFolder | None) -> JobFolder | None:
        for job in self._jobs.values():
            if job is but or not wanted.clash_with(claims_of(job.plan)):
                continue
            if self._state(job) in OPEN:
                return job
        return None

    def _refuse_clash(self, plan: JobPlan, but: JobFolder | None) -> None:
        job = self._clashing(claims_of(plan), but)
        if job is not None:
            other = NAMES[job.plan.asked.kind].removeprefix("The ")
            raise Conflict(
                f"{NAMES[plan.asked.kind]} of {plan.title} could not be begun",
                f"another {other} in the list, of {job.plan.title}, works on the same files",
                "let that one finish or cancel it, or choose another place",
            )

    def _refuse_others_work(self, job: JobFolder) -> None:
        """Raise Conflict when another job goes on with, or has finished, what this one has written."""
        claims = claims_of(job.plan)
        for other in self._jobs.values():
            if other is job or not claims.clash_with(claims_of(other.plan)):
                continue
            state = self._state(other)
            finished_it = (
                state == "done" and other.plan.asked.kind != "verify" and other.created_at > job.created_at
            )
            if state in OPEN or finished_it:
                name = NAMES[other.plan.asked.kind]
                raise Conflict(
                    f"What {NAMES[job.plan.asked.kind].lower()} of {job.plan.title} wrote was kept",
                    f"{name.lower()} of {other.plan.title} in the list has worked on the same files since",
                    "cancel it without deleting anything",
                )

    # --- processes ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._closed:
            self._wake.clear()
            busy = False
            try:
                with self._lock:
                    busy = self._look_after()
                    changed = self._changes()
                for job_id in changed:
                    self.changed(job_id)
            except (OSError, SeamountError) as error:
                _logger.warning("the jobs could not be looked after: %s", error)
            self._wake.wait(WATCH_S if busy else IDLE_S)

    def _look_after(self) -> bool:
        """Note what has ended, finish what was to be stopped, begin what waits; whether there is more to do."""
        running: set[str] = set()
        for job in list(self._jobs.values()):
            if job.course.ended or waits(job.course):
                continue
            with _alone_in_trouble(job):
                if self._goes_on(job):
                    running.add(_lane(job))
        waiting = sorted(
            (job for job in self._jobs.values() if waits(job.course)), key=lambda job: job.created_at
        )
        for job in waiting:
            if _lane(job) not in running:
                with _alone_in_trouble(job):
                    self._begin(job)
                    running.add(_lane(job))
        return bool(running or waiting)

    def _note_end(self, job: JobFolder) -> None:
        """Before anybody is told that a job is over: what follows from its end is done."""
        if job.id in self._ending or job.course.ended or waits(job.course) or _runs(job):
            return
        self._ending.add(job.id)  # what follows may ask for the list
        try:
            with _alone_in_trouble(job):
                self._goes_on(job)
        finally:
            self._ending.discard(job.id)

    def _goes_on(self, job: JobFolder) -> bool:
        """Whether the process of a job runs, which is stopped if that is wished; if not, its end is noted."""
        course = job.course
        if _runs(job):
            asked_s = self._stop_asked_s.get(job.id)
            if course.wish != "run" and asked_s is None:
                self._ask_to_stop(job)  # an earlier engine's wish
            elif asked_s is not None and time.monotonic() - asked_s > STOP_TIMEOUT_S and course.pid:
                job_process.stop(course.pid, course.started_at, _arguments(job), at_once=True)
            return True
        self._stop_asked_s.pop(job.id, None)
        if course.wish == "cancel" and self._state(job) == "cancelled":
            self._give_up(job)
        else:
            self._end(job)
        return False

    def _begin(self, job: JobFolder) -> None:
        run = job.course.run + 1
        try:
            job.begin_run(run)
            # Noted before it is so: an engine that dies in between leaves a process to be looked for.
            job.save(Course(wish="run", run=run, ended=False, pid=None))
            access = self.access_for() if job.plan.asked.kind == "fetch" else None
            pid, started_at = job_process.start(_arguments(job), job.events, job.errors, access)
        except (OSError, SeamountError) as error:
            why = f"its process could not be started ({getattr(error, 'strerror', None) or error})"
            name = NAMES[job.plan.asked.kind]
            problem = f"{name} has failed: {why}; close other programs and resume it."
            if isinstance(error, SeamountError):
                problem = error.text
            job.save(Course(wish="run", run=run, ended=True, problem=problem))
            return
        course = Course(wish="run", run=run, ended=False, pid=pid, started_at=started_at)
        try:
            job.save(course)
        except SeamountError:
            # It runs for all that, and must not be begun twice; the next engine looks for it.
            job.course = course
            raise

    def _ask_to_stop(self, job: JobFolder) -> None:
        course = job.course
        if course.pid is not None and not course.ended:
            self._stop_asked_s.setdefault(job.id, time.monotonic())
            job_process.stop(course.pid, course.started_at, _arguments(job))

    def _end(self, job: JobFolder) -> None:
        """Its process has gone: what follows from that is done, then noted."""
        self._ending.add(job.id)
        try:
            self._tell_end(job)
        finally:
            self._ending.discard(job.id)
        job.save(replace(job.course, ended=True))

    def _give_up(self, job: JobFolder) -> None:
        """After its process has gone: what was asked for with the cancelling."""
        problem = None
        # Only what this job itself is known to have written is its own to delete.
        progress = job.said().progress
        if job.course.remove_partial and progress is not None:
            try:
                job_remains.remove(job.plan, progress)
            except SeamountError as error:
                problem = error.text
        job.save(replace(job.course, ended=True, problem=problem))
        self._tell_end(job)

    def _tell_end(self, job: JobFolder) -> None:
        try:
            self.ended(self._tell(job), job.plan)
        except Exception:  # the other jobs are still to be looked after
            _logger.exception("what follows from the end of %s was not done", job.plan.title)

    def _changes(self) -> list[str]:
        """The jobs of which something else would be told than the last time."""
        told = {job.id: self._tell(job) for job in self._jobs.values() if not self._is_settled(job)}
        changed = [job_id for job_id, job in told.items() if self._shown.get(job_id) != job]
        self._shown |= told
        return changed

    def _is_settled(self, job: JobFolder) -> bool:
        """Nothing of it can change by itself, and all of it was told."""
        shown = self._shown.get(job.id)
        return job.course.ended and shown is not None and shown.state not in ("running", "queued")


def running_titles(folder: Path) -> list[str]:
    """Of the jobs in `folder` that have a process now, whoever started it; for who asks without an engine."""
    return [job.plan.title for job in _found(folder) if _runs(job)]


def _found(folder: Path) -> list[JobFolder]:
    """The jobs that earlier engines left; what cannot be read is left alone, with a line in the log."""
    found: list[JobFolder] = []
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
    for path in paths:
        try:
            job = JobFolder.load(path)
            if job.course.run and not job.course.ended and job.course.pid is None:
                _adopt(job)
            found.append(job)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SeamountError) as error:
            _logger.warning("the job in %s is ignored: %s", path, error)
    return found


@contextlib.contextmanager
def _alone_in_trouble(job: JobFolder) -> Generator[None]:
    """What cannot be noted down of one job must not keep the others from going on."""
    try:
        yield
    except (OSError, SeamountError) as error:
        _logger.warning("the job in %s could not be looked after: %s", job.path, error)


def _adopt(job: JobFolder) -> None:
    """An engine ended between starting a process and noting its number."""
    process = job_process.find(_arguments(job))
    if process is not None:
        job.save(replace(job.course, pid=process[0], started_at=process[1]))


def _runs(job: JobFolder) -> bool:
    course = job.course
    if course.ended or course.pid is None:
        return False
    return job_process.is_running(course.pid, course.started_at, _arguments(job))


def _arguments(job: JobFolder) -> list[str]:
    return job_process.arguments_of(job.path)


def _lane(job: JobFolder) -> str:
    """Of each lane one job runs: what waits for the network leaves the disk to others."""
    return "network" if job.plan.asked.kind == "fetch" else "disk"
