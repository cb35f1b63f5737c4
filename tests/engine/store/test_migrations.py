"""From an older store to today's: backed up, all or nothing, and never from a newer one."""

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import DataFolderError, StoreVersionError
from engine.protocol import Message, Sampling, Usage
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
RELEASED = {
    1: "3019bdbce39e3bae7680f1e83e5ac2834b5dd55aa842e02735483e5d7374bce0",
    2: "45fa4f142d05055baedb845f46d7ed9b8ae92b57f9ac6cd6a5367293b78381cb",
    3: "2bdff14692ec77bf8c86bc9923e2758711e21fe5aa0825085d723a1beb53476b",
    4: "2903f50ea62b77319a5f03f13ac5e8191735bac4afdd269313ec5b2db7e6d375",
}
USAGE = Usage(
    prompt_tokens=10,
    reused_tokens=4,
    generated_tokens=2,
    context_tokens=12,
    first_token_s=0.25,
    prefill_rate=100.5,
    generation_rate=20.0,
    seed=11,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of version 1, as the program of that version left it when it was killed: an answer that ended
    and one that was being written, in a conversation that a person named, and another one."""
    path = tmp_path / "sessions.db"
    database = Database.open(path, MIGRATIONS[:1])
    with database.transaction() as connection:
        for row in ((1, "s1", "kept", 1.0, 5.0, None, "m4"), (2, "s2", "", 2.0, 2.0, None, None)):
            connection.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        usage, sampling = USAGE.model_dump_json(), Sampling(seed=1).model_dump_json()
        for number, parent, role, status, reason, used, text, ids in (
            (1, None, "user", "complete", None, None, "Why?", b""),
            (2, 1, "assistant", "complete", "stop", usage, "Because.", b"\1\0\0\0"),
            (3, 2, "user", "complete", None, None, "Äpfel?", b""),
            (4, 3, "assistant", "running", None, None, "", b""),
        ):
            drawn = sampling if role == "assistant" else None
            connection.execute(
                "INSERT INTO message VALUES (?, ?, 1, ?, ?, ?, ?, 'm', ?, NULL, NULL, ?, ?, ?, ?)",
                (number, f"m{number}", parent, role, status, number / 2, reason, used, drawn, text, ids),
            )
        connection.execute("INSERT INTO search_text VALUES (1, 'why?'), (2, 'because.')")
        connection.execute("INSERT INTO chunk VALUES (1, 4, 'Ye', x'02000000'), (2, 4, 's', x'03000000')")
    database.close()
    return path


def open_with(path: Path, *migrations: Migration) -> Database:
    """Open with a program that goes on from version 1 in another way."""
    return Database.open(path, [*MIGRATIONS[:1], *migrations])


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
    assert query(path, "SELECT title, colour, n FROM session, extra") == [("kept", "a;b", 1), ("", "a;b", 1)]
    [backup] = backups(path)
    assert backup.name.startswith("sessions.db.backup-v1-")
    assert query(backup, "PRAGMA user_version") == [(1,)]
    assert query(backup, "SELECT title FROM session") == [("kept",), ("",)]
    open_with(path, SECOND, THIRD).close()
    assert backups(path) == [backup]


def test_a_store_of_version_1_is_whole_today(path: Path) -> None:
    store = SessionStore.open(path)
    session = store.session("s1")
    assert (session.summary.title, session.leaf_id, session.tools) == ("kept", "m4", [])
    question, answer, again, cut = session.messages
    assert question == Message(
        id="m1", parent_id=None, role="user", text="Why?", status="complete", created_at=0.5, model_id="m"
    )
    assert answer == Message(
        id="m2",
        parent_id="m1",
        role="assistant",
        text="Because.",
        status="complete",
        created_at=1.0,
        model_id="m",
        finish_reason="stop",
        usage=USAGE,
    )
    assert (again.role, again.text, again.parent_id) == ("user", "Äpfel?", "m2")
    assert (cut.text, cut.status, cut.reasoning, cut.unfinished_call) == ("Yes", "interrupted", "", "")
    assert store.token_ids("m4") == [2, 3]
    assert [each.id for each in store.list_sessions("because")] == ["s1"]
    # Who chose the title "kept" is not known any more.
    assert not store.set_model_title("s1", "other")
    assert store.set_model_title("s2", "other")
    store.close()
    assert query(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    [backup] = backups(path)
    assert backup.name.startswith("sessions.db.backup-v1-")
    assert query(backup, "PRAGMA user_version") == [(1,)]
    assert query(backup, "SELECT id, status, text FROM message ORDER BY number")[3] == ("m4", "running", "")
    assert query(backup, "SELECT text FROM chunk ORDER BY number") == [("Ye",), ("s",)]


def test_a_migrated_store_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for each in (path, new):
        SessionStore.open(each).close()
    layout = "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name"
    assert query(path, layout) == query(new, layout)
    for table in ("session", "message", "chunk", "written_call"):
        assert query(path, f"PRAGMA table_info({table})") == query(new, f"PRAGMA table_info({table})")


def test_a_store_that_is_new_or_current_is_not_backed_up(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    for _ in range(2):
        SessionStore.open(path).close()
    assert list(tmp_path.glob("*backup*")) == []


def test_a_failing_migration_leaves_the_store_as_it_was(path: Path) -> None:
    before = query(path, "SELECT sql FROM sqlite_schema ORDER BY name")
    for bad in ([SECOND, BROKEN], [DANGLING]):
        with pytest.raises(sqlite3.Error):
            open_with(path, *bad)
        assert query(path, "PRAGMA user_version") == [(1,)]
        assert query(path, "SELECT sql FROM sqlite_schema ORDER BY name") == before
    assert len(backups(path)) == 1
    store = SessionStore.open(path)
    assert [each.title for each in store.list_sessions()] == ["kept", ""]
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
    backup = back_up(store._database._connection, path, 2)
    store.close()
    assert {row[0] for row in query(backup, "SELECT title FROM session")} == {"kept", "", "only in the log"}


def test_a_newer_store_is_refused_with_both_versions(path: Path) -> None:
    newer = len(MIGRATIONS) + 1
    open_with(path, SECOND, Migration(newer, "test", THIRD.sql)).close()
    content = path.read_bytes()
    with pytest.raises(StoreVersionError) as caught:
        SessionStore.open(path)
    for part in ("newer Seamount", f"version {newer}", f"up to {len(MIGRATIONS)}", str(path)):
        assert part in caught.value.text
    assert path.read_bytes() == content
