"""Builds the llama.cpp that runs on any x86-64 of the last ten years, for the bundle.

    python3 packaging/llama_portable.py          prints the folder of the libraries, built if need be

Owns: which sources, options and tools that build has, and where it is kept: a folder of `environment.cache_folder()`
whose name is a digest of all of these. Knows nothing of the bundle. In the folder lie libllama, libggml, libggml-base,
one libggml-cpu-… for each kind of processor, of which ggml loads the best that runs, and libggml-vulkan, which alone
needs Vulkan's loader. Sources are compiled as they are; what Vulkan headers older than theirs lack is in
`vulkan_compat/`. Takes about an hour on two cores; a call that is interrupted is gone on with by the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import environment
from environment import LOCKS, SetupError, say

COMPAT = environment.ROOT / "packaging" / "vulkan_compat"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    # One file for each library: no link with a version in its name, which an archive or a wheel would double.
    "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_OPENSSL=OFF",
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER", "APP")),
)
VARIANTS = {
    "x86_64": (
        *("x64", "sse42", "sandybridge", "ivybridge", "piledriver", "haswell", "alderlake", "skylakex"),
        *("cannonlake", "cascadelake", "icelake", "cooperlake", "zen4", "sapphirerapids"),
    )
}
"""What ggml makes of GGML_CPU_ALL_VARIANTS; a build that lacks one is not kept."""
OLDEST_CMAKE = (3, 21)
BUILD_BYTES = 3 << 30
"""Free space that the build takes, with some to spare."""
NEWEST_SYMBOLS = {"GLIBC": (2, 35), "GLIBCXX": (3, 4, 30)}
"""What the oldest system that the bundle is for has: Ubuntu 22.04."""


def why_no_vulkan() -> str:
    """What of the Vulkan backend's needs is missing here, as a clause; "" where nothing is."""
    lacking = [
        *([] if shutil.which("glslc") else ["glslc"]),
        *([] if _header("vulkan/vulkan.hpp") else ["Vulkan's headers (libvulkan-dev)"]),
        *([] if _header("spirv/unified1/spirv.hpp") else ["SPIR-V's headers (spirv-headers)"]),
    ]
    return f"there is no {' and no '.join(lacking)} here" if lacking else ""


def folder() -> Path:
    """Where the libraries are kept, built or not yet. Raises SetupError where there is no compiler."""
    vulkan = not why_no_vulkan()
    parts = [
        (LOCKS / "llama.txt").read_text(),
        (LOCKS / "llama-build.txt").read_text(),
        " ".join(OPTIONS),
        f"vulkan {_first_line('glslc', '--version')} {_vulkan_version()}" if vulkan else "no vulkan",
        *(each.read_text() for each in sorted(COMPAT.rglob("*.hpp"))),
        _first_line(*_compiler(), "--version"),
        sys.platform,
        platform.machine(),
    ]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return environment.cache_folder() / f"llama-portable-{digest}"


def build() -> Path:
    """The folder of the libraries, built now where it is not there yet. Raises SetupError, OSError.

    Of two calls at once the second waits for the first.
    """
    if not sys.platform.startswith("linux") or platform.machine() not in VARIANTS:
        import llama_elsewhere  # which has the sources and the options from here

        return llama_elsewhere.build()
    made = folder()
    if made.is_dir():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with _alone(made.with_name(f"{made.name}.lock")):
        if made.is_dir():
            return made
        if shutil.disk_usage(made.parent).free < BUILD_BYTES:
            raise SetupError(
                f"{made.parent} has less than {BUILD_BYTES >> 30} GiB free, which building llama.cpp takes"
            )
        work = made.with_name(f"{made.name}.building")
        work.mkdir(exist_ok=True)
        _compile(work)
        libraries = _collected(work)
        for problem in [*missing(libraries), *too_new(libraries)]:
            raise SetupError(f"the llama.cpp that was built is not portable: {problem}; {work} is kept")
        libraries.rename(made)
        shutil.rmtree(work, ignore_errors=True)
    return made


def missing(libraries: Path) -> list[str]:
    """What a finished build has and `libraries` has not, each as a clause."""
    wanted = ["libllama.so", "libggml.so", "libggml-base.so"]
    wanted += [f"libggml-cpu-{variant}.so" for variant in VARIANTS[platform.machine()]]
    if not why_no_vulkan():
        wanted.append("libggml-vulkan.so")
    return [f"{name} is missing" for name in wanted if not (libraries / name).is_file()]


def too_new(libraries: Path) -> list[str]:
    """Which libraries need a newer system than the oldest that the bundle is for, each as a clause."""
    found = []
    for library in sorted(libraries.glob("*.so")):
        text = _output("readelf", "--version-info", "--wide", str(library))
        for kind, newest in NEWEST_SYMBOLS.items():
            versions = {
                tuple(map(int, version.split("."))) for version in re.findall(rf"\b{kind}_([\d.]*\d)", text)
            }
            if versions and max(versions) > newest:
                is_, wanted = (".".join(map(str, each)) for each in (max(versions), newest))
                found.append(f"{library.name} needs {kind}_{is_}, newer than {wanted}")
    return found


def needed(library: Path) -> list[str]:
    """The libraries that one names as its own needs."""
    return re.findall(r"\(NEEDED\).*\[(.+)\]", _output("readelf", "--dynamic", "--wide", str(library)))


# --- the steps ------------------------------------------------------------------------------------------------


