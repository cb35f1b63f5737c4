"""The command lines by which the program starts itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine import own_program


def test_a_small_program_gets_its_arguments() -> None:
    command = own_program.code_command("import sys; print(sys.argv[1:])", "a b", "-c")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['a b', '-c']"


def test_the_commands_are_those_of_this_program() -> None:
    done = subprocess.run(own_program.command("--version"), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("seamount ")


def test_a_bundle_has_no_interpreter_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/seamount/seamount")
    assert own_program.command("serve") == ["/opt/seamount/seamount", "serve"]
    assert own_program.code_command("pass", "x") == ["/opt/seamount/seamount", "-c", "pass", "x"]


@pytest.mark.parametrize("started", ["seamount.exe", "seamount-cli.exe"])
def test_on_windows_what_is_started_is_the_program_that_can_be_heard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, started: str
) -> None:
    for name in ("seamount.exe", "seamount-cli.exe"):
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "executable", str(tmp_path / started))
    heard = str(tmp_path / "seamount-cli.exe")
    assert own_program.command("serve") == [heard, "serve"]
    assert own_program.code_command("pass", "x") == [heard, "-c", "pass", "x"]


@pytest.mark.parametrize(
    ("status", "errors", "said"),
    [
        (1, "a line\nModuleNotFoundError: No module\n", "ModuleNotFoundError: No module"),
        (3, " \n", "it ended with status 3"),
        (-9999, "ignored", "it crashed (signal 9999)"),
    ],
)
def test_what_became_of_a_program(status: int, errors: str, said: str) -> None:
    assert own_program.ending(status, errors) == said


@pytest.mark.skipif(sys.platform == "win32", reason="a process has no signals")
def test_a_crash_is_told_by_its_signal() -> None:
    assert own_program.ending(-11, "") == "it crashed (SIGSEGV)"
