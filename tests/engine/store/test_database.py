"""What is refused, what is said about it, and that nothing is lost when the disk says no."""

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import DataFolderError, DiskFull
from engine.protocol import ErrorBody, Sampling
from engine.store.database import Database, explained
from engine.store.sessions import SessionStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def connection_of(store: SessionStore) -> sqlite3.Connection:
    return store._database._connection


def begun(store: SessionStore) -> tuple[str, str]:
    session = store.create_session()
    _, answer = store.begin_turn(
        session.id, parent_id=None, question="q", model_id="m", sampling=Sampling(seed=1)
    )
    return session.id, answer.id


def append_until_full(store: SessionStore, answer_id: str) -> int:
    """How many appends were acknowledged before the disk was full."""
    for index in range(100_000):
        try:
            store.append(answer_id, f"{index:05} " + "x" * 500, [index])
        except DiskFull as error:
            assert str(store._database.path.parent) in error.text
            assert "saved up to here" in error.text
            return index
    raise AssertionError("the disk never filled up")


def expected_text(count: int) -> str:
    return "".join(f"{index:05} " + "x" * 500 for index in range(count))


def test_the_pragmas_are_in_force(path: Path) -> None:
    store = SessionStore.open(path)
    connection = connection_of(store)
    for pragma, value in {
        "journal_mode": "wal",
        "synchronous": 1,
        "foreign_keys": 1,
        "secure_delete": 1,
        "busy_timeout": 5000,
        "application_id": int.from_bytes(b"SMNT", "big"),
    }.items():
        assert connection.execute(f"PRAGMA {pragma}").fetchone()[0] == value, pragma
    strict = connection.execute("SELECT name, strict FROM pragma_table_list WHERE type = 'table'").fetchall()
    tables = {"session", "message", "chunk", "search_text", "written_call", "kept_state", "forgotten_state"}
    assert {name for name, is_strict in strict if is_strict} == tables
    # The log beside it holds what was said last.
    for file in (path, path.with_name("sessions.db-wal")):
        assert os.name == "nt" or file.stat().st_mode & 0o077 == 0, file
    store.close()
    assert not path.with_name("sessions.db-wal").exists()


def test_a_transaction_is_all_or_nothing(path: Path) -> None:
    database = Database.open(path)
    with pytest.raises(RuntimeError), database.transaction() as connection:
        connection.execute("INSERT INTO session (id, title, created_at, updated_at) VALUES ('a', '', 0, 0)")
        raise RuntimeError
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM session").fetchone() == (0,)
    with database.transaction() as connection:
        connection.execute("INSERT INTO session (id, title, created_at, updated_at) VALUES ('a', '', 0, 0)")
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM session").fetchone() == (1,)
    database.close()


def test_a_full_file_loses_nothing_that_was_appended(path: Path) -> None:
    store = SessionStore.open(path)
    session_id, answer_id = begun(store)
    connection = connection_of(store)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 20}").fetchone()
    count = append_until_full(store, answer_id)
    assert count > 20
    assert store.message(session_id, answer_id).text == expected_text(count)
    # There is no room to fold the text, but the end is marked, and everything can still be read.
    why = ErrorBody(code="disk_full", text="full")
    ended = store.end_turn(answer_id, status="failed", finish_reason="error", usage=None, error=why)
    assert (ended.status, ended.error, ended.text) == ("failed", why, expected_text(count))
    connection.execute("PRAGMA max_page_count = 1000000").fetchone()
    again, ids, _ = store.reopen_answer(session_id, answer_id)
    assert (again.text, ids) == (expected_text(count), list(range(count)))
    store.append(answer_id, "end", [7])
    store.close()
    store = SessionStore.open(path)
    message = store.message(session_id, answer_id)
    assert (message.text, message.status) == (expected_text(count) + "end", "interrupted")
    assert connection_of(store).execute("SELECT count(*) FROM chunk").fetchone() == (0,)
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
        )
    except OSError as error:
        pytest.skip(f"no mount command here: {error}")
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not permitted: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_loses_nothing_that_was_appended(small_disk: Path) -> None:
    path = small_disk / "sessions.db"
    store = SessionStore.open(path)
    session_id, answer_id = begun(store)
    ballast = small_disk / "ballast"
    # Another program takes most of the disk, so that it fills up before SQLite's log is copied.
    ballast.write_bytes(b"x" * 1_200_000)
    count = append_until_full(store, answer_id)
    assert count > 20
    with ballast.open("ab") as file, pytest.raises(OSError, match="space"):
        while True:
            os.write(file.fileno(), b"x" * 512)
    why = ErrorBody(code="disk_full", text="full")
    ended = store.end_turn(answer_id, status="failed", finish_reason="error", usage=None, error=why)
    assert (ended.status, ended.error) == ("failed", why)
    assert store.session(session_id).messages[-1].text == expected_text(count)
    with pytest.raises(DiskFull):
        append_until_full(store, begun(store)[1])
        store.create_session("x" * 100)
    ballast.unlink()
    assert store.reopen_answer(session_id, answer_id)[0].text == expected_text(count)
    store.append(answer_id, "end", [7])
    store.close()
    store = SessionStore.open(path)
    assert store.message(session_id, answer_id).text == expected_text(count) + "end"
    store.close()


