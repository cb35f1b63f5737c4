"""Moving files of the library to another folder or disk, so that at every moment a whole copy is somewhere.

Owns: the order of it. On one disk files are renamed. On to another disk each is copied under a hidden folder beside
its new place, made durable, read back and compared by SHA-256; only when all of them are there they get their names,
and only then the old ones are deleted. What lies where says how far it is, so it goes on after a kill; a file that was
being copied goes on where its copy still agrees. Does not know what the files are (`engine/job_requests`) or jobs.

    FOLDER/.NAME.moving/         copies; the one that is being made ends in .moving-part
    FOLDER/.NAME.moving/.whole   written when all copies are: from here on they are named, and the old ones deleted
"""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from engine.atomic_file import is_disk_full, sync_folder, write_atomically
from engine.errors import LibraryError, MoveStopped
from engine.model_table import size_text
from engine.protocol_jobs import JobProgress

PIECE_BYTES = 8 << 20
SPARE_BYTES = 64 << 20
"""What stays free on the disk that is copied to."""
MOST_FILES = 100_000
_WHOLE = ".whole"
_PART = ".moving-part"
_logger = logging.getLogger(__name__)
TIME_STEP_NS = 2 * 10**9
"""What some file systems round a file's time to."""

Report = Callable[[JobProgress], None]
Stopped = Callable[[], bool]


@dataclass(frozen=True)
class _File:
    """One file: where it lies, and its path below the folder that it goes to."""

    source: Path
    below: Path
    size_bytes: int


def move(takes: Sequence[Path], folder: Path, report: Report, stopped: Stopped) -> list[Path]:
    """Move `takes`, files or one folder, into `folder`, or go on with it; their new places, in that order.

    Raises LibraryError for what cannot be moved (links, a name that is taken, no room), MoveStopped.
    """
    what = f"{takes[0].name} could not be moved"
    with _told(what, folder), _alone(what, takes[0], folder):
        targets = [folder / path.name for path in takes]
        staging = staging_of(takes, folder)
        if not (staging / _WHOLE).exists():
            _refuse_taken(what, takes, targets)
            left = [path for path in takes if os.path.lexists(path)]
            files = _files_of(what, left)
            if _renamed(left, folder, staging):
                total = sum(file.size_bytes for file in files)
                report(JobProgress(done_bytes=total, total_bytes=total, bytes_per_s=0, stage="moving"))
                return targets
            _Copying(what, files, staging, report, stopped).run()
            write_atomically(staging / _WHOLE, b"")
        _name(takes, folder, staging)
        for path in takes:
            _delete(path, folder / path.name)
        shutil.rmtree(staging)
        sync_folder(folder)
        return targets


def staging_of(takes: Sequence[Path], folder: Path) -> Path:
    """Where copies lie until all of them are there."""
    return folder / f".{takes[0].name}.moving"


def remove_partial(takes: Sequence[Path], folder: Path) -> None:
    """Delete the copies of a move that was given up; what has its new name already stays. Raises LibraryError."""
    what = f"What was copied of {takes[0].name} could not be deleted"
    staging = staging_of(takes, folder)
    if not folder.is_dir():
        return
    with _told(what, folder), _alone(what, takes[0], folder):
        whole = (staging / _WHOLE).exists()
        # Nothing is deleted before everything has its name: what has none yet lies where it lay, too.
        if staging.is_dir() and (not whole or all(_is_kept(staging / path.name, path) for path in takes)):
            shutil.rmtree(staging)


