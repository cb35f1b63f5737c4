"""The layout of `sessions.db`, as an append-only list of steps, and the way from an older one to today's.

Owns: the SQL of every version, the version check, the backup before a migration. Does not know what the
rows mean to the program (`sessions`) or how a connection is opened (`database`).

The version is `PRAGMA user_version`; the magic is `PRAGMA application_id`, "SMNT" or, of an encrypted store,
"SMNE". Both lie in the first 100 bytes of the file, where SQLite documents them, and change inside the same
transaction as the tables.
"""

import contextlib
import datetime
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.atomic_file import sync_folder
from engine.errors import DataFolderError, StoreVersionError

APPLICATION_ID = int.from_bytes(b"SMNT", "big")
SEALED_APPLICATION_ID = int.from_bytes(b"SMNE", "big")
"""Of an encrypted store (`encryption`), so that a Seamount that does not know encryption leaves it alone."""


@dataclass(frozen=True)
class Migration:
    """One step: `sql` takes a store of `version - 1` to `version`; `why` says what for.

    A step that was ever released is never edited, not even its white space: stores of that version exist.
    """

    version: int
    why: str
    sql: str


MIGRATIONS: Sequence[Migration] = (
    Migration(
        version=1,
        why="""The base: sessions, the message tree, the chunks of answers being written, the search text.

        `number` columns are rowids and give the order of creation; `id` columns are what the wire shows.
        A message's parent lies in the same session: the composite foreign key says so. Token ids are
        little-endian uint32, one after the other. `chunk` is empty but for answers that are running or were
        cut off. `search_text.folded` is `search.fold(message.text)`. `session.leaf_id` is no foreign key
        because messages only ever leave together with their session.
        """,
        sql="""
        CREATE TABLE session (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            title TEXT NOT NULL,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL,
            deleted_at REAL,
            leaf_id TEXT
        ) STRICT;
        CREATE TABLE message (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            session INTEGER NOT NULL REFERENCES session (number) ON DELETE CASCADE,
            parent INTEGER,
            role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
            status TEXT NOT NULL CHECK (status IN ('complete', 'running', 'interrupted', 'failed')),
            created_at REAL NOT NULL,
            model_id TEXT,
            finish_reason TEXT,
            error_code TEXT,
            error_text TEXT,
            usage TEXT,
            sampling TEXT,
            text TEXT NOT NULL,
            token_ids BLOB NOT NULL,
            UNIQUE (session, number),
            FOREIGN KEY (session, parent) REFERENCES message (session, number)
        ) STRICT;
        CREATE INDEX message_by_parent ON message (session, parent);
        CREATE INDEX message_running ON message (number) WHERE status = 'running';
        CREATE TABLE chunk (
            number INTEGER PRIMARY KEY,
            message INTEGER NOT NULL REFERENCES message (number) ON DELETE CASCADE,
            text TEXT NOT NULL,
            token_ids BLOB NOT NULL
        ) STRICT;
        CREATE INDEX chunk_by_message ON chunk (message);
        CREATE TABLE search_text (
            message INTEGER PRIMARY KEY REFERENCES message (number) ON DELETE CASCADE,
            folded TEXT NOT NULL
        ) STRICT;
        """,
    ),
    Migration(
        version=2,
        why="""Reasoning and tools: the mode and reasoning of an answer, its calls, and the results of these.

        The role of version 1 has no 'tool' and a CHECK cannot be altered: a tool result is a 'user' with a
        `tool_call_id`. `mode`, `tool_calls` (a list of protocol.ToolCall), `notices` (of str) and
        `session.tools` (of protocol.Tool) are NULL where there are none; the lists are JSON. `call_text` is
        the raw text of calls being written; `tool_calls` stands for it once it is there. `title_by`: who
        chose the title; version 1 did not say, so that a title it kept counts as a person's and stays.

        `written_call`: for each call that a model wrote, also in answers that no session keeps, the reasoning
        before it and the token ids of its whole answer, so that they can be found by the id alone.
        """,
        sql="""
        ALTER TABLE message ADD COLUMN mode TEXT;
        ALTER TABLE message ADD COLUMN reasoning TEXT NOT NULL DEFAULT '';
        ALTER TABLE message ADD COLUMN thinking_tokens INTEGER;
        ALTER TABLE message ADD COLUMN thinking_s REAL;
        ALTER TABLE message ADD COLUMN tool_calls TEXT;
        ALTER TABLE message ADD COLUMN call_text TEXT NOT NULL DEFAULT '';
        ALTER TABLE message ADD COLUMN tool_call_id TEXT;
        ALTER TABLE message ADD COLUMN notices TEXT;
        ALTER TABLE chunk ADD COLUMN part TEXT NOT NULL DEFAULT 'text'
            CHECK (part IN ('text', 'reasoning', 'call'));
        ALTER TABLE session ADD COLUMN tools TEXT;
        ALTER TABLE session ADD COLUMN title_by TEXT NOT NULL DEFAULT 'question'
            CHECK (title_by IN ('question', 'model', 'person'));
        UPDATE session SET title_by = 'person' WHERE title <> '';
        CREATE TABLE written_call (
            id TEXT PRIMARY KEY,
            reasoning TEXT NOT NULL,
            token_ids BLOB NOT NULL,
            created_at REAL NOT NULL
        ) STRICT;
        """,
    ),
    Migration(
        version=3,
        why="""An answer that was cut off and gone on with says whether it is what it would have been.

        `continued`: NULL for one that was written in one go, 'identical' where every token is the one that would
        have come anyway, 'different' where that is not certain.
        """,
        sql="""
        ALTER TABLE message ADD COLUMN continued TEXT CHECK (continued IN ('identical', 'different'));
        """,
    ),
    Migration(
        version=4,
        why="""A purged conversation takes its kept states of contexts with it: they hold its tokens.

        `kept_state`: the states, by the names of their files, that hold tokens of a session. `forgotten_state`: those
        that no session has any more and whose files are still to be deleted.
        """,
        sql="""
        CREATE TABLE kept_state (
            session INTEGER NOT NULL REFERENCES session (number) ON DELETE CASCADE,
            state TEXT NOT NULL,
            PRIMARY KEY (session, state)
        ) STRICT;
        CREATE INDEX kept_state_by_state ON kept_state (state);
        CREATE TABLE forgotten_state (state TEXT PRIMARY KEY) STRICT;
        """,
    ),
)


