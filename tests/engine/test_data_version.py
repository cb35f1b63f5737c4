"""A data folder from version to version: backed up before a newer one, refused by an older one, and put back."""

import errno
import json
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import data_version
from engine.data_version import backups, read_note, refuse_newer, restorable, settle
from engine.engine import Engine
from engine.errors import DataFolderError, NewerData, NotBackedUp, NotFound, StoreVersionError
from engine.paths import DataFolder
from engine.session_access import kept_in
from engine.sessions_command import restore_previous
from engine.store import backup as backup_module
from engine.store import restore
from engine.store.backup import Progress
from engine.store.backup_reader import BackupReader
from engine.store.migrations import MIGRATIONS, migrate
from tests.engine.store.data_folders import filled

Become = Callable[[str], None]


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Become:
    """Be another version from now on."""

    def is_now(name: str) -> None:
        for module in ("engine.data_version", "engine.store.restore", "engine.store.backup"):
            monkeypatch.setattr(f"{module}.version", lambda: name)

    return is_now


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(filled(tmp_path / "data"))


def titles(folder: DataFolder) -> list[str]:
    with kept_in(folder) as kept:
        return [each.title for each in kept.sessions(None)]


def test_a_new_folder_is_noted_and_has_nothing_to_back_up(tmp_path: Path, become: Become) -> None:
    become("0.2.0")
    folder = DataFolder(tmp_path / "data")
    folder.create()
    assert settle(folder) is None
    assert read_note(folder) == data_version.VersionNote("0.2.0")
    assert not folder.backups.exists()


def test_settings_that_were_put_there_by_hand_are_no_earlier_versions(tmp_path: Path, become: Become) -> None:
    become("0.2.0")
    folder = DataFolder(tmp_path / "data")
    folder.create()
    folder.settings.write_text("format = 1\n")
    assert settle(folder) is None
    become("0.3.0")
    assert settle(folder) is not None


def test_the_first_start_of_a_newer_version_backs_up_once(folder: DataFolder, become: Become) -> None:
    become("0.1.0")
    settle(folder)
    become("0.2.0")
    made = settle(folder)
    assert made == folder.backups / "before-0.2.0.seamount"
    with BackupReader(made) as reader:
        reader.check(Progress())
        names = {member.name for member in reader.manifest.members}
    assert {"sessions.db", "settings.toml", "version.json", "sessions/abc/journal"} <= names
    note = read_note(folder)
    assert note is not None and note.version == "0.2.0"
    assert note.backups[0] == data_version.BackupNote(made.name, "0.1.0")
    before = made.stat().st_mtime_ns
    assert settle(folder) is None and made.stat().st_mtime_ns == before


def test_data_without_a_note_are_an_earlier_versions(folder: DataFolder, become: Become) -> None:
    become("0.2.0")
    made = settle(folder)
    assert made is not None and made.is_file()
    note = read_note(folder)
    assert note is not None and note.backups == (data_version.BackupNote(made.name, None),)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b"[" * 9000, b"\xff", b'{"version": 2}', b'{"version": "0.9", "backups": 7}',
     b'{"version": "../..", "backups": []}', b'{"version": "0.1.0", "backups": [7]}'],
)  # fmt: skip
def test_a_note_that_cannot_be_understood_stops_nothing(
    folder: DataFolder, become: Become, content: bytes
) -> None:
    become("0.2.0")
    folder.version_note.write_bytes(content)
    assert settle(folder) is not None, "who used it is not known: so it is backed up"
    note = read_note(folder)
    assert note is not None and note.version == "0.2.0"


def test_the_last_two_are_kept_and_nothing_else_is_touched(folder: DataFolder, become: Become) -> None:
    folder.backups.mkdir()
    own = folder.backups / "mine.seamount"
    own.write_bytes(b"a person's")
    for name in ("0.1.0", "0.2.0", "0.3.0", "0.4.0rc1"):
        become(name)
        settle(folder)
    assert {path.name for path in backups(folder)} == {"before-0.3.0.seamount", "before-0.4.0rc1.seamount"}
    assert own.read_bytes() == b"a person's"


def test_an_older_version_refuses_and_names_both_and_the_backup(folder: DataFolder, become: Become) -> None:
    become("0.1.0")
    settle(folder)
    become("0.2.0")
    settle(folder)
    become("0.3.0")
    settle(folder)
    before = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    become("0.1.0")
    for refuse in (refuse_newer, settle, Engine.open, lambda each: titles(each)):
        with pytest.raises(NewerData) as refused:
            refuse(folder)
        assert "Seamount 0.1.0" in refused.value.text and "Seamount 0.3.0" in refused.value.text
        assert "(backups/before-0.2.0.seamount) with `seamount restore --previous`" in refused.value.text
    assert isinstance(refused.value, StoreVersionError)
    after = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.name != "engine.lock"} == before


def test_without_that_backup_the_sentence_does_not_promise_it(folder: DataFolder, become: Become) -> None:
    become("0.2.0")
    made = settle(folder)
    assert made is not None
    made.unlink()
    become("0.1.0")
    with pytest.raises(NewerData) as refused:
        settle(folder)
    assert "seamount restore" not in refused.value.text and "--data" in refused.value.text


