"""The bundle's way in: it stands for Python where it is asked to, and gives other programs their environment back."""

import subprocess
import sys
from pathlib import Path

from tests.support.packaging_script import PACKAGING, script

ENTRY = PACKAGING / "bundle" / "entry.py"


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, str(ENTRY), *arguments], capture_output=True, text=True, cwd=cwd)


def test_a_program_of_one_string_runs_as_python_would_run_it(tmp_path: Path) -> None:
    code = "import sys\ndef name(): return __name__\nprint(sys.argv, name())"
    ours = run("-c", code, "a", "-b", cwd=tmp_path)
    pythons = subprocess.run(
        [sys.executable, "-c", code, "a", "-b"], capture_output=True, text=True, check=True
    )
    assert (ours.stdout, ours.returncode) == (pythons.stdout, 0), ours.stderr


def test_its_exit_status_is_the_programs(tmp_path: Path) -> None:
    assert run("-c", "import sys; sys.exit(7)", cwd=tmp_path).returncode == 7
    broken = run("-c", "1 / 0", cwd=tmp_path)
    assert broken.returncode == 1
    assert "ZeroDivisionError" in broken.stderr


def test_anything_else_is_a_command_of_seamounts(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert done.stdout.startswith("seamount "), done.stderr
    # `-c` alone names no program.
    assert run("-c", cwd=tmp_path).returncode == 2


def test_search_paths_are_what_they_were_before_the_bundle_started() -> None:
    give_back = script("bundle/entry").give_back_environment
    ours = {"LD_LIBRARY_PATH": "/bundle", "QT_PLUGIN_PATH": "/bundle/plugins", "HOME": "/home/a"}
    give_back(ours)
    assert "LD_LIBRARY_PATH" not in ours
    assert "QT_PLUGIN_PATH" not in ours
    assert ours["HOME"] == "/home/a"
    theirs = {"LD_LIBRARY_PATH": "/bundle:/cuda", "LD_LIBRARY_PATH_ORIG": "/cuda"}
    give_back(theirs)
    assert theirs["LD_LIBRARY_PATH"] == "/cuda"
    assert "LD_LIBRARY_PATH_ORIG" not in theirs
