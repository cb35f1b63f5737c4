"""Encryption is turned on and off at a start, a kill on the way does no harm, and without the key all stays locked."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.errors import BadRequest, KeyMissing, KeyNotKept
from engine.folder_lock import noted_work
from engine.paths import DataFolder
from engine.protocol_encryption import ChangeEncryption
from engine.store import recovery_key, resealing
from engine.store.backup import Progress, write_backup
from engine.store.encryption import Encryption, Opened, stored_key_id
from engine.store.journal_file import JournalFile, read_journal
from engine.store.journal_records import Kind
from engine.store.keys import KEY_FILE_VARIABLE, Keys
from engine.store.sealing import Ciphers, MasterKey
from engine.store.sessions import SessionStore

ROOT = Path(__file__).resolve().parents[3]
ON, OFF = ChangeEncryption(on=True), ChangeEncryption(on=False)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "key.txt"


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """With a conversation, a journal, a snapshot, a log and an old backup, all of which say "quixotic"."""
    folder = DataFolder(tmp_path / "data")
    folder.create()
    with closing(SessionStore.open(folder.sessions_db)) as store:
        store.create_session("quixotic")
    backup = folder.root / "sessions.db.backup-v1-20250101"
    backup.write_bytes(folder.sessions_db.read_bytes())
    journal = folder.journals / "a" / "journal"
    journal.parent.mkdir(parents=True)
    with closing(JournalFile(journal, None)) as file:
        file.append(Kind.TOKENS, None, b"quixotic")
    for path in (journal.with_name("journal.damaged-1"), folder.snapshots / "a.kv", folder.engine_log):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("quixotic")
    return folder


def journalled(folder: DataFolder, opened: Opened) -> list[str]:
    records = read_journal(folder.journals / "a" / "journal", opened.journals).records
    return [record.payload.decode() for record in records]


def encryption(folder: DataFolder, key_file: Path) -> Encryption:
    return Encryption(folder, Keys(folder.root, {KEY_FILE_VARIABLE: str(key_file)}))


def saying(folder: DataFolder) -> list[str]:
    files = [path for path in folder.root.rglob("*") if path.is_file()]
    return sorted(path.name for path in files if b"quixotic" in path.read_bytes())


def titles(folder: DataFolder, ciphers: Ciphers | None) -> list[str]:
    with closing(SessionStore.open(folder.sessions_db, ciphers.rows if ciphers else None)) as store:
        return [each.title for each in store.list_sessions()]


def test_on_and_off_again(folder: DataFolder, key_file: Path) -> None:
    asked = encryption(folder, key_file)
    assert asked.settle().ciphers is None
    assert not asked.state().on
    change = asked.change(ON)
    assert change.recovery_key is not None
    key = recovery_key.read(change.recovery_key)
    assert (change.state.on, change.state.pending, change.state.restart_needed) == (False, "on", True)
    assert titles(folder, None) == ["quixotic"]

    started = encryption(folder, key_file)
    opened = started.settle()
    assert titles(folder, opened.ciphers) == ["quixotic"]
    state = started.state()
    assert (state.on, state.pending, state.restart_needed, state.locked) == (True, None, False, None)
    assert state.plain_files == ["sessions.db.backup-v1-20250101"] == saying(folder)
    assert started.change(ChangeEncryption(on=True, remove_plain_files=True)).state.plain_files == []
    assert saying(folder) == []
    assert stored_key_id(folder.sessions_db) == key.id

    assert journalled(folder, opened) == ["quixotic"]
    folder.snapshots.mkdir()
    assert started.change(OFF).recovery_key is None
    opened = encryption(folder, key_file).settle()
    assert opened.ciphers is None
    assert titles(folder, None) == ["quixotic"]
    assert journalled(folder, opened) == ["quixotic"]
    assert not folder.snapshots.exists()
    # The key stays: backups that were made meanwhile need it.
    assert recovery_key.read(key_file.read_text()) == key


def test_backups_before_newer_versions_are_plain_until_they_hold_an_encrypted_store(
    folder: DataFolder, key_file: Path
) -> None:
    folder.backups.mkdir()

    def back_up(name: str) -> None:
        write_backup(folder.root, folder.backups / name, with_states=False, progress=Progress(), within=True)

    back_up("before-0.2.0.seamount")
    (folder.backups / "before-0.1.0.seamount").write_bytes(b"half of one")
    encryption(folder, key_file).change(ON)
    encryption(folder, key_file).settle()
    back_up("before-0.3.0.seamount")
    plain = ["backups/before-0.1.0.seamount", "backups/before-0.2.0.seamount"]
    asked = encryption(folder, key_file)
    assert asked.state().plain_files == ["sessions.db.backup-v1-20250101", *plain]
    asked.change(ChangeEncryption(on=True, remove_plain_files=True))
    assert [each.name for each in folder.backups.iterdir()] == ["before-0.3.0.seamount"]


def test_plain_copies_are_removed_with_the_change_when_that_is_asked_for(
    folder: DataFolder, key_file: Path
) -> None:
    aside = folder.root / "before-restore-20250101-120000"
    aside.mkdir()
    (aside / "sessions.db").write_bytes(folder.sessions_db.read_bytes())
    (folder.root / "sessions.db.txt").write_text("a person's own")
    asked = encryption(folder, key_file).change(ChangeEncryption(on=True, remove_plain_files=True))
    assert asked.state.plain_files == [aside.name, "sessions.db.backup-v1-20250101"]
    encryption(folder, key_file).settle()
    assert saying(folder) == []
    assert not aside.exists()
    assert (folder.root / "sessions.db.txt").exists()


def test_a_change_can_be_taken_back(folder: DataFolder, key_file: Path) -> None:
    encryption(folder, key_file).change(ON)
    assert encryption(folder, key_file).change(OFF).state.pending is None
    assert encryption(folder, key_file).settle().ciphers is None
    assert "journal" in saying(folder)


def test_without_a_place_for_the_key_nothing_is_asked_for(folder: DataFolder) -> None:
    inside = Encryption(folder, Keys(folder.root, {KEY_FILE_VARIABLE: str(folder.root / "key.txt")}))
    with pytest.raises(KeyNotKept):
        inside.change(ON)
    assert inside.state().pending is None


def test_without_the_key_all_stays_locked_until_it_is_given(folder: DataFolder, key_file: Path) -> None:
    written = encryption(folder, key_file).change(ON).recovery_key or ""
    encryption(folder, key_file).settle()
    before = folder.sessions_db.read_bytes()
    key_file.unlink()
    lost = encryption(folder, key_file)
    opened = lost.settle()
    assert opened.ciphers is None
    assert opened.locked is not None
    assert "cannot be read" in opened.locked.text
    state = lost.state()
    assert state.locked is not None and state.locked.code == "conversations_locked"
    with pytest.raises(KeyMissing):
        lost.change(OFF)
    store = SessionStore.locked(folder.sessions_db, opened.locked)
    assert store.list_sessions() == store.list_sessions("x") == []
    for call in (store.create_session, lambda: store.session("x"), lambda: store.recall(["x"])):
        with pytest.raises(KeyMissing):
            call()
    store.close()
    with pytest.raises(BadRequest, match="another one's"):
        lost.recover(recovery_key.written(MasterKey.new()))
    with pytest.raises(BadRequest, match="not a recovery key"):
        lost.recover("ABCD")
    assert folder.sessions_db.read_bytes() == before
    assert lost.recover(written.lower().replace("-", " ")).restart_needed
    assert titles(folder, encryption(folder, key_file).settle().ciphers) == ["quixotic"]


def test_a_key_is_not_taken_where_nothing_is_locked(folder: DataFolder, key_file: Path) -> None:
    with pytest.raises(BadRequest, match="not encrypted"):
        encryption(folder, key_file).recover(recovery_key.written(MasterKey.new()))
    assert not key_file.exists()


def test_what_stands_in_the_way_is_told_and_tried_again(folder: DataFolder, key_file: Path) -> None:
    encryption(folder, key_file).change(ON)
    kept = key_file.read_bytes()
    key_file.unlink()
    stuck = encryption(folder, key_file)
    assert stuck.settle().ciphers is None
    assert titles(folder, None) == ["quixotic"]
    state = stuck.state()
    assert state.pending == "on"
    assert state.problem is not None and "cannot be read" in state.problem.text
    key_file.write_bytes(kept)
    assert encryption(folder, key_file).settle().ciphers is not None


@pytest.mark.parametrize(
    "point", ["store-resealed", "store-replaced", "journal-compacting", "journal-compacted"]
)
def test_a_start_that_is_killed_on_the_way_is_made_good_by_the_next(
    folder: DataFolder, key_file: Path, point: str
) -> None:
    encryption(folder, key_file).change(ON)
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from engine.paths import DataFolder\n"
        "from engine.store.encryption import Encryption\n"
        f"Encryption(DataFolder(Path({str(folder.root)!r}))).settle()\n"
    )
    told = {**os.environ, "SEAMOUNT_FAULT": f"{point}:1", KEY_FILE_VARIABLE: str(key_file)}
    done = subprocess.run([sys.executable, "-c", program], env=told)
    assert done.returncode < 0
    assert ("journal" in saying(folder)) == (point != "journal-compacted")
    opened = encryption(folder, key_file).settle()
    assert titles(folder, opened.ciphers) == ["quixotic"]
    assert journalled(folder, opened) == ["quixotic"]
    assert saying(folder) == ["sessions.db.backup-v1-20250101"]
    assert not folder.encryption.exists()


@pytest.mark.parametrize(
    "note",
    [b"", b"{", b"[]", b"7", b'{"on": 1, "key_id": "", "remove_plain_files": false}', b"[" * 9000, b"\xff"],
)
def test_a_note_that_cannot_be_read_asks_for_nothing(folder: DataFolder, key_file: Path, note: bytes) -> None:
    folder.encryption.write_bytes(note)
    assert encryption(folder, key_file).settle().ciphers is None
    assert encryption(folder, key_file).state().pending is None
    assert titles(folder, None) == ["quixotic"]


def test_the_note_holds_no_secret(folder: DataFolder, key_file: Path) -> None:
    written = encryption(folder, key_file).change(ON).recovery_key or ""
    note = json.loads(folder.encryption.read_bytes())
    assert set(note) == {"on", "key_id", "remove_plain_files"}
    assert note["key_id"] == recovery_key.read(written).id


@pytest.mark.parametrize("on", [True, False])
def test_while_the_store_is_rewritten_it_is_said(
    folder: DataFolder, key_file: Path, monkeypatch: pytest.MonkeyPatch, on: bool
) -> None:
    if not on:
        encryption(folder, key_file).change(ON)
        encryption(folder, key_file).settle()
    told: list[str] = []
    reseal = resealing.reseal

    def watched(*arguments: Any) -> None:
        work = noted_work(folder)
        told.append(work.words if work else "")
        reseal(*arguments)

    monkeypatch.setattr(resealing, "reseal", watched)
    encryption(folder, key_file).change(ON if on else OFF)
    encryption(folder, key_file).settle()
    assert told == [f"the conversations are being {'encrypted' if on else 'decrypted'}"]
    assert noted_work(folder) is None
