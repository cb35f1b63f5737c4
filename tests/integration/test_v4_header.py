"""A few changed V4 headers: none that the library takes for a model kills the process that loads it."""

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork, which makes it quick"),
]


def test_changed_headers_are_refused_or_harmless() -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    program = [sys.executable, "-m", "tests.integration.v4_header_fuzz", "--cases", "60", "--seed", "4"]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 cases of seed 4" in done.stdout
    assert " ran" in done.stdout


def test_the_fuzz_sees_a_killed_process() -> None:
    """With `--all`, what the library refuses is loaded too: some of it has to kill, or the fuzz sees nothing."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    program = [
        sys.executable,
        "-m",
        "tests.integration.v4_header_fuzz",
        "--cases",
        "40",
        "--seed",
        "1",
        "--all",
    ]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "would have killed" in done.stdout
    assert "; 0 of the refused" not in done.stdout
