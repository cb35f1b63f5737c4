"""Files that are either the old one or the new one, never half of each.

Owns: the order of write, flush, fsync and rename, and the names of what is set aside. Does not know what is
in the files. Raises plain OSError: the caller knows what failed for the person.
"""

import contextlib
import datetime
import errno
import os
import secrets
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by a file that holds `content`; after a crash there is the old file or the new one.

    The temporary file lies in the same folder, because a rename is atomic only within one file system. It is
    created with `mode` (ignored where the platform has no such thing). Raises OSError; `path` is then as it
    was.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut, where the platform can (Windows cannot: no-op)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def name_beside(path: Path, label: str) -> Path:
    """A name beside `path` that no file has: `settings.toml.broken-20250131-120000`, UTC, then `-2`, `-3`."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    free = path.with_name(f"{path.name}.{label}-{stamp}")
    count = 1
    while free.exists():
        count += 1
        free = path.with_name(f"{path.name}.{label}-{stamp}-{count}")
    return free


def is_disk_full(error: OSError) -> bool:
    """Whether `error` says that there is no space, or no space left for this user."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
