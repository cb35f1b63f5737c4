"""The work of a job that fetches: from what was asked to files in a folder, and what can be done to such a folder.

Owns: when the hub is asked what there is, and when the folder's own notes say it already; fetching alone, or with a
conversion at its side (`streamed_conversion`); checking and tidying a fetched folder. Knows no job, process or
window.
"""

import fnmatch
import os
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from engine.errors import BadRequest, Conflict, FetchFailed, FetchStopped
from engine.library.fetching.fetch import Fetch, FetchProgress
from engine.library.fetching.fetch_manifest import (
    Manifest,
    manifest_path,
    notes_folder,
    parts_folder,
    quarantine_folder,
    read_manifest,
)
from engine.library.fetching.fetch_plan import FetchPlan, planned
from engine.library.fetching.fetch_trouble import told
from engine.library.fetching.file_fetch import ReadStoppedError, digest_of, is_noted, note_path
from engine.library.fetching.hub import Hub, HubBusyError
from engine.library.fetching.remote_file import RemoteFile, long_path, place_of
from engine.library.repository_names import is_commit
from engine.protocol import Settings
from engine.protocol_jobs import FetchRequest, JobProgress, Verdict

LISTING_WAIT_S = 60.0
ASK_EVERY_S = 0.1
REPORT_EVERY_S = 0.25
WISHES_EVERY_S = 1.0
MOST_DIFFERENCES = 100
Report = Callable[[JobProgress], None]


def fetch(
    asked: FetchRequest,
    *,
    settings: Callable[[], Settings],
    access: tuple[str, str] | None,
    report: Report,
    stopped: Callable[[], bool],
    begun: bool = False,
) -> list[Path]:
    """Do what was asked, from wherever it was left; returns the results, the model's first.

    `begun`: something of it had arrived before, so that a folder that is not there now is on a disk that is not there.

    Nothing of `asked` but `convert`, `release` and `files` may be open; `what` is OWNER/NAME. `settings` are asked
    again while it runs. Of a checkpoint that is not converted the result is its folder. Raises FetchStopped when
    `stopped()`, else the errors of `engine.errors` that fetching and converting have.
    """
    if asked.folder is None:
        raise BadRequest(f"{asked.what} cannot be fetched", "no folder was named", "say where it goes")
    if begun:
        _refuse_gone(asked, Path(asked.folder))
    wishes = _Wishes(settings)
    hub = _hub(wishes.now(), access)
    plan = plan_of(asked, Path(asked.folder), hub, report, stopped)
    with Fetch(
        plan,
        hub,
        streams=lambda: wishes.now().download_streams,
        limit_bytes_per_s=lambda: wishes.now().download_limit_mb_s * 1e6,
    ) as running:
        if asked.convert is not None:
            return _converted(running, plan, asked, report, stopped)
        running.begin()
        running.finish(stopped, lambda progress: report(job_progress(progress)))
    ggufs = sorted(each.path for each in plan.manifest.files if each.path.endswith(".gguf"))
    return [place_of(plan.folder, each) for each in ggufs] or [plan.folder]


def _refuse_gone(asked: FetchRequest, folder: Path) -> None:
    """Raise FetchFailed when the folder of a download that was begun is not there, or nothing is in it."""
    target = asked.convert.target if asked.convert is not None and asked.convert.consume else None
    if target is not None and Path(target).exists():
        return  # it was used up and taken away
    try:
        if next(folder.iterdir(), None) is not None:
            return
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise told(error, folder) from error
    raise FetchFailed(
        f"Fetching {asked.what} cannot go on",
        f"what had arrived in {folder} is not there any more",
        "connect its disk again and resume; if you have removed it, cancel this and begin anew",
    )


