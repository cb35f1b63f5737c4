"""A backup back into a data folder: all of it or nothing, whenever it is killed."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections import namedtuple
from pathlib import Path

import pytest

from engine.errors import BackupRefused, Conflict, DataFolderError, DiskFull, StoreVersionError, TaskStopped
from engine.store import restore
from engine.store.backup import Progress, write_backup
from engine.store.database import Database
from engine.store.migrations import MIGRATIONS
from engine.store.resealing import reseal
from engine.store.restore import NOTE, STAGING, finish, give_up, prepare
from engine.store.sealing import Ciphers, MasterKey
from engine.store.sessions import SessionStore
from tests.engine.store.conversations import fill
from tests.engine.store.data_folders import contents, filled

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    root = filled(tmp_path / "source", "What is new?")
    (root / "placement.json").unlink()
    write_backup(root, tmp_path / "b", with_states=False, progress=Progress())
    return tmp_path / "b"


def questions(root: Path) -> list[str]:
    store = SessionStore.open(root / "sessions.db")
    titles = [each.title for each in store.list_sessions()]
    store.close()
    return titles


def test_the_backup_is_there_and_what_was_there_is_aside(tmp_path: Path, backup: Path) -> None:
    root = filled(tmp_path / "data", "What is old?")
    store = SessionStore.open(root / "sessions.db")
    fill(store, "Only in the log?")
    shutil.copytree(root, tmp_path / "killed")  # as a kill leaves it: with its log
    store.close()
    root = tmp_path / "killed"
    old = contents(root)
    prepared = prepare(root, backup, Progress())
    assert prepared.aside.parent == root and prepared.sessions_bytes > 0
    assert finish(root) == f"A backup was restored; what was here before is in {prepared.aside}."
    assert questions(root) == ["What is new?"]
    assert 'model_id = "What is new?"' in (root / "settings.toml").read_text()
    assert (root / "sessions/abc/journal").read_bytes() == b"journal of What is new?"
    assert not (root / "placement.json").exists(), "the backup had none"
    assert (root / "snapshots/0a-1b.kv").exists(), "it tells nothing of them"
    aside = contents(prepared.aside)
    assert {name: old[name] for name in aside} == aside
    assert set(old) - set(aside) == {"snapshots/0a-1b.kv", "snapshots/damaged/0a-2c.kv"}
    assert questions(prepared.aside) == ["Only in the log?", "What is old?"]
    assert finish(root) is None


def test_states_come_and_go_with_a_backup_that_has_them(tmp_path: Path) -> None:
    source = filled(tmp_path / "source")
    (source / "snapshots/0a-1b.kv").write_bytes(b"new")
    write_backup(source, tmp_path / "b", with_states=True, progress=Progress())
    root = filled(tmp_path / "data")
    prepared = prepare(root, tmp_path / "b", Progress())
    finish(root)
    assert (root / "snapshots/0a-1b.kv").read_bytes() == b"new"
    assert (prepared.aside / "snapshots/0a-1b.kv").read_bytes() == b"\xa5" * 1000


def test_of_two_at_a_time_one_is_refused(tmp_path: Path, backup: Path) -> None:
    """Else the second would clear the folder that the first has decided for."""
    root = filled(tmp_path / "data")
    refusals: list[Conflict] = []

    def once_more(_done: int, _total: int, _note: str) -> None:
        with pytest.raises(Conflict, match="being looked at") as caught:
            prepare(root, backup, Progress())
        refusals.append(caught.value)

    prepare(root, backup, Progress(once_more))
    assert refusals
    finish(root)
    assert questions(root) == ["What is new?"]
    with pytest.raises(DataFolderError):
        prepare(root, tmp_path / "nowhere", Progress())
    prepare(root, backup, Progress())  # what failed holds nobody up


def test_into_an_empty_folder(tmp_path: Path, backup: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    prepare(root, backup, Progress())
    assert finish(root) == "A backup was restored; nothing was here before."
    assert questions(root) == ["What is new?"]
    assert not list(root.glob("before-restore-*"))


def test_a_bad_backup_changes_nothing(tmp_path: Path, backup: Path) -> None:
    root = filled(tmp_path / "data")
    before = contents(root)
    content = bytearray(backup.read_bytes())
    content[len(content) // 2] ^= 1
    backup.write_bytes(content)
    with pytest.raises(BackupRefused, match="nothing was changed"):
        prepare(root, backup, Progress())
    assert contents(root) == before
    assert not (root / STAGING).exists()


def test_when_it_is_to_stop_nothing_is_changed(tmp_path: Path, backup: Path) -> None:
    root = filled(tmp_path / "data")
    before = contents(root)
    with pytest.raises(TaskStopped):
        prepare(root, backup, Progress(stopping=lambda: True))
    assert contents(root) == before


def changed_database(tmp_path: Path, *statements: str) -> Path:
    source = filled(tmp_path / "changed")
    with sqlite3.connect(source / "sessions.db") as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for each in statements:
            connection.execute(each)
    connection.close()
    write_backup(source, tmp_path / "changed-backup", with_states=False, progress=Progress())
    return tmp_path / "changed-backup"


@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        ("PRAGMA user_version = 99", StoreVersionError, "install the newer Seamount"),
        ("PRAGMA application_id = 5", DataFolderError, "another program"),
        (
            "CREATE TRIGGER t AFTER INSERT ON message BEGIN DELETE FROM session; END",
            BackupRefused,
            "more than",
        ),
        ("ALTER TABLE message RENAME COLUMN notices TO other", BackupRefused, "lacks 1 of the columns"),
        ("DROP TABLE search_text", BackupRefused, "lacks 2 of the columns"),
        ("CREATE VIEW v AS SELECT * FROM message", BackupRefused, "more than"),
        ("CREATE INDEX i ON session (upper(title))", BackupRefused, "more than"),
        ("CREATE TABLE other (one)", BackupRefused, "more than"),
        (
            "UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ', CHECK (length(randomblob(9)))) STRICT')"
            " WHERE name = 'session'",
            BackupRefused,
            "more than",
        ),
        ("UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '')", BackupRefused, "more than"),
    ],
)
def test_a_database_that_this_seamount_cannot_use(
    tmp_path: Path, statement: str, kind: type[Exception], said: str
) -> None:
    backup = changed_database(tmp_path, statement)
    root = filled(tmp_path / "data")
    before = contents(root)
    with pytest.raises(kind, match=said):
        prepare(root, backup, Progress())
    assert contents(root) == before


@pytest.mark.parametrize("version", [step.version for step in MIGRATIONS])
def test_a_store_of_any_version_is_taken(tmp_path: Path, version: int) -> None:
    source, root = filled(tmp_path / "source"), filled(tmp_path / "data", "What is old?")
    for path in source.glob("sessions.db*"):
        path.unlink()
    steps = [step for step in MIGRATIONS if step.version <= version]
    Database.open(source / "sessions.db", steps).close()
    write_backup(source, tmp_path / "b", with_states=False, progress=Progress())
    prepare(root, tmp_path / "b", Progress())
    finish(root)
    assert questions(root) == []


def test_an_encrypted_store_is_taken_and_opens_with_its_key(tmp_path: Path) -> None:
    source, root = filled(tmp_path / "source", "What is secret?"), filled(tmp_path / "data")
    key = MasterKey.new()
    cipher = Ciphers.of(key).rows
    reseal(source / "sessions.db", None, cipher, key.id)
    write_backup(source, tmp_path / "b", with_states=False, progress=Progress())
    prepare(root, tmp_path / "b", Progress())
    finish(root)
    store = SessionStore.open(root / "sessions.db", cipher)
    assert [each.title for each in store.list_sessions()] == ["What is secret?"]
    store.close()


def test_without_room_it_is_not_begun(tmp_path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = filled(tmp_path / "data")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10, 10, 1000))
    with pytest.raises(DiskFull, match="1,000 free"):
        prepare(root, backup, Progress())
    assert not (root / STAGING).exists()


def test_a_disk_that_refuses_in_the_middle_changes_nothing(tmp_path: Path, backup: Path) -> None:
    resource = pytest.importorskip("resource", reason="this system has no limit on the size of files")
    root = filled(tmp_path / "data")
    before = contents(root)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(DataFolderError):
            prepare(root, backup, Progress())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(root) == before


def test_what_is_decided_can_be_given_up_until_it_begins(tmp_path: Path, backup: Path) -> None:
    root = filled(tmp_path / "data")
    before = contents(root)
    prepare(root, backup, Progress())
    with pytest.raises(Conflict, match="at the next start"):
        prepare(root, backup, Progress())
    assert give_up(root)
    assert not give_up(root)
    assert contents(root) == before
    assert finish(root) is None and contents(root) == before
    prepare(root, backup, Progress())
    note = json.loads((root / NOTE).read_text())
    (root / NOTE).write_text(json.dumps({**note, "going": []}))
    with pytest.raises(Conflict, match="it has begun"):
        give_up(root)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "[]",
        "{}",
        '{"format": 1, "aside": "../x", "places": [], "going": null}',
        '{"format": 1, "aside": "before-restore-20250101-000000", "places": ["../x"], "going": null}',
        '{"format": 1, "aside": "before-restore-20250101-000000", "places": ["models"], "going": null}',
        '{"format": 1, "aside": "before-restore-20250101-000000", "places": [[]], "going": null}',
        '{"format": 2, "aside": "before-restore-20250101-000000", "places": [], "going": null}',
    ],
)
def test_a_note_that_nobody_here_wrote_moves_nothing(tmp_path: Path, note: str) -> None:
    root = filled(tmp_path / "data")
    before = contents(root)
    (root / NOTE).write_text(note)
    with pytest.raises(DataFolderError, match="cannot be understood"):
        finish(root)
    (root / NOTE).unlink()
    assert contents(root) == before


# Each change of the disk is told to a hook of the interpreter before it is made: there the process dies.
KILLED = """
    import os, shutil, signal, sys
    sys.path.insert(0, {rooms!r})
    from pathlib import Path
    import zstandard  # so that what is counted below is the restore's own
    from engine.store.backup import Progress
    from engine.store.restore import finish, prepare

    base, backup, work = Path({base!r}), Path({backup!r}), Path({work!r})
    CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")

    def run(root, nth):
        left = nth

        def hook(event, arguments):
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES or writes:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        if nth:
            sys.addaudithook(hook)
        finish(root)
        if not {only_finish}:
            prepare(root, backup, Progress())
            finish(root)

    killed = 0
    for nth in range(1, 1000):
        root = work / str(nth)
        shutil.copytree(base, root)
        child = os.fork()
        if child == 0:
            try:
                run(root, nth)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(2)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            killed += 1
            continue
        if os.WEXITSTATUS(status):
            sys.exit(1)
        break
    print(killed)
