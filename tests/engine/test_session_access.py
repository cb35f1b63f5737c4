"""Whether a command asks an engine or works on the folder itself."""

from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from engine import folder_lock, session_access
from engine.engine_client import EngineSaidNo
from engine.errors import DataFolderError, EngineRunning, KeyMissing
from engine.launch import EngineAddress
from engine.paths import DataFolder
from engine.protocol_encryption import ChangeEncryption
from engine.protocol_storage import StartStorageTask, StorageTask
from engine.session_access import kept_in
from engine.store import restore
from engine.store.backup import Progress, write_backup
from engine.store.backup_reader import BackupReader
from engine.store.encryption import Encryption
from engine.store.keys import KEY_FILE_VARIABLE
from tests.engine.store.data_folders import filled

VERIFY = StartStorageTask(kind="verify")


def untold(_done: int, _total: int, _note: str) -> None: ...


class Client:
    """In the place of an engine's client."""

    tasks: tuple[StorageTask, ...] = ()

    def __init__(self, _address: EngineAddress) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.left = list(self.tasks)

    def open(self) -> None: ...

    def close(self) -> None: ...

    def send(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path, body))
        if path == "/api/storage/tasks":
            return StorageTask(id="t", kind="verify", state="running").model_dump()
        if path == "/api/storage/task":
            return self.left.pop(0).model_dump()
        return {"sessions": []}


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(filled(tmp_path / "data"))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    class Own(Client): ...

    monkeypatch.setattr(session_access, "running_engine", lambda _folder: EngineAddress("http://x", "k", 1))
    monkeypatch.setattr(session_access, "EngineClient", Own)
    monkeypatch.setattr(session_access, "_LOOK_S", 0)
    return Own


def test_an_engine_that_runs_is_asked(folder: DataFolder, engine: type[Client]) -> None:
    with FileLock(folder.engine_lock), kept_in(folder) as kept:
        assert kept.sessions("a b&c") == []
        client: Client = kept._client  # type: ignore[attr-defined]
    assert client.asked == [("GET", "/api/sessions?query=a+b%26c", None)]


def test_its_work_is_followed_to_the_end(folder: DataFolder, engine: type[Client]) -> None:
    running = StorageTask(id="t", kind="verify", state="running", done_bytes=5, total_bytes=10, note="x")
    done = running.model_copy(update={"state": "done", "problems": ("One.",)})
    engine.tasks = (running, running, done)
    told: list[tuple[int, int, str]] = []
    with kept_in(folder) as kept:
        task = kept.work(VERIFY, lambda *now: told.append(now))
    assert task.problems == ("One.",) and told == [(5, 10, "x")] * 2


def test_what_it_says_no_to_is_told(folder: DataFolder, engine: type[Client]) -> None:
    error = {"code": "disk_full", "text": "It failed: the disk is full; free some."}
    engine.tasks = (
        StorageTask.model_validate({"id": "t", "kind": "verify", "state": "failed", "error": error}),
    )
    with kept_in(folder) as kept, pytest.raises(EngineSaidNo, match="the disk is full"):
        kept.work(VERIFY, untold)


def test_ctrl_c_ends_its_work_too(folder: DataFolder, engine: type[Client]) -> None:
    engine.tasks = (StorageTask(id="t", kind="verify", state="running"),) * 2

    def interrupt(_done: int, _total: int, _note: str) -> None:
        raise KeyboardInterrupt

    with kept_in(folder) as kept:
        with pytest.raises(KeyboardInterrupt):
            kept.work(VERIFY, interrupt)
        assert kept._client.asked[-1][:2] == ("DELETE", "/api/storage/task")  # type: ignore[attr-defined]


def test_without_one_the_folder_is_locked_meanwhile(folder: DataFolder) -> None:
    with kept_in(folder) as kept:
        assert len(kept.sessions(None)) == 1
        lock = FileLock(folder.engine_lock, timeout=0)
        with pytest.raises(TimeoutError), lock:
            pass
    with FileLock(folder.engine_lock, timeout=0):
        pass


def test_one_that_begins_or_ends_just_now_is_waited_for(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_lock, "TIMEOUT_S", 0)
    monkeypatch.setattr(session_access, "TRIES", 3)
    lock = FileLock(folder.engine_lock, thread_local=False)
    lock.acquire()
    waits: list[float] = []
    monkeypatch.setattr(session_access.time, "sleep", lambda s: (waits.append(s), lock.release()))
    with kept_in(folder) as kept:
        assert len(kept.sessions(None)) == 1
    assert len(waits) == 1
    monkeypatch.setattr(session_access.time, "sleep", waits.append)
    other = FileLock(folder.engine_lock, thread_local=False)
    with other, pytest.raises(EngineRunning, match="try again in a moment"), kept_in(folder):
        pass
    assert len(waits) == 3


def test_a_restore_that_was_killed_is_finished_first(folder: DataFolder, tmp_path: Path) -> None:
    source = filled(tmp_path / "source", "What is new?")
    write_backup(source, tmp_path / "b", with_states=False, progress=Progress())
    restore.prepare(folder.root, tmp_path / "b", Progress())
    with kept_in(folder) as kept:
        assert [each.title for each in kept.sessions(None)] == ["What is new?"]


def test_encrypted_conversations_need_their_key_but_a_backup_does_not(
    folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file = tmp_path / "key"
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(key_file))
    (folder.root / "sessions/abc/journal").unlink()
    encryption = Encryption(folder)
    encryption.change(ChangeEncryption(on=True))
    assert encryption.settle().ciphers is not None
    with kept_in(folder) as kept:
        [session] = kept.sessions(None)
        assert session.title == "Why is the sea salty?"
        assert b"Rivers" in kept.exported(session.id, "json")
        assert kept.work(VERIFY, untold).problems == ()
    key_file.unlink()
    with kept_in(folder) as kept:
        with pytest.raises(KeyMissing):
            kept.sessions(None)
        with pytest.raises(KeyMissing):
            kept.work(VERIFY, untold)
        asked = StartStorageTask(kind="backup", path=str(tmp_path / "b"))
        assert kept.work(asked, untold).state == "done"
    with BackupReader(tmp_path / "b") as reader:
        for member in reader.manifest.members:
            assert b"Rivers" not in b"".join(reader.pieces(member))


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError), kept_in(DataFolder(tmp_path / "file")):
        pass
