"""The portable archive: the bundle in one folder, the same bytes each time."""

import shutil
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.support.packaging_script import script

make_portable = script("linux/make_portable")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="archives for Linux"),
    pytest.mark.skipif(not shutil.which("xz"), reason="xz is missing (Debian: xz-utils)"),
]


def test_it_unpacks_into_one_folder_that_runs(tmp_path: Path, monkeypatch: Any) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "_internal" / "deep").mkdir(parents=True)
    shutil.copyfile("/bin/true", bundle / "seamount")
    (bundle / "_internal" / "deep" / "seamount").write_text("data of that name")
    (bundle / "_internal" / "link").symlink_to("deep/seamount")
    model = tmp_path / "small.gguf"
    model.write_bytes(b"GGUF")
    monkeypatch.setattr(make_portable, "starter_file", lambda: (model, metadata.distribution("seamount")))
    monkeypatch.setattr(make_portable, "STAGE", tmp_path / "stage")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    program, starter = make_portable.make(bundle, tmp_path / "first")
    again, _ = make_portable.make(bundle, tmp_path / "second")
    assert program.read_bytes() == again.read_bytes()

    place = tmp_path / "in a folder (海山)"
    place.mkdir()
    for each in (program, starter):
        with tarfile.open(each) as archive:
            assert {member.mtime for member in archive} == {86400}
            archive.extractall(place, filter="data")
    (folder,) = place.iterdir()
    assert subprocess.run([str(folder / "seamount")]).returncode == 0
    assert (folder / "_internal" / "link").read_text() == "data of that name"
    assert (folder / "starter" / "small.gguf").read_bytes() == b"GGUF"
    assert (folder / "share" / "icons" / "hicolor" / "16x16" / "apps" / "seamount.png").is_file()
    runnable = {path.name for path in folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o111}
    assert runnable == {"seamount", "menu-entry.sh"}
    assert (folder / "_internal" / "deep" / "seamount").stat().st_mode & 0o111 == 0
