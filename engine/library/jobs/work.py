"""The process of a job: what `seamount work FOLDER` does.

Owns: doing what is noted down in the job's folder, once at a time, and saying how far it is and how it ended as lines
of JSON on stdout (`job_folder` reads them). What a kind of work is, is known where that work is done; each is imported
when there is such a job. Does not know the engine, which may have gone.
"""

import contextlib
import logging
import os
import stat
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from engine.errors import Conflict, DataFolderError, SeamountError
from engine.interruption import STOPPED, wish_to_stop
from engine.library.jobs.awake import Awake
from engine.library.jobs.job_folder import LARGEST_EVENTS_BYTES, LOG_MARK, JobFolder
from engine.library.jobs.job_states import NAMES
from engine.paths import DataFolder
from engine.progress_line import ProgressLine
from engine.protocol import ErrorBody, Settings
from engine.protocol_jobs import ConvertRequest, FetchRequest, JobProgress, VerifyRequest
from engine.settings import settings_now

LAST_WORD_S = 60.0
"""How long the last event is tried to be written where the disk is full."""
LONGEST_DIFFERENCE_BYTES = 400
_LONGEST_LINE = 4096

Report = Callable[[JobProgress], None]
Stopped = Callable[[], bool]


def work(folder: Path) -> int:
    """Do the job in `folder`, or go on with it; the exit status: 0, 1 for a failure, 130 for one that was stopped.

    Raises DataFolderError for a folder without a job in it, Conflict when another process does it already.
    """
    form = f"{LOG_MARK}%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=form)
    access = _access()
    try:
        job = JobFolder.load(folder)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataFolderError(
            f"The job in {folder} cannot be done", f"it cannot be read ({error})", "begin it anew"
        ) from error
    lock = FileLock(folder / "work.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Conflict(
            f"The job in {folder} was not begun", "another process does it already", "let that one finish"
        ) from error
    try:
        return _do(job, access)
    finally:
        lock.release()


class LiveSettings:
    """The settings at `path`, read again when the file has changed. Any thread may call it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._settings = settings_now(path, Settings())

    def __call__(self) -> Settings:
        """What holds now; what held before where the file cannot be read."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._stamp = stamp
            self._settings = settings_now(self._path, self._settings)
        return self._settings


def _do(job: JobFolder, access: tuple[str, str] | None) -> int:
    settings = LiveSettings(DataFolder(job.path.parent.parent).settings)
    voice = _Voice()
    line = ProgressLine(events=True, write=voice.say)
    try:
        with wish_to_stop() as stopped, Awake(lambda: settings().keep_awake):
            files = _files(job, access, settings, line, stopped)
    except SeamountError as error:
        voice.is_last = True
        line.say({"event": "error", **ErrorBody(code=error.code, text=error.text).model_dump()})
        return STOPPED if error.code.endswith("_stopped") else 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the list of jobs has to tell of it
        traceback.print_exc()
        voice.is_last = True
        text = (
            f"{NAMES[job.plan.asked.kind]} has failed: of {type(error).__name__}, which should not be; "
            f"resume it, and if it fails again, {job.errors} says more."
        )
        line.say({"event": "error", "code": "internal", "text": text})
        return 1
    voice.is_last = True
    line.say({"event": "done", "files": [str(path) for path in files]})
    return 0


def _files(
    job: JobFolder,
    access: tuple[str, str] | None,
    settings: Callable[[], Settings],
    line: ProgressLine,
    stopped: Stopped,
) -> list[Path]:
    """Do it; what came of it."""
    asked = job.plan.asked
    if isinstance(asked, FetchRequest):
        from engine.library.fetching.fetch_work import fetch

        before = job.said().progress
        begun = before is not None and bool(before.fetched_bytes)
        return fetch(
            asked, settings=settings, access=access, report=line.progress, stopped=stopped, begun=begun
        )
    if isinstance(asked, ConvertRequest):
        from engine.library.jobs.conversion_work import convert_checkpoint

        return convert_checkpoint(asked, line.progress, stopped)
    if isinstance(asked, VerifyRequest):
        return [_check(Path(asked.path), line, stopped)]
    from engine.library.jobs.move import move

    return move([Path(path) for path in job.plan.takes], Path(asked.folder), line.progress, stopped)


def _check(path: Path, line: ProgressLine, stopped: Stopped) -> Path:
    if path.is_dir():
        from engine.library.fetching.fetch_work import check_folder

        verdict = check_folder(path, line.progress, stopped)
    else:
        from engine.library.jobs.conversion_work import check_against_receipt

        verdict = check_against_receipt(path, line.progress, stopped)
    # The event has to fit into what is read of the end of all events.
    differences = [
        each.encode()[:LONGEST_DIFFERENCE_BYTES].decode("utf-8", "ignore") for each in verdict.differences
    ]
    line.say({"event": "verdict", **verdict.model_copy(update={"differences": differences}).model_dump()})
    return path


class _Voice:
    """Lines on stdout, which is a file on a disk that may be full: then what is not the last word is left out.

    A job may take days: the file begins anew when it has grown large, since only its end counts.
    """

    def __init__(self) -> None:
        self.is_last = False
        self._torn = False

    def say(self, line: str) -> None:
        deadline_s = time.monotonic() + (LAST_WORD_S if self.is_last else 0)
        while not self._said(line) and time.monotonic() < deadline_s:
            time.sleep(0.5)

    def _said(self, line: str) -> bool:
        # What a full disk has torn stays a line of its own.
        content = (("\n" if self._torn else "") + line + "\n").encode()
        with contextlib.suppress(OSError):
            output = sys.stdout.fileno()
            status = os.fstat(output)
            if stat.S_ISREG(status.st_mode) and status.st_size > LARGEST_EVENTS_BYTES and not self.is_last:
                os.ftruncate(output, 0)
            written = os.write(output, content)
            self._torn = written < len(content)
            return not self._torn
        return False


def _access() -> tuple[str, str] | None:
    """The line that the engine wrote for us: a hub's address and the token for it; it may be empty. A person's terminal
    is not asked."""
    if sys.stdin.isatty():
        return None
    address, _, token = sys.stdin.readline(_LONGEST_LINE).strip().partition(" ")
    return (address, token) if token else None
