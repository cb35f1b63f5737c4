"""Conversions as jobs: begun, watched, paused, gone on with, given up, forgotten.

Owns: what state a job is in. It follows from the files of its folder (`job_folder`) and from whether its process
runs (`job_process`), never from what this engine remembers; so a new engine finds the jobs of an earlier one. One
job runs at a time, since two would share one disk; the others wait in the order they came. Does not convert: the
command `seamount convert` does, in a process of its own that goes on when the engine ends. What it needs of
`convert` is imported when it is needed: most engines have no job.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from engine.errors import BadRequest, Conflict, DataFolderError, NotFound, SeamountError
from engine.library import job_process
from engine.library.job_folder import Course, JobFolder
from engine.protocol import ErrorBody
from engine.protocol_jobs import Exactness, Job, JobState, StartJob

WATCH_S = 0.4
IDLE_S = 5.0
STOP_TIMEOUT_S = 30.0
"""From asking a process to stop until it is ended; it stops after a few megabytes."""
SUFFIX = ".gguf"
_OPEN: tuple[JobState, ...] = ("queued", "running", "paused")
_logger = logging.getLogger(__name__)


class Jobs:
    """The jobs of one data folder. Any thread may call it; it reads files, so not the event loop's.

    `changed` is called with a job's id, from any thread, whenever what `get` would say may have changed.
    """

    def __init__(self, folder: Path, changed: Callable[[str], None] = lambda _: None) -> None:
        self.changed = changed
        self._folder = folder
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._closed = False
        self._stop_asked_s: dict[str, float] = {}
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

    def entries(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._lock:
            jobs = [self._tell(job) for job in self._jobs.values()]
        return sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)

    def get(self, job_id: str) -> Job:
        """One job. Raises NotFound."""
        with self._lock:
            return self._tell(self._job(job_id))

    def start(self, asked: StartJob) -> Job:
        """Note a conversion down; it begins when no other runs. Raises BadRequest, Conflict, DataFolderError."""
        asked = _checked(asked)
        with self._lock:
            self._refuse_shared_target(asked, None)
            job = JobFolder.create(self._folder / secrets.token_hex(8), asked, time.time())
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
                raise _clash("The conversion cannot be paused", state)
            job.save(replace(job.course, wish="pause"))
            self._ask_to_stop(job)
            return self._after(job)

    def resume(self, job_id: str) -> Job:
        """Go on with one that was paused or has failed. Raises NotFound, Conflict, DataFolderError."""
        with self._lock:
            job = self._job(job_id)
            state = self._state(job)
            if state == "queued" or (state == "running" and job.course.wish == "run"):
                return self._tell(job)
            if state not in ("paused", "failed"):
                stops = state == "running"
                raise _clash("The conversion cannot be resumed", "stopping" if stops else state)
            self._refuse_shared_target(job.asked, job)
            # The end of the last run is behind it: it waits as a new one does.
            job.save(Course(wish="run", run=job.course.run, ended=job.course.run == 0))
            self._stop_asked_s.pop(job_id, None)
            self._look_after()
            return self._after(job)

    def cancel(self, job_id: str, *, remove_partial: bool = False) -> Job:
        """Give it up; `remove_partial`: and delete what was written. Raises NotFound, Conflict."""
        with self._lock:
            job = self._job(job_id)
            state = self._state(job)
            if state in ("done", "cancelled"):
                raise _clash("The conversion cannot be cancelled", state)
            if remove_partial and job.asked.consume:
                from engine.library import partial_file

                partial_file.refuse_if_needed(Path(job.asked.target))
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
            if state in _OPEN:
                raise _clash("The conversion cannot be removed from the list", state)
            job.forget()
            for known in (self._jobs, self._shown, self._exactness, self._stop_asked_s):
                known.pop(job_id, None)
        self.changed(job_id)

    # --- states -------------------------------------------------------------------------------------

    def _job(self, job_id: str) -> JobFolder:
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFound(
                "The conversion cannot be found", "it is not in the list any more", "look at the list"
            )
        return job

    def _state(self, job: JobFolder) -> JobState:
        course = job.course
        if _runs(job):
            return "running"
        if _waits(course):
            return "queued"
        last = job.said().last if course.run else None
        if last is not None and last["event"] == "done":
            return "done"
        if course.wish == "cancel":
            return "cancelled"
        stopped = last is None or last.get("code") == "conversion_stopped"
        return "paused" if stopped and course.wish == "pause" else "failed"

    def _tell(self, job: JobFolder) -> Job:
        state, said, asked = self._state(job), job.said(), job.asked
        files: list[str] = []
        if state == "done" and said.last is not None:
            files = [str(path) for path in said.last.get("files", [])]
            if job.id not in self._exactness:
                self._exactness[job.id] = _exactness(files)
        return Job(
            id=job.id,
            state=state,
            stopping=state == "running" and job.course.wish != "run",
            created_at=job.created_at,
            source=asked.source,
            target=asked.target,
            dense=asked.dense,
            draft=asked.draft,
            consume=asked.consume,
            release=asked.release,
            progress=said.progress,
            files=files,
            exactness=self._exactness.get(job.id) if state == "done" else None,
            error=_error(job) if state in ("failed", "cancelled") else None,
        )

    def _after(self, job: JobFolder) -> Job:
        """What a job has become by a wish; told to everybody."""
        told = self._shown[job.id] = self._tell(job)
        self._wake.set()
        self.changed(job.id)
        return told

    def _refuse_shared_target(self, asked: StartJob, but: JobFolder | None) -> None:
        wanted = _real_files(asked)
        for job in self._jobs.values():
            if job is not but and self._state(job) in _OPEN and wanted & _real_files(job.asked):
                raise Conflict(
                    f"{Path(asked.target).name} could not be begun",
                    "another conversion in the list writes to that file",
                    "resume or cancel that one, or choose another name",
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
                _logger.warning("the conversions could not be looked after: %s", error)
            self._wake.wait(WATCH_S if busy else IDLE_S)

    def _look_after(self) -> bool:
        """Note what has ended, finish what was to be stopped, begin what waits; whether there is more to do."""
        running = False
        for job in list(self._jobs.values()):
            course = job.course
            if course.ended or _waits(course):
                continue
            if _runs(job):
                running = True
                asked_s = self._stop_asked_s.get(job.id)
                if course.wish != "run" and asked_s is None:
                    self._ask_to_stop(job)  # an earlier engine's wish
                elif asked_s is not None and time.monotonic() - asked_s > STOP_TIMEOUT_S and course.pid:
                    job_process.stop(course.pid, course.started_at, _arguments(job), at_once=True)
                continue
            self._stop_asked_s.pop(job.id, None)
            if course.wish == "cancel" and self._state(job) == "cancelled":
                self._give_up(job)
            else:
                job.save(replace(course, ended=True))
        waiting = [job for job in self._jobs.values() if _waits(job.course)]
        if waiting and not running:
            self._begin(min(waiting, key=lambda job: job.created_at))
            running = True
        return running or bool(waiting)

    def _begin(self, job: JobFolder) -> None:
        run = job.course.run + 1
        try:
            job.begin_run(run)
            # Noted before it is so: an engine that dies in between leaves a process to be looked for.
            job.save(Course(wish="run", run=run, ended=False, pid=None))
            pid, started_at = job_process.start(_arguments(job), job.events, job.errors)
        except (OSError, DataFolderError) as error:
            why = f"its process could not be started ({getattr(error, 'strerror', None) or error})"
            problem = f"The conversion has failed: {why}; close other programs and resume it."
            if isinstance(error, DataFolderError):
                problem = error.text
            job.save(Course(wish="run", run=run, ended=True, problem=problem))
            return
        job.save(Course(wish="run", run=run, ended=False, pid=pid, started_at=started_at))

    def _ask_to_stop(self, job: JobFolder) -> None:
        course = job.course
        if course.pid is not None and not course.ended:
            self._stop_asked_s.setdefault(job.id, time.monotonic())
            job_process.stop(course.pid, course.started_at, _arguments(job))

    def _give_up(self, job: JobFolder) -> None:
        """After its process has gone: what was asked for with the cancelling."""
        problem = None
        # Only what this job itself is known to have written is its own to delete.
        if job.course.remove_partial and job.said().progress is not None:
            from engine.library import partial_file

            try:
                partial_file.remove(Path(job.asked.target))
            except SeamountError as error:
                problem = error.text
        job.save(replace(job.course, ended=True, problem=problem))

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


def _adopt(job: JobFolder) -> None:
    """An engine ended between starting a process and noting its number."""
    process = job_process.find(_arguments(job))
    if process is not None:
        job.save(replace(job.course, pid=process[0], started_at=process[1]))


def _waits(course: Course) -> bool:
    """It is to run, and no process was begun for that wish."""
    never = course.run == 0 and course.ended
    return (
        course.wish == "run"
        and course.problem is None
        and (never or (not course.ended and course.pid is None))
    )


def _runs(job: JobFolder) -> bool:
    course = job.course
    if course.ended or course.pid is None:
        return False
    return job_process.is_running(course.pid, course.started_at, _arguments(job))


def _arguments(job: JobFolder) -> list[str]:
    return job_process.arguments_of(job.asked)


def _checked(asked: StartJob) -> StartJob:
    """`asked` with whole paths. Raises BadRequest."""
    what = "The conversion could not be begun"
    paths: dict[str, str] = {}
    for name in ("source", "target"):
        try:
            path = Path(getattr(asked, name)).expanduser()
        except RuntimeError as error:
            raise BadRequest(what, "there is no such home folder", "write the whole path") from error
        if not path.is_absolute():
            raise BadRequest(what, f"the {name} is not a whole path", "write it from the root on")
        paths[name] = os.path.normpath(path)
    if not paths["target"].lower().endswith(SUFFIX) or Path(paths["target"]).name.lower() == SUFFIX:
        raise BadRequest(
            what, f"the file to write is not a {SUFFIX} file", f"give it a name that ends in {SUFFIX}"
        )
    if asked.release is not None and not asked.release.strip():
        asked = asked.model_copy(update={"release": None})
    return asked.model_copy(update=paths)


def _real_files(asked: StartJob) -> set[str]:
    from engine.library import partial_file

    return {os.path.normcase(os.path.realpath(path)) for path in partial_file.files_of(Path(asked.target))}


def _exactness(files: list[str]) -> Exactness | None:
    """What the receipts say together; None when one cannot be read."""
    from convert.conversion_error import ConversionError
    from convert.receipt import read_receipt

    try:
        receipts = [read_receipt(Path(file)) for file in files]
    except ConversionError:
        return None
    errors = [tensor.error for receipt in receipts for tensor in receipt.tensors.values()]
    rounded = [error[1] for error in errors if error is not None]
    return Exactness(
        lossless=all(receipt.lossless for receipt in receipts),
        exact=len(errors) - len(rounded),
        approximate=len(rounded),
        worst_relative_rms=max(rounded, default=0.0),
    )


def _error(job: JobFolder) -> ErrorBody | None:
    if job.course.problem is not None:
        return ErrorBody(code="conversion", text=job.course.problem)
    if job.course.wish == "cancel":
        return None
    last = job.said().last
    if last is not None and last["event"] == "error" and last.get("code") != "conversion_stopped":
        return ErrorBody(code=str(last.get("code")), text=str(last.get("text")))
    complaint = job.complaint()
    why = f"its process ended ({complaint})" if complaint else "its process was ended from outside"
    return ErrorBody(
        code="conversion", text=f"The conversion has stopped: {why}; resume it to go on where it was."
    )


def _clash(what: str, state: str) -> Conflict:
    why, remedy = {
        "queued": ("it waits for its turn", "cancel it first"),
        "running": ("it is running", "cancel it first"),
        "paused": ("it can still go on", "cancel it first"),
        "stopping": ("it is just being stopped", "try again in a moment"),
        "done": ("it is done", "remove it from the list"),
        "failed": ("it has failed", "resume or cancel it"),
        "cancelled": ("it was cancelled", "begin it anew"),
    }[state]
    return Conflict(what, why, remedy)
