"""Encryption of a data folder's conversations: whether it is on, turned on and off, and opened at the start.

Owns: what is asked for and not yet done (`encryption.json`), the order in which a change is made, and what lies in
the data folder in plain form. Does not know ciphers (`sealing`), where keys lie (`keys`), or how a store is rewritten
(`resealing`).

Whether it is on, the store itself says (`sealed_columns.sealed_with`), so that there is never a second opinion. A
change is made at the start of an engine, before anything else has the store open: the store is rewritten, then the
journals; the states of contexts, which are large and can be made anew, are deleted, and last the note that asked for
it. A process that dies on the way finds the note again and goes on from where the store says it is.
"""

import contextlib
import json
import logging
import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.atomic_file import is_disk_full, sync_folder, write_atomically
from engine.errors import BadRequest, DataFolderError, DiskFull, KeyMissing, SeamountError
from engine.folder_lock import noted
from engine.paths import DataFolder
from engine.protocol_base import ErrorBody
from engine.protocol_encryption import ChangeEncryption, EncryptionChange, EncryptionState
from engine.store import recovery_key, resealing, restore
from engine.store.backup_format import DATABASE, JOURNALS
from engine.store.backup_reader import BackupReader
from engine.store.journals import FILE_NAME as JOURNAL
from engine.store.journals import Journals
from engine.store.keys import Keys
from engine.store.migrations import APPLICATION_ID, SEALED_APPLICATION_ID
from engine.store.sealed_columns import sealed_with
from engine.store.sealing import Cipher, Ciphers

BACKUP_SUFFIX = ".seamount"
_HEADER_BYTES = 100
_SQLITE = b"SQLite format 3\x00"
_LARGEST_NOTE_BYTES = 10_000

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """What an engine needs to open the store: ciphers where it is encrypted, or why it stays locked."""

    ciphers: Ciphers | None = None
    locked: KeyMissing | None = None

    @property
    def rows(self) -> Cipher | None:
        """For the store."""
        return self.ciphers.rows if self.ciphers else None

    @property
    def journals(self) -> Cipher | None:
        """For the journals."""
        return self.ciphers.journals if self.ciphers else None

    @property
    def snapshots(self) -> Cipher | None:
        """For the states of contexts."""
        return self.ciphers.snapshots if self.ciphers else None


@dataclass(frozen=True)
class _Note:
    """A change that is asked for. `key_id`: of the key that the conversations are encrypted with after or before."""

    on: bool
    key_id: str
    remove_plain_files: bool = False


