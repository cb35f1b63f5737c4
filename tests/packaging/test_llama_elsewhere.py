"""What Windows and macOS build of llama.cpp: checked without either, up to the point where cmake is called."""

import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
SYSTEMS = [("win32", "AMD64"), ("darwin", "arm64")]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module, beside those it imports, with a cache of the test's own."""
    monkeypatch.setenv("SEAMOUNT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VULKAN_SDK", raising=False)
    monkeypatch.syspath_prepend(str(PACKAGING))
    names = ("environment", "llama_portable", "llama_elsewhere")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("llama_elsewhere")
    for name in names:
        sys.modules.pop(name, None)


def on(elsewhere: Any, monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    """As on that system, as far as the script asks."""
    monkeypatch.setattr(elsewhere, "sys", type("sys", (), {"platform": system}))
    monkeypatch.setattr(elsewhere.platform, "machine", lambda: machine)


@pytest.mark.parametrize(("system", "machine"), SYSTEMS)
def test_it_is_the_build_of_linux_but_for_what_the_system_calls_otherwise(
    elsewhere: Any, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    on(elsewhere, monkeypatch, system, machine)
    common = {option for option in elsewhere.llama_portable.OPTIONS if "RPATH" not in option}
    assert common <= set(elsewhere.options())
    assert "$ORIGIN" not in " ".join(elsewhere.options())


def test_a_mac_builds_for_the_oldest_macos_that_the_app_names(
    elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(elsewhere, monkeypatch, "darwin", "arm64")
    assert "-DCMAKE_OSX_DEPLOYMENT_TARGET=13.0" in elsewhere.options()
    assert "-DGGML_METAL=ON" in elsewhere.options()
    assert {"libllama.dylib", "libggml-metal.so", "libggml-cpu-apple_m1.so"} <= set(elsewhere.wanted())


def test_windows_has_vulkan_where_its_sdk_is(elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on(elsewhere, monkeypatch, "win32", "AMD64")
    without = elsewhere.folder()
    assert "ggml-vulkan.dll" not in elsewhere.wanted()
    assert {"llama.dll", "ggml-cpu-x64.dll", "ggml-cpu-haswell.dll"} <= set(elsewhere.wanted())
    monkeypatch.setenv("VULKAN_SDK", "C:\\VulkanSDK")
    monkeypatch.setattr(shutil, "which", lambda _program: "glslc.exe")
    assert "-DGGML_VULKAN=ON" in elsewhere.options()
    assert "ggml-vulkan.dll" in elsewhere.wanted()
    assert elsewhere.folder() != without


def test_the_engine_knows_the_files_by_these_names(elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.backends.ggml_library import backend_files

    for number, (system, machine) in enumerate(SYSTEMS):
        on(elsewhere, monkeypatch, system, machine)
        folder = elsewhere.environment.cache_folder() / str(number)
        folder.mkdir(parents=True)
        for name in elsewhere.wanted():
            (folder / name).touch()
        assert set(backend_files(folder)["cpu"]) == set(elsewhere.system().variants)
        assert ("metal" in backend_files(folder)) == (system == "darwin")


def test_another_system_is_refused_with_its_name(elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on(elsewhere, monkeypatch, "darwin", "x86_64")
    with pytest.raises(elsewhere.SetupError, match=r"Macs with an Apple processor; this is darwin on x86_64"):
        elsewhere.build()


@pytest.mark.parametrize(("system", "machine"), SYSTEMS)
def test_without_a_compiler_it_says_where_one_comes_from(
    elsewhere: Any, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    on(elsewhere, monkeypatch, system, machine)
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    with pytest.raises(elsewhere.SetupError, match=r"on the path, which compiles llama\.cpp; it comes with"):
        elsewhere.build()
    assert not elsewhere.folder().exists()


@pytest.mark.parametrize(("system", "machine"), SYSTEMS)
def test_a_whole_build_is_kept_and_one_that_lacks_a_file_is_not(
    elsewhere: Any, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    on(elsewhere, monkeypatch, system, machine)
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "glslc" else program)
    monkeypatch.setattr(elsewhere.llama_portable, "BUILD_BYTES", 0)
    lacking = elsewhere.wanted()[-1]

    def compiled(work: Path) -> None:
        (work / "tree" / "bin").mkdir(parents=True)
        (work / "llama.cpp").mkdir()
        (work / "llama.cpp" / "LICENSE").write_text("MIT")
        for name in elsewhere.wanted():
            if name != lacking:
                (work / "tree" / "bin" / name).write_text(name)

    monkeypatch.setattr(elsewhere, "_compile", compiled)
    with pytest.raises(elsewhere.SetupError, match=f"has no {re.escape(lacking)}"):
        elsewhere.build()
    assert list(elsewhere.environment.cache_folder().iterdir()) == []
    lacking = ""
    made = elsewhere.build()
    assert {path.name for path in made.iterdir()} == {*elsewhere.wanted(), "LICENSE.llama.cpp"}
    monkeypatch.setattr(elsewhere, "_compile", lambda _work: pytest.fail("it was built again"))
    assert elsewhere.build() == made
