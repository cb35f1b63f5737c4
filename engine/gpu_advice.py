"""How to get a llama.cpp that reaches this machine's GPU: the commands, and what is missing for them.

Owns: which makers' GPUs are here, which kind of build suits them, and the sentences. Does not build or install
anything, and does not know which libraries are in use (`llama_builds`).
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine import own_program
from engine.finding import Finding
from engine.placement import nvidia

_MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
"""PCI's numbers of those who make GPUs that llama.cpp reaches."""
OLDEST_VULKAN_HEADERS = 272
"""The patch level of Vulkan 1.3 that has VK_EXT_layer_settings, which llama.cpp's Vulkan code names. With Debian 12's
239 it does not compile."""
_HEADER_VERSION = re.compile(r"^#define VK_HEADER_VERSION (\d+)", re.MULTILINE)
_LEFT_OUT = "-DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF"
"""Pictures and fetching over the network, which Seamount has no use for in llama.cpp; it compiles faster without."""
_LOADER = re.compile(r"libvulkan|vulkan-1")
_VULKAN_PACKAGES = "libvulkan-dev glslc spirv-headers"


@dataclass(frozen=True)
class Graphics:
    """The GPUs of a machine, by maker, and whether the driver that CUDA needs answers."""

    makers: tuple[str, ...]
    nvidia_driver: str = ""


def graphics(cards: Path = Path("/sys/class/drm")) -> Graphics:
    """What can be seen without llama.cpp: by NVIDIA's library anywhere, by Linux's list of graphics `cards`."""
    seen = nvidia.nvidia_gpus()
    makers = {_MAKERS[number] for number in _vendors(cards) if number in _MAKERS}
    if seen.gpus:
        makers.add("NVIDIA")
    if sys.platform == "darwin":
        makers.add("Apple")
    # What is fastest is named first.
    order = ("Apple", "NVIDIA", "AMD", "Intel")
    return Graphics(
        makers=tuple(maker for maker in order if maker in makers),
        nvidia_driver=seen.gpus[0].driver if seen.gpus else "",
    )


def advice(
    found: Graphics,
    package_version: str,
    builds_folder: Path,
    missing: Callable[[str], list[str]] | None = None,
) -> Iterator[Finding]:
    """What to do where llama.cpp reaches no GPU. `missing(kind)`: what a build of that kind lacks here."""
    lacking = missing_for if missing is None else missing
    if not found.makers:
        yield Finding("no GPU of a maker that llama.cpp knows is seen here")
        return
    if found.makers[0] == "Apple":
        remedy = "`pip install --force-reinstall --no-deps llama-cpp-python` brings a llama.cpp with Metal"
        yield Finding("this Mac's GPU is not reached", remedy=remedy)
        return
    yield Finding(f"a GPU by {' and by '.join(found.makers)} is here and not used")
    kind = "CUDA" if found.makers[0] == "NVIDIA" else "Vulkan"
    if kind == "CUDA" and not found.nvidia_driver:
        yield Finding(
            "NVIDIA's driver does not answer",
            remedy="install it first, with what your system offers for that",
        )
    for each in lacking(kind):
        yield Finding(f"for a llama.cpp with {kind}, this is missing: {each}")
    yield Finding(
        f"a llama.cpp with {kind} is built for Seamount by",
        remedy=command(kind, package_version, builds_folder),
    )
    yield Finding(
        "once it is built", remedy="choose it in the settings, under Machine, and restart the engine"
    )


def left_out(kind: str, why: str, makers: tuple[str, ...]) -> Finding:
    """That llama.cpp's part for a kind of GPUs is not used, and what to do if GPUs by `makers` are here."""
    name = {"cuda": "CUDA", "hip": "HIP", "sycl": "SYCL", "musa": "MUSA"}.get(kind, kind.capitalize())
    if "crashed" in why or "did not answer" in why:
        remedy = "update that driver; until then the processor computes alone"
        return Finding(f"{name} is not used, because {why} when it was tried", False, remedy)
    if kind == "vulkan" and _LOADER.search(why):
        why = f"Vulkan's loader is not installed ({why})"
    remedy = ""
    if kind == "vulkan" and makers:
        remedy = "a GPU needs its maker's driver and Vulkan's loader"
        if shutil.which("apt-get"):
            packages = "libvulkan1" if makers == ("NVIDIA",) else "libvulkan1 mesa-vulkan-drivers"
            remedy += f" (`sudo apt-get install {packages}`)"
    return Finding(f"{name} is not used, because {why}", remedy=remedy)


