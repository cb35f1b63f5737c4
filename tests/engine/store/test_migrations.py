"""From an older store to today's: backed up, all or nothing, and never from a newer one."""

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import DataFolderError, StoreVersionError
from engine.protocol import Sampling
from engine.store.database import Database
from engine.store.migrations import MIGRATIONS, Migration, back_up
from engine.store.sessions import SessionStore

SECOND = Migration(
    2, "test", "ALTER TABLE session ADD COLUMN colour TEXT; UPDATE session SET colour = 'a;b';"
)
THIRD = Migration(3, "test", "CREATE TABLE extra (n INTEGER) STRICT; INSERT INTO extra VALUES (1);")
BROKEN = Migration(3, "test", "CREATE TABLE extra (n INTEGER) STRICT; INSERT INTO nowhere VALUES (1);")
DANGLING = Migration(2, "test", "PRAGMA defer_foreign_keys = ON; UPDATE message SET session = 99;")

# The SHA-256 of every step that was released. A change here destroys people's stores: add a step instead.
RELEASED = {1: "3019bdbce39e3bae7680f1e83e5ac2834b5dd55aa842e02735483e5d7374bce0"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of version 1 with one conversation, closed."""
    path = tmp_path / "sessions.db"
    store = SessionStore.open(path)
    session = store.create_session("kept")
    store.begin_turn(session.id, parent_id=None, question="q", model_id="m", sampling=Sampling(seed=1))
    store.close()
    return path


def open_with(path: Path, *migrations: Migration) -> Database:
    return Database.open(path, [*MIGRATIONS, *migrations])


def query(path: Path, sql: str) -> Sequence[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def backups(path: Path) -> list[Path]:
    return sorted(path.parent.glob("sessions.db.backup-*"))


def test_released_steps_are_never_edited() -> None:
    assert [step.version for step in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    assert {step.version: hashlib.sha256(step.sql.encode()).hexdigest() for step in MIGRATIONS} == RELEASED


def test_an_older_store_is_backed_up_and_migrated(path: Path) -> None:
    open_with(path, SECOND, THIRD).close()
    assert query(path, "PRAGMA user_version") == [(3,)]
    assert query(path, "SELECT title, colour, n FROM session, extra") == [("kept", "a;b", 1)]
    [backup] = backups(path)
    assert backup.name.startswith("sessions.db.backup-v1-")
    assert query(backup, "PRAGMA user_version") == [(1,)]
    assert query(backup, "SELECT title FROM session") == [("kept",)]
    open_with(path, SECOND, THIRD).close()
    assert backups(path) == [backup]


def test_a_store_that_is_new_or_current_is_not_backed_up(path: Path) -> None:
    SessionStore.open(path).close()
    assert backups(path) == []


def test_a_failing_migration_leaves_the_store_as_it_was(path: Path) -> None:
    before = query(path, "SELECT sql FROM sqlite_schema ORDER BY name")
    for bad in ([SECOND, BROKEN], [DANGLING]):
        with pytest.raises(sqlite3.Error):
            open_with(path, *bad)
        assert query(path, "PRAGMA user_version") == [(1,)]
        assert query(path, "SELECT sql FROM sqlite_schema ORDER BY name") == before
    assert len(backups(path)) == 1
    store = SessionStore.open(path)
    assert [each.title for each in store.list_sessions()] == ["kept"]
    store.close()


def test_a_store_is_not_migrated_without_its_backup(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("engine.store.migrations.os.fsync", refuse)
    with pytest.raises(DataFolderError, match="Permission denied"):
        open_with(path, SECOND)
    monkeypatch.undo()
    assert query(path, "PRAGMA user_version") == [(1,)]
    assert backups(path) == []


def test_a_backup_holds_what_is_still_in_the_log(path: Path) -> None:
    store = SessionStore.open(path)
    store.create_session("only in the log")
    backup = back_up(store._database._connection, path, 1)
    store.close()
    assert {row[0] for row in query(backup, "SELECT title FROM session")} == {"kept", "only in the log"}


def test_a_newer_store_is_refused_with_both_versions(path: Path) -> None:
    open_with(path, SECOND, THIRD).close()
    content = path.read_bytes()
    with pytest.raises(StoreVersionError) as caught:
        SessionStore.open(path)
    for part in ("newer Seamount", "version 3", f"up to {len(MIGRATIONS)}", str(path)):
        assert part in caught.value.text
    assert path.read_bytes() == content
