"""The portable folder's menu entry: added and removed, from folders of any name."""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.packaging_script import PACKAGING

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="menus of Linux")
LINUX = PACKAGING / "linux"
# What a shell, an Exec line and a desktop file each take for their own.
NAMES = ["Seamount", "My programs & tools/Être là (海山)", "a $HOME `b` \"c\" 100% d\\e 'f'"]


@pytest.fixture(params=NAMES)
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A portable folder: what the script looks for in it, and a program that writes what it was called with."""
    made = tmp_path / "programs" / str(request.param)
    (made / "share" / "applications").mkdir(parents=True)
    (made / "share" / "mime" / "packages").mkdir(parents=True)
    (made / "share" / "icons" / "hicolor" / "16x16" / "apps").mkdir(parents=True)
    shutil.copy(LINUX / "menu-entry.sh", made)
    shutil.copy(LINUX / "seamount.desktop", made / "share" / "applications")
    shutil.copy(LINUX / "seamount-mime.xml", made / "share" / "mime" / "packages" / "seamount.xml")
    (made / "share" / "icons" / "hicolor" / "16x16" / "apps" / "seamount.png").write_text("a picture")
    (made / "seamount").write_text('#!/bin/sh\nprintf "%s" "$1" >"$HOME/called with"\n')
    (made / "seamount").chmod(0o755)
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of a person who has nothing."""
    made = tmp_path / "home of one"
    made.mkdir()
    return made


def menu(folder: Path, home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    command = ["sh", str(folder / "menu-entry.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_entry_starts_the_program_in_its_folder(folder: Path, home: Path) -> None:
    done = menu(folder, home, "add")
    assert done.returncode == 0, done.stderr
    entry = home / ".local/share/applications/seamount.desktop"
    found = configparser.RawConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[method-assign,assignment]
    found.read(entry, encoding="utf-8")
    line = found["Desktop Entry"]["Exec"]
    assert line.endswith('" %U')
    # As the specification reads it: the value's escapes, then the argument's, then field codes.
    quoted = line.removesuffix(" %U").replace("\\\\", "\\")[1:-1]
    program = ""
    characters = iter(quoted)
    for each in characters:
        program += next(characters) if each == "\\" else each
    assert program.replace("%%", "%") == str(folder / "seamount")
    if shutil.which("desktop-file-validate"):
        checked = subprocess.run(["desktop-file-validate", str(entry)], capture_output=True, text=True)
        assert (checked.returncode, checked.stdout) == (0, "")


def test_removing_leaves_what_was_there(folder: Path, home: Path) -> None:
    kept = home / ".local/share/applications/other.desktop"
    kept.parent.mkdir(parents=True)
    kept.write_text("[Desktop Entry]\n")
    assert menu(folder, home, "add").returncode == 0
    assert menu(folder, home, "add").returncode == 0  # again, as after moving the folder
    assert menu(folder, home, "remove").returncode == 0
    ours = [path for path in home.rglob("*seamount*") if path.is_file()]
    assert ours == []
    assert kept.exists()
    again = menu(folder, home, "remove")
    assert again.returncode == 1
    assert "no entry" in again.stderr


def test_an_entry_of_somebody_else_stays(folder: Path, home: Path) -> None:
    entry = home / ".local/share/applications/seamount.desktop"
    entry.parent.mkdir(parents=True)
    entry.write_text("[Desktop Entry]\nName=Mine\n")
    for what in ("add", "remove"):
        assert menu(folder, home, what).returncode == 1
    assert entry.read_text() == "[Desktop Entry]\nName=Mine\n"


def test_without_a_word_it_says_what_it_does(folder: Path, home: Path) -> None:
    done = menu(folder, home)
    assert done.returncode == 2
    assert "menu-entry.sh remove" in done.stdout
