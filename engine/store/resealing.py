"""A whole store from one form to the other: encrypted, not encrypted, or with another key.

Owns: the one pass over all rows, its verification, and the moment in which the new file takes the old one's place.
Does not know why it is done or where the keys come from (`encryption`). Nobody else may have the store open: the
caller holds the lock of the data folder.

The new file is written beside the old one, from its schema on, so that nothing but sealed values is ever in it;
every value is read back and compared; it is synced; then one rename puts it in its place. A process that dies before
that leaves the old store as it was and a file that the next pass deletes, after it the new one. What the old file
held is then overwritten with zeros, where the system allows it; a disk may still keep what it had of it.
"""

import contextlib
import os
import sqlite3
from collections.abc import Generator
from pathlib import Path

from engine import fault_points
from engine.atomic_file import sync_folder
from engine.errors import DataFolderError
from engine.store.database import Database, explained
from engine.store.migrations import APPLICATION_ID, SEALED_APPLICATION_ID
from engine.store.sealed_columns import SEALED, SealedColumns, mark_sealed
from engine.store.sealing import Cipher

_ZEROS = bytes(1 << 20)


def reseal(path: Path, before: Cipher | None, after: Cipher | None, key_id: str = "") -> None:
    """Turn the store at `path`, sealed with `before` (None: plain), into one that is sealed with `after`.

    `key_id`: of the key of `after`. Raises DiskFull, DataFolderError, SealBroken, and what opening a store raises;
    the store is then as it was.
    """
    # Opened as always first: a store of an older version is migrated, its log is copied into it.
    Database.open(path, cipher=before).close()
    _refuse_log(path)
    new = beside(path)
    remove_leftover(path)
    try:
        # Readable by its owner alone from the first byte on.
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _fill(new, path, before, after, key_id)
        _verify(new, path, before, after)
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        _refuse_log(path)
        fault_points.at("store-resealed")
        _put_in_place(new, path)
    except (sqlite3.Error, OSError) as error:
        raise explained(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            remove_leftover(path)


def beside(path: Path) -> Path:
    """The file that a pass writes."""
    return path.with_name(f"{path.name}.resealing")


def remove_leftover(path: Path) -> None:
    """Delete what a pass that was cut off has left. Raises OSError."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        beside(path).with_name(f"{beside(path).name}{suffix}").unlink(missing_ok=True)


def _fill(new: Path, old: Path, before: Cipher | None, after: Cipher | None, key_id: str) -> None:
    with _both(new, old, before, after) as connection:
        schema = connection.execute(
            "SELECT type, name, sql FROM old.sqlite_schema"
            " WHERE sql IS NOT NULL AND name <> 'sealing' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        connection.execute("BEGIN")
        for kind, _, sql in schema:
            if kind == "table":
                connection.execute(sql)
        for kind, name, _ in schema:
            if kind == "table":
                connection.execute(_copied(connection, name))
        # After the rows, which is quicker.
        for kind, _, sql in schema:
            if kind != "table":
                connection.execute(sql)
        if after is not None:
            mark_sealed(connection, key_id, after)
        connection.execute("COMMIT")
        version = connection.execute("PRAGMA old.user_version").fetchone()[0]
        connection.execute(f"PRAGMA main.user_version = {version}")
        application_id = APPLICATION_ID if after is None else SEALED_APPLICATION_ID
        connection.execute(f"PRAGMA main.application_id = {application_id}")


def _copied(connection: sqlite3.Connection, table: str) -> str:
    """The statement that copies a table; the order of rows is kept, since it has a meaning in some."""
    rows = SEALED.get(table, {})
    values = [
        f"seal({_value('old', 'unseal', table, column)}, '{table}.{column}', {rows[column].format(schema='old')})"
        if column in rows
        else _value("old", "unseal", table, column)
        for column in _columns(connection, table)
    ]
    named = ", ".join(f'"{column}"' for column in _columns(connection, table))
    return (
        f'INSERT INTO main."{table}" ({named})'  # noqa: S608 - names of our own schema
        f' SELECT {", ".join(values)} FROM old."{table}" t ORDER BY t.rowid'
    )


def _verify(new: Path, old: Path, before: Cipher | None, after: Cipher | None) -> None:
    """Raise DataFolderError unless every row of the new file says what the old one's says."""
    with _both(new, old, before, after) as connection:
        verdict = connection.execute("PRAGMA main.integrity_check(1)").fetchone()[0]
        dangling = connection.execute("PRAGMA main.foreign_key_check").fetchone()
        if verdict != "ok" or dangling is not None:
            raise _not_the_same(old, f"the new file is damaged ({verdict})")
        tables = connection.execute(
            "SELECT name FROM old.sqlite_schema WHERE type = 'table' AND name <> 'sealing'"
            " AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        for (table,) in tables:
            pairs = zip(
                connection.execute(_read(connection, "old", "unseal", table)),
                connection.execute(_read(connection, "main", "unseal_new", table)),
                strict=True,
            )
            try:
                same = all(one == other for one, other in pairs)
            except ValueError:  # one has more rows
                same = False
            if not same:
                raise _not_the_same(old, f"a row of {table} was not the same when it was read back")


def _read(connection: sqlite3.Connection, schema: str, function: str, table: str) -> str:
    """The statement that reads a table in plain form."""
    values = [_value(schema, function, table, column) for column in _columns(connection, table)]
    return f'SELECT {", ".join(values)} FROM {schema}."{table}" t ORDER BY t.rowid'  # noqa: S608


def _value(schema: str, function: str, table: str, column: str) -> str:
    """The SQL for what a column holds; `function` opens it where it is sealed."""
    row = SEALED.get(table, {}).get(column)
    if row is None:
        return f't."{column}"'
    return f"{function}(t.\"{column}\", '{table}.{column}', {row.format(schema=schema)})"


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in connection.execute(f'PRAGMA old.table_info("{table}")')]


@contextlib.contextmanager
def _both(
    new: Path, old: Path, before: Cipher | None, after: Cipher | None
) -> Generator[sqlite3.Connection, None, None]:
    """One connection to both files: the new one as `main`, the old one as `old`, with functions for each.

    Nothing but the new file is written: no journal, because a pass that is cut off begins anew, and nothing sorted
    on the disk, because that would be plain text in a temporary file.
    """
    sources, targets = SealedColumns(before), SealedColumns(after)
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA main.journal_mode = OFF")
        connection.execute("PRAGMA main.synchronous = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.create_function("unseal", 3, sources.unseal_told)
        connection.create_function("seal", 3, targets.seal)
        connection.create_function("unseal_new", 3, targets.unseal_told)
        connection.execute("ATTACH ? AS old", (str(old),))
        try:
            yield connection
        except sqlite3.Error as error:
            if broken := sources.taken_failure() or targets.taken_failure():
                raise broken from error
            raise


def _refuse_log(path: Path) -> None:
    """Beside a new file, an old log would be taken for its own: there must be none."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise DataFolderError(
            f"The session store {path} cannot be rewritten",
            f"its log {log.name} could not be copied into it",
            "close other programs that use it and check the disk, then try again; nothing was changed",
        )


def _put_in_place(new: Path, path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    old = _kept_open(path)
    try:
        new.replace(path)
        sync_folder(path.parent)
        fault_points.at("store-replaced")
        if old is not None:
            _overwrite(old)
    finally:
        if old is not None:
            os.close(old)


def _kept_open(path: Path) -> int | None:
    """The old file, to be overwritten when it has no name any more. Windows renames over no file that is open."""
    return None if os.name == "nt" else os.open(path, os.O_RDWR)


def _overwrite(descriptor: int) -> None:
    """Zeros over a file that has no name any more. A disk that fails here has nothing else to lose."""
    with contextlib.suppress(OSError):
        if os.fstat(descriptor).st_nlink:
            return  # somebody's backup is made of links to it
        left_bytes = os.fstat(descriptor).st_size
        while left_bytes > 0:
            left_bytes -= os.write(descriptor, _ZEROS[: min(left_bytes, len(_ZEROS))])
        os.fsync(descriptor)


def _not_the_same(path: Path, why: str) -> DataFolderError:
    return DataFolderError(
        f"The session store {path} was not rewritten",
        why,
        "check the memory and the disk of this machine; the store is as it was",
    )
