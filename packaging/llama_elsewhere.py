"""Builds the llama.cpp of the bundle on Windows and on Macs with an Apple processor.

    python packaging/llama_portable.py           on those systems comes here

Owns: what those systems build otherwise than Linux: the options, the tools, the names of the libraries, and which
variants for the processor there are. Sources and common options are those of llama_portable.py, which says where the
result is kept too. Not run yet on either system: see packaging/windows/README.md and packaging/macos/README.md.
"""

from __future__ import annotations

import hashlib
import os
import platform
import plistlib
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import environment
import llama_portable
from environment import LOCKS, SetupError, say

MACOS_LIST = environment.ROOT / "packaging" / "macos" / "Info.plist"


@dataclass(frozen=True)
class System:
    """How one system builds. `core`: the libraries that all else needs; `backend`: a backend's file, by its name."""

    options: tuple[str, ...]
    core: tuple[str, ...]
    backend: str
    variants: tuple[str, ...]
    tools: tuple[str, ...]
    """Programs that have to be on the path, and where they come from."""


# On both, ggml's own threads: a library for OpenMP would have to be found on the person's machine.
WINDOWS = System(
    options=("-DGGML_OPENMP=OFF",),
    core=("llama.dll", "ggml.dll", "ggml-base.dll"),
    backend="ggml-{}.dll",
    # Microsoft's compiler has no words for some of what the others are for.
    variants=(
        "x64",
        "sse42",
        "sandybridge",
        "haswell",
        "alderlake",
        "skylakex",
        "cannonlake",
        "cascadelake",
        "icelake",
    ),
    tools=("cl", "Visual Studio's x64 Native Tools Command Prompt"),
)
MACOS = System(
    options=(
        "-DGGML_OPENMP=OFF",
        "-DGGML_METAL=ON",
        "-DGGML_METAL_EMBED_LIBRARY=ON",
        "-DCMAKE_OSX_ARCHITECTURES=arm64",
    ),
    core=("libllama.dylib", "libggml.dylib", "libggml-base.dylib"),
    # What is loaded at run time ends so on macOS, too.
    backend="libggml-{}.so",
    variants=("apple_m1", "apple_m2_m3", "apple_m4"),
    tools=("c++", "Apple's command line tools (xcode-select --install)"),
)
SYSTEMS = {("win32", "amd64"): WINDOWS, ("darwin", "arm64"): MACOS}


def system() -> System:
    """How it is built here. Raises SetupError where it is not."""
    here = (sys.platform, platform.machine().lower())
    if here not in SYSTEMS:
        raise SetupError(
            "the llama.cpp of the bundle is built on Linux and Windows for x86-64, and on Macs with an Apple "
            f"processor; this is {here[0]} on {here[1]}"
        )
    return SYSTEMS[here]


def has_vulkan() -> bool:
    """Whether graphics cards are served: on Windows by Vulkan, whose SDK names itself. A Mac has Metal."""
    return (
        sys.platform == "win32" and bool(os.environ.get("VULKAN_SDK")) and shutil.which("glslc") is not None
    )


def options() -> tuple[str, ...]:
    """All of cmake's options. Raises SetupError."""
    here = system()
    common = [each for each in llama_portable.OPTIONS if "RPATH" not in each]
    if sys.platform == "darwin":
        with MACOS_LIST.open("rb") as file:
            oldest = plistlib.load(file)["LSMinimumSystemVersion"]
        common += ["-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON", "-DCMAKE_INSTALL_RPATH=@loader_path"]
        common.append(f"-DCMAKE_OSX_DEPLOYMENT_TARGET={oldest}")
    if has_vulkan():
        common.append("-DGGML_VULKAN=ON")
    return (*common, *here.options)


def folder() -> Path:
    """Where the libraries are kept, built or not yet. Raises SetupError."""
    locks = [(LOCKS / f"{name}.txt").read_text() for name in ("llama", "llama-build")]
    facts = "\0".join([*locks, *options(), sys.platform, platform.machine()])
    return environment.cache_folder() / f"llama-portable-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def wanted() -> list[str]:
    """The files of a whole build. Raises SetupError."""
    here = system()
    backends = [f"cpu-{variant}" for variant in here.variants]
    if sys.platform == "darwin":
        backends.append("metal")
    if has_vulkan():
        backends.append("vulkan")
    return [*here.core, *map(here.backend.format, backends)]


def build() -> Path:
    """The folder of the libraries, built now where it is not there yet. Raises SetupError, OSError."""
    here = system()
    made = folder()
    if made.is_dir():
        return made
    program, source = here.tools
    if shutil.which(program) is None:
        raise SetupError(
            f"there is no {program} on the path, which compiles llama.cpp; it comes with {source}"
        )
    if sys.platform == "win32" and not has_vulkan():
        say(
            "llama.cpp is built without its Vulkan backend, because there is no Vulkan SDK; GPUs will not be used"
        )
    work = made.with_name(f"{made.name}.building-{os.getpid()}")
    work.mkdir(parents=True)
    try:
        if shutil.disk_usage(work).free < llama_portable.BUILD_BYTES:
            raise SetupError(
                f"{work.parent} has less than {llama_portable.BUILD_BYTES >> 30} GiB free, which the build takes"
            )
        _compile(work)
        libraries = _collected(work)
        try:
            libraries.rename(made)
        except OSError:
            if not made.is_dir():  # else somebody else built the same in the meantime
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return made


def _compile(work: Path) -> None:
    source, tree, log = work / "llama.cpp", work / "tree", work.with_suffix(".log")
    llama_portable.unpack(work, source)
    tools = work / "tools"
    venv.create(tools, with_pip=True)
    environment.pip(
        "install",
        "-c",
        str(LOCKS / "llama-build.txt"),
        "cmake",
        "ninja",
        python=environment.venv_python(tools),
    )
    programs = environment.venv_python(tools).parent
    cmake, ninja = (
        str(programs / f"{name}{'.exe' if os.name == 'nt' else ''}") for name in ("cmake", "ninja")
    )
    given = list(options())
    if sys.platform == "darwin":
        # Messages of asserts name the file they are in: not this machine's folders, but the sources' own.
        flags = f"-ffile-prefix-map={source}=llama.cpp -ffile-prefix-map={tree}=tree"
        given += [f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}"]
    say(f"building llama.cpp for every processor; once, about an hour on 2 cores (log: {log})")
    commands = (
        [cmake, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-S", str(source), "-B", str(tree), *given],
        [cmake, "--build", str(tree), "--target", "llama", "ggml"],
    )
    with log.open("wb") as output:
        for command in commands:
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT)
            if done.returncode:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
                raise SetupError(f"{tail}\nllama.cpp could not be built; the whole log is {log}")
    log.unlink()


def _collected(work: Path) -> Path:
    """The libraries in a folder of their own. Raises SetupError for a build that lacks one."""
    libraries = work / "libraries"
    libraries.mkdir()
    for name in wanted():
        made = work / "tree" / "bin" / name
        if not made.is_file():
            raise SetupError(f"the llama.cpp that was built has no {name}; see what {__file__} expects of it")
        shutil.copy2(made, libraries / name)
    shutil.copy2(work / "llama.cpp" / "LICENSE", libraries / "LICENSE.llama.cpp")
    return libraries
