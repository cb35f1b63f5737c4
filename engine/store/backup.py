"""Everything that is kept, as one file, while an engine may be at work on it.

Owns: the copy of the database, the order in which things are copied so that they fit together, and the file's way to
its name. What belongs to a backup is `backup_format`'s; `restore` is the other side. Does not know an engine.

How it fits together: journals are copied before the database. What an answer shows is in the journal before it is in
the database, and what is compacted out of a journal is in the database; so the database copied last holds all that
the journals copied before it tell of, and possibly more. The database is copied inside one read transaction (SQLite's
online backup), so that it is of one moment, whoever writes meanwhile.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import sqlite3
import time
import zipfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.atomic_file import is_disk_full, sync_folder
from engine.errors import BadRequest, Conflict, DataFolderError, DiskFull, SeamountError, TaskStopped
from engine.store.backup_format import (
    DATABASE,
    FORMAT,
    MANIFEST,
    PACKED,
    STATES,
    VERSION,
    Manifest,
    Member,
    files_of,
)
from engine.store.database import explained
from engine.version import version

PIECE_BYTES = 1 << 20
_PAGES = 2048
_LEVEL = 3
_WHAT = "The backup was not written"


@dataclass(frozen=True)
class BackupMade:
    """What was written: the file's size, how many files of the data folder are in it, and their size there."""

    size_bytes: int
    files: int
    content_bytes: int


class Progress:
    """Tells how far work is and ends it when it is to stop. `told(done_bytes, total_bytes, what it is at)`."""

    def __init__(
        self,
        told: Callable[[int, int, str], None] = lambda _done, _total, _note: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._told, self._stopping = told, stopping
        self._done = self._total = 0

    def expect(self, total_bytes: int) -> None:
        """So much there is to do."""
        self._total = total_bytes

    def add(self, done_bytes: int, note: str) -> None:
        """So much more is done. Raises TaskStopped."""
        self._done += done_bytes
        self._told(self._done, max(self._total, self._done), note)
        if self._stopping():
            raise TaskStopped("It was ended", "that was asked for", "begin again when it suits you")


def write_backup(
    root: Path, target: Path, *, with_states: bool, progress: Progress, within: bool = False
) -> BackupMade:
    """Write everything in the data folder `root` that a backup holds to the new file `target`. `within`: it may lie in
    the data folder, in a place that the program keeps for backups and knows how to look through.

    After any error or kill there is no `target`. Raises Conflict when it is there already, BadRequest for a place that
    cannot be, TaskStopped, DiskFull, DataFolderError.
    """
    _check_place(root, target, within=within)
    label = f".{target.name}."
    with contextlib.suppress(OSError):
        for left in target.parent.iterdir():  # what a killed run left
            # SQLite puts its journal beside the copy.
            if left.name.startswith(label) and (".backup-part" in left.name or ".database-part" in left.name):
                left.unlink()
    token = secrets.token_hex(6)
    part = target.with_name(f"{label}{token}.backup-part")
    copy = target.with_name(f"{label}{token}.database-part")
    try:
        with _explained(target, root):
            members = _write(root, part, copy, with_states, progress)
            if target.exists():
                raise _is_there(target)
            part.replace(target)
            sync_folder(target.parent)
            return BackupMade(target.stat().st_size, len(members), sum(each.bytes for each in members))
    finally:
        for left in (part, *(copy.with_name(copy.name + more) for more in ("", "-journal", "-wal", "-shm"))):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)


