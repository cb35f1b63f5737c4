"""A backup back into a data folder: at any moment there is the old state or the new one, and it is known which.

Owns: the steps, and going on with them after a kill. What a backup is, and what in one can be wrong, is
`backup_format`'s and `backup_reader`'s. Does not know engines; whoever calls holds the data folder's lock.

1. `prepare` unpacks the backup into STAGING, each file held against its sum and synced, and looks at the database
   there. Whatever goes wrong, the data are untouched; what a kill leaves is removed by `finish`.
2. It writes NOTE, whole or not at all. From here on the new state is decided, until `give_up`.
3. `finish`, which engines call at their start, notes what is there, moves that into the folder that the note names,
   then the new into place, then removes the note. Each move can be done again after a kill: what has been moved is
   not there any more.
"""

import contextlib
import datetime
import json
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from engine.atomic_file import is_disk_full, sync_folder, write_atomically
from engine.data_version import read_note
from engine.errors import Conflict, DataFolderError, DiskFull, NewerData, SeamountError
from engine.paths import DataFolder
from engine.store.backup import Progress
from engine.store.backup_format import BESIDE_DATABASE, DATABASE, FILES, JOURNALS, STATES, Member
from engine.store.backup_reader import WHAT, BackupReader, refused
from engine.store.database import explained
from engine.store.migrations import MIGRATIONS, stored_version
from engine.store.sealed_columns import SEALING_TABLE
from engine.version import is_newer, version

_preparing = threading.Lock()
"""Two at a time would unpack into each other's folder, and the first to end would decide for what the other left."""

STAGING = ".restoring"
NOTE = "restore.json"
_FORMAT = 1
_MOST_NOTE_BYTES = 1 << 20
_COLUMNS = (
    "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'"
)
_ASIDE = re.compile(r"before-restore-\d{8}-\d{6}(?:-\d{1,4})?", re.ASCII)
_PLACES = (DATABASE, *BESIDE_DATABASE, JOURNALS, STATES, *FILES)
"""What is moved as a whole: files, and the folders of journals and of what models have read."""


@dataclass(frozen=True)
class Prepared:
    """A restore that is decided. `aside`: the folder that what is there now is moved into."""

    created_at: float
    sessions_bytes: int
    aside: Path


@dataclass(frozen=True)
class _Note:
    """What is decided. `aside`: the name of the folder for the old; `places`: what goes and comes; `going`: what of it
    was there when the moves began, None before."""

    aside: str
    places: list[str]
    going: list[str] | None


def prepare(root: Path, backup: Path, progress: Progress) -> Prepared:
    """Check the backup to its last byte, unpack it beside the data and decide that it takes their place.

    Raises BackupRefused, StoreVersionError for conversations of a newer Seamount, Conflict where one is decided or
    looked at already, DataFolderError, DiskFull, TaskStopped; nothing is changed then.
    """
    if not _preparing.acquire(blocking=False):
        raise Conflict(
            "The backup was not restored", "another one is being looked at", "wait until that has ended"
        )
    try:
        return _prepare(root, backup, progress)
    finally:
        _preparing.release()


def _prepare(root: Path, backup: Path, progress: Progress) -> Prepared:
    staging = root / STAGING
    if (root / NOTE).exists():
        raise Conflict(
            "The backup was not restored",
            "another one is to be restored at the next start of Seamount",
            "restart Seamount first, or give that one up",
        )
    try:
        with BackupReader(backup) as reader, _explained(root):
            shutil.rmtree(staging, ignore_errors=True)
            _check_room(root, reader.content_bytes)
            staging.mkdir(mode=0o700)
            progress.expect(reader.content_bytes)
            for member in reader.manifest.members:
                _unpack(reader, member, staging / member.name, progress)
            for folder in {staging, *(path.parent for path in staging.rglob("*"))}:
                sync_folder(folder)
            _refuse_newer(DataFolder(staging))
            members = {member.name: member for member in reader.manifest.members}
            if DATABASE in members:
                _check_database(staging / DATABASE, reader.manifest.store_version)
            prepared = Prepared(
                reader.manifest.created_at,
                members[DATABASE].bytes if DATABASE in members else 0,
                _free_aside(root),
            )
            # Models' states stay where the backup has none: they fit any conversation that begins alike.
            places = [name for name in _PLACES if name != STATES or reader.manifest.with_states]
            _write_note(root, _Note(prepared.aside.name, places, None))
            return prepared
    except BaseException:
        if not (root / NOTE).exists():
            shutil.rmtree(staging, ignore_errors=True)
        raise


def finish(root: Path) -> str | None:
    """Carry out what is decided; a sentence that says so, None when nothing was.

    What a restore left that was not decided is removed. Raises DiskFull, DataFolderError; calling it again goes on.
    """
    with _explained(root):
        for left in root.glob(f".{NOTE}.*.part"):  # a note that was killed while it was written
            left.unlink()
        note = _read_note(root)
        if note is None:
            shutil.rmtree(root / STAGING, ignore_errors=True)
            return None
        old, staging = root / note.aside, root / STAGING
        old.mkdir(mode=0o700, exist_ok=True)
        if note.going is None:
            # Once the new begins to come, what is old can be told from it by this list alone.
            note = replace(note, going=[name for name in note.places if (root / name).exists()])
            _write_note(root, note)
        for name in note.going or ():
            if (root / name).exists() and not (old / name).exists():
                _move(root / name, old / name)
        for name in note.places:
            if (staging / name).exists():
                _move(staging / name, root / name)
        with contextlib.suppress(OSError):
            old.rmdir()  # where nothing was here before
        was_something = old.exists()
        (root / NOTE).unlink()
        sync_folder(root)
        shutil.rmtree(staging, ignore_errors=True)
    if not was_something:
        return "A backup was restored; nothing was here before."
    return f"A backup was restored; what was here before is in {old}."