def stored_version(connection: sqlite3.Connection, path: Path, latest: int) -> int:
    """The version of the store at `path`, 0 for an empty one. Writes nothing.

    Raises StoreVersionError for a version above `latest`, DataFolderError for another program's database.
    """
    version = _number(connection, "PRAGMA user_version")
    tables = _number(connection, "SELECT count(*) FROM sqlite_schema")
    ids = (APPLICATION_ID, SEALED_APPLICATION_ID)
    if (tables or version) and _number(connection, "PRAGMA application_id") not in ids:
        raise DataFolderError(
            f"Seamount cannot use {path} as its session store",
            "it is a database of another program",
            "it was left untouched; move it elsewhere, or name another data folder",
        )
    if version > latest:
        raise StoreVersionError(
            f"Seamount cannot open the sessions in {path}",
            f"a newer Seamount wrote them (store version {version}; this Seamount knows up to {latest})",
            "they were left untouched; install the newer Seamount, or name another data folder",
        )
    return version


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    migrations: Sequence[Migration] = MIGRATIONS,
    *,
    copy: bool = True,
) -> None:
    """Bring the store at `path`, open as `connection` in autocommit mode, to the last of `migrations`.

    All steps are one transaction: a failing one leaves the store as it was. A store that holds anything is
    backed up first, unless `copy` says that this has been done. Raises what `stored_version` raises, OSError when the
    backup cannot be written, and sqlite3.Error for what SQLite refuses.
    """
    latest = migrations[-1].version
    version = stored_version(connection, path, latest)
    if version == latest:
        return
    if version and copy:
        back_up(connection, path, version)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in migrations:
            if step.version > version:
                for statement in _statements(step.sql):
                    connection.execute(statement)
        if violation := connection.execute("PRAGMA foreign_key_check").fetchone():
            raise sqlite3.IntegrityError(f"the migration left a dangling reference: {violation}")
        if not version:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {latest}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def back_up(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Copy the store to `<name>.backup-v<version>-<date>` beside it, complete and fsynced, once per version.

    Returns where the backup is, an earlier one if there is one. Raises sqlite3.Error or OSError, and then
    leaves no partial backup.
    """
    label = f"{path.name}.backup-v{version}-"
    date = re.compile(re.escape(label) + r"\d{8}")
    earlier = sorted(file for file in path.parent.iterdir() if date.fullmatch(file.name))
    if earlier:
        return earlier[-1]
    backup = path.with_name(f"{label}{datetime.datetime.now(datetime.UTC):%Y%m%d}")
    part = backup.with_name(f"{backup.name}.part")
    part.unlink(missing_ok=True)
    try:
        # Created here, so that it is readable by its owner alone from the first byte on.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(sqlite3.connect(part)) as copy:
            connection.backup(copy)
            # The copy is one file that needs no companion to be read.
            copy.execute("PRAGMA journal_mode = DELETE")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(backup)
    except (sqlite3.Error, OSError):
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    sync_folder(backup.parent)
    return backup


def _number(connection: sqlite3.Connection, sql: str) -> int:
    """The one integer that `sql` answers."""
    return int(connection.execute(sql).fetchone()[0])


def _statements(sql: str) -> Iterator[str]:
    """The statements of `sql`, one by one: `executescript` would commit the open transaction first."""
    statement = ""
    for piece in sql.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip("; \n\t"):
        raise ValueError(f"a migration ends in half a statement: {statement.strip()[:80]}")
