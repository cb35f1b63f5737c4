"""The Debian packages, made of a bundle that is small and of the real files around it."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.packaging_script import PACKAGING, script

make_deb = script("linux/make_deb")
TOOLS = ("dpkg-deb", "objdump", "xz")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="packages of Linux"),
    pytest.mark.skipif(
        not all(map(shutil.which, TOOLS)),
        reason=f"one of {', '.join(TOOLS)} is missing (a Debian system has them)",
    ),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a bundle's shape: a program that is linked with the C library, and the licences' index."""
    folder = tmp_path_factory.mktemp("of a bundle") / "seamount"
    (folder / "_internal" / "licences").mkdir(parents=True)
    shutil.copyfile("/bin/true", folder / "seamount")
    (folder / "seamount").chmod(0o755)
    index = [{"name": "a", "version": "1", "licence": "MIT", "file": "a.txt"}]
    (folder / "_internal" / "licences" / "index.json").write_text(json.dumps(index))
    (folder / "_internal" / "libx.so.1").write_text("x")
    (folder / "_internal" / "libx.so").symlink_to("libx.so.1")
    return folder


@pytest.fixture(scope="module")
def package(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program's package of that bundle."""
    return Path(make_program(bundle, tmp_path_factory.mktemp("first")))


def make_program(bundle: Path, folder: Path) -> Path:
    make_deb.STAGE = folder / "stage"
    return Path(make_deb._program(bundle, folder, 86400))


def field(package: Path, name: str) -> str:
    done = subprocess.run(
        ["dpkg-deb", "--field", str(package), name], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def unpacked(package: Path, folder: Path) -> Path:
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(folder)], check=True)
    return folder


def test_everything_lies_where_a_desktop_looks(package: Path, tmp_path: Path) -> None:
    root = unpacked(package, tmp_path / "root")
    assert (root / "usr/bin/seamount").readlink() == Path("../lib/seamount/seamount")
    assert os.access(root / "usr/lib/seamount/seamount", os.X_OK)
    assert (root / "usr/lib/seamount/_internal/libx.so").is_symlink()
    share = root / "usr/share"
    for place in ("applications/seamount.desktop", "mime/packages/seamount.xml", "doc/seamount/copyright"):
        assert (share / place).is_file()
    assert (share / "icons/hicolor/512x512/apps/seamount.png").is_file()
    assert b".TH SEAMOUNT 1" in gzip.decompress((share / "man/man1/seamount.1.gz").read_bytes())
    described = (share / "metainfo/invalid.seamount.seamount.metainfo.xml").read_text("utf-8")
    assert f'version="{make_deb.version()}" date="1970-01-02"' in described
    assert "a 1: MIT" in (share / "doc/seamount/copyright").read_text("utf-8")


def test_it_has_no_script_that_runs_as_root(package: Path, tmp_path: Path) -> None:
    root = unpacked(package, tmp_path / "root")
    assert sorted(path.name for path in (root / "DEBIAN").iterdir()) == ["control", "md5sums"]


def test_what_it_needs_is_what_it_is_linked_with(package: Path) -> None:
    assert field(package, "Depends") == "libc6 (>= 2.35)"
    assert "seamount-starter" in field(package, "Recommends")
    assert field(package, "Version") == make_deb.version()


def test_the_same_inputs_are_the_same_bytes(bundle: Path, package: Path, tmp_path: Path) -> None:
    assert make_program(bundle, tmp_path).read_bytes() == package.read_bytes()


def test_its_sums_are_of_every_file(package: Path, tmp_path: Path) -> None:
    root = unpacked(package, tmp_path / "root")
    done = subprocess.run(
        ["md5sum", "--check", "--quiet", "DEBIAN/md5sums"], cwd=root, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
    listed = len((root / "DEBIAN/md5sums").read_text().splitlines())
    files = [path for path in (root / "usr").rglob("*") if path.is_file() and not path.is_symlink()]
    assert listed == len(files)


@pytest.mark.skipif(not shutil.which("desktop-file-validate"), reason="desktop-file-validate is missing")
def test_the_menu_entry_is_valid() -> None:
    path = PACKAGING / "linux" / "seamount.desktop"
    done = subprocess.run(["desktop-file-validate", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(not shutil.which("appstreamcli"), reason="appstreamcli is missing (Debian: appstream)")
def test_the_description_is_valid(tmp_path: Path) -> None:
    text = (PACKAGING / "linux" / "seamount.metainfo.xml").read_text("utf-8")
    path = tmp_path / "invalid.seamount.seamount.metainfo.xml"
    path.write_text(text.replace("@VERSION@", "1.0").replace("@DATE@", "2026-01-01"), "utf-8")
    done = subprocess.run(["appstreamcli", "validate", "--no-net", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_starter_lies_where_the_program_looks(tmp_path: Path, monkeypatch: Any) -> None:
    model = tmp_path / "small.gguf"
    model.write_bytes(b"GGUF and more")
    from importlib import metadata

    monkeypatch.setattr(make_deb, "starter_file", lambda: (model, metadata.distribution("seamount")))
    monkeypatch.setattr(make_deb, "STAGE", tmp_path / "stage")
    root = unpacked(make_deb._starter(tmp_path, 86400), tmp_path / "root")
    assert (root / "usr/share/seamount/starter/small.gguf").read_bytes() == b"GGUF and more"
    assert "Apache-2.0" in (root / "usr/share/doc/seamount-starter/copyright").read_text("utf-8")