def test_the_way_back_to_the_previous_version_and_forth_again(folder: DataFolder, become: Become) -> None:
    """The older version puts its data back; what the newer one wrote stays aside and can be had again."""
    become("0.1.0")
    settle(folder)
    first = titles(folder)
    become("0.2.0")
    made = settle(folder)
    assert made is not None
    folder.settings.write_text("format = 2\nbrand_new = true\n")
    become("0.1.0")
    prepared = restore.prepare(folder.root, made, Progress())
    restore.finish(folder.root)
    assert settle(folder) is None and titles(folder) == first
    assert "brand_new" not in folder.settings.read_text()
    assert (prepared.aside / "settings.toml").read_text() == "format = 2\nbrand_new = true\n"
    assert json.loads((prepared.aside / "version.json").read_text())["version"] == "0.2.0"
    become("0.2.0")
    again = settle(folder)
    assert again == made, "the newer backup has the place of the older one of that name"


def test_the_command_finds_the_backup_by_itself(
    folder: DataFolder, become: Become, capsys: pytest.CaptureFixture[str]
) -> None:
    become("0.1.0")
    settle(folder)
    assert restorable(folder) is None
    with pytest.raises(NotFound, match="no backup that was made before a newer"):
        restore_previous(folder)
    become("0.2.0")
    made = settle(folder)
    become("0.3.0")
    settle(folder)
    become("0.1.0")
    assert restorable(folder) == made
    assert restore_previous(folder) == 0
    assert "A backup was restored" in capsys.readouterr().out
    assert settle(folder) is None and restorable(folder) is None


def test_an_older_version_takes_no_backup_of_a_newer_one(folder: DataFolder, become: Become) -> None:
    become("0.2.0")
    settle(folder)
    made = backup_module.write_backup(
        folder.root, folder.root.parent / "b", with_states=False, progress=Progress()
    )
    assert made.files
    become("0.1.0")
    with pytest.raises(NewerData, match=r"Seamount 0\.2\.0's, and this is Seamount 0\.1\.0"):
        restore.prepare(folder.root, folder.root.parent / "b", Progress())
    assert not (folder.root / restore.NOTE).exists()


def test_settings_of_a_newer_form_are_refused_also_without_a_note(folder: DataFolder) -> None:
    folder.settings.write_text("format = 2\n")
    with pytest.raises(NewerData, match="format 2"):
        settle(folder)
    assert folder.settings.read_text() == "format = 2\n"


def test_a_backup_that_fails_is_said_and_changes_nothing(
    folder: DataFolder, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    become("0.2.0")

    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup_module, "copy_database", full)
    with pytest.raises(NotBackedUp) as failed:
        settle(folder)
    assert "disk" in failed.value.text and "--without-backup" in failed.value.text
    assert isinstance(failed.value, DataFolderError)
    assert read_note(folder) is None
    assert not folder.backups.exists() or not list(folder.backups.iterdir())
    assert settle(folder, without_backup=True) is None
    note = read_note(folder)
    assert note is not None and (note.version, note.backups) == ("0.2.0", ())


def test_a_kill_between_the_backup_and_the_note_makes_it_again(
    folder: DataFolder, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    become("0.2.0")

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(data_version, "_write_note", killed)
        with pytest.raises(KeyboardInterrupt):
            settle(folder)
    [first] = backups(folder)
    assert read_note(folder) is None
    assert settle(folder) == first
    assert [path.name for path in folder.backups.iterdir()] == [first.name], "and nothing half done is left"


def test_a_backup_that_is_cut_off_leaves_the_earlier_one_of_its_name(
    folder: DataFolder, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    become("0.2.0")
    made = settle(folder)
    assert made is not None
    before = made.read_bytes()
    become("0.1.0")
    folder.version_note.unlink()
    settle(folder)
    become("0.2.0")

    def killed(*_arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup_module, "copy_database", killed)
    with pytest.raises(KeyboardInterrupt):
        settle(folder)
    assert made.read_bytes() == before
    assert {path.name for path in folder.backups.iterdir()} == {made.name, "before-0.1.0.seamount"}


def test_a_store_of_an_older_form_is_copied_once(tmp_path: Path, become: Become) -> None:
    """The backup before the version's first start is enough: the migration makes no second one."""
    folder = DataFolder(tmp_path / "data")
    folder.create()
    connection = sqlite3.connect(folder.sessions_db, isolation_level=None)
    migrate(connection, folder.sessions_db, MIGRATIONS[:2])
    connection.close()
    become("0.2.0")
    engine = Engine.open(folder)
    try:
        notice = engine.housekeeping.notice
        assert notice is not None and "before-0.2.0.seamount" in notice
    finally:
        engine.store.close()
    assert not list(folder.root.glob("sessions.db.backup-*"))
    [made] = backups(folder)
    with BackupReader(made) as reader:
        assert reader.manifest.store_version == 2


def test_a_link_in_the_place_of_a_backup_is_not_followed(
    folder: DataFolder, become: Become, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    folder.backups.mkdir()
    (folder.backups / "before-0.2.0.seamount").symlink_to(elsewhere)
    (folder.backups / "before-0.1.0.seamount").symlink_to(elsewhere)
    become("0.2.0")
    made = settle(folder)
    assert made is not None and not made.is_symlink() and zipfile.is_zipfile(made)
    assert elsewhere.read_bytes() == b"precious"
