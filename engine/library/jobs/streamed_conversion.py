"""A checkpoint fetched and converted as one job: what has arrived is converted while the rest is on its way.

Owns: that both sides go on and end together, the one progress of both, the room that they need, and what is left of
the checkpoint when it was to be consumed. Does not know how files are fetched (`fetch`) nor how they are converted
(`convert/`). The streams are threads of the one side; the conversion runs in the thread of the caller.
"""

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from convert.arrivals import Arrivals, Beginning
from convert.checkpoint_error import CheckpointError
from convert.conversion import Advance, convert
from convert.conversion_error import ConversionError
from convert.conversion_plan import Job, Plan, path_of
from convert.conversion_progress import ConversionProgress, consumed_shards, progress_path
from convert.receipt import read_receipt
from convert.target_file import part_of
from convert.tensor_map import Options
from engine.checkpoint_origin import origin_of
from engine.errors import BadRequest, ConversionFailed, FetchDiskFull, FetchStopped
from engine.library.fetching.fetch import FetchProgress
from engine.library.fetching.fetch_manifest import notes_folder, parts_folder, quarantine_folder
from engine.library.fetching.fetch_plan import FetchPlan, check_room, is_bulk
from engine.library.fetching.remote_file import place_of
from engine.library.jobs.conversion_work import failure_of, told_for_people
from engine.model_table import size_text
from engine.protocol_jobs import FetchRequest, JobProgress

TELL_EVERY_S = 0.25
WAITING_MORE_THAN_STREAMS = 2
"""So many shards may lie whole, besides one for each stream, where they are consumed."""
_logger = logging.getLogger(__name__)


class Fetching(Arrivals, Protocol):
    """What is needed of `engine.library.fetching.fetch.Fetch`; it says what each does."""

    @property
    def streams_wanted(self) -> int: ...

    def begin(
        self,
        *,
        skip: Collection[str] = (),
        beginnings_first: bool = False,
        most_waiting: int | None = None,
        needed_bytes: Mapping[Path, int] | None = None,
    ) -> None: ...

    def missing_bytes(self) -> int: ...
    def progress(self) -> FetchProgress: ...
    def finish(self, stopped: Callable[[], bool]) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


def fetch_and_convert(
    fetch: Fetching,
    plan: FetchPlan,
    asked: FetchRequest,
    report: Callable[[JobProgress], None],
    stopped: Callable[[], bool],
) -> list[Path]:
    """Fetch the checkpoint that `plan` tells of and convert it as `asked.convert` says, or go on with both; the files
    of the result, the model's first. They are what `seamount convert` makes of the whole folder, to the byte.

    `report` is called a few times a second; `stopped` is asked as often, and ends both with FetchStopped. Whatever
    ends it, what was fetched and converted is kept. Where shards are consumed, no part of the checkpoint is left at
    the end: the small files go too, and so does what the options left out, and the folder if nothing else is in it.
    A result that is there already, of this very commit with these options, counts as done.

    Raises FetchStopped, FetchDiskFull, and whatever fetching and converting fail with.
    """
    if asked.convert is None or asked.convert.target is None:
        raise BadRequest("Nothing was fetched", "it is not said what to convert it to", "name a target")
    options = Options(asked.convert.dense, asked.convert.draft)
    course = _Course(fetch, plan, asked.release, options, report, stopped)
    target = Path(asked.convert.target)
    if not target.parent.is_dir():
        raise ConversionFailed(
            f"{target.name} could not be written", "there is no such folder", "choose another place"
        )
    files = _made_before(target, plan, options)
    try:
        if files is None:
            fetch.begin(
                skip=_consumed(target),
                beginnings_first=True,
                most_waiting=_most_on_disk(fetch) if asked.convert.consume else None,
                needed_bytes={},  # all of it is asked for when it is known, before any shard's data come
            )
            files = course.convert(target, asked.convert.consume)
        elif not asked.convert.consume:
            fetch.begin()
        if not asked.convert.consume:
            fetch.finish(course.stopped)
    finally:
        fetch.close()
    if asked.convert.consume:
        _remove_leftovers(plan)
    course.tell(done=True)
    return files