def _compile(work: Path) -> None:
    source, tree = work / "llama.cpp", work / "tree"
    if not source.is_dir():
        unpack(work, source)
    cmake, ninja = _tools(work)
    options = [*OPTIONS, f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    if reason := why_no_vulkan():
        say(f"llama.cpp is built without its Vulkan backend, because {reason}; GPUs will not be used")
    else:
        options.append("-DGGML_VULKAN=ON")
    # Messages of asserts name the file they are in: not this machine's folders, but the sources' own.
    flags = f"-ffile-prefix-map={source}=llama.cpp -ffile-prefix-map={tree}=tree"
    options.append(f"-DCMAKE_C_FLAGS={flags}")
    options.append(f"-DCMAKE_CXX_FLAGS={flags} -I{shlex.quote(str(COMPAT))}")
    log = work / "build.log"
    say(f"building llama.cpp for every processor; once, about an hour on 2 cores (log: {log})")
    with log.open("ab") as output:
        _run(log, output, cmake, "-G", "Ninja", "-S", str(source), "-B", str(tree), *options)
        _run(log, output, cmake, "--build", str(tree), "--target", "llama", "ggml")


def unpack(work: Path, target: Path) -> None:
    """The pinned sources of llama.cpp, checked against their digest by pip, at `target`."""
    fetched = work / "sdist"
    shutil.rmtree(fetched, ignore_errors=True)
    python = environment.venv_python()
    constraints = str(LOCKS / "llama-build.txt")
    environment.pip(
        *("download", "--no-deps", "--no-binary", ":all:", "--require-hashes"),
        *("-r", str(LOCKS / "llama.txt"), "-d", str(fetched)),
        python=python if python.exists() else Path(sys.executable),
        env={**os.environ, "PIP_CONSTRAINT": constraints, "PIP_BUILD_CONSTRAINT": constraints},
    )
    archive = next(fetched.glob("llama_cpp_python-*.tar.gz"))
    inside = f"{archive.name.removesuffix('.tar.gz')}/vendor/llama.cpp/"
    with tarfile.open(archive) as packed:
        members = [each for each in packed.getmembers() if each.name.startswith(inside)]
        packed.extractall(fetched, members, filter="data")
    (fetched / inside).rename(target)
    shutil.rmtree(fetched)


def _tools(work: Path) -> tuple[str, str]:
    """cmake and ninja: the system's where they are new enough, else the pinned ones."""
    cmake, ninja = shutil.which("cmake"), shutil.which("ninja")
    if cmake and ninja:
        found = re.search(r"(\d+)\.(\d+)", _first_line(cmake, "--version"))
        if found and tuple(map(int, found.groups())) >= OLDEST_CMAKE:
            return cmake, ninja
    tools = work / "tools"
    if not (tools / "bin" / "cmake").exists() or not (tools / "bin" / "ninja").exists():
        python = environment.venv_python()
        environment.pip(
            *("install", "--target", str(tools), "--upgrade", "-c", str(LOCKS / "llama-build.txt")),
            *("cmake", "ninja"),
            python=python if python.exists() else Path(sys.executable),
        )
    # The command in bin/ is a script that finds its package only where that is installed as usual.
    data = next(tools.glob("cmake/data/bin/cmake"), tools / "bin" / "cmake")
    return str(data), str(next(tools.glob("ninja/data/bin/ninja"), tools / "bin" / "ninja"))


def _collected(work: Path) -> Path:
    """The libraries of the build, stripped, in a folder of their own."""
    libraries = work / "libraries"
    shutil.rmtree(libraries, ignore_errors=True)
    libraries.mkdir()
    for library in sorted((work / "tree" / "bin").glob("lib*.so")):
        copy = libraries / library.name
        shutil.copy2(library, copy)
        _output("strip", "--strip-unneeded", str(copy))
    shutil.copy2(work / "llama.cpp" / "LICENSE", libraries / "LICENSE.llama.cpp")
    return libraries


# --- small things ---------------------------------------------------------------------------------------------


def _compiler() -> list[str]:
    command = shlex.split(os.environ.get("CXX", "c++"))
    if not command or not shutil.which(command[0]):
        raise SetupError("there is no C++ compiler; install one (Debian: build-essential) and try again")
    return command


def _header(name: str) -> bool:
    program = subprocess.run(
        [*_compiler(), "-E", "-x", "c++", "-o", os.devnull, "-"],
        input=f"#if !__has_include(<{name}>)\n#error\n#endif\n",
        capture_output=True,
        text=True,
    )
    return program.returncode == 0


def _vulkan_version() -> str:
    text = _output(
        *_compiler(),
        *("-E", "-P", "-x", "c++", "-"),
        stdin="#include <vulkan/vulkan_core.h>\nVERSION VK_HEADER_VERSION\n",
    )
    return text.strip().splitlines()[-1]


def _first_line(*command: str) -> str:
    return _output(*command).strip().splitlines()[0]


def _output(*command: str, stdin: str = "") -> str:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    except OSError as error:
        raise SetupError(
            f"{command[0]} cannot be run ({error}); install it (Debian: build-essential)"
        ) from error
    if done.returncode:
        raise SetupError(f"{command[0]} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _run(log: Path, output: object, *command: str) -> None:
    """Run one step of the build, telling the time as it goes. Raises SetupError with the log's end."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        while True:
            try:
                status = process.wait(timeout=60)
                break
            except subprocess.TimeoutExpired:
                say(f"building llama.cpp, {time.monotonic() - began:.0f} s")
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise SetupError(f"{tail}\nllama.cpp could not be built; the whole log is {log}")


@contextlib.contextmanager
def _alone(lock: Path):
    """Wait until nobody else builds the same, and keep others waiting."""
    import fcntl  # not on Windows, where this script does not build

    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build of llama.cpp")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """The command line; returns the exit status."""
    if len(sys.argv) != 1:
        print(__doc__)
        return 2
    try:
        print(build())
    except (SetupError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("stopped; the next call goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
