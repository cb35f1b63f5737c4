"""Fault points do nothing unless told to, and then exactly what was told."""

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import fault_points

ROOT = Path(__file__).resolve().parents[2]


def passed(spec: str | None, program: str) -> subprocess.CompletedProcess[str]:
    """Run `program` in a fresh interpreter with SEAMOUNT_FAULT=spec."""
    environment = {k: v for k, v in os.environ.items() if k != "SEAMOUNT_FAULT"}
    if spec is not None:
        environment["SEAMOUNT_FAULT"] = spec
    return subprocess.run(
        [sys.executable, "-c", f"from engine.fault_points import at\n{program}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


THREE = "for n in (1, 2, 3):\n    at('relay-saved'); at('recovery')\n    print(n, flush=True)"


def test_unset_it_does_nothing() -> None:
    assert passed(None, THREE).stdout.split() == ["1", "2", "3"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_the_process_dies_at_the_pass_that_was_named() -> None:
    done = passed("relay-saved:3", THREE)
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["1", "2"])


def test_the_disk_is_full_once_at_the_pass_that_was_named() -> None:
    program = (
        "for n in (1, 2, 3):\n"
        "    try:\n        at('relay-saved'); print('passed')\n"
        "    except OSError as e:\n        print(e.errno)"
    )
    assert passed("relay-saved:2:enospc", program).stdout.split() == ["passed", str(errno.ENOSPC), "passed"]


@pytest.mark.parametrize(
    "spec", ["", "nowhere:1", "recovery", "recovery:0", "recovery:x", "recovery:1:later"]
)
def test_what_names_no_fault_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="SEAMOUNT_FAULT"):
        fault_points.parsed(spec)


def test_a_wrong_name_in_the_environment_does_not_pass_silently() -> None:
    assert "ValueError: SEAMOUNT_FAULT='nowhere:1'" in passed("nowhere:1", "at('recovery')").stderr


def placed() -> set[str]:
    """The names that the engine passes to `fault_points.at`."""
    names: set[str] = set()
    for module in (ROOT / "engine").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("fault_points.at", "at"):
                (argument,) = node.args
                names.add(ast.literal_eval(argument))
    return names


def test_every_point_that_is_placed_has_a_name_here_and_every_name_a_place() -> None:
    assert placed() == set(fault_points.NAMES)