class _Wishes:
    """The settings, asked for once a second at most: streams want to know them for every piece that comes."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._known, self._until_s = settings(), time.monotonic() + WISHES_EVERY_S

    def now(self) -> Settings:
        """As they are, or were a second ago."""
        if time.monotonic() >= self._until_s:
            self._until_s = time.monotonic() + WISHES_EVERY_S
            self._known = self._settings()
        return self._known


def _hub(now: Settings, access: tuple[str, str] | None) -> Hub:
    """The hub of the settings. The token is for the address that it was given for, and for no other."""
    hub = Hub(now.hub_endpoint or None, None, now.offline)
    if access is not None and access[0] == hub.endpoint:
        return Hub(hub.endpoint, access[1], now.offline)
    return hub


def _converted(
    running: Fetch, plan: FetchPlan, asked: FetchRequest, report: Report, stopped: Callable[[], bool]
) -> list[Path]:
    from engine.library.jobs.streamed_conversion import fetch_and_convert

    return fetch_and_convert(running, plan, asked, report, stopped)


def plan_of(
    asked: FetchRequest, folder: Path, hub: Hub, report: Report, stopped: Callable[[], bool]
) -> FetchPlan:
    """What is to be fetched: by the folder's notes where they were made for this, else by the hub, which is waited
    for. Raises FetchStopped, and what `Hub.listing` and `planned` raise."""
    before = read_manifest(folder)
    if before is not None and _serves(before, asked):
        return FetchPlan(folder, before)
    failures = 0
    while True:
        try:
            listing = hub.listing(asked.what, asked.revision or "main")
            break
        except HubBusyError as error:
            failures += 1
            wait_s = (
                error.wait_s if error.wait_s is not None else min(LISTING_WAIT_S, 2.0 ** min(failures, 6))
            )
            note = f"{error.why[:1].upper()}{error.why[1:]}; it is tried again by itself."
            report(JobProgress(done_bytes=0, total_bytes=0, bytes_per_s=0, stage="listing", note=note))
            until_s = time.monotonic() + wait_s
            while time.monotonic() < until_s:
                if stopped():
                    raise FetchStopped(
                        f"Fetching {asked.what} was stopped", "that was asked for", "resume it to go on"
                    ) from error
                time.sleep(ASK_EVERY_S)
    title = asked.release or asked.what.rpartition("/")[2]
    return planned(folder, listing, asked.files, title, asked.revision or "main")


def job_progress(progress: FetchProgress) -> JobProgress:
    """A download's progress as a job's that does nothing else."""
    left = progress.fetch_bytes - progress.fetched_bytes
    return JobProgress(
        done_bytes=progress.fetched_bytes,
        total_bytes=progress.fetch_bytes,
        bytes_per_s=progress.bytes_per_s,
        seconds_left=left / progress.bytes_per_s if progress.bytes_per_s > 0 else None,
        stage="checking" if progress.checking else "fetching",
        item=progress.item,
        items_done=progress.files_done,
        items=progress.files,
        fetched_bytes=progress.fetched_bytes,
        fetch_bytes=progress.fetch_bytes,
        note=progress.note,
    )


def check_folder(folder: Path, report: Report, stopped: Callable[[], bool]) -> Verdict:
    """Every file of a fetched folder against the digests that the hub listed.

    Raises FetchFailed when the folder was not fetched, or cannot be read; FetchStopped.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise FetchFailed(
            f"{folder} cannot be checked",
            "it was not fetched by Seamount, so nothing says what should be in it",
            "check a folder that was, or a GGUF",
        )
    differences: list[str] = []
    checked, done, began_s, told_s = 0, 0, time.monotonic(), 0.0

    def read(count: int) -> None:
        nonlocal checked, told_s
        checked += count
        now = time.monotonic()
        if now - told_s < REPORT_EVERY_S:
            return
        told_s = now
        rate = checked / max(now - began_s, 1e-3)
        report(
            JobProgress(
                done_bytes=checked,
                total_bytes=manifest.total_bytes,
                bytes_per_s=rate,
                seconds_left=max(0, manifest.total_bytes - checked) / rate,
                stage="checking",
                item=item,
                items_done=done,
                items=len(manifest.files),
            )
        )

    for file in manifest.files:
        item = file.path
        try:
            why = _difference(folder, file, stopped, read)
        except ReadStoppedError as error:
            raise FetchStopped(
                f"Checking {folder} was stopped", "that was asked for", "begin again"
            ) from error
        if why and len(differences) < MOST_DIFFERENCES:
            differences.append(f"{file.path} {why}")
        done += 1
    return Verdict(good=not differences, checked_bytes=checked, differences=differences)


def remove_partial(folder: Path, *, fetched: bool = False) -> None:
    """Delete what a download into `folder` has not finished, and with `fetched` also what it has.

    Other files in the folder stay, and so does a folder that holds any. Raises Conflict while a download into it
    runs, FetchFailed.
    """
    notes = notes_folder(folder)
    if not notes.is_dir():
        return
    lock = FileLock(notes / "fetch.lock")
    try:
        with lock.acquire(timeout=0):
            manifest = read_manifest(folder)
            whole = [each for each in manifest.files if is_noted(folder, each)] if manifest else []
            for name in (parts_folder(folder), quarantine_folder(folder)):
                _remove_files(name)
            if manifest is not None and fetched:
                for file in whole:
                    place_of(folder, file.path).unlink(missing_ok=True)
                    long_path(note_path(folder, file)).unlink(missing_ok=True)
                whole = []
            for file in manifest.files if manifest else ():
                # What a conversion has consumed left its note.
                if not os.path.lexists(place_of(folder, file.path)):
                    long_path(note_path(folder, file)).unlink(missing_ok=True)
            if not whole:
                manifest_path(folder).unlink(missing_ok=True)
        if not whole:
            Path(lock.lock_file).unlink(missing_ok=True)
            _remove_empty(folder)
    except Timeout as error:
        raise Conflict(
            f"What lies in {folder} was kept", "a download into it is running", "stop that one first"
        ) from error
    except OSError as error:
        raise told(error, folder) from error


def _serves(manifest: Manifest, asked: FetchRequest) -> bool:
    """Whether the notes of a folder are for what is asked: a branch that moved meanwhile makes no difference, but
    another branch does."""
    if manifest.repository != asked.what:
        return False
    revision = asked.revision or "main"
    if revision != manifest.commit and (is_commit(revision) or manifest.revision not in (revision, "")):
        return False
    return tuple(asked.files) == manifest.patterns or (
        bool(asked.files)
        and not any(letter in pattern for pattern in asked.files for letter in "*?[")
        and all(
            any(fnmatch.fnmatchcase(file.path, pattern) for file in manifest.files) for pattern in asked.files
        )
    )


def _difference(
    folder: Path, file: RemoteFile, stopped: Callable[[], bool], read: Callable[[int], None]
) -> str:
    """What is wrong with a file, as the end of a sentence; "" when all is well."""
    place = place_of(folder, file.path)
    if stopped():
        raise ReadStoppedError
    try:
        if not os.path.lexists(place):
            return "is not there"
        size = place.stat().st_size
        if size != file.size_bytes:
            return f"has {size:,} bytes, and {file.size_bytes:,} at the hub"
        if digest_of(place, file, stopped, read) != file.digest and file.digest:
            return "has other content than at the hub"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return ""


def _remove_files(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _remove_empty(folder: Path) -> None:
    """Remove folders in which nothing lies, `folder` itself too."""
    for path, _, _ in os.walk(folder, topdown=False):
        try:
            Path(path).rmdir()
        except OSError:
            continue