"""


def killed_everywhere(tmp_path: Path, base: Path, backup: Path, *, only_finish: bool) -> list[Path]:
    """The data folders that kills at each change of the disk left, and one that nobody killed."""
    work = tmp_path / f"work-{only_finish}"
    work.mkdir()
    rooms = str(Path(__file__).resolve().parents[3])
    program = textwrap.dedent(KILLED).format(
        rooms=rooms, base=str(base), backup=str(backup), work=str(work), only_finish=only_finish
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    roots = sorted(work.iterdir(), key=lambda path: int(path.name))
    assert len(roots) == int(done.stdout) + 1
    return roots


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork, which makes it quick")
@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path, backup: Path) -> None:
    base = filled(tmp_path / "data", "What is old?")
    old = contents(base)
    # Who reads the source while it is backed up may leave SQLite's companions there, empty.
    source = {
        name: each
        for name, each in contents(tmp_path / "source").items()
        if not name.endswith(("-wal", "-shm"))
    }
    new = source | {name: old[name] for name in old if name.startswith("snapshots/")}
    outcomes: list[str] = []
    for root in killed_everywhere(tmp_path, base, backup, only_finish=False):
        decided = (root / NOTE).exists()
        said = finish(root)
        assert not (root / NOTE).exists() and not (root / STAGING).exists()
        now = contents(root)
        database = now.pop("sessions.db")
        if database == old["sessions.db"]:
            outcomes.append("old")
            assert not decided and said is None
            assert now == {name: old[name] for name in old if name != "sessions.db"}
            assert not list(root.glob("before-restore-*"))
        else:
            outcomes.append("new")
            assert decided == (said is not None)
            assert now == {name: new[name] for name in new if name != "sessions.db"}
            [aside] = root.glob("before-restore-*")
            assert contents(aside) == {name: old[name] for name in old if not name.startswith("snapshots/")}
            assert questions(root) == ["What is new?"]
        assert finish(root) is None
    assert outcomes == sorted(outcomes, reverse=True), "first the old, from one moment on the new"
    assert outcomes.count("old") > 10 and outcomes.count("new") > 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork, which makes it quick")
@pytest.mark.slow
def test_a_second_kill_while_it_goes_on(tmp_path: Path, backup: Path) -> None:
    base = filled(tmp_path / "data", "What is old?")
    prepare(base, backup, Progress())
    for root in killed_everywhere(tmp_path, base, backup, only_finish=True):
        finish(root)
        assert questions(root) == ["What is new?"]
        [aside] = root.glob("before-restore-*")
        assert questions(aside) == ["What is old?"]
        assert (root / "snapshots/0a-1b.kv").exists()


def test_the_places_are_those_of_backups() -> None:
    from engine.paths import DataFolder
    from engine.placement import choices, hardware_record, thread_record
    from engine.store.backup_format import DATABASE, FILES, JOURNALS, STATES

    folder = DataFolder(Path("/x"))
    assert {DATABASE, JOURNALS, STATES, *FILES} <= set(restore._PLACES)
    assert folder.sessions_db.name == DATABASE
    assert (folder.journals.name, folder.snapshots.name) == (JOURNALS, STATES)
    assert {choices.NAME, hardware_record.NAME, thread_record.NAME, folder.settings.name} <= set(FILES)
    assert folder.window_state.name in FILES
