"""Where ggml's libraries lie, and which of them are backends that are loaded by themselves."""

import ctypes
from pathlib import Path

import pytest

from engine.backends import ggml_library
from engine.backends.ggml_library import FOLDER_VARIABLE, backend_files, ggml_function, library_folder, links


def test_backends_are_known_by_their_names_and_the_processor_is_last(tmp_path: Path) -> None:
    names = (
        *("libllama.so", "libggml.so", "libggml-base.so", "libggml-base.so.0", "libggml-cpu-x64.so"),
        *("libggml-cpu-zen4.so", "libggml-cpu-armv8.2_1.so", "libggml-vulkan.so", "libggml-unheard.so"),
        *("ggml-cuda.dll", "ggml-base.dll", "LICENSE"),
    )
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "libggml-hip.so").mkdir()
    found = backend_files(tmp_path)
    assert list(found) == ["cuda", "vulkan", "cpu"]
    assert found["vulkan"] == {"": tmp_path / "libggml-vulkan.so"}
    assert sorted(found["cpu"]) == ["armv8.2_1", "x64", "zen4"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        backend_files(tmp_path / "none")


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert library_folder() == tmp_path


def test_functions_are_those_of_the_ggml_that_llama_cpp_is_linked_to() -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    name = ggml_function("ggml_version", ctypes.c_char_p)
    assert name()[:1].isdigit()
    assert links("ggml_version") or ggml_library.sys.platform == "win32"
    assert not links("ggml_has_no_such_function")
    with pytest.raises(ImportError, match="ggml_has_no_such_function"):
        ggml_function("ggml_has_no_such_function", None)


def test_a_folder_without_libraries_has_no_functions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libggml.so").write_bytes(b"not a library")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert not links("ggml_version")
    with pytest.raises(ImportError, match="ggml has no ggml_version"):
        ggml_function("ggml_version", ctypes.c_char_p)
