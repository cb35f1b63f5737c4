"""What lies in the folder at the start: temporaries go, damaged files are set aside, strangers are counted."""

import os
from pathlib import Path

import pytest

from engine.store.sealing import Cipher, Ciphers, MasterKey
from engine.store.snapshot_file import write_snapshot
from engine.store.snapshot_folder import DAMAGED_KEPT, SnapshotFolder, size_of
from tests.support.context_states import ABOUT, files_in, state_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def written(path: Path, name: str, cipher: Cipher | None = None) -> Path:
    path.mkdir(exist_ok=True)
    file = path / f"{name}.kv"
    write_snapshot(file, state_of(range(50), size=200), None, ABOUT, cipher=cipher)
    return file


def ids(folder: SnapshotFolder) -> list[str]:
    return [entry.id for entry in folder.look_through()]


def test_a_folder_that_is_not_there_holds_nothing(path: Path) -> None:
    assert ids(SnapshotFolder(path, None)) == []
    assert not path.exists()


def test_a_file_in_its_place_stops_nothing(path: Path) -> None:
    path.write_bytes(b"")
    folder = SnapshotFolder(path, None)
    assert (ids(folder), folder.damaged(), folder.stranger_bytes) == ([], [], 0)


def test_whole_snapshots_are_found_with_size_and_age(path: Path) -> None:
    file = written(path, "a")
    os.utime(file, (1000, 1000))
    (entry,) = SnapshotFolder(path, None).look_through()
    assert (entry.path, entry.size_bytes, entry.used_at_s) == (file, file.stat().st_size, 1000)


def test_temporaries_of_a_dead_engine_are_deleted_and_other_things_left(path: Path) -> None:
    written(path, "a")
    (path / ".1234.part").write_bytes(b"half")
    (path / "readme.txt").write_bytes(b"a person's")
    (path / "folder.kv").mkdir()
    if hasattr(os, "symlink"):
        (path / "link.kv").symlink_to(path / "a.kv")
    assert ids(SnapshotFolder(path, None)) == ["a"]
    assert "readme.txt" in files_in(path)
    assert ".1234.part" not in files_in(path)
    assert (path / "folder.kv").is_dir()


def test_what_is_damaged_is_set_aside_and_only_the_newest_are_kept(path: Path) -> None:
    folder = SnapshotFolder(path, None)
    for number in range(DAMAGED_KEPT + 2):
        file = written(path, f"s{number}")
        file.write_bytes(file.read_bytes()[:-1])
        assert ids(folder) == []
        os.utime(path / "damaged" / file.name, (number, number))
    assert files_in(path) == []
    assert [each.name for each in folder.damaged()] == ["s2.kv", "s3.kv", "s4.kv"]
    assert folder.drop_damaged() > 0
    assert (folder.damaged(), folder.drop_damaged()) == ([], 0)


def test_sealed_files_without_the_key_are_strangers(path: Path) -> None:
    file = written(path, "a", Ciphers.of(MasterKey.new()).snapshots)
    folder = SnapshotFolder(path, None)
    assert ids(folder) == []
    assert folder.stranger_bytes == file.stat().st_size
    assert file.exists()
    assert folder.drop_strangers() > 0
    assert not file.exists()


def test_where_everything_is_sealed_nothing_plain_is_left(path: Path) -> None:
    cipher = Ciphers.of(MasterKey.new()).snapshots
    plain, broken = written(path, "plain"), written(path, "broken")
    broken.write_bytes(b"plain text of a conversation")
    written(path, "sealed", cipher)
    assert ids(SnapshotFolder(path, cipher)) == ["sealed"]
    assert not plain.exists()
    assert files_in(path / "damaged") == []


def test_a_file_that_is_gone_has_no_size(path: Path) -> None:
    assert size_of(path / "nothing") == 0
    SnapshotFolder(path, None).delete(path / "nothing")