def command(kind: str, package_version: str, builds_folder: Path, platform: str = sys.platform) -> str:
    """One line for a terminal that builds llama.cpp for a kind of GPU and puts it where Seamount looks.

    An installed program without a Python of its own names the system's: the libraries that are built need none.
    """
    options = f"-DGGML_{kind.upper()}=on {_LEFT_OUT}"
    target = str(builds_folder / kind.lower())
    package = f"llama-cpp-python=={package_version}"
    flags = "--no-deps --no-cache-dir --no-binary llama-cpp-python"
    if platform == "win32":
        python, target = ("'" + each.replace("'", "''") + "'" for each in (_python(platform), target))
        return f"$env:CMAKE_ARGS='{options}'; & {python} -m pip install {flags} --target {target} {package}"
    python, target = shlex.quote(_python(platform)), shlex.quote(target)
    return f"CMAKE_ARGS='{options}' {python} -m pip install {flags} --target {target} {package}"


def _python(platform: str) -> str:
    if not own_program.frozen():
        return sys.executable
    return "py" if platform == "win32" else "python3"


def missing_for(kind: str) -> list[str]:
    """What building for `kind` ("CUDA" or "Vulkan") lacks on this machine, each with what to do."""
    lacking: list[str] = []
    apt = shutil.which("apt-get") is not None
    if own_program.frozen() and not any(shutil.which(each) for each in ("pip3", "pip", "py")):
        lacking.append("Python with pip" + (" (`sudo apt-get install python3-pip`)" if apt else ""))
    if sys.platform != "win32" and not any(shutil.which(each) for each in ("c++", "g++", "clang++")):
        lacking.append(
            "a C++ compiler"
            + (" (`sudo apt-get install build-essential`)" if apt else ", of your system's packages")
        )
    if kind == "CUDA" and _nvcc() is None:
        lacking.append("nvcc, NVIDIA's compiler, which is part of the CUDA Toolkit")
    if kind == "Vulkan":
        if shutil.which("glslc") is None:
            how = f" (`sudo apt-get install {_VULKAN_PACKAGES}`)" if apt else ", part of the Vulkan SDK"
            lacking.append("glslc, the compiler of Vulkan's shaders" + how)
        if sys.platform == "linux" and (trouble := vulkan_headers_trouble(Path("/usr/include"))):
            lacking.append(trouble)
    return lacking


def vulkan_headers_trouble(include: Path) -> str:
    """What is wrong with the Vulkan headers there; "" for nothing."""
    if "VULKAN_SDK" in os.environ:
        return ""
    wanted = f"Vulkan's headers, 1.3.{OLDEST_VULKAN_HEADERS} or newer"
    try:
        text = (include / "vulkan" / "vulkan_core.h").read_text("utf-8", "replace")
    except OSError:
        return wanted
    version = _HEADER_VERSION.search(text)
    complete = re.search(
        r"^#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION\(0, 1, (\d+),", text, re.MULTILINE
    )
    if version is None or complete is None:
        return wanted
    here = (int(complete[1]), int(version[1]))
    return "" if here >= (3, OLDEST_VULKAN_HEADERS) else f"{wanted} (here are 1.{here[0]}.{here[1]})"


def _nvcc() -> str | None:
    beside = Path(os.environ.get("CUDA_PATH") or os.environ.get("CUDA_HOME") or "/usr/local/cuda") / "bin"
    return shutil.which("nvcc") or shutil.which("nvcc", path=str(beside))


def _vendors(folder: Path) -> set[str]:
    """The makers' numbers of the graphics cards that Linux lists; empty elsewhere."""
    found: set[str] = set()
    for card in folder.glob("card*/device/vendor"):
        try:
            found.add(card.read_text("ascii", "replace").strip().lower())
        except OSError:
            continue
    return found
