"""The manual page says every command that the program has, in a form that `man` takes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.packaging_script import script


@pytest.fixture(scope="module")
def page() -> str:
    return str(script("linux/man_page").page("1.2.3", 86400))


def test_every_command_and_its_options_are_there(page: str) -> None:
    for heading in (".SS serve", ".SS chat", ".SS doctor", ".SS get", ".SS sessions"):
        assert f"\n{heading}\n" in page
    assert ".B \\-\\-prompt PROMPT" in page
    assert ".B \\-\\-data FOLDER" in page
    assert "\n.SS work\n" not in page  # the program's own
    assert page.startswith('.TH SEAMOUNT 1 "1970-01-02" "seamount 1.2.3"')


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is missing (Debian: groff-base)")
def test_it_is_set_without_a_warning(page: str, tmp_path: Path) -> None:
    path = tmp_path / "seamount.1"
    path.write_text(page, encoding="utf-8")
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-K", "utf8", str(path)], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert "Talk in this terminal." in done.stdout
