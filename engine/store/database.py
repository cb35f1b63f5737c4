"""One SQLite connection, opened with care and closed for good.

Owns: the pragmas, the lock, transactions, the checks before a file is trusted, and what SQLite's errors mean
to a person. Does not know the tables (`migrations`) or what is kept in them (`sessions`).

Durability: WAL with `synchronous = NORMAL`. A transaction that returned survives the end of this process,
`kill -9` included, because its pages are with the operating system; a power cut or a kernel crash may lose
the last transactions before it, never an earlier one, and never leaves a corrupt file, because SQLite syncs
the log before it copies pages out of it.
"""

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from engine.atomic_file import is_disk_full, sync_folder
from engine.errors import DataFolderError, DiskFull, SeamountError
from engine.store.migrations import MIGRATIONS, Migration, migrate, stored_version
from engine.store.sealed_columns import SealedColumns
from engine.store.sealing import Cipher

BUSY_TIMEOUT_MS = 5_000
RESERVE_BYTES = 256 * 1024
"""Enough for the log frames of one small transaction, which is what marking an answer as ended takes."""

_MAGIC = b"SQLite format 3\x00"
_LEAST_FREE_BYTES = 64 * 1024
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNUSABLE = {
    sqlite3.SQLITE_IOERR: "the disk answered with an error",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "there is no permission",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_LOCKED: "another program holds it",
    sqlite3.SQLITE_PROTOCOL: "another program holds it",
    sqlite3.SQLITE_NOLFS: "its file system has no room for files of this size",
}


class Database:
    """An open store file. Any thread may use it: one at a time, by the lock."""

    def __init__(self, connection: sqlite3.Connection, path: Path, sealed: SealedColumns) -> None:
        self.path = path
        self._sealed = sealed
        self._connection = connection
        self._lock = threading.RLock()
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        migrations: Sequence[Migration] = MIGRATIONS,
        cipher: Cipher | None = None,
        *,
        back_up: bool = True,
    ) -> "Database":
        """Open or create the store at `path` and bring it to the newest version. `cipher`: of an encrypted one.
        `back_up`: copy one of an older version first.

        Raises StoreVersionError, KeyMissing, DiskFull or DataFolderError; the file is then as it was.
        """
        sealed = SealedColumns(cipher)
        try:
            connection = _connected(path, migrations, sealed, back_up)
        except DiskFull:
            # Even reading takes a little room, for the log's index. Is there a reserve of an earlier run?
            if not _released(path):
                raise
            connection = _connected(path, migrations, sealed, back_up)
        database = cls(connection, path, sealed)
        database.keep_reserve()
        return database

    @contextlib.contextmanager
    def reading(self) -> Generator[sqlite3.Connection, None, None]:
        """The connection, for queries, under the lock. Raises DataFolderError."""
        with self._lock:
            self._refuse_closed()
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise (self._sealed.taken_failure() or explained(error, self.path)) from error

    @contextlib.contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """The connection inside one transaction: all of it is stored, or, after any exception, none of it.

        Raises DiskFull and DataFolderError.
        """
        with self._lock:
            self._refuse_closed()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise (self._sealed.taken_failure() or explained(error, self.path)) from error

    def another(self) -> "Database":
        """The same store opened once more, for long reading beside who writes. Raises what `open` raises."""
        return type(self).open(self.path, cipher=self._sealed.cipher)

    def forget(self) -> None:
        """Empty the log, so that what was deleted is in no file of the store any more."""
        with self.reading() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def make_durable(self) -> None:
        """Return when all that was committed so far survives a power cut. Raises DiskFull, DataFolderError.

        A commit lies in the log; what a checkpoint took out of the log it has synced itself.
        """
        log = self.path.with_name(f"{self.path.name}-wal")
        with self._lock:
            self._refuse_closed()
            try:
                descriptor = os.open(log, os.O_RDWR)
            except FileNotFoundError:
                return
            except OSError as error:
                raise explained(error, self.path) from error
        # Without the lock: whoever writes meanwhile need not wait for the disk.
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise explained(error, self.path) from error
        finally:
            os.close(descriptor)
        sync_folder(self.path.parent)

    def keep_reserve(self) -> None:
        """Hold a little disk space back for `release_reserve`; on a full disk there is none, silently."""
        reserve = _reserve_of(self.path)
        with contextlib.suppress(OSError):
            if not reserve.exists():
                try:
                    # Random, because a file system that compresses would keep no room for zeros.
                    reserve.write_bytes(os.urandom(RESERVE_BYTES))
                except OSError:
                    reserve.unlink(missing_ok=True)
                    raise

    def release_reserve(self) -> bool:
        """Give the space held back to the disk. False when there was none."""
        return _released(self.path)

    def close(self) -> None:
        """Copy the log into the file and close it. Calling it again does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                _close_quietly(self._connection)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise DataFolderError(
                f"The session store {self.path} cannot be used",
                "it has been closed because Seamount is shutting down",
                "start Seamount again",
            )


class LockedDatabase(Database):
    """In the place of a store that stays closed, such as an encrypted one without its key: all work is refused."""

    def __init__(self, path: Path, why: SeamountError) -> None:
        super().__init__(sqlite3.connect(":memory:", check_same_thread=False), path, SealedColumns(None))
        self._why = why

    @contextlib.contextmanager
    def reading(self) -> Generator[sqlite3.Connection, None, None]:
        """Raises why the store is closed."""
        raise self._why
        yield self._connection  # which makes it a generator

    @contextlib.contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """Raises why the store is closed."""
        raise self._why
        yield self._connection

    def another(self) -> Database:
        """Raises why the store is closed."""
        raise self._why

    def keep_reserve(self) -> None:
        """Nothing is written, so nothing is held back."""


def _connected(
    path: Path, migrations: Sequence[Migration], sealed: SealedColumns, back_up: bool
) -> sqlite3.Connection:
    """A connection to the store at `path`, inspected, configured and migrated."""
    connection: sqlite3.Connection | None = None
    try:
        _inspect(path, migrations[-1].version, sealed)
        _keep_private(path)
        connection = sqlite3.connect(
            path,
            timeout=BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,  # autocommit: transactions are opened and closed by hand
            check_same_thread=False,
        )
        sealed.add_to(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Deleted text is overwritten with zeros instead of lying in free pages.
        connection.execute("PRAGMA secure_delete = ON")
        migrate(connection, path, migrations, copy=back_up)
    except BaseException as error:
        if connection is not None:
            _close_quietly(connection)
        if isinstance(error, sqlite3.Error | OSError):
            raise explained(error, path) from error
        raise
    return connection


def _keep_private(path: Path) -> None:
    """Conversations are for their owner's eyes; a platform without such modes ignores this.

    Before SQLite opens the file: it makes the log beside it, which holds the newest text, in the file's mode.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
        path.chmod(0o600)