class Encryption:
    """Of one data folder. `settle` while nobody else has it open; the rest from any thread, at any time."""

    def __init__(self, folder: DataFolder, keys: Keys | None = None) -> None:
        self._folder = folder
        self._keys = keys or Keys(folder.root)
        self._problem: SeamountError | None = None
        self._locked: KeyMissing | None = None
        self._key_given = False

    def settle(self) -> Opened:
        """Make the change that is asked for, if one is, and say how the store is opened now.

        What stands in the way of a change is kept for `state`, and the store is then as it was. Raises nothing.
        """
        with contextlib.suppress(OSError):
            resealing.remove_leftover(self._folder.sessions_db)
        if (note := self._note()) is not None:
            try:
                words = f"the conversations are being {'encrypted' if note.on else 'decrypted'}"
                with noted(self._folder, words):
                    self._carry_out(note)
            except SeamountError as error:
                _logger.warning("%s", error.text)
                self._problem = error
        try:
            return self.opened()
        except KeyMissing as error:
            _logger.warning("%s", error.text)
            self._locked = error
            return Opened(locked=error)
        except DataFolderError:
            return Opened()  # what is wrong with it, its opening says

    def opened(self) -> Opened:
        """With the ciphers that open the store as it is. Raises KeyMissing, DataFolderError."""
        key_id = stored_key_id(self._folder.sessions_db)
        return Opened() if key_id is None else Opened(Ciphers.of(self._keys.find(key_id)))

    def state(self) -> EncryptionState:
        """What is so, and what is asked for. Raises DataFolderError."""
        on = stored_key_id(self._folder.sessions_db) is not None
        note = self._note()
        return EncryptionState(
            on=on,
            locked=_body(self._locked),
            pending=None if note is None else ("on" if note.on else "off"),
            problem=None if note is None else _body(self._problem),
            restart_needed=note is not None or self._key_given,
            key_place=self._keys.place,
            plain_files=[path.relative_to(self._folder.root).as_posix() for path in self._plain_files()],
        )

    def change(self, asked: ChangeEncryption) -> EncryptionChange:
        """Ask for a change at the next start. Raises KeyNotKept, KeyMissing, DiskFull, DataFolderError."""
        key_id = stored_key_id(self._folder.sessions_db)
        self._problem = None
        shown: str | None = None
        if asked.on == (key_id is not None):
            self._forget_note()
            if asked.on and asked.remove_plain_files:
                self._remove(self._plain_files())
        elif asked.on:
            key = self._keys.new()
            self._keys.keep(key)
            shown = recovery_key.written(key)
            self._write_note(_Note(True, key.id, asked.remove_plain_files))
        else:
            key = self._keys.find(key_id or "")
            self._write_note(_Note(False, key.id))
        return EncryptionChange(state=self.state(), recovery_key=shown)

    def recover(self, typed: str) -> EncryptionState:
        """Keep a recovery key, so that the next start opens the conversations.

        Raises BadRequest for what is no key or not theirs, KeyNotKept, DataFolderError.
        """
        key = recovery_key.read(typed)
        key_id = stored_key_id(self._folder.sessions_db)
        if key_id is None:
            raise BadRequest(
                "The recovery key was not taken", "the conversations here are not encrypted", "none is needed"
            )
        if key.id != key_id:
            raise BadRequest(
                "The recovery key was not taken",
                f"it is another one's (key {key.id}; these conversations have {key_id})",
                "look for the one that was shown when these conversations were encrypted",
            )
        self._keys.keep(key)
        self._key_given = self._locked is not None
        return self.state()

    # --- a change ------------------------------------------------------------------------------------

    def _carry_out(self, note: _Note) -> None:
        store = self._folder.sessions_db
        key_id = stored_key_id(store)
        if key_id is not None and key_id != note.key_id:
            # A backup was restored meanwhile, and what was asked for was not asked for this store.
            self._forget_note()
            return
        sealed = Ciphers.of(self._keys.find(note.key_id))
        before, after = (Opened(), Opened(sealed)) if note.on else (Opened(sealed), Opened())
        if note.on != (key_id is not None):
            resealing.reseal(store, before.rows, after.rows, note.key_id)
            _logger.info("the conversations are %s now", "encrypted" if note.on else "not encrypted")
        with contextlib.closing(Journals(self._folder.journals, lambda: 0)) as journals:
            journals.reseal(sealed.journals, on=note.on)
        # In the other form; what is in them can be read again.
        self._remove([self._folder.snapshots])
        if note.on:
            # What was damaged in journals and set aside is of no use to the program.
            self._remove([each for each in self._folder.journals.glob("*/*") if each.name != JOURNAL])
            self._empty_logs()
            if note.remove_plain_files:
                self._remove(self._plain_files())
        self._forget_note()

    def _remove(self, paths: list[Path]) -> None:
        for path in paths:
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DataFolderError(
                    f"{path} cannot be deleted, and it is not encrypted",
                    error.strerror or str(error),
                    "close other programs that use it, or delete it yourself, then restart the engine",
                ) from error
        sync_folder(self._folder.root)

    def _empty_logs(self) -> None:
        """What failed before may have been written down with the words it failed on. A log may be in use."""
        for log in self._folder.logs.glob("*.log"):
            with contextlib.suppress(OSError):
                os.truncate(log, 0)

    def _plain_files(self) -> list[Path]:
        """What is not encrypted: copies of the store beside it, as backups of migrations are, by their names, folders
        that a restore has set aside with such a store in them, and backups that were made before newer versions."""
        store, found = self._folder.sessions_db, list[Path]()
        with contextlib.suppress(OSError):
            for each in sorted(store.parent.iterdir()):
                copy = each / store.name if restore.is_set_aside(each.name) else each
                named = copy is not each or each.name.startswith(f"{store.name}.")
                if named and _application_id(copy) == APPLICATION_ID:
                    found.append(each)
        with contextlib.suppress(OSError):
            kept = sorted(self._folder.backups.iterdir())
            found += [each for each in kept if each.suffix == BACKUP_SUFFIX and _is_plain_backup(each)]
        return found

    def key_ids(self) -> set[str]:
        """The ids of all keys that a store in the folder is sealed with, or is to be: today's, copies beside it, and
        those that a restore has set aside. Raises nothing."""
        note, store = self._note(), self._folder.sessions_db
        found = {note.key_id} if note is not None else set[str]()
        with contextlib.suppress(OSError):
            for each in store.parent.iterdir():
                copy = each / store.name if restore.is_set_aside(each.name) else each
                if copy is not each or each.name.startswith(store.name):
                    with contextlib.suppress(DataFolderError):
                        found |= {key_id for key_id in (stored_key_id(copy),) if key_id is not None}
        return found

    # --- the note ------------------------------------------------------------------------------------

    def _note(self) -> _Note | None:
        """The change that is asked for. A note that cannot be read asks for nothing."""
        try:
            with self._folder.encryption.open("rb") as file:
                found: Any = json.loads(file.read(_LARGEST_NOTE_BYTES))
            on, key_id, remove = found["on"], found["key_id"], found["remove_plain_files"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            _logger.warning("%s cannot be read (%s)", self._folder.encryption, type(error).__name__)
            return None
        if not (isinstance(on, bool) and isinstance(key_id, str) and isinstance(remove, bool)):
            return None
        return _Note(on, key_id, remove)

    def _write_note(self, note: _Note) -> None:
        content = {"on": note.on, "key_id": note.key_id, "remove_plain_files": note.remove_plain_files}
        try:
            write_atomically(self._folder.encryption, json.dumps(content).encode())
        except OSError as error:
            raise self._refused(error) from error

    def _forget_note(self) -> None:
        try:
            self._folder.encryption.unlink(missing_ok=True)
        except OSError as error:
            raise self._refused(error) from error
        sync_folder(self._folder.root)

    def _refused(self, error: OSError) -> DataFolderError:
        what = "The change of encryption cannot be noted down"
        if is_disk_full(error):
            return DiskFull(
                what,
                f"the disk that holds {self._folder.root} is full",
                "free some space there and try again",
            )
        return DataFolderError(
            what, error.strerror or str(error), f"give yourself permission to write in {self._folder.root}"
        )


def stored_key_id(path: Path) -> str | None:
    """The id of the key that the store at `path` is sealed with; None for what is not an encrypted store.

    Reads only, and of others than encrypted stores only the header. Raises DataFolderError for a file that SQLite
    cannot read.
    """
    if _application_id(path) != SEALED_APPLICATION_ID:
        return None
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
            return sealed_with(connection)
    except sqlite3.Error as error:
        raise DataFolderError(
            f"The session store {path} cannot be read",
            str(error),
            "it was left untouched; restore a backup of it, or name another data folder",
        ) from error


def _application_id(path: Path) -> int:
    """What the file's header says (SQLite file format, 1.3); 0 for what is no database.

    It is written before an encrypted store has its name, and never changes: no log has a newer one.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        return 0
    return _application_id_in(header)


def _application_id_in(header: bytes) -> int:
    return int.from_bytes(header[68:72], "big") if header.startswith(_SQLITE) else 0


def _is_plain_backup(path: Path) -> bool:
    """Whether a backup's store is not encrypted; of one that cannot be read, nobody knows that it is."""
    try:
        with BackupReader(path) as reader:
            store = next((each for each in reader.manifest.members if each.name == DATABASE), None)
            if store is None:
                return any(each.name.startswith(f"{JOURNALS}/") for each in reader.manifest.members)
            with contextlib.closing(reader.pieces(store)) as pieces:
                return _application_id_in(next(pieces, b"")[:_HEADER_BYTES]) != SEALED_APPLICATION_ID
    except SeamountError:
        return True


def _body(error: SeamountError | None) -> ErrorBody | None:
    return None if error is None else ErrorBody(code=error.code, text=error.text)
