"""Into the trash and out of the way; in processes of their own, because a trash belongs to a home."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import LibraryError
from engine.library import trash

ROOT = Path(__file__).resolve().parents[3]
TO_TRASH = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from engine.errors import LibraryError
from engine.library.trash import to_trash
try:
    to_trash(Path(sys.argv[2]))
    print("gone")
except LibraryError as error:
    print(error.text)
"""


def to_trash(path: Path, home: Path) -> str:
    """What comes of it for a person with that home."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XDG_DATA_HOME",)}
    done = subprocess.run(
        [sys.executable, "-c", TO_TRASH, str(ROOT), str(path)],
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="where the trash lies is looked at as on Linux")
def test_files_folders_and_links_lie_in_the_trash(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = tmp_path / "kept.gguf"
    kept.write_bytes(b"stays")
    for name in ("modèle.gguf", "folder", "link.gguf"):
        path = tmp_path / name
        if name == "folder":
            path.mkdir()
            (path / "x").write_bytes(b"1")
        elif name == "link.gguf":
            path.symlink_to(kept)
        else:
            path.write_bytes(b"2")
        assert to_trash(path, home) == "gone"
        assert not os.path.lexists(path)
    lying = home / ".local" / "share" / "Trash" / "files"
    assert {each.name for each in lying.iterdir()} == {"modèle.gguf", "folder", "link.gguf"}
    assert (lying / "folder" / "x").read_bytes() == b"1"
    assert (lying / "link.gguf").is_symlink()
    assert kept.read_bytes() == b"stays"


@pytest.mark.skipif(sys.platform != "linux", reason="where the trash lies is looked at as on Linux")
def test_where_there_is_no_trash_it_stays_and_that_is_said(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".local" / "share").mkdir(parents=True)
    (home / ".local" / "share" / "Trash").write_text("in the way")
    path = tmp_path / "m.gguf"
    path.write_bytes(b"2")
    said = to_trash(path, home)
    assert "no trash that you may use" in said
    assert "delete it for good" in said
    assert path.read_bytes() == b"2"


def test_for_good(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x").write_bytes(b"1")
    outside.mkdir()
    (outside / "kept").write_bytes(b"1")
    if sys.platform != "win32":
        (folder / "link").symlink_to(outside)
        (tmp_path / "link").symlink_to(outside)
        trash.delete(tmp_path / "link")
        assert not os.path.lexists(tmp_path / "link")
    trash.delete(folder)
    assert not folder.exists()
    assert (outside / "kept").exists()
    file = tmp_path / "file"
    file.write_bytes(b"")
    trash.delete(file)
    trash.delete(file)
    assert not file.exists()


def test_what_cannot_be_deleted_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(LibraryError, match="Permission denied"):
        trash.delete(file)
