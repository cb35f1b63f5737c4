"""Other builds of llama.cpp: found, judged in a process of their own, and used or refused in words."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine import llama_builds
from engine.backends.ggml_library import FOLDER_VARIABLE, library_folder, packaged_folder
from engine.errors import LlamaBuildError
from engine.llama_builds import LlamaBuilds, libraries_in, settle, unlike
from engine.paths import DataFolder
from engine.placement import hardware
from engine.placement.hardware import Gpu, LlamaCpp
from engine.protocol import Settings
from engine.settings import save_settings

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

GPU = Gpu("Radeon", 16 * 10**9, 15 * 10**9, "Vulkan0", "Vulkan")
PLAIN = LlamaCpp("0.3.36", False, ("AVX2",), (), ("CPU",), "0.5.0", "0.25.3", "[[1], [512]]")
VULKAN = replace(PLAIN, gpu_offload=True, gpus=(GPU,), backends=("Vulkan", "CPU"))


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that `settle` sets is put back afterwards."""
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    monkeypatch.delenv(FOLDER_VARIABLE)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


def build_in(folder: Path, place: str = "") -> Path:
    """A folder that looks like a build; its library is no library."""
    inside = folder / place
    inside.mkdir(parents=True)
    for name in ("libllama.so", "libllama.dylib", "llama.dll"):
        (inside / name).write_bytes(b"not a library")
    return inside


def answering(monkeypatch: pytest.MonkeyPatch, **answers: LlamaCpp | str) -> list[str]:
    """What each build says when it is asked, by its folder's name; `own` for llama-cpp-python's. Who was asked."""
    asked: list[str] = []

    def llama_cpp(timeout_s: float = 60.0, libraries: Path | None = None) -> LlamaCpp | str:
        name = "own" if libraries == packaged_folder() else str(libraries and libraries.name)
        asked.append(name)
        return answers[name]

    monkeypatch.setattr(hardware, "llama_cpp", llama_cpp)
    return asked


def test_a_real_build_is_used_by_this_process_and_its_children(data: DataFolder) -> None:
    if sys.platform == "win32":
        pytest.skip("libraries that are in use cannot be copied")
    target = data.llama_builds / "again" / "llama_cpp" / "lib"
    shutil.copytree(packaged_folder(), target, symlinks=True)
    builds = LlamaBuilds(data)
    settled = builds.settle(None, str(data.llama_builds / "again"))
    assert (settled.folder, settled.source, settled.refused) == (target, "command", None)
    assert os.environ[FOLDER_VARIABLE] == str(target)
    assert library_folder() == target
    found = hardware.llama_cpp()
    assert isinstance(found, LlamaCpp), found
    listed = builds.listed(None)
    assert [each.name for each in listed.builds] == ["llama-cpp-python's own", "again"]
    assert [each.problem for each in listed.builds] == [None, None]
    assert (listed.in_use, listed.source) == (str(target), "command")


def test_what_is_no_library_is_refused_and_the_own_one_used(data: DataFolder) -> None:
    build_in(data.llama_builds / "broken")
    builds = LlamaBuilds(data)
    settled = builds.settle(str(data.llama_builds / "broken"))
    assert settled.folder is None
    assert settled.refused is not None
    assert "cannot be loaded" in settled.refused.why
    assert FOLDER_VARIABLE not in os.environ
    assert library_folder() == packaged_folder()
    entry = builds.listed(str(data.llama_builds / "broken")).builds[1]
    assert entry.problem is not None
    assert "broken is not used" in entry.problem.text


def test_who_names_a_build_goes_before_whom(data: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, own=PLAIN, one=VULKAN, two=VULKAN, three=VULKAN)
    one, two, three = (build_in(data.llama_builds / name) for name in ("one", "two", "three"))
    assert LlamaBuilds(data).settle(None).source == "package"
    assert asked == []
    save_settings(data.settings, Settings(llama_cpp_folder=str(one)))
    assert settle(data)[1].folder == one
    # What was settled is in the environment now, which counts before all.
    monkeypatch.delenv(FOLDER_VARIABLE)
    settled = LlamaBuilds(data).settle(str(one), str(two))
    assert (settled.folder, settled.source) == (two, "command")
    monkeypatch.setenv(FOLDER_VARIABLE, str(three))
    settled = LlamaBuilds(data).settle(str(one), str(two))
    assert (settled.folder, settled.source) == (three, "environment")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (replace(VULKAN, llama="0.4.9"), "it is llama.cpp 0.4.9, and llama-cpp-python 0.3.36 needs 0.5.0"),
        (replace(VULKAN, ggml="0.25.4"), "it is ggml 0.25.4"),
        (replace(VULKAN, defaults="[[1], [0, 512]]"), "laid out otherwise"),
        (replace(VULKAN, backends=()), "no code for any device"),
        ("it crashed (SIGSEGV)", "cannot be loaded: it crashed (SIGSEGV)"),
    ],
)
def test_another_version_is_refused_by_name(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch, other: LlamaCpp | str, why: str
) -> None:
    answering(monkeypatch, own=PLAIN, other=other)
    build_in(data.llama_builds / "other")
    with pytest.raises(LlamaBuildError) as refused:
        LlamaBuilds(data).judge(data.llama_builds / "other")
    assert why in refused.value.why


