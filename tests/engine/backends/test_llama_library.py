"""The one door to llama.cpp: what lies beside it is loaded with it."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

library = pytest.importorskip("engine.backends.llama_library", reason="llama_cpp is not installed")


def test_the_version_is_that_of_the_package() -> None:
    assert version("llama-cpp-python") == library.VERSION


def test_with_the_door_come_devices_before_anything_is_asked_of_llama_cpp() -> None:
    program = (
        "import ctypes, engine.backends.llama_library\n"
        "from engine.backends.ggml_library import ggml_function\n"
        "print(ggml_function('ggml_backend_dev_count', ctypes.c_size_t)())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert int(done.stdout) >= 1