def _reserve_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.reserve")


def _released(path: Path) -> bool:
    try:
        _reserve_of(path).unlink()
    except OSError:
        return False
    return True


def explained(error: sqlite3.Error | OSError, path: Path) -> SeamountError | sqlite3.Error:
    """What `error` means for the store at `path`; the error itself when it is a mistake in the program."""
    folder = path.parent
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    full = code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _has_no_space(folder))
    if full or (isinstance(error, OSError) and is_disk_full(error)):
        return DiskFull(
            "The conversation cannot be saved any further",
            f"the disk that holds {folder} is full",
            "free some space there; what was shown is saved up to here",
        )
    if code in _DAMAGED:
        return _damaged(path, str(error))
    if code in _UNUSABLE:
        return DataFolderError(
            f"The session store {path} cannot be used",
            f"{_UNUSABLE[code]} ({error})",
            f"check the disk and your permission to write in {folder}, then try again",
        )
    if isinstance(error, OSError):
        return DataFolderError(
            f"The session store {path} cannot be used",
            error.strerror or str(error),
            f"check the disk and your permission to write in {folder}, then try again",
        )
    return error


def _has_no_space(folder: Path) -> bool:
    """SQLite reports a full disk as an I/O error where it grows its shared-memory file or syncs."""
    try:
        return shutil.disk_usage(folder).free < _LEAST_FREE_BYTES
    except OSError:
        return False


def _inspect(path: Path, latest: int, sealed: SealedColumns) -> None:
    """Raise before anything is written when the file at `path` is not a whole store of a known version, or is
    sealed with another key.

    SQLite itself is not careful enough here: it takes an empty file for a new database and then deletes the
    log beside it, which may hold all the conversations there are.
    """
    log = path.with_name(f"{path.name}-wal")
    log_bytes = log.stat().st_size if log.exists() else 0
    head = b""
    if path.exists():
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    if not head and log_bytes:
        raise DataFolderError(
            f"The session store {path} cannot be opened",
            f"it is empty or gone, but its log {log.name} is still there",
            "both were left untouched; restore a backup over them, or move the log elsewhere to begin anew",
        )
    if not head:
        sealed.check_new()
        return
    if head != _MAGIC:
        raise _damaged(path, "it is not an SQLite database")
    # Read-only, because closing an ordinary connection would copy the log into a file that is about to be
    # refused.
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
        stored_version(connection, path, latest)
        # SQLite removes its log when the last connection closes. A log that is still there means that the
        # previous run died, so this is the moment to look at every page once.
        if log_bytes:
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            if verdict != "ok":
                raise _damaged(path, verdict)
        sealed.check(connection)


def _damaged(path: Path, why: str) -> DataFolderError:
    return DataFolderError(
        f"The session store {path} cannot be read",
        f"the file is damaged ({' '.join(why.split())})",
        f"it was left untouched; move it elsewhere and restore a backup in {path.parent} if there is one, "
        "or name another data folder",
    )


def _close_quietly(connection: sqlite3.Connection) -> None:
    """Close; a disk that fails now has already said so, and the log keeps what was committed."""
    with contextlib.suppress(sqlite3.Error):
        connection.close()
