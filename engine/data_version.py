"""Which Seamount used a data folder last, and what is done before another version does.

Owns: the note of it (`version.json`), the backup before a newer Seamount's first start on a folder, and the refusal of
a folder that a newer one has used. Does not know what a backup holds (`store/backup_format`), nor that the store looks
at its own version once more when it is opened (`store/migrations`), whatever a note says.

The order, for a kill at any moment: the backup is whole, then the note names this version, then the store is opened
and may be changed. A kill before the note makes the backup again, of data that nobody has changed; one behind it needs
none. Whoever calls holds the folder's lock.
"""

import contextlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from engine.atomic_file import is_disk_full, write_atomically
from engine.errors import DataFolderError, DiskFull, NewerData, NotBackedUp, SeamountError
from engine.folder_lock import noted
from engine.paths import DataFolder
from engine.settings import newer_format
from engine.store.backup import Progress, write_backup
from engine.version import is_newer, is_version, version

FORMAT = 1
KEPT_BACKUPS = 2
"""The newest of those that were made before a newer version; older ones are deleted."""
UNNAMED = "an earlier Seamount"
"""Who used a folder that has data and no note."""
_LARGEST_NOTE_BYTES = 20_000
_MOST_NOTED = 20
_BACKUP = re.compile(r"before-[0-9a-z][0-9a-z.+]{0,39}\.seamount", re.ASCII)


@dataclass(frozen=True)
class BackupNote:
    """A backup made before a newer version: the name of its file, and who had used the data (None: not known)."""

    file: str
    of_version: str | None


@dataclass(frozen=True)
class VersionNote:
    """`version.json`."""

    version: str
    backups: tuple[BackupNote, ...] = field(default=())


