"""What is frozen into the bundle, compared with what the program is made of and with what it is seen to use.

Looks at the bundle that `make dist` made in build/, or the one that SEAMOUNT_BUNDLE names, which then has to be there.
Skips where none has been made. What is used is found by watching the checkout at work, as far as it gets without a
network: its modules, the files that they read, the libraries that are mapped.
"""

import functools
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.test_rooms import dotted, imported_names, modules

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = Path(os.environ.get("SEAMOUNT_BUNDLE") or ROOT / "build" / "bundle" / "seamount")
MUST_BE_THERE = "SEAMOUNT_BUNDLE" in os.environ
INSIDE = BUNDLE / "_internal"
BUNDLE_PYTHON = BUNDLE.parents[2] / ".venv-bundle" / "bin" / "python"
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
OPTIONAL = ("torch", "triton")
"""What only the native engine imports; it comes with an optional part."""
PATIENCE_S = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="what is used is watched by means of Linux"
    ),
    pytest.mark.skipif(
        not INSIDE.is_dir() and not MUST_BE_THERE, reason="no bundle has been made (make dist)"
    ),
]

# Put into every Python process of the checkout; it writes what the process used when it ends.
WATCHER = """
import atexit, json, os, sys

_opened = set()
_pid = os.getpid()


def _note(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        _opened.add(arguments[0])


def _write():
    if os.getpid() != _pid:
        return
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    # By the name it was found under: some are in the list of modules under another one, too.
    modules = {spec.name: spec.origin for spec in specs if spec is not None}
    with open("/proc/self/maps") as maps:
        fields = [line.split(maxsplit=5) for line in maps]
    mapped = sorted({each[5].strip() for each in fields if len(each) == 6})
    note = os.path.join(os.environ["SEAMOUNT_WATCHED"], f"{_pid}.json")
    with open(note + ".new", "w") as file:
        json.dump({"arguments": sys.argv, "modules": modules, "opened": sorted(_opened), "mapped": mapped}, file)
    os.rename(note + ".new", note)


atexit.register(_write)
sys.addaudithook(_note)
"""

FROZEN = """
import json, sys
from PyInstaller.archive.readers import CArchiveReader

archive = CArchiveReader(sys.argv[1])
(name,) = [name for name, entry in archive.toc.items() if entry[-1] == "z"]
needed_to_start = [name for name, entry in archive.toc.items() if entry[-1] in "mM"]
print(json.dumps([*needed_to_start, *archive.open_embedded_archive(name).toc]))
"""


@dataclass(frozen=True)
class Used:
    """What processes of the checkout were seen to use."""

    modules: dict[str, str]
    """Name → the file it comes from, or "built-in" and "frozen"."""
    opened: set[str]
    mapped: set[str]
    commands: list[list[str]]


@pytest.fixture(scope="module")
def frozen() -> set[str]:
    """Names of all modules that the bundle can import."""
    assert BUNDLE_PYTHON.exists(), ".venv-bundle, which the bundle was made in, is gone: make dist makes it"
    reading = subprocess.run(
        [str(BUNDLE_PYTHON), "-c", FROZEN, str(BUNDLE / "seamount")],
        capture_output=True,
        text=True,
        check=True,
    )
    names: set[str] = set(json.loads(reading.stdout))
    for library in INSIDE.rglob("base_library.zip"):
        with zipfile.ZipFile(library) as packed:
            names |= {module_name(Path(name)) for name in packed.namelist() if name.endswith((".py", ".pyc"))}
    for path in INSIDE.rglob("*"):
        inside = path.relative_to(INSIDE)
        if path.suffix in (".py", ".so"):
            # The standard library's own extension modules lie in a folder that is on the path itself.
            parts = (
                inside.parts[inside.parts.index("lib-dynload") + 1 :]
                if "lib-dynload" in inside.parts
                else None
            )
            names.add(module_name(Path(*parts) if parts else inside))
    # What is in the interpreter itself.
    built_in = [str(BUNDLE / "seamount"), "-c", "import sys; print(*sys.builtin_module_names, *sys.modules)"]
    names |= set(subprocess.run(built_in, capture_output=True, text=True, check=True).stdout.split())
    return names


