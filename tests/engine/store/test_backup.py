"""Everything as one file, also while it is written to."""

import hashlib
import itertools
import sqlite3
import threading
import zipfile
from pathlib import Path

import pytest
import zstandard

from engine.errors import BadRequest, Conflict, DataFolderError, DiskFull, TaskStopped
from engine.store.backup import Progress, copy_database, write_backup
from engine.store.backup_format import MANIFEST, Manifest
from engine.store.backup_reader import BackupReader
from engine.store.inspection import Inspection
from engine.store.migrations import MIGRATIONS
from engine.store.sessions import SessionStore
from tests.engine.store.conversations import fill
from tests.engine.store.data_folders import filled


def test_all_that_belongs_to_it_and_nothing_else(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    (root / "models/big.gguf").write_bytes(b"x")
    (root / "engine.json").write_text("{}")
    (root / "sessions.db.backup-v1-20250101").write_bytes(b"old")
    (root / "sessions/abc/link").symlink_to(root / "settings.toml")
    target = tmp_path / "all.backup"
    made = write_backup(root, target, with_states=False, progress=Progress())
    assert (made.files, made.size_bytes) == (5, target.stat().st_size)
    with zipfile.ZipFile(target) as archive:
        names = archive.namelist()
        assert names == [
            "settings.toml.zst",
            "placement.json.zst",
            "models/added.json.zst",
            "sessions/abc/journal.zst",
            "sessions.db.zst",
            MANIFEST,
        ]
        manifest = Manifest.model_validate_json(archive.read(MANIFEST))
        assert (manifest.store_version, manifest.with_states) == (MIGRATIONS[-1].version, False)
        for member in manifest.members:
            plain = zstandard.ZstdDecompressor().decompressobj().decompress(archive.read(member.packed))
            assert (len(plain), hashlib.sha256(plain).hexdigest()) == (member.bytes, member.sha256)
            if member.name != "sessions.db":
                assert plain == (root / member.name).read_bytes()
    assert list(tmp_path.iterdir()) == [root, target] or set(tmp_path.iterdir()) == {root, target}


def test_states_of_models_only_when_asked_for(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    target = tmp_path / "all.backup"
    assert write_backup(root, target, with_states=True, progress=Progress()).files == 6
    with zipfile.ZipFile(target) as archive:
        assert archive.read("snapshots/0a-1b.kv") == b"\xa5" * 1000  # stored as it is


def test_while_an_answer_is_written_it_is_of_one_moment(tmp_path: Path) -> None:
    """Each piece goes to two answers in one transaction; a copy that mixed two moments would tell them apart."""
    root = tmp_path / "data"
    root.mkdir()
    store = SessionStore.open(root / "sessions.db")
    with store.database.transaction() as connection:
        connection.execute("CREATE TABLE both_sides (a INTEGER, b TEXT)")
    ended = threading.Event()
    copied = 0

    def write() -> None:
        for number in itertools.count():
            with store.database.transaction() as connection:
                filler = "x" * 20_000
                connection.execute("INSERT INTO both_sides VALUES (?, ?)", (number, filler))
                connection.execute("UPDATE both_sides SET a = ?", (number,))
            if ended.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            copy = tmp_path / f"copy-{number}.db"
            assert copy_database(root / "sessions.db", copy, Progress()) == MIGRATIONS[-1].version
            with sqlite3.connect(copy) as connection:
                copied, different = connection.execute(
                    "SELECT count(*), count(DISTINCT a) FROM both_sides"
                ).fetchone()
                assert different <= 1
                assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            connection.close()
    finally:
        ended.set()
        writer.join()
    store.close()
    assert copied > 0


def test_what_only_the_log_has_is_in_it(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    store = SessionStore.open(root / "sessions.db")
    session_id = fill(store)
    expected = store.session(session_id)
    write_backup(
        root, tmp_path / "b", with_states=False, progress=Progress()
    )  # the store is open: all is in its log
    with BackupReader(tmp_path / "b") as reader:
        [member] = reader.manifest.members
        (tmp_path / "copy.db").write_bytes(b"".join(reader.pieces(member)))
    copy = SessionStore.open(tmp_path / "copy.db")
    messages = copy.session(session_id).messages
    assert messages[:-1] == expected.messages[:-1] and messages[-1].status == "interrupted"
    assert Inspection(copy.database).problems() == []
    copy.close()
    store.close()


def test_a_store_that_grows_its_journal_meanwhile(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    journal = root / "sessions/abc/journal"
    before = journal.read_bytes()

    def grow(_done: int, _total: int, note: str) -> None:
        if note.startswith("sessions/"):
            with journal.open("ab") as file:
                file.write(b"more")

    with journal.open("ab") as file:
        file.write(b"z" * 3_000_000)
    write_backup(root, tmp_path / "b", with_states=False, progress=Progress(grow))
    with BackupReader(tmp_path / "b") as reader:
        [member] = [each for each in reader.manifest.members if each.name == "sessions/abc/journal"]
        assert b"".join(reader.pieces(member)) == before + b"z" * 3_000_000


def test_what_went_meanwhile_is_not_missed(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")

    def evict(_done: int, _total: int, note: str) -> None:
        (root / "snapshots/0a-1b.kv").unlink(missing_ok=True)

    assert write_backup(root, tmp_path / "b", with_states=True, progress=Progress(evict)).files == 5


def test_it_never_takes_the_place_of_another_file(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    target = tmp_path / "b"
    target.write_bytes(b"mine")
    with pytest.raises(Conflict, match="is there already"):
        write_backup(root, target, with_states=False, progress=Progress())
    assert target.read_bytes() == b"mine"
    other = tmp_path / "c"
    with pytest.raises(Conflict):
        write_backup(
            root,
            other,
            with_states=False,
            progress=Progress(lambda *_: other.write_bytes(b"theirs") and None),
        )
    assert other.read_bytes() == b"theirs"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b", "c", "data"]


def test_when_it_is_to_stop_nothing_is_left(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    with pytest.raises(TaskStopped):
        write_backup(root, tmp_path / "b", with_states=False, progress=Progress(stopping=lambda: True))
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


def test_what_a_killed_run_left_goes(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    killed = (".b.abc.backup-part", ".b.abc.database-part", ".b.abc.database-part-journal")
    for name in (*killed, ".c.abc.backup-part"):
        (tmp_path / name).write_bytes(b"half")
    write_backup(root, tmp_path / "b", with_states=False, progress=Progress())
    assert sorted(each.name for each in tmp_path.iterdir()) == [".c.abc.backup-part", "b", "data"]


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    told: list[tuple[int, int]] = []
    write_backup(
        root,
        tmp_path / "b",
        with_states=True,
        progress=Progress(lambda done, total, _: told.append((done, total))),
    )
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] > 0


@pytest.mark.parametrize("limit_bytes", [0, 100, 4096, 20_000])
def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path: Path, limit_bytes: int) -> None:
    resource = pytest.importorskip("resource", reason="this system has no limit on the size of files")
    root = filled(tmp_path / "data")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limits[1]))
    try:
        with pytest.raises(DataFolderError, match="The backup was not written"):
            write_backup(root, tmp_path / "b", with_states=False, progress=Progress())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    root = filled(tmp_path / "data")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="is full; free some space"):
        write_backup(root, tmp_path / "b", with_states=False, progress=Progress())
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


def test_places_that_cannot_be(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    with pytest.raises(BadRequest, match="there is no folder"):
        write_backup(root, tmp_path / "no" / "b", with_states=False, progress=Progress())
    for place in (root / "sessions.db-journal", root / "sessions", root / "models" / ".." / "b"):
        with pytest.raises(BadRequest if place.name != "sessions" else Conflict):
            write_backup(root, place, with_states=False, progress=Progress())
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(BadRequest, match="lies in the data folder"):
        write_backup(root, tmp_path / "link" / "b", with_states=False, progress=Progress())
    with pytest.raises(DataFolderError, match="there is no data folder"):
        write_backup(tmp_path / "none", tmp_path / "b", with_states=False, progress=Progress())


def test_a_damaged_store_is_told(tmp_path: Path) -> None:
    root = filled(tmp_path / "data")
    (root / "sessions.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(DataFolderError, match="The backup was not written"):
        write_backup(root, tmp_path / "b", with_states=False, progress=Progress())