def give_up(root: Path) -> bool:
    """Forget a restore that is decided and not begun; False when there is none. Raises DataFolderError, Conflict."""
    with _explained(root):
        note = _read_note(root)
        if note is None:
            return False
        if note.going is not None:
            raise Conflict(
                "The restore cannot be given up", "it has begun", "restart Seamount, which ends it"
            )
        (root / NOTE).unlink()
        sync_folder(root)
        shutil.rmtree(root / STAGING, ignore_errors=True)
    return True


def _refuse_newer(unpacked: DataFolder) -> None:
    """Data of a newer Seamount would be refused at the next start. Who wrote the backup's file says nothing of whose
    data are in it: the one before a newer version's first start is written by that."""
    note = read_note(unpacked)
    if note is not None and is_newer(note.version, version()):
        raise NewerData(
            "The backup was not restored",
            f"what is in it is Seamount {note.version}'s, and this is Seamount {version()}",
            "nothing was changed; install that version, or use an older backup",
        )


def _unpack(reader: BackupReader, member: Member, path: Path, progress: Progress) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        for piece in reader.pieces(member):
            file.write(piece)
            progress.add(len(piece), member.name)
        file.flush()
        os.fsync(file.fileno())


def _check_database(path: Path, version: int) -> None:
    """Refuse a database that is damaged, another program's, or of a newer Seamount."""
    # Immutable: SQLite makes no companions beside it.
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            if stored_version(connection, path, MIGRATIONS[-1].version) != version:
                raise refused("its manifest does not say what its database is")
            columns, schema = _of_version(version)
            if lacking := columns - set(connection.execute(_COLUMNS)):
                raise refused(f"its database lacks {len(lacking)} of the columns of its version")
            # Triggers and views, but also checks, defaults and indexes, are programs that would run at every change.
            if _schema(connection) - schema:
                raise refused("its database holds more than conversations")
            verdict = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        told = explained(error, path)
        if not isinstance(told, SeamountError) or isinstance(told, DiskFull):
            raise
        raise refused(f"its database cannot be read ({' '.join(str(error).split())})") from error
    if verdict != "ok":
        raise refused(f"its database is damaged ({' '.join(verdict.split())})")


def _of_version(version: int) -> tuple[set[tuple[str, str]], set[str]]:
    """(table, column) of a store of that version, and the statements that it is made by."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for step in MIGRATIONS:
            if step.version <= version:
                connection.executescript(step.sql)
        columns = set(connection.execute(_COLUMNS))
        connection.execute(SEALING_TABLE)
        return columns, _schema(connection)


def _schema(connection: sqlite3.Connection) -> set[str]:
    """The statements that made what is in a database; SQLite keeps them as they were written."""
    rows = connection.execute(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"
        " AND NOT (type = 'table' AND name IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4'))"
    )
    return {" ".join(str(sql).split()) for (sql,) in rows}


def _write_note(root: Path, note: _Note) -> None:
    content = json.dumps({"format": _FORMAT, **asdict(note)}, indent=1)
    write_atomically(root / NOTE, content.encode() + b"\n")


def _read_note(root: Path) -> _Note | None:
    """What is decided. Raises DataFolderError for a note that nobody here wrote."""
    path = root / NOTE
    if not path.exists():
        return None
    try:
        if path.stat().st_size > _MOST_NOTE_BYTES:
            raise ValueError
        table = cast("dict[str, Any]", json.loads(path.read_bytes()))
        note = _Note(table["aside"], table["places"], table["going"])
        if table["format"] != _FORMAT or not _ASIDE.fullmatch(note.aside):
            raise ValueError
        if not set(note.places) <= set(_PLACES) or not set(note.going or ()) <= set(_PLACES):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataFolderError(
            "A restore that was begun cannot be finished",
            f"its note {path} cannot be understood",
            "move that file elsewhere; the conversations are in place or in the folder before-restore-…",
        ) from error
    return note


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    source.rename(target)
    _sync_all((source.parent, target.parent))


def _sync_all(folders: Iterable[Path]) -> None:
    for folder in folders:
        sync_folder(folder)


def is_set_aside(name: str) -> bool:
    """Whether a folder of that name holds what a restore has taken the place of."""
    return _ASIDE.fullmatch(name) is not None


def _free_aside(root: Path) -> Path:
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    free, count = root / f"before-restore-{stamp}", 1
    while free.exists():
        count += 1
        free = root / f"before-restore-{stamp}-{count}"
    return free


def _check_room(root: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(root).free
    if needed_bytes > free_bytes:
        raise DiskFull(
            "The backup was not restored",
            f"it needs {needed_bytes:,} bytes, and the disk that holds {root} has {free_bytes:,} free",
            "free some space there; nothing was changed",
        )


@contextlib.contextmanager
def _explained(root: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(
                "The backup was not restored",
                f"the disk that holds {root} is full",
                "free some space there and try again",
            ) from error
        why = f"{error.filename or root}: {error.strerror or error}"
        raise DataFolderError(
            WHAT, why, "check the disk and your permission there, then try again"
        ) from error
