"""One process at a time changes what is in a data folder."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from engine import folder_lock
from engine.errors import DataFolderError, EngineRunning
from engine.folder_lock import LongWork, locked, noted, noted_work
from engine.paths import DataFolder


def test_it_is_held_meanwhile_and_free_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "TIMEOUT_S", 0)
    folder = DataFolder(tmp_path)
    with (
        locked(folder, "It was not done", "try later"),
        pytest.raises(EngineRunning, match=r"It was not done: .*; try later\."),
        locked(folder, "It was not done", "try later"),
    ):
        pass
    other = FileLock(folder.engine_lock, timeout=0)
    with other:
        pass


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DataFolderError, match="cannot be locked"),
        locked(DataFolder(tmp_path / "file"), "It was not done", "try later"),
    ):
        pass


def test_who_waits_is_told_what_takes_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "TIMEOUT_S", 0)
    folder = DataFolder(tmp_path)
    with locked(folder, "It was not done", "try later"), noted(folder, "the conversations are being checked"):
        assert noted_work(folder) == LongWork("the conversations are being checked", os.getpid())
        with (
            pytest.raises(
                EngineRunning, match=r"done: the conversations are being checked, in .*; try again when"
            ),
            locked(folder, "It was not done", "try later"),
        ):
            pass
    assert noted_work(folder) is None
    assert not folder.long_work.exists()


@pytest.mark.parametrize(
    "note", [b"", b"[", b"[]", b"{}", b'{"words": "", "pid": 1}', b'{"words": "x", "pid": -1}', b"[" * 1999]
)
def test_a_note_that_cannot_be_read_says_nothing(tmp_path: Path, note: bytes) -> None:
    folder = DataFolder(tmp_path)
    folder.long_work.write_bytes(note)
    assert noted_work(folder) is None


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    with noted(DataFolder(tmp_path / "not there"), "something is being done"):
        pass
