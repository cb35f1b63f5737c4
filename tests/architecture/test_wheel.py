"""The wheel: everything in one folder, so that no other package is overwritten, and it runs from there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_puts_everything_in_one_folder(unpacked: Path) -> None:
    top = {path.name for path in unpacked.iterdir()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"seamount"}
    inside = {path.name for path in (unpacked / "seamount").iterdir()}
    assert inside == {"__init__.py", "__main__.py", "app", "engine", "convert", "kernels", "assets"}
    assert not list(unpacked.rglob("test_*.py"))
    for folder in ("app", "engine", "convert", "kernels"):
        wanted = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py")}
        inside = unpacked / "seamount"
        assert {path.relative_to(inside) for path in (inside / folder).rglob("*.py")} == wanted


def test_the_program_runs_from_the_wheel_and_not_from_a_checkout(unpacked: Path, tmp_path: Path) -> None:
    program = (
        "import sys, seamount; sys.argv = ['seamount', '--version']; status = seamount.main(); "
        "import engine.cli; print(engine.cli.__file__); sys.exit(status or 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "SEAMOUNT_DATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    version, cli_file = done.stdout.splitlines()
    assert version.startswith("seamount ")
    assert Path(cli_file).is_relative_to(unpacked)