class _Copying:
    """Copies of all files below `staging`, read back and compared. Bytes count half when copied, half when read."""

    def __init__(
        self, what: str, files: Sequence[_File], staging: Path, report: Report, stopped: Stopped
    ) -> None:
        self._what, self._files, self._staging = what, files, staging
        self._report, self._stopped = report, stopped
        self._total = sum(file.size_bytes for file in files)
        self._half_bytes = 0
        self._began_s = time.monotonic()
        self._item, self._items_done = "", 0

    def run(self) -> None:
        self._staging.mkdir(parents=True, exist_ok=True)
        self._refuse_small_disk()
        for file in self._files:
            self._item = file.below.name
            target = self._staging / file.below
            if not _same(target, file.source):
                self._copy(file, target)
            else:
                self._advance(2 * file.size_bytes)
            self._items_done += 1
        # The old files are deleted on the strength of these names.
        for folder in (*(path for path in _walk(self._staging) if path.is_dir()), self._staging):
            sync_folder(folder)

    def _refuse_small_disk(self) -> None:
        there = sum(_size_bytes(path) for path in _walk(self._staging))
        needed = self._total - there + SPARE_BYTES
        free = shutil.disk_usage(self._staging).free
        if needed > free:
            raise LibraryError(
                self._what,
                f"{size_text(needed)} are needed on that disk and {size_text(free)} are free",
                "free some space there or choose another place",
            )

    def _copy(self, file: _File, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}{_PART}")
        digest = hashlib.sha256()
        with file.source.open("rb") as reader, part.open("r+b" if part.exists() else "w+b") as writer:
            before = os.fstat(reader.fileno())
            copying = False
            while piece := reader.read(PIECE_BYTES):
                at = reader.tell() - len(piece)
                if not copying and writer.read(len(piece)) != piece:
                    copying = True
                    writer.seek(at)
                    writer.truncate()
                if copying:
                    writer.write(piece)
                digest.update(piece)
                self._advance(len(piece))
            writer.truncate(reader.tell())
            writer.flush()
            os.fsync(writer.fileno())
            after = os.fstat(reader.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise LibraryError(
                self._what, f"{file.source.name} changed meanwhile", "try again when nothing writes to it"
            )
        if self._digest(part) != digest.digest():
            part.unlink()
            raise LibraryError(
                self._what,
                f"what was written of {file.source.name} reads differently",
                "check that disk; the old files are as they were",
            )
        os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
        part.replace(target)

    def _digest(self, path: Path) -> bytes:
        """Of what the disk holds, not of what the system still has in memory, where it can be told to."""
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                self._advance(len(piece))
        return digest.digest()

    def _advance(self, count: int) -> None:
        if self._stopped():
            raise MoveStopped(self._what, "it was stopped", "move it again to go on")
        self._half_bytes += count
        done = min(self._half_bytes // 2, self._total)
        rate = done / max(time.monotonic() - self._began_s, 1e-9)
        self._report(
            JobProgress(
                done_bytes=done,
                total_bytes=self._total,
                bytes_per_s=round(rate),
                seconds_left=round((self._total - done) / rate, 1) if rate > 0 else None,
                stage="moving",
                item=self._item,
                items_done=self._items_done,
                items=len(self._files),
            )
        )


def _refuse_taken(what: str, takes: Sequence[Path], targets: Sequence[Path]) -> None:
    for path, target in zip(takes, targets, strict=True):
        here, there = os.path.lexists(path), os.path.lexists(target)
        if here and there:
            raise LibraryError(
                what, f"there is a {target.name} in {target.parent} already", "choose another place"
            )
        # One that is there and not here was renamed before a kill.
        if not here and not there:
            raise LibraryError(what, f"{path.name} is not there any more", "look for it in your files")


def _files_of(what: str, takes: Sequence[Path]) -> list[_File]:
    """All files of what is to be moved. Links are refused: what they lead to would be left behind, or lost."""
    found: list[_File] = []
    for top in takes:
        for path in [top, *(_walk(top) if top.is_dir() and not top.is_symlink() else [])]:
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise LibraryError(what, f"{path.name} is a link, or no file at all", "move it yourself")
            found.append(_File(path, path.relative_to(top.parent), status.st_size))
            if len(found) > MOST_FILES:
                raise LibraryError(what, f"it has more than {MOST_FILES:,} files", "move it yourself")
    return found


def _walk(folder: Path) -> list[Path]:
    """All that is below a folder, links not followed."""
    return [Path(parent) / name for parent, folders, names in os.walk(folder) for name in [*names, *folders]]


def _renamed(takes: Sequence[Path], folder: Path, staging: Path) -> bool:
    """Whether that was all there was to do: it lies on the same disk."""
    if staging.is_dir():
        return False  # copying was begun
    device = folder.stat().st_dev
    if any(path.lstat().st_dev != device for path in takes):
        return False
    for path in takes:
        try:
            path.rename(folder / path.name)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False  # one disk, mounted in two places
            raise
        sync_folder(path.parent)
    sync_folder(folder)
    return True


def _name(takes: Sequence[Path], folder: Path, staging: Path) -> None:
    """Give the copies their names. One that has no copy any more has its name already."""
    for path in takes:
        copy, target = staging / path.name, folder / path.name
        if not os.path.lexists(copy):
            continue
        if os.path.lexists(target):
            raise LibraryError(
                f"{path.name} could not be moved",
                f"there is a {target.name} in {folder} by now; all is copied to {staging}",
                "take that one away and go on",
            )
        copy.rename(target)
    sync_folder(folder)


def _delete(source: Path, target: Path) -> None:
    """Delete what was copied, file by file; what came or changed since stays, and its folder with it."""
    if source.is_dir():
        pairs = [(source / copy.relative_to(target), copy) for copy in _walk(target) if not copy.is_dir()]
    else:
        pairs = [(source, target)]
    for original, copy in pairs:
        if _same(copy, original):
            original.unlink()
        elif os.path.lexists(original):
            _logger.warning("%s was changed after it had been copied; it is kept", original)
    for parent, _, _ in os.walk(source, topdown=False):
        with contextlib.suppress(OSError):
            Path(parent).rmdir()
    sync_folder(source.parent)


def _same(copy: Path, original: Path) -> bool:
    """A copy that got its name was read back; it counts as long as the original has not changed."""
    try:
        copied, there = copy.lstat(), original.lstat()
    except OSError:
        return False
    return copied.st_size == there.st_size and abs(copied.st_mtime_ns - there.st_mtime_ns) < TIME_STEP_NS


def _is_kept(copy: Path, original: Path) -> bool:
    """Whether all of a copy, which may be gone, is still where it was copied from."""
    if not copy.is_dir():
        return not os.path.lexists(copy) or _same(copy, original)
    return all(_same(path, original / path.relative_to(copy)) for path in _walk(copy) if not path.is_dir())


def _size_bytes(path: Path) -> int:
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


@contextmanager
def _alone(what: str, top: Path, folder: Path) -> Generator[None]:
    if not folder.is_dir():
        raise LibraryError(what, f"there is no folder {folder}", "choose another place")
    if folder.resolve().is_relative_to(top.resolve()):
        raise LibraryError(what, f"{folder} lies in it", "choose another place")
    lock = FileLock(folder / f".{top.name}.moving.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LibraryError(what, "it is being moved already", "let that finish") from error
    try:
        yield
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
    finally:
        lock.release()


@contextmanager
def _told(what: str, folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise LibraryError(
                what, f"the disk that holds {folder} is full", "free some space there and go on"
            ) from error
        name = error.filename or folder
        raise LibraryError(
            what,
            f"{name} cannot be read or written ({error.strerror or error})",
            "check that its disk is there and that you may write to it, then go on",
        ) from error
