"""The file that a conversion writes: reserved, filled out of order, made durable, and named only when whole.

Owns: the `.part` file, its room on the disk, and what an operating system's refusals mean to a person. Does not
know what the bytes are.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convert.conversion_error import ConversionError

READ_BYTES = 16 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_BINARY = getattr(os, "O_BINARY", 0)


def part_of(path: Path) -> Path:
    """What `path` is called while it is not whole."""
    return path.with_name(f"{path.name}.part")


@contextmanager
def told_for(path: Path) -> Generator[None]:
    """Turn an OSError of writing `path` into the sentence for it."""
    try:
        yield
    except OSError as error:
        raise _told(path, error) from error


class TargetFile:
    """One file while it is written. One thread at a time. Errors are ConversionError."""

    def __init__(self, path: Path, size_bytes: int, *, keep: bool) -> None:
        """Open the `.part` of `path`, made if it is not there, `size_bytes` long, and none of it reserved.

        `keep` what is in it; else it is all zeros.
        """
        self.path, self.part, self.size_bytes = path, part_of(path), size_bytes
        with told_for(path):
            descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT | _BINARY, 0o644)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
            if not keep:
                self._file.truncate(0)
            self._file.truncate(size_bytes)

    def reserve(self, start: int, end: int) -> None:
        """Have the disk hold room for the bytes from `start` to `end`, where it can be asked to."""
        if end > start and hasattr(os, "posix_fallocate"):
            with told_for(self.path):
                try:
                    os.posix_fallocate(self._file.fileno(), start, end - start)
                except OSError as error:
                    if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                        raise

    def write(self, at: int, data: memoryview) -> None:
        """Write `data` at that place."""
        view = data
        with told_for(self.path):
            self._file.seek(at)
            while view:
                view = view[self._file.write(view) :]

    def digest(self, at: int, count: int) -> str:
        """SHA-256 of `count` bytes from `at` on, as they are on the disk where that can be had."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(min(READ_BYTES, count)))
        with told_for(self.path):
            self._forget(at, count)
            self._file.seek(at)
            while count:
                got = self._file.readinto(buffer[: min(len(buffer), count)])
                if not got:
                    raise ConversionError(
                        "target",
                        f"{self.path.name} could not be written",
                        "it became shorter meanwhile",
                        "leave its .part file alone, and convert again",
                    )
                digest.update(buffer[:got])
                count -= got
        return digest.hexdigest()

    def sync(self) -> None:
        """Return when all that was written would survive a power cut."""
        with told_for(self.path):
            os.fsync(self._file.fileno())
            self._forget(0, 0)

    def close(self) -> None:
        """Close it. What was written stays."""
        self._file.close()

    def _forget(self, at: int, count: int) -> None:
        """Let the system drop its copy of a stretch, so that a conversion does not crowd out everything else."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), at, count, os.POSIX_FADV_DONTNEED)


def name_when_whole(path: Path) -> None:
    """Give the finished `.part` of `path` its name, for good; nothing if it has it already."""
    with told_for(path):
        with contextlib.suppress(FileNotFoundError):
            part_of(path).replace(path)
        sync_folder(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replace the small file `path`: after a crash there is the old one or the new one. Raises ConversionError.

    One writer at a time. What a crash leaves beside it is cleared by the next call, or by `remove_whole`.
    """
    fresh = _fresh(path)
    with told_for(path):
        try:
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o644)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        sync_folder(path.parent)


def remove_whole(path: Path) -> None:
    """Delete a file that `write_whole` wrote, and what a crash of that may have left. Raises ConversionError."""
    with told_for(path):
        _fresh(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in `folder` last through a power cut, where the platform can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _fresh(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _told(path: Path, error: OSError) -> ConversionError:
    what: Any = f"{path.name} could not be written"
    if error.errno in _FULL:
        return ConversionError(
            "disk_full",
            what,
            "the disk is full",
            "free some space and convert again; it goes on where it was",
        )
    if error.errno in _FORBIDDEN:
        why = "the folder is read-only" if error.errno == errno.EROFS else "this user may not write there"
        return ConversionError("target", what, why, "choose another place for the result")
    return ConversionError(
        "target",
        what,
        error.strerror or str(error),
        "look after the disk and convert again; it goes on where it was",
    )
