"""Where things lie, and what is said when nothing can be written there."""

import errno
import os
from pathlib import Path

import platformdirs
import pytest

from engine.errors import DataFolderError
from engine.paths import DATA_VARIABLE, DataFolder, data_folder


def test_a_name_beats_the_variable_and_the_variable_beats_the_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "from variable"))
    assert data_folder(tmp_path / "named").root == tmp_path / "named"
    assert data_folder().root == tmp_path / "from variable"
    assert data_folder("").root == tmp_path / "from variable"
    monkeypatch.setenv(DATA_VARIABLE, "")
    assert data_folder().root == Path(platformdirs.user_data_dir("seamount", appauthor=False))
    assert not (tmp_path / "named").exists()


def test_the_folder_is_absolute_and_the_home_is_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_folder("here").root == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert data_folder("~/there").root == tmp_path / "there"


@pytest.mark.skipif(os.name == "nt", reason="Windows guesses a home for any name")
def test_nobodys_home_is_refused() -> None:
    with pytest.raises(DataFolderError, match="home"):
        data_folder("~nobody-of-that-name/x")


def test_everything_lies_inside(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    names = [name for name, kind in vars(DataFolder).items() if isinstance(kind, property)]
    places = [getattr(folder, name) for name in names]
    assert len(set(places)) == len(places) > 10
    assert all(place.is_relative_to(tmp_path) and place != tmp_path for place in places)


def test_creating_makes_the_folders_and_leaves_no_probe(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "deep" / "data")
    folder.create()
    folder.create()
    assert {each.name for each in folder.root.iterdir()} == {"models", "logs"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_new_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    assert folder.root.stat().st_mode & 0o077 == 0
    shared = DataFolder(tmp_path / "shared")
    shared.root.mkdir(mode=0o755)
    shared.create()
    assert shared.root.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataFolderError) as caught:
            DataFolder(root).create()
        assert str(root) in caught.value.text and DATA_VARIABLE in caught.value.text

    for number, code in ((errno.EROFS, "data_folder"), (errno.ENOSPC, "disk_full")):

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "write_bytes", refuse)
        with pytest.raises(DataFolderError) as caught:
            DataFolder(tmp_path).create()
        assert caught.value.code == code and str(tmp_path) in caught.value.text