def test_a_store_on_a_full_disk_can_still_be_read(small_disk: Path) -> None:
    path = small_disk / "sessions.db"
    store = SessionStore.open(path)
    session_id, answer_id = begun(store)
    store.append(answer_id, "shown", [1])
    store.close()
    with (small_disk / "ballast").open("ab") as file, pytest.raises(OSError, match="space"):
        while True:
            os.write(file.fileno(), b"x" * 512)
    store = SessionStore.open(path)
    message = store.message(session_id, answer_id)
    assert (message.text, message.status) == ("shown", "interrupted")
    store.close()


@pytest.mark.parametrize(
    "content", [b"not a database at all", b"SQLite", b"\0" * 8192, b"SQLite format 2\0" * 99]
)
def test_a_file_that_is_no_database_is_left_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DataFolderError, match="left untouched") as caught:
        SessionStore.open(path)
    assert str(path) in caught.value.text
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["sessions.db"]


def test_a_database_of_another_program_is_left_untouched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (a)")
        other.commit()
    content = path.read_bytes()
    with pytest.raises(DataFolderError, match="another program"):
        SessionStore.open(path)
    assert path.read_bytes() == content


def torn_copy(path: Path, damage: Callable[[bytearray], None]) -> tuple[bytes, bytes]:
    """Leave at `path` what a killed engine leaves, with `damage` done to the database file."""
    store = SessionStore.open(path.with_name("original.db"))
    for _ in range(40):
        _, answer_id = begun(store)
        store.append(answer_id, "text " * 400, [1])
    store._database.forget()
    begun(store)
    log = path.with_name("original.db-wal").read_bytes()
    content = bytearray(path.with_name("original.db").read_bytes())
    store.close()
    damage(content)
    path.write_bytes(content)
    path.with_name("sessions.db-wal").write_bytes(log)
    return bytes(content), log


def unharmed(_: bytearray) -> None:
    """No damage."""


def test_a_damaged_store_is_refused_and_left_untouched(path: Path) -> None:
    def zero_the_middle(content: bytearray) -> None:
        content[8 * 4096 : 24 * 4096] = bytes(16 * 4096)

    content, log = torn_copy(path, zero_the_middle)
    with pytest.raises(DataFolderError, match=r"damaged.*left untouched"):
        SessionStore.open(path)
    assert path.read_bytes() == content
    assert path.with_name("sessions.db-wal").read_bytes() == log


def test_a_store_whose_engine_was_killed_opens(path: Path) -> None:
    torn_copy(path, unharmed)
    store = SessionStore.open(path)
    assert len(store.list_sessions()) == 41
    store.close()


@pytest.mark.parametrize("cut", [1, 100, 4096, 4097])
def test_a_torn_end_of_the_log_is_cut(path: Path, cut: int) -> None:
    _, log = torn_copy(path, unharmed)
    path.with_name("sessions.db-wal").write_bytes(log[:-cut])
    store = SessionStore.open(path)
    assert len(store.list_sessions()) in (40, 41)
    store.close()


def test_a_log_without_its_database_is_not_deleted(path: Path) -> None:
    _, log = torn_copy(path, unharmed)
    for emptied in (True, False):
        if emptied:
            path.write_bytes(b"")
        else:
            path.unlink()
        with pytest.raises(DataFolderError, match="log"):
            SessionStore.open(path)
        assert path.with_name("sessions.db-wal").read_bytes() == log


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="cannot be"):
        SessionStore.open(tmp_path / "missing" / "sessions.db")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataFolderError, match="cannot be"):
        SessionStore.open(tmp_path / "file" / "sessions.db")


def test_a_store_that_became_read_only_says_so(path: Path) -> None:
    store = SessionStore.open(path)
    connection_of(store).execute("PRAGMA query_only = ON")
    with pytest.raises(DataFolderError, match="read-only"):
        store.create_session()
    assert store.list_sessions() == []
    store.close()


def test_another_program_that_holds_the_store_is_waited_for(path: Path) -> None:
    store = SessionStore.open(path)
    held = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, lambda: held.execute("ROLLBACK"))
    release.start()
    store.create_session()
    release.join()
    held.execute("BEGIN IMMEDIATE")
    connection_of(store).execute("PRAGMA busy_timeout = 1")
    with pytest.raises(DataFolderError, match="another program holds it"):
        store.create_session()
    held.close()
    assert len(store.list_sessions()) == 1
    store.close()


def test_a_mistake_in_the_program_is_not_dressed_up(path: Path) -> None:
    error = sqlite3.OperationalError("no such table: x")
    error.sqlite_errorcode = sqlite3.SQLITE_ERROR
    assert explained(error, path) is error


def test_what_is_durable_is_synced_with_its_log_and_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open(path)
    with database.transaction() as connection:
        connection.execute("CREATE TABLE more (n INTEGER)")
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    if sys.platform != "linux":
        pytest.skip("which file was synced is seen in Linux's /proc")
    monkeypatch.setattr(os, "fsync", fsync)
    database.make_durable()
    assert synced == [f"{path}-wal", str(path.parent)]
    monkeypatch.undo()

    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFull):
        database.make_durable()
    monkeypatch.undo()
    database.forget()
    database.make_durable()
    database.close()
    with pytest.raises(DataFolderError, match="closed"):
        database.make_durable()
