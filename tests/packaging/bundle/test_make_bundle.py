"""Making the bundle: when anew, and what is done to its files. The bundle itself: tests/packaging/test_bundle.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.packaging_script import script

make_bundle = script("bundle/make_bundle")


def test_it_is_made_anew_when_an_input_changes(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "a.py").write_text("1")
    monkeypatch.setattr(make_bundle, "ROOT", tmp_path)
    monkeypatch.setattr(make_bundle, "_INPUTS", ("app",))
    monkeypatch.setattr(make_bundle, "_FILES", ())
    first = make_bundle.inputs_digest(tmp_path)
    (tmp_path / "app" / "__pycache__").mkdir()
    (tmp_path / "app" / "__pycache__" / "a.pyc").write_text("2")
    assert make_bundle.inputs_digest(tmp_path) == first
    (tmp_path / "app" / "a.py").write_text("2")
    second = make_bundle.inputs_digest(tmp_path)
    (tmp_path / "app" / "a.py").rename(tmp_path / "app" / "b.py")
    assert len({first, second, make_bundle.inputs_digest(tmp_path)}) == 3
    assert make_bundle.inputs_digest(tmp_path / "another build of llama.cpp") != make_bundle.inputs_digest(
        tmp_path
    )


def test_libraries_that_are_named_must_be_there(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SEAMOUNT_LLAMA_LIBRARIES", str(tmp_path))
    assert make_bundle.llama_libraries() == tmp_path.resolve()
    monkeypatch.setenv("SEAMOUNT_LLAMA_LIBRARIES", str(tmp_path / "gone"))
    with pytest.raises(make_bundle.BundleError, match="which is no folder"):
        make_bundle.llama_libraries()


def test_a_release_is_dated_by_its_commit(monkeypatch: Any) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert make_bundle.source_date() == "86400"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert int(make_bundle.source_date()) > 1_700_000_000


@pytest.mark.skipif(os.name == "nt", reason="links are not to be had everywhere on Windows")
def test_equal_files_become_links_to_the_shortest_name(tmp_path: Path) -> None:
    for name, text in (("libg.so.0.25", "g"), ("libg.so", "g"), ("libg.so.0", "g"), ("libx.so", "x")):
        (tmp_path / name).write_text(text)
    make_bundle.link_doubled(tmp_path)
    assert {path.name: str(path.readlink()) for path in tmp_path.iterdir() if path.is_symlink()} == {
        "libg.so.0": "libg.so",
        "libg.so.0.25": "libg.so",
    }
    assert (tmp_path / "libx.so").read_text() == "x"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux are libraries stripped")
@pytest.mark.skipif(
    not shutil.which("cc") or not shutil.which("strip"), reason="no C compiler (build-essential)"
)
def test_symbols_for_debugging_go_and_only_the_program_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int a(void) { return 1; }")
    for place in ("libs", "numpy.libs"):
        (tmp_path / place).mkdir()
        command = ["cc", "-g", "-shared", "-o", str(tmp_path / place / "liba.so"), str(tmp_path / "a.c")]
        subprocess.run(command, check=True)
    (tmp_path / "libs" / "not.so").write_text("no library")
    (tmp_path / "seamount").write_text("the program")
    make_bundle.strip(tmp_path)
    make_bundle.set_modes(tmp_path)
    assert b".debug_info" not in (tmp_path / "libs" / "liba.so").read_bytes()
    assert b".debug_info" in (tmp_path / "numpy.libs" / "liba.so").read_bytes()
    runnable = [path.name for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_mode & 0o111]
    assert runnable == ["seamount"]
