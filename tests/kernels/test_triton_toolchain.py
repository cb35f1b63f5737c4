"""Whether Triton's kernels can be built here, and how its compiler finds Python's headers."""

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from subprocess import CalledProcessError
from types import ModuleType
from typing import Any

import pytest

from kernels import triton_toolchain
from kernels.triton_toolchain import VARIABLE, name_headers, trouble


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(triton_toolchain, "SYSTEM_HEADERS", tmp_path / "usr" / "include")
    trouble.cache_clear()
    yield
    trouble.cache_clear()


def triton(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[str]:
    """A stand-in for Triton that cannot build anything because of `error`; how often it was asked."""
    asked: list[str] = []

    class Active:
        def get_current_target(self) -> str:
            asked.append("target")
            if error is not None:
                raise error
            return "cuda"

    runtime: Any = ModuleType("triton.runtime")
    runtime.driver = ModuleType("triton.runtime.driver")
    runtime.driver.active = Active()
    monkeypatch.setitem(sys.modules, "triton", ModuleType("triton"))
    monkeypatch.setitem(sys.modules, "triton.runtime", runtime)
    return asked


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, None),
        (
            RuntimeError("Failed to find C compiler. Please specify via CC environment variable."),
            "Triton cannot build its kernels: Failed to find C compiler. Please specify via CC environment variable",
        ),
        (
            CalledProcessError(1, ["gcc", "x.c"]),
            "the C compiler cannot build what Triton needs, as is so without Python's headers",
        ),
        (RuntimeError(), "Triton cannot build its kernels: RuntimeError"),
    ],
)
def test_triton_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, words: str | None
) -> None:
    asked = triton(monkeypatch, error)
    assert trouble() == words == trouble()
    assert asked == ["target"]


def test_without_triton_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setitem(sys.modules, "triton.runtime", None)
    assert trouble() is None


def headers(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "Python.h").write_text("")
    return folder


def test_headers_of_the_system_where_there_are_no_own_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(own)})
    name_headers()
    assert VARIABLE not in os.environ, "there are none at all"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    system = headers(tmp_path / "usr" / "include" / version)
    name_headers()
    name_headers()
    assert os.environ[VARIABLE] == str(system)
    os.environ[VARIABLE] = "/elsewhere"
    name_headers()
    assert os.environ[VARIABLE] == f"/elsewhere{os.pathsep}{system}"
    del os.environ[VARIABLE]
    headers(own)
    name_headers()
    assert VARIABLE not in os.environ