def module_name(path: Path) -> str:
    """`a/b.cpython-311-x86_64-linux-gnu.so` → `a.b`."""
    parts = [*path.parts[:-1], path.name.partition(".")[0]]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def needed_files() -> dict[Path, str]:
    """Every file that the packages which the program needs have installed here → its path in site-packages."""
    waiting, names = ["seamount"], set[str]()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in names:
            names.add(name)
            needs = map(Requirement, importlib.metadata.requires(name) or ())
            # The optional parts of a package are not taken, those of packages that a need asks for are rare here.
            waiting += [
                need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})
            ]
    found: dict[Path, str] = {}
    for name in names:
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            found[Path(str(distribution.locate_file(file))).resolve()] = str(file)
    return found


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Used:
    """What `doctor`, the window with its engine, an answer in the terminal and V4's encoding use."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "hook").mkdir()
    (folder / "notes").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(WATCHER)
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder / "hook"),
        "SEAMOUNT_WATCHED": str(folder / "notes"),
        "SEAMOUNT_DATA": str(folder / "data"),
        "QT_QPA_PLATFORM": "offscreen",
    }
    program = [sys.executable, "-m", "seamount"]
    for arguments, text in (
        (["doctor"], ""),
        (["encode"], json.dumps({"messages": [{"role": "user", "content": "Hello"}]})),
        (["chat", "--prompt", "Say hello."], ""),
        (["sessions", "list"], ""),
    ):
        done = subprocess.run(
            [*program, *arguments],
            env=environment,
            input=text,
            text=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0 or arguments == ["doctor"], done.stderr
    # The window asks its engine for everything that it shows, and ends it with itself.
    window = subprocess.Popen(program, env=environment | {"SEAMOUNT_DATA": str(folder / "of the window")})
    wait_for(folder / "of the window" / "engine.json", window)
    window.send_signal(signal.SIGTERM)
    assert window.wait(PATIENCE_S) == 0
    deadline = time.monotonic() + PATIENCE_S
    while sum('"serve"' in note.read_text() for note in (folder / "notes").glob("*.json")) < 2:
        assert time.monotonic() < deadline, "an engine did not end after its last client"
        time.sleep(0.05)
    modules: dict[str, str] = {}
    opened: set[str] = set()
    mapped: set[str] = set()
    commands: list[list[str]] = []
    for note in (folder / "notes").glob("*.json"):
        found: dict[str, Any] = json.loads(note.read_bytes())
        modules |= {name: origin for name, origin in found["modules"].items() if origin}
        opened |= set(found["opened"])
        mapped |= set(found["mapped"])
        commands.append(found["arguments"][1:])
    return Used(modules, opened, mapped, commands)


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    """Until the process has written that file."""
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert process.poll() is None, f"it ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"there is no {path}"
        time.sleep(0.05)


def test_the_bundle_that_was_named_is_there() -> None:
    assert INSIDE.is_dir(), f"SEAMOUNT_BUNDLE names {BUNDLE}, which is no bundle"


def test_every_module_of_the_program_is_frozen(frozen: set[str]) -> None:
    assert {dotted(module) for module in modules()} | {"seamount"} <= frozen


def test_every_file_of_the_assets_is_there_as_it_is() -> None:
    assets = [path.relative_to(ROOT) for path in (ROOT / "assets").rglob("*") if path.is_file()]
    assert len(assets) > 20
    different = [
        str(path)
        for path in assets
        if not (INSIDE / path).is_file() or (INSIDE / path).read_bytes() != (ROOT / path).read_bytes()
    ]
    assert different == []


def test_what_the_program_imports_anywhere_is_frozen(frozen: set[str]) -> None:
    """Also what a function imports that nothing here calls. `from a import b`: b is a module, or something in a."""
    names = {name for module in modules() for name in imported_names(module)}
    wanted = {name for name in names if not name.startswith(OPTIONAL)}
    missing = sorted(name for name in wanted if name not in frozen and name.rpartition(".")[0] not in frozen)
    # What this machine has not either is of another system.
    assert [name for name in missing if importlib.util.find_spec(name.partition(".")[0])] == []


def test_what_was_watched_is_the_whole_program(used: Used) -> None:
    starts = [" ".join(command) for command in used.commands]
    for start in ("doctor", "encode", "chat --prompt Say hello.", ""):
        assert start in starts
    assert (
        sum("serve" in command for command in used.commands) == 2
    )  # of the terminal's chat and of the window
    assert {"PySide6.QtWidgets", "llama_cpp.llama_cpp", "uvicorn.server", "tokenizers", "sqlite3"} <= set(
        used.modules
    )


def test_every_module_that_was_used_is_frozen(used: Used, frozen: set[str]) -> None:
    missing = []
    for name, origin in used.modules.items():
        path = Path(origin)
        of_python = origin in ("built-in", "frozen") or (
            path.is_relative_to(STANDARD_LIBRARY) and "site-packages" not in path.parts
        )
        if (of_python or path.resolve() in needed_files()) and name not in frozen:
            missing.append(name)
    assert sorted(missing) == []


def test_every_file_that_was_read_is_there_as_it_is(used: Used) -> None:
    read = {needed_files().get(Path(path).resolve()) for path in used.opened} - {None}
    # Modules are elsewhere, llama.cpp's libraries are another build.
    data = sorted(
        name
        for name in read
        if name is not None
        and not name.endswith((".py", ".pyc", ".pth"))
        and ".so" not in name
        and not name.startswith("llama_cpp/lib/")
    )
    assert any(name.endswith("tokenizer.json") for name in data)
    places = {name: path for path, name in needed_files().items()}
    different = [
        name
        for name in data
        if not (INSIDE / name).is_file() or (INSIDE / name).read_bytes() != places[name].read_bytes()
    ]
    # Seamount's own tells of its README, which may have been written on since.
    different = [name for name in different if not re.match(r"seamount-.*/METADATA", name)]
    assert different == []


def test_every_library_that_was_mapped_is_there(used: Used) -> None:
    mapped = {needed_files().get(Path(path).resolve()) for path in used.mapped} - {None}
    libraries = {name for name in mapped if name is not None and ".so" in name}
    libraries = {name for name in libraries if not name.startswith("llama_cpp/lib/")}
    assert any("platforms/libqoffscreen" in name for name in libraries)
    there = {path.name for path in INSIDE.rglob("*.so*")}
    assert sorted(name for name in libraries if Path(name).name not in there) == []


def test_the_window_finds_a_display_of_either_kind() -> None:
    plugins = {path.name for path in (INSIDE / "PySide6").rglob("platforms/*.so")}
    assert {"libqxcb.so", "libqwayland.so"} <= plugins


def test_versions_of_what_the_program_needs_can_be_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = [re.split(r"[^A-Za-z0-9_.-]", needed)[0] for needed in project["dependencies"]] + ["seamount"]
    program = "import importlib.metadata, sys; print(*map(importlib.metadata.version, sys.argv[1:]))"
    done = subprocess.run([str(BUNDLE / "seamount"), "-c", program, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [importlib.metadata.version(name) for name in names]