def test_without_llama_cpp_python_nothing_is_raised(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> Path:
        raise ImportError("llama-cpp-python is not installed")

    answering(monkeypatch, one=VULKAN)
    monkeypatch.setattr(llama_builds, "packaged_folder", gone)
    build_in(data.llama_builds / "one")
    builds = LlamaBuilds(data)
    refused = builds.settle(str(data.llama_builds / "one")).refused
    assert refused is not None
    assert "llama-cpp-python is not installed" in refused.why
    problems = [each.problem for each in builds.listed(None).builds]
    assert all(each is not None and "is not installed" in each.text for each in problems)


def test_the_same_but_for_what_it_reaches_is_alike() -> None:
    assert unlike(PLAIN, VULKAN) == ""


def test_nothing_is_compared_with_what_does_not_load(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, own="libgomp.so.1 is missing", one=VULKAN)
    build_in(data.llama_builds / "one")
    with pytest.raises(LlamaBuildError, match=r"libgomp\.so\.1"):
        LlamaBuilds(data).judge(data.llama_builds / "one")
    assert LlamaBuilds(data).listed(None).builds[0].problem is not None


def test_libraries_are_found_where_builds_put_them(tmp_path: Path) -> None:
    for place in ("", "llama_cpp/lib", "lib", "bin", "build/bin"):
        folder = tmp_path / f"build{place.replace('/', '-')}"
        assert libraries_in(folder) is None
        build_in(folder, place)
        assert libraries_in(folder) == folder / place


def test_folders_without_libraries_are_not_builds(data: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = LlamaBuilds(data)
    assert builds.folders() == []
    (data.llama_builds / "empty").mkdir(parents=True)
    (data.llama_builds / "note.txt").write_text("")
    build_in(data.llama_builds / "vulkan")
    assert [each.name for each in builds.folders()] == ["vulkan"]
    asked = answering(monkeypatch, own=PLAIN, vulkan=VULKAN, elsewhere=VULKAN)
    elsewhere = build_in(data.root / "elsewhere")
    listed = builds.listed(str(elsewhere))
    assert [(each.name, each.devices) for each in listed.builds] == [
        ("llama-cpp-python's own", []),
        ("vulkan", ["Radeon (Vulkan, 16 GB)"]),
        ("elsewhere", ["Radeon (Vulkan, 16 GB)"]),
    ]
    # What has not changed is not asked again; what has is.
    before = len(asked)
    builds.listed(str(elsewhere))
    assert len(asked) == before
    (data.llama_builds / "vulkan" / "libllama.so").write_bytes(b"another")
    builds.listed(str(elsewhere))
    assert asked[before:] == ["vulkan"]


@pytest.mark.parametrize("named", ["/nowhere/at/all", "~nobody-of-that-name/x", "with\0nul"])
def test_a_folder_that_cannot_be_is_refused(data: DataFolder, named: str) -> None:
    assert LlamaBuilds(data).settle(None, named).refused is not None


def test_the_data_folder_is_not_made_for_it(tmp_path: Path) -> None:
    assert llama_builds.LlamaBuilds(DataFolder(tmp_path / "none")).folders() == []
    assert not (tmp_path / "none").exists()


def test_a_build_whose_driver_crashed_is_used_without_it_and_that_is_told(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = replace(PLAIN, variant="zen4", left_out=(("vulkan", "its driver crashed (SIGSEGV)"),))
    lacking = replace(PLAIN, variant="zen4", left_out=(("vulkan", "libvulkan.so.1: cannot open"),))
    answering(monkeypatch, own=lacking, one=crashed)
    build_in(data.llama_builds / "one")
    own, one = LlamaBuilds(data).listed(None).builds
    assert own.failed == []  # who has no GPU lacks nothing
    assert one.failed == ["Vulkan is not used, because its driver crashed (SIGSEGV) when it was tried"]
    assert own.problem is one.problem is None
