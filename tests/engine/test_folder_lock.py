"""One process at a time changes what is in a data folder."""

from pathlib import Path

import pytest
from filelock import FileLock

from engine import folder_lock
from engine.errors import DataFolderError, EngineRunning
from engine.folder_lock import locked
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
