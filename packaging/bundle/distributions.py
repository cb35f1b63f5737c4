"""What of the environment belongs into the bundle: Seamount's dependencies, each of them whole.

Owns: which distributions, which modules, which files of theirs. A distribution that is there in part only would hide
the whole one that an optional part brings, and break it; so nothing is left to PyInstaller's guesses but PySide6, of
which most is not used. Knows nothing of PyInstaller. Runs in `.venv-bundle`.
"""

import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROGRAM = "seamount"
INSTALLER = "pip"
"""Optional parts are fetched with it."""
QT_BINDINGS = frozenset({"pyside6-essentials", "shiboken6"})
LLAMA = "llama-cpp-python"
_SOURCES = frozenset(
    {".sh", ".py", ".pyc", ".pyi", ".pyx", ".pxd", ".h", ".hpp", ".c", ".cpp", ".a", ".f", ".f90", ".src"}
)
_LIBRARIES = (".so", ".pyd", ".dll", ".dylib", ".exe")
_TESTS = frozenset({"tests", "test", "testing_data"})
# Needs packages that are not installed; the engine's own server is another.
_LEFT_OUT = ("llama_cpp.server",)

ROOMS = ("app", "engine", "convert", "kernels")
"""Seamount's own packages in a checkout."""


def bundled() -> list[metadata.Distribution]:
    """Seamount, what it needs on this platform and what that needs, and pip; by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(PROGRAM, frozenset()), (INSTALLER, frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = distribution = metadata.distribution(name)
        for line in distribution.requires or ():
            needed = Requirement(line)
            environments = [{"extra": extra} for extra in (*extras, "")]
            if needed.marker is None or any(needed.marker.evaluate(each) for each in environments):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return [found[name] for name in sorted(found)]


def name_of(distribution: metadata.Distribution) -> str:
    """Its normalised name."""
    return canonicalize_name(distribution.metadata["Name"])


def module_names(distribution: metadata.Distribution) -> Iterator[str]:
    """Every module that it installed, tests left out."""
    if name_of(distribution) in QT_BINDINGS | {PROGRAM}:
        return
    for path in _importable(distribution):
        if path.suffix == ".py" or path.name.endswith((".so", ".pyd")):
            parts = [*path.parts[:-1], path.name.partition(".")[0]]
            if parts[-1] == "__init__":
                parts.pop()
            name = ".".join(parts)
            if all(part.isidentifier() for part in parts) and not name.startswith(_LEFT_OUT):
                yield name


def data_files(distribution: metadata.Distribution) -> Iterator[tuple[Path, PurePosixPath]]:
    """(file, its place beside the modules) of all that its modules may read. llama.cpp's libraries are not among
    them: the bundle has a build of its own."""
    if name_of(distribution) in QT_BINDINGS | {PROGRAM}:
        return
    for path in _importable(distribution):
        if path.suffix in _SOURCES or path.name == "py.typed" or path.name.endswith(_LIBRARIES):
            continue
        if ".so." in path.name or path.parts[0].endswith(".libs"):
            continue  # found as what an extension module is linked with
        if name_of(distribution) == LLAMA and path.parts[:2] != ("llama_cpp", "py.typed"):
            continue
        yield Path(str(distribution.locate_file(path))), path


def metadata_files(distribution: metadata.Distribution) -> Iterator[tuple[Path, PurePosixPath]]:
    """What `importlib.metadata` is asked for: names, versions, entry points. Not where it was installed from."""
    for path in distribution.files or ():
        if path.parent.name.endswith(".dist-info") and wanted(str(path)):
            yield Path(str(distribution.locate_file(path))), PurePosixPath(path.parent.name, path.name)


def wanted(place: str) -> bool:
    """Whether a file of the bundle is wanted, as far as it is a distribution's own record; any other is."""
    folder, _, rest = place.replace("\\", "/").partition("/")
    return not folder.endswith(".dist-info") or rest in ("METADATA", "entry_points.txt")


def room_modules(root: Path) -> Iterator[str]:
    """Every module of Seamount's own packages in the checkout at `root`."""
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            parts = list(path.relative_to(root).with_suffix("").parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def standard_library() -> Iterator[str]:
    """Every module of Python's own library but tests, tools for learning Python, what needs Tk, and bindings of
    libraries under the GPL: an optional part may import any of them."""
    library = Path(sysconfig.get_path("stdlib"))
    without = {
        "tkinter",
        "idlelib",
        "turtle",
        "turtledemo",
        "test",
        "lib2to3",
        "readline",
        "this",
        "antigravity",
    }
    for top in sorted(sys.stdlib_module_names - without):
        if (library / top).is_dir():
            for path in sorted((library / top).rglob("*.py")):
                parts = path.relative_to(library).with_suffix("").parts
                if _TESTS & set(parts) or not all(part.isidentifier() for part in parts):
                    continue
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        else:
            yield top


def _importable(distribution: metadata.Distribution) -> Iterator[PurePosixPath]:
    for path in distribution.files or ():
        if (
            path.parts[0] in ("..", "bin", "include", "share", "lib", "__pycache__")
            or "__pycache__" in path.parts
        ):
            continue
        if path.parts[0].endswith((".dist-info", ".pth")) or _TESTS & set(path.parts):
            continue
        yield PurePosixPath(*path.parts)
