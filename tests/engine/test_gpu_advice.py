"""How to get a llama.cpp that reaches this machine's GPU."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from engine import gpu_advice
from engine.gpu_advice import (
    Graphics,
    advice,
    command,
    graphics,
    left_out,
    missing_for,
    vulkan_headers_trouble,
)
from engine.placement import nvidia
from engine.placement.nvidia import NvidiaGpu, Seen

CARD = NvidiaGpu("H100", "0000:c1:00.0", "GPU-0", 1 << 36, 1 << 36, "580.1", 1, 16, 5, 16)


def told(found: Graphics, missing: list[str] | None = None) -> str:
    builds = Path("/home/ada/My data/llama.cpp")
    return "\n".join(each.line for each in advice(found, "0.3.36", builds, lambda _kind: missing or []))


def test_nvidia_gets_cuda_and_one_line_to_paste() -> None:
    text = told(Graphics(("NVIDIA", "Intel"), nvidia_driver="580.1"))
    assert "by NVIDIA and by Intel" in text
    assert "-DGGML_CUDA=on" in text
    assert "llama-cpp-python==0.3.36" in text
    assert "choose it in the settings" in text
    assert "driver does not answer" not in text


def test_without_its_driver_that_comes_first() -> None:
    lines = told(Graphics(("NVIDIA",))).splitlines()
    assert "driver does not answer" in lines[1]
    assert "GGML_CUDA" in lines[2]


@pytest.mark.parametrize("maker", ["AMD", "Intel"])
def test_others_get_vulkan_and_what_is_missing_for_it(maker: str) -> None:
    text = told(Graphics((maker,)), ["glslc, the compiler"])
    assert "-DGGML_VULKAN=on" in text
    assert "with Vulkan, this is missing: glslc" in text


def test_a_mac_has_metal_in_its_package_and_no_gpu_needs_nothing() -> None:
    assert "Metal" in told(Graphics(("Apple",)))
    assert "GGML" not in told(Graphics(("Apple",)))
    assert told(Graphics(())).splitlines() == ["ok  no GPU of a maker that llama.cpp knows is seen here"]


def test_the_command_is_one_that_a_shell_takes_apart_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/my python/bin/python")
    words = shlex.split(command("CUDA", "0.3.36", Path("/a b/llama.cpp"), "linux"))
    assert words[0].startswith("CMAKE_ARGS=-DGGML_CUDA=on -D")
    assert words[1:4] == ["/opt/my python/bin/python", "-m", "pip"]
    assert words[words.index("--target") + 1] == "/a b/llama.cpp/cuda"
    assert words[words.index("--no-binary") + 1] == "llama-cpp-python"
    assert words[-1] == "llama-cpp-python==0.3.36"
    windows = command("Vulkan", "0.3.36", Path("C:/O'Brien"), "win32")
    assert "O''Brien" in windows.partition("--target '")[2]
    assert windows.startswith(
        "$env:CMAKE_ARGS='-DGGML_VULKAN=on -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF'; & '/opt/my python/bin/python' -m pip"
    )


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_PATH", str(tmp_path))
    monkeypatch.delenv("VULKAN_SDK", raising=False)
    there = False

    def which(name: str, **_where: str) -> str | None:
        return name if there else None

    def headers(_include: Path) -> str:
        return "" if there else "Vulkan's headers"

    monkeypatch.setattr(shutil, "which", which)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(gpu_advice, "vulkan_headers_trouble", headers)
    cuda, vulkan = "\n".join(missing_for("CUDA")), "\n".join(missing_for("Vulkan"))
    assert "a C++ compiler" in cuda
    assert "nvcc" in cuda
    assert "glslc" not in cuda
    assert "glslc" in vulkan
    assert "Vulkan's headers" in vulkan
    there = True
    assert missing_for("CUDA") == missing_for("Vulkan") == []


@pytest.mark.parametrize(
    ("minor", "patch", "fine"), [(3, 239, False), (3, 272, True), (4, 300, True), (2, 300, False)]
)
def test_the_vulkan_headers_are_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minor: int, patch: int, fine: bool
) -> None:
    monkeypatch.delenv("VULKAN_SDK", raising=False)
    assert "1.3.272 or newer" in vulkan_headers_trouble(tmp_path)
    header = tmp_path / "vulkan" / "vulkan_core.h"
    header.parent.mkdir()
    header.write_text(
        f"#define VK_HEADER_VERSION {patch}\n"
        f"#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, 1, {minor}, VK_HEADER_VERSION)\n"
    )
    assert (vulkan_headers_trouble(tmp_path) == "") is fine
    header.write_text("nothing of the kind")
    assert vulkan_headers_trouble(tmp_path)


def test_makers_are_seen_by_the_kernel_and_by_nvidias_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, vendor in enumerate(("0x1002\n", "0x8086\n", "0x1a03\n")):
        card = tmp_path / f"card{number}" / "device"
        card.mkdir(parents=True)
        (card / "vendor").write_text(vendor)
    (tmp_path / "card9" / "device" / "vendor").mkdir(parents=True)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(nvidia, "nvidia_gpus", lambda: Seen((CARD,)))
    assert graphics(tmp_path) == Graphics(("NVIDIA", "AMD", "Intel"), "580.1")
    monkeypatch.setattr(nvidia, "nvidia_gpus", lambda: Seen())
    assert graphics(tmp_path) == Graphics(("AMD", "Intel"))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert graphics(tmp_path / "none") == Graphics(("Apple",))


def test_an_installed_program_without_a_python_names_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/usr/lib/seamount/seamount")
    words = shlex.split(command("CUDA", "0.3.36", Path("/home/ada/llama.cpp"), "linux"))
    assert words[1:4] == ["python3", "-m", "pip"]
    assert "& 'py' -m pip" in command("CUDA", "0.3.36", Path("C:/llama.cpp"), "win32")
    monkeypatch.setattr(shutil, "which", lambda _name, **_: None)
    assert "Python with pip" in missing_for("CUDA")


@pytest.mark.parametrize(
    ("why", "makers", "well", "said"),
    [
        ("its driver crashed (SIGSEGV)", ("AMD",), False, "update that driver"),
        ("its driver did not answer within 30 s", (), False, "update that driver"),
        ("libvulkan.so.1: cannot open shared object file", ("AMD",), True, "loader is not installed"),
        ("libvulkan.so.1: cannot open shared object file", ("AMD",), True, "its maker's driver"),
        ("no driver that it can use is installed here", ("Intel",), True, "its maker's driver"),
        ("the variable says so", (), True, "Vulkan is not used, because the variable says so"),
    ],
)
def test_a_backend_that_is_left_out(why: str, makers: tuple[str, ...], well: bool, said: str) -> None:
    found = left_out("vulkan", why, makers)
    assert found.well is well
    assert said in found.line


def test_who_has_no_gpu_is_not_told_to_install_a_driver() -> None:
    assert left_out("vulkan", "libvulkan.so.1: cannot open shared object file", ()).remedy == ""
    assert left_out("cuda", "libcudart.so.12: cannot open", ("NVIDIA",)).what.startswith("CUDA is not used")