def _write(root: Path, part: Path, copy: Path, with_states: bool, progress: Progress) -> list[Member]:
    database = root / DATABASE
    names = files_of(root, with_states=with_states)
    sizes = [size for name in names if (size := _size(root / name)) is not None]
    # The database is copied, then read: twice its size.
    progress.expect(sum(sizes) + 2 * (_size(database) or 0))
    members: list[Member] = []
    store_version = 0
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "w+b") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name in names:
                # One that went meanwhile (evicted, purged) is not missed.
                with contextlib.suppress(FileNotFoundError):
                    members.append(_add(archive, root / name, name, progress))
            if database.exists():
                store_version = copy_database(database, copy, progress)
                members.append(_add(archive, copy, DATABASE, progress))
            manifest = Manifest(
                format=FORMAT,
                version=VERSION,
                seamount=version(),
                created_at=time.time(),
                store_version=store_version,
                with_states=with_states,
                members=members,
            )
            archive.writestr(_entry(MANIFEST), manifest.model_dump_json(indent=1).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return members


def copy_database(source: Path, copy: Path, progress: Progress) -> int:
    """Copy the store at `source`, as it is at one moment, to the new file `copy`; its version.

    The copy is one file that needs no companion. Raises sqlite3.Error, OSError, TaskStopped.
    """
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)) as reader,
        contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as writer,
    ):
        # What is copied is fixed here. Without it, each change by another would begin the copy anew.
        reader.execute("BEGIN")
        found = reader.execute("PRAGMA user_version").fetchone()[0]
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        page_bytes: int = reader.execute("PRAGMA page_size").fetchone()[0]
        before = -1

        def tell(_status: int, left: int, total: int) -> None:
            nonlocal before
            done = total - left
            progress.add((done - max(before, 0)) * page_bytes, DATABASE)
            before = done

        reader.backup(writer, pages=_PAGES, progress=tell, sleep=0)
        writer.execute("PRAGMA journal_mode = DELETE")
    return int(found)


def _add(archive: zipfile.ZipFile, path: Path, name: str, progress: Progress) -> Member:
    """Copy the file into the archive, no more of it than it has now: journals grow."""
    import zstandard

    digest, left = hashlib.sha256(), path.stat().st_size
    size_bytes = left
    # What models have read is compressed where that pays already.
    packed = name if name.startswith(f"{STATES}/") else name + PACKED
    with path.open("rb") as source, archive.open(_entry(packed), "w", force_zip64=True) as member:
        sink: contextlib.AbstractContextManager[IO[bytes]] = contextlib.nullcontext(member)
        if packed != name:
            sink = zstandard.ZstdCompressor(level=_LEVEL).stream_writer(member, closefd=False)
        with sink as out:
            while left:
                piece = source.read(min(PIECE_BYTES, left))
                if not piece:
                    break
                digest.update(piece)
                out.write(piece)
                left -= len(piece)
                progress.add(len(piece), name)
    return Member(name=name, packed=packed, bytes=size_bytes - left, sha256=digest.hexdigest())


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, time.gmtime()[:6])
    entry.external_attr = 0o600 << 16
    return entry


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _check_place(root: Path, target: Path, *, within: bool) -> None:
    if target.exists() or target.is_symlink():
        raise _is_there(target)
    if not target.name or not target.parent.is_dir():
        raise BadRequest(
            _WHAT, f"there is no folder {target.parent}", "name a file in a folder that is there"
        )
    if not root.is_dir():
        raise DataFolderError(_WHAT, f"there is no data folder {root}", "name the right one with --data")
    if not within and target.parent.resolve().is_relative_to(root.resolve()):
        # It could be taken for one of the program's own files, and would stay as it is when these are encrypted.
        raise BadRequest(_WHAT, f"{target} lies in the data folder", "name a file outside it")


def _is_there(target: Path) -> Conflict:
    return Conflict(_WHAT, f"{target} is there already", "name another file, or move that one away")


@contextlib.contextmanager
def _explained(target: Path, root: Path) -> Generator[None, None, None]:
    try:
        yield
    except sqlite3.Error as error:
        told = explained(error, root / DATABASE)
        if isinstance(told, DiskFull):
            raise _full(target) from error
        if not isinstance(told, SeamountError):
            raise
        raise DataFolderError(
            _WHAT, told.what[:1].lower() + told.what[1:] + f" ({told.why})", told.remedy
        ) from error
    except OSError as error:
        if is_disk_full(error):
            raise _full(target) from error
        place = error.filename or target
        why = f"{place}: {error.strerror or error}"
        if error.errno in (errno.EACCES, errno.EPERM):
            why = f"there is no permission for {place}"
        raise DataFolderError(
            _WHAT, why, "check the disk and your permission, or name another place"
        ) from error


def _full(target: Path) -> DiskFull:
    return DiskFull(
        _WHAT, f"the disk that holds {target.parent} is full", "free some space there, or name another place"
    )