class _Course:
    """Both sides while they go on, and how far they are. One thread."""

    def __init__(
        self,
        fetch: Fetching,
        plan: FetchPlan,
        release: str | None,
        options: Options,
        report: Callable[[JobProgress], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._fetch, self._plan, self._release = fetch, plan, release
        self._report, self._stopped = report, stopped
        self._options = options
        # Until it is planned, the result counts as much as the checkpoint: it weighs about the same.
        self._advance = Advance(0, plan.total_bytes, "", "", 0.0)
        self._begun_bytes: int | None = None
        self._waiting = True
        self._since_s = self._told_s = time.monotonic()
        self._busy_s = 0.0
        self._in_doubt: set[str] = set()

    # --- both sides ----------------------------------------------------------------------------------

    def convert(self, target: Path, consume: bool) -> list[Path]:
        """Convert what arrives; the files. Raises SeamountError and its kinds."""
        small = [file.path for file in self._plan.manifest.files if not is_bulk(file)]
        self._fetch.wait_for(small, self.stopped)
        self.refuse_if_stopped()
        with told_for_people():
            origin = origin_of(self._plan.folder, self._release)
        job = Job(self._plan.folder, target, origin, self._options, consume)
        while True:
            try:
                return list(
                    convert(job, self._on_advance, self.stopped, arrivals=self, planned=self._on_plan)
                )
            except CheckpointError as error:
                # Nobody vouches for a beginning. The whole file has the digest that the hub told.
                name = error.shard
                if name is None or name in self._in_doubt or self._fetch.beginning(name) is None:
                    raise failure_of(error) from error
                self._in_doubt.add(name)
                self.wait_for([name], self.stopped)
                self.refuse_if_stopped()
            except ConversionError as error:
                if error.trouble == "changed" and error.why not in self._in_doubt:
                    self._in_doubt.add(error.why)  # it was planned with a beginning that was not true
                    continue
                raise self._failure(error, target) from error

    def refuse_if_stopped(self) -> None:
        """Raises FetchStopped when it was asked to end."""
        if self._stopped():
            raise _ended(self._plan)

    def stopped(self) -> bool:
        """Whether to end; asked at least twice a second by whoever works or waits, so it is told meanwhile."""
        self.tell()
        return self._stopped()

    def _failure(self, error: ConversionError, target: Path) -> Exception:
        if error.trouble == "stopped":
            return _ended(self._plan)
        if error.trouble != "disk_full":
            return failure_of(error)
        left = self._advance.total_bytes - self._advance.done_bytes
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(target.parent).free
            why = (
                f"the disk is full: {size_text(left)} are still to be written, and {size_text(free)} are free"
            )
            return FetchDiskFull(error.what, why, "make room, then resume; it goes on where it was")
        return failure_of(error)

    def _on_plan(self, plan: Plan) -> None:
        """Refuse what does not fit, by what is to be written and what of it is there; leave what is not needed."""
        progress = ConversionProgress.load(progress_path(plan.job.target))
        groups = progress.groups if progress is not None else {}
        done = [target.size_bytes for target in plan.mapped.targets if target.group in groups]
        tensors = len(plan.mapped.targets)
        self._advance = Advance(sum(done), plan.total_bytes, "", "", 0.0, len(done), tensors)
        if plan.job.consume:
            for name in plan.needless:
                self._fetch.deleted(name)
        coming = self._fetch.missing_bytes()
        if plan.job.consume:
            missing = sorted(each.size_bytes for each in plan.shards if not each.path.exists())
            there = sum(map(_taken, parts_folder(self._plan.folder).glob("*")))  # of those that come next
            coming = min(coming, max(0, sum(missing[-_most_on_disk(self._fetch) :]) - there))
        result = sum(
            max(0, file.header.file_bytes - _taken(part_of(file.path))) for file in plan.files.values()
        )
        needed = {self._plan.folder: coming}
        needed[plan.job.target.parent] = needed.get(plan.job.target.parent, 0) + result
        check_room(needed)

    # --- what arrives, as the conversion asks for it ------------------------------------------------

    def beginning(self, name: str) -> Beginning | None:
        """As `Arrivals` has it. It may take as long as there is no network; ending and telling go on."""
        with self._watched():
            return self._fetch.beginning(name)

    def wait_for(self, names: Collection[str], cancelled: Callable[[], bool]) -> None:
        """As `Arrivals` has it; meanwhile it is fetching that is told of."""
        self._busy_s += time.monotonic() - self._since_s
        self._waiting = True
        try:
            self._fetch.wait_for(names, cancelled)
        finally:
            self._waiting = False
            self._since_s = time.monotonic()

    def deleted(self, name: str) -> None:
        """As `Arrivals` has it."""
        self._fetch.deleted(name)

    @contextmanager
    def _watched(self) -> Generator[None]:
        """Look after `stopped` and the progress in another thread, while the caller's waits for the fetching."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(TELL_EVERY_S):
                if self.stopped():
                    self._fetch.stop()
                    return

        watcher = threading.Thread(target=watch, name="watch-fetching", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    # --- how far it is ------------------------------------------------------------------------------

    def _on_advance(self, advance: Advance) -> None:
        self._advance = advance
        if self._begun_bytes is None:
            self._begun_bytes = advance.done_bytes
        self.tell()

    def tell(self, *, done: bool = False) -> None:
        """Report how far both are, a few times a second at most, or that they are done."""
        now_s = time.monotonic()
        if now_s - self._told_s < TELL_EVERY_S and not done:
            return
        self._told_s = now_s
        self._report(self._progress(now_s, done=done))

    def _progress(self, now_s: float, *, done: bool) -> JobProgress:
        fetched = self._fetch.progress()
        advance = self._advance
        fetch_bytes = self._plan.total_bytes
        fetched_bytes = fetch_bytes if done else fetched.fetched_bytes
        converted = advance.total_bytes if done else advance.done_bytes
        busy_s = self._busy_s + (0.0 if self._waiting else now_s - self._since_s)
        rate = (converted - (self._begun_bytes or 0)) / busy_s if busy_s > 0 else 0.0
        times = [
            _seconds(fetch_bytes - fetched_bytes, fetched.bytes_per_s),
            _seconds(advance.total_bytes - converted, rate),
        ]
        left_s = None if None in times else max(each for each in times if each is not None)
        fetching = fetched_bytes < fetch_bytes
        return JobProgress(
            done_bytes=fetched_bytes + converted,
            total_bytes=fetch_bytes + advance.total_bytes,
            bytes_per_s=round(fetched.bytes_per_s if fetching else rate),
            seconds_left=None if left_s is None else round(left_s, 1),
            stage="fetching" if self._waiting and fetching else "converting",
            item=fetched.item if self._waiting and fetching else advance.tensor,
            items_done=fetched.files if done else fetched.files_done,
            items=fetched.files,
            fetched_bytes=fetched_bytes,
            fetch_bytes=fetch_bytes,
            note=fetched.note if fetching else "",
        )


def _most_on_disk(fetch: Fetching) -> int:
    """How many shards lie on the disk at once at most, whole or in part, where they are consumed."""
    return fetch.streams_wanted + WAITING_MORE_THAN_STREAMS


def _seconds(left_bytes: int, bytes_per_s: float) -> float | None:
    if left_bytes <= 0:
        return 0.0
    return left_bytes / bytes_per_s if bytes_per_s > 0 else None


def _taken(path: Path) -> int:
    """What a file takes of its disk; nothing where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    blocks = getattr(found, "st_blocks", None)  # of 512 bytes; Windows does not tell
    return found.st_size if blocks is None else min(found.st_size, blocks * 512)


def _ended(plan: FetchPlan) -> FetchStopped:
    return FetchStopped(
        f"Fetching and converting {plan.manifest.repository} was stopped",
        "it was asked to",
        "resume it to go on where it was",
    )


def _consumed(target: Path) -> frozenset[str]:
    with told_for_people():
        return consumed_shards(target)


def _made_before(target: Path, plan: FetchPlan, options: Options) -> list[Path] | None:
    """The finished files, when they are of this commit and made with these options; None: they are to be made.

    Raises ConversionFailed when something else is there.
    """
    if progress_path(target).exists() or not target.exists():
        return None
    files = [target]
    if (draft := path_of(target, "draft")).exists() and options.draft == "separate":
        files.append(draft)
    with told_for_people():
        for path in files:
            try:
                receipt = read_receipt(path)
            except ConversionError:
                break
            origin = receipt.origin
            made_of = origin.repository, origin.revision, receipt.dense, receipt.draft, receipt.size_bytes
            wanted = plan.manifest.repository, plan.manifest.commit, options.dense, options.draft
            if made_of != (*wanted, path.stat().st_size):
                break
        else:
            return files
    raise ConversionFailed(
        f"{target.name} could not be written", "it is there already", "choose another name"
    )


def _remove_leftovers(plan: FetchPlan) -> None:
    """Take away what is left of a checkpoint that was used up, its notes last; the folder too if that empties it.

    Files that it had replaced were somebody else's: they stay.
    What cannot be deleted is no failure of the conversion: it stays.
    """
    try:
        folders = {plan.folder}
        for file in plan.manifest.files:
            place = place_of(plan.folder, file.path)
            place.unlink(missing_ok=True)
            folders.update(each for each in place.parents if each.is_relative_to(plan.folder))
        shutil.rmtree(plan.folder / ".cache" / "huggingface" / "download", ignore_errors=True)
        notes = notes_folder(plan.folder)
        for path in (parts_folder(plan.folder), quarantine_folder(plan.folder)):
            shutil.rmtree(path, ignore_errors=True)
        for path in [each for each in notes.glob("*") if not each.is_dir()]:
            path.unlink(missing_ok=True)
        cache = plan.folder / ".cache"
        folders |= {notes, cache, cache / "huggingface"}
        for folder in sorted(folders, key=lambda each: -len(each.parts)):
            with contextlib.suppress(OSError):  # not empty: something else lies in it
                folder.rmdir()
    except OSError as error:
        _logger.warning("what is left of the checkpoint in %s could not be deleted: %s", plan.folder, error)
