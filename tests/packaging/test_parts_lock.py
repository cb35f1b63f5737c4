"""Writing the lock of the optional part: what pip finds in a folder here, and what of a wheel's wishes is unmet."""

import hashlib
import os
import tomllib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from engine.parts.part_lock import read_lock, this_platform, this_python
from tests.support.packaging_script import script
from tests.support.wheel_index import write_wheel

# pip's own, of what it brings along.
pytestmark = pytest.mark.filterwarnings("ignore:pkg_resources is deprecated:DeprecationWarning")


@pytest.fixture
def parts_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, on a choice and a lock of the test's own, with a pip that is told of one folder."""
    module = script("parts_lock")
    for name in [each for each in os.environ if each.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    for name, place in (("CHOSEN", "native.in"), ("LOCK", "parts/native.toml"), ("BASE", "run.txt")):
        monkeypatch.setattr(module, name, tmp_path / place)
    (tmp_path / "run.txt").write_text("numpy==2.4.6 \\\n    --hash=sha256:00\n")
    return module


def choose(tmp_path: Path, *packages: str, left_out: str = "[]") -> None:
    (tmp_path / "native.in").write_text(
        f'name = "native"\ntitle = "T"\npython = "{this_python()}"\nplatform = "{this_platform()}"\n'
        f'probe = "good"\nleft_out = {left_out}\n'
        f'[[variant]]\nname = "cpu"\ntitle = "for the processor"\npackages = {list(packages)}\n'.replace(
            "'", '"'
        )
    )


def test_what_is_found_is_written_as_the_program_reads_it(parts_lock: Any, tmp_path: Path) -> None:
    made = write_wheel(tmp_path / "wheels", "good", files={"good.py": bytes(5000)})
    choose(tmp_path, "good==1.0")
    assert parts_lock.main() == 0
    [wheel] = read_lock(tmp_path / "parts" / "native.toml").variant[0].wheel
    assert (wheel.file, wheel.size_bytes) == (made.name, made.stat().st_size)
    assert wheel.sha256 == hashlib.sha256(made.read_bytes()).hexdigest()
    assert 5000 < wheel.unpacked_bytes < 6000
    assert tomllib.loads((tmp_path / "parts" / "native.toml").read_text())["platform"] == this_platform()


def test_a_wheel_that_is_not_to_be_had(parts_lock: Any, tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels", "good")
    choose(tmp_path, "good==2.0")
    with pytest.raises(SystemExit, match=r"pip finds no wheel of good 2.0 for this Python and platform"):
        parts_lock.main()
    assert not (tmp_path / "parts").exists()


def test_what_a_wheel_asks_for_has_to_be_there(
    parts_lock: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = (
        b"Metadata-Version: 2.1\nName: good\nVersion: 1.0\nRequires-Dist: numpy>=3\nRequires-Dist: beside\n"
        b"Requires-Dist: builder\nRequires-Dist: more; extra == 'x'\nRequires-Dist: old; python_version < '3'\n"
    )
    wheel = write_wheel(tmp_path / "wheels", "good")

    with ZipFile(wheel, "w") as archive:
        archive.writestr("good-1.0.dist-info/METADATA", metadata)
        archive.writestr("good-1.0.dist-info/WHEEL", b"")
    choose(tmp_path, "good==1.0", left_out='["builder"]')
    assert parts_lock.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        "good needs numpy>=3, and 2.4.6 is chosen",
        "good needs beside, which is neither here nor in run.txt",
    ]
    assert not (tmp_path / "parts").exists()