def read_note(folder: DataFolder) -> VersionNote | None:
    """What is noted; None where nothing is, or nothing that can be understood."""
    try:
        with folder.version_note.open("rb") as file:
            found: Any = json.loads(file.read(_LARGEST_NOTE_BYTES))
        named = str(found["version"])
        if not is_version(named):
            return None
        backups = [_backup_of(each) for each in cast("list[Any]", found["backups"])[:_MOST_NOTED]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return None
    return VersionNote(named, tuple(each for each in backups if each is not None))


def refuse_newer(folder: DataFolder) -> None:
    """Raise NewerData where a newer Seamount used the folder last. Nothing is changed."""
    note, own = read_note(folder), version()
    if note is not None and is_newer(note.version, own):
        raise _newer(folder, note, own)
    found = newer_format(folder.settings)
    if found is not None:
        raise NewerData(
            f"Seamount {own} does not open the data in {folder.root}",
            f"a newer Seamount wrote the settings there (format {found})",
            "nothing was changed; install the newer Seamount again, or name another data folder with --data",
        )


def restorable(folder: DataFolder) -> Path | None:
    """The newest backup of data that this version can open, where a newer one has used the folder since; else None."""
    note, own = read_note(folder), version()
    if note is None or not is_newer(note.version, own):
        return None
    readable = [
        folder.backups / each.file
        for each in note.backups
        if each.of_version is None or not is_newer(each.of_version, own)
    ]
    return next((path for path in readable if path.is_file() and not path.is_symlink()), None)


def settle(folder: DataFolder, *, without_backup: bool = False) -> Path | None:
    """Make the folder this version's: back up first what an earlier one has left. The backup, where one was made.

    `without_backup`: a person was told that it cannot be made, and goes on without. Raises NewerData, NotBackedUp,
    DiskFull, DataFolderError; nothing is changed then.
    """
    refuse_newer(folder)
    own, note = version(), read_note(folder)
    if not is_version(own) or (note is not None and note.version == own):
        return None
    before = note.version if note is not None else None
    kept = list(note.backups) if note is not None else []
    made: Path | None = None
    if _has_data(folder, note) and not without_backup:
        made = _back_up(folder, own, before)
        kept = [BackupNote(made.name, before), *(each for each in kept if each.file != made.name)]
    _write_note(folder, VersionNote(own, tuple(kept[:_MOST_NOTED])))
    if made is not None:
        _delete_old(folder, made)
    return made


def backup_words(made: Path) -> str:
    """What is said once such a backup was made."""
    return f"This is Seamount {version()} now; what an earlier version had kept is backed up in {made}."


def backups(folder: DataFolder) -> list[Path]:
    """The backups that were made before newer versions, the newest first. Links are none. Raises nothing."""
    try:
        found = [
            (each.stat().st_mtime, each)
            for each in folder.backups.iterdir()
            if _BACKUP.fullmatch(each.name) and each.is_file() and not each.is_symlink()
        ]
    except OSError:
        return []
    return [each for _, each in sorted(found, reverse=True)]


def _has_data(folder: DataFolder, note: VersionNote | None) -> bool:
    """Every Seamount that has run made a store; settings without one and without a note were put there by hand."""
    return folder.sessions_db.exists() or (note is not None and folder.settings.exists())


def _back_up(folder: DataFolder, own: str, before: str | None) -> Path:
    target = folder.backups / f"before-{own}.seamount"
    # An earlier one of that name stays until this one is whole.
    fresh = target.with_name(f".{target.name}.new")
    try:
        folder.backups.mkdir(mode=0o700, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with noted(folder, f"what is kept is being backed up before Seamount {own} uses it"):
            write_backup(folder.root, fresh, with_states=False, progress=Progress(), within=True)
        fresh.replace(target)
    except SeamountError as error:
        raise _not_backed_up(own, before, error.why, error) from error
    except OSError as error:
        raise _not_backed_up(own, before, f"{target}: {error.strerror or error}", error) from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
    return target


def _delete_old(folder: DataFolder, made: Path) -> None:
    """All but the newest few. One that cannot be deleted takes room and does no harm."""
    others = [each for each in backups(folder) if each != made]
    for each in others[KEPT_BACKUPS - 1 :]:
        with contextlib.suppress(OSError):
            each.unlink()


def _write_note(folder: DataFolder, note: VersionNote) -> None:
    content = {
        "format": FORMAT,
        "version": note.version,
        "backups": [{"file": each.file, "of_version": each.of_version} for each in note.backups],
    }
    try:
        write_atomically(folder.version_note, json.dumps(content, indent=1).encode() + b"\n")
    except OSError as error:
        what = f"The version of Seamount cannot be noted in {folder.version_note}"
        if is_disk_full(error):
            raise DiskFull(
                what, "its disk is full", "free some space there; nothing else was changed"
            ) from error
        raise DataFolderError(
            what, error.strerror or str(error), "give yourself permission to write there"
        ) from error


def _backup_of(found: Any) -> BackupNote | None:
    file, of_version = found["file"], found.get("of_version")
    if not isinstance(file, str) or not _BACKUP.fullmatch(file):
        return None
    known = isinstance(of_version, str) and is_version(of_version)
    return BackupNote(file, of_version if known else None)


def _newer(folder: DataFolder, note: VersionNote, own: str) -> NewerData:
    remedy = f"install Seamount {note.version} again"
    there = restorable(folder)
    if there is not None:
        kept = there.relative_to(folder.root).as_posix()
        remedy += f", or put back what was there before it ({kept}) with `seamount restore --previous`"
    else:
        remedy += ", or name another data folder with --data"
    error = NewerData(
        f"Seamount {own} does not open the data in {folder.root}",
        f"Seamount {note.version} used them last, which is newer",
        f"nothing was changed; {remedy}",
    )
    error.can_go_back = there is not None
    return error


def _not_backed_up(own: str, before: str | None, why: str, error: Exception) -> NotBackedUp:
    named = f"Seamount {before}" if before else UNNAMED
    room = "free some space there" if _says_full(error) else "put that right"
    return NotBackedUp(
        f"Seamount {own} has not been started on the data of {named}",
        f"they are to be backed up first, and that failed ({why})",
        f"{room} and start again, or go on without a backup: `seamount serve --without-backup`",
    )


def _says_full(error: Exception) -> bool:
    return isinstance(error, DiskFull) or (isinstance(error, OSError) and is_disk_full(error))
