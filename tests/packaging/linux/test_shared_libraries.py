"""What programs of Linux ask of the system, read from the files."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.packaging_script import script

shared_libraries = script("linux/shared_libraries")

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not shutil.which("objdump"),
    reason="objdump is missing (Debian: binutils)",
)


def test_a_program_names_its_libraries_and_their_versions() -> None:
    python = Path(sys.executable).resolve()
    facts = shared_libraries.facts([python, python])[python]
    assert "libc.so.6" in facts.needed
    assert any(each.startswith("GLIBC_2.") for each in facts.versions)
    assert shared_libraries.facts([]) == {}


def test_what_is_in_the_folder_is_not_asked_of_the_system(tmp_path: Path) -> None:
    shutil.copyfile(Path(sys.executable).resolve(), tmp_path / "program")
    (tmp_path / "link").symlink_to("program")
    (tmp_path / "notes.txt").write_text("not a library")
    outside = shared_libraries.outside(tmp_path)
    assert outside["libc.so.6"] == [tmp_path / "program"]
    (tmp_path / "libc.so.6").touch()
    assert "libc.so.6" not in shared_libraries.outside(tmp_path)


def test_a_torn_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "libtorn.so").write_bytes(b"\x7fELF and no more")
    with pytest.raises(shared_libraries.LibraryError, match=r"cannot read .*libtorn\.so"):
        shared_libraries.outside(tmp_path)
