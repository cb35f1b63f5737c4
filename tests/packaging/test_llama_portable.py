"""The build of llama.cpp for any processor: what tells one from another, and what a finished one must be."""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.backends.ggml_library import backend_files
from tests.support.portable_llama import HOW, portable_folder, script

BUILT = portable_folder()
needs_tools = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not shutil.which("c++") or not shutil.which("readelf"),
    reason="there is no C++ compiler, or no readelf, on this machine",
)


@pytest.fixture
def portable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with a cache of the test's own."""
    monkeypatch.setenv("SEAMOUNT_CACHE", str(tmp_path / "cache"))
    return script()


@needs_tools
def test_another_compiler_or_option_or_no_vulkan_is_another_build(
    portable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {portable.folder()}
    monkeypatch.setattr(portable, "why_no_vulkan", lambda: "there is no glslc here")
    found.add(portable.folder())
    monkeypatch.setattr(portable, "OPTIONS", (*portable.OPTIONS, "-DGGML_LTO=ON"))
    found.add(portable.folder())
    monkeypatch.setattr(portable, "_first_line", lambda *_command: "another compiler")
    found.add(portable.folder())
    # Where Vulkan's tools are not here, the first two are the same.
    assert len(found) >= 3
    assert all(each.parent == portable.environment.cache_folder() for each in found)


@needs_tools
def test_a_build_that_is_there_is_not_made_again(portable: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if platform.machine() not in portable.VARIANTS:
        pytest.skip("it is not built for this kind of processor")
    monkeypatch.setattr(portable, "_compile", lambda _work: pytest.fail("it was built again"))
    portable.folder().mkdir(parents=True)
    assert portable.build() == portable.folder()


@needs_tools
def test_a_build_that_is_interrupted_leaves_nothing_that_looks_finished(
    portable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if platform.machine() not in portable.VARIANTS:
        pytest.skip("it is not built for this kind of processor")

    def interrupted(work: Path) -> None:
        (work / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(portable, "BUILD_BYTES", 0)
    monkeypatch.setattr(portable, "_compile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        portable.build()
    assert not portable.folder().exists()

    def gone_on_with(work: Path) -> None:
        assert (work / "half").exists()
        (work / "tree" / "bin").mkdir(parents=True)
        (work / "llama.cpp").mkdir()
        (work / "llama.cpp" / "LICENSE").touch()

    monkeypatch.setattr(portable, "_compile", gone_on_with)
    with pytest.raises(portable.SetupError, match=r"libllama\.so is missing"):
        portable.build()
    assert not portable.folder().exists()


def test_elsewhere_it_is_refused_in_a_sentence(portable: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(portable.SetupError, match="this is linux on riscv64"):
        portable.build()


@needs_tools
def test_without_room_it_does_not_begin(portable: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if platform.machine() not in portable.VARIANTS:
        pytest.skip("it is not built for this kind of processor")
    monkeypatch.setattr(portable, "BUILD_BYTES", 1 << 60)
    with pytest.raises(portable.SetupError, match="GiB free, which building"):
        portable.build()


def test_what_vulkan_lacks_here_is_named(portable: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable.shutil, "which", lambda name: None if name == "glslc" else f"/bin/{name}")
    monkeypatch.setattr(portable, "_header", lambda name: "spirv" not in name)
    assert portable.why_no_vulkan() == "there is no glslc and no SPIR-V's headers (spirv-headers) here"
    monkeypatch.setattr(portable, "_header", lambda _name: True)
    monkeypatch.setattr(portable.shutil, "which", lambda name: f"/bin/{name}")
    assert portable.why_no_vulkan() == ""


@needs_tools
def test_what_a_library_needs_is_read_from_it(
    portable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "#include <cmath>\n#include <string>\nstd::string f(double x) { return std::to_string(exp(x)); }"
    library = tmp_path / "libf.so"
    command = ["c++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
    subprocess.run(command, input=source, text=True, check=True)
    assert "libstdc++.so.6" in portable.needed(library)
    assert portable.too_new(tmp_path) == []
    monkeypatch.setattr(portable, "NEWEST_SYMBOLS", {"GLIBC": (2, 0), "GLIBCXX": (3, 4, 0)})
    whys = portable.too_new(tmp_path)
    assert any(re.fullmatch(r"libf\.so needs GLIBC_2\.\d+(\.\d+)?, newer than 2\.0", why) for why in whys)
    assert any("libf.so needs GLIBCXX_3.4" in why for why in whys)


@needs_tools
@pytest.mark.slow
def test_older_headers_of_vulkan_get_what_they_lack(portable: Any) -> None:
    if not portable._header("vulkan/vulkan.hpp"):
        pytest.skip("Vulkan's headers (libvulkan-dev) are not here")
    source = """
#include <vector>
#include <vulkan/vulkan.hpp>
VkBool32 on = true;
std::vector<vk::LayerSettingEXT> settings = {{"a", "b", vk::LayerSettingTypeEXT::eBool32, 1, &on}};
vk::LayerSettingsCreateInfoEXT info(settings);
static_assert(sizeof(info) == 2 * sizeof(void *) + 2 * sizeof(void *), "VkLayerSettingsCreateInfoEXT");
int main() { return info.settingCount != 1 || static_cast<int>(info.sType) != 1000496000; }
"""
    command = ["c++", "-Wall", "-Werror", "-fsyntax-only", f"-I{portable.COMPAT}", "-x", "c++", "-"]
    subprocess.run(command, input=source, text=True, check=True)


@needs_tools
@pytest.mark.slow
def test_the_finished_build_runs_on_old_systems_and_only_vulkan_needs_vulkan(portable: Any) -> None:
    folder = BUILT
    if folder is None:
        pytest.skip(f"the portable llama.cpp is not built here; `{HOW}` builds it")
    assert portable.too_new(folder) == []
    files = backend_files(folder)
    assert sorted(files["cpu"]) == sorted(portable.VARIANTS[platform.machine()])
    libraries = sorted(folder.glob("*.so"))
    wants_vulkan = [each.name for each in libraries if "libvulkan.so.1" in portable.needed(each)]
    assert wants_vulkan == (["libggml-vulkan.so"] if "vulkan" in files else [])
    ours = {each.name for each in libraries}
    systems = {
        *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"),
        *("libgcc_s.so.1", "libstdc++.so.6", "libgomp.so.1", "libvulkan.so.1"),
    }
    for each in libraries:
        assert not each.is_symlink()
        assert set(portable.needed(each)) <= ours | systems, each.name
        dynamic = portable._output("readelf", "--dynamic", "--wide", str(each))
        assert re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", dynamic) in ([], ["$ORIGIN"]), each.name
        # Where it was built is nobody's business.
        assert str(folder.parent).encode() not in each.read_bytes(), each.name
