"""What `make dist` hands out, and the bundle in it: made here by the same script, which does nothing where all is made.

Needs `.venv-bundle` (make dist). The bundle is run as it is: with no Python, no checkout and no home of its own.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.packaging_script import script

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-bundle" / "bin" / "python"
BUNDLE = ROOT / "build" / "bundle" / "seamount"
DIST = ROOT / "dist"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="packages of Linux"),
    pytest.mark.skipif(not PYTHON.exists(), reason="there is no .venv-bundle (make dist makes it)"),
]


@pytest.fixture(scope="module", autouse=True)
def told() -> str:
    """Everything made, or found as it should be; what was said of it."""
    command = [str(PYTHON), str(ROOT / "packaging" / "release_files.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a person for whom nothing is installed."""
    return {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "QT_QPA_PLATFORM": "offscreen",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture(scope="module")
def libraries() -> dict[Path, Any]:
    """What each library in the bundle asks for."""
    reader = script("linux/shared_libraries")
    found = reader.facts(reader.elf_files(BUNDLE))
    assert len(found) > 100
    return dict(found)


def seamount(*arguments: str, environment: dict[str, str], timeout: float = 120) -> str:
    done = subprocess.run(
        [str(BUNDLE / "seamount"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def version_of(name: str) -> tuple[str, tuple[int, ...]]:
    kind, _, number = name.partition("_")
    return kind, tuple(map(int, number.split(".")))


def test_nothing_asks_for_more_than_the_oldest_system_has(libraries: dict[Path, Any]) -> None:
    newest = script("linux/debian_packages").NEWEST
    asked = {path: {version_of(each) for each in facts.versions} for path, facts in libraries.items()}
    assert ("GLIBC", (2, 34)) in set().union(*asked.values())
    too_new = [
        f"{path.name}: {kind} {number}"
        for path, versions in asked.items()
        for kind, number in versions
        if number > newest[kind]
    ]
    assert too_new == []


def test_nothing_of_the_checkout_is_in_it() -> None:
    """Its folder: neither in libraries nor in records."""
    files = [path for path in BUNDLE.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if str(ROOT).encode() in path.read_bytes()] == []


def test_no_library_is_looked_for_in_the_building_machines_folders(libraries: dict[Path, Any]) -> None:
    command = ["objdump", "-p", *map(str, libraries)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    paths = re.findall(r"^\s+R(?:UN)?PATH\s+(.*)$", done.stdout, re.MULTILINE)
    assert len(paths) > 10
    assert {each for path in paths for each in path.split(":") if not each.startswith("$ORIGIN")} == set()


def test_what_is_bundled_of_qt_needs_no_more_of_qt(libraries: dict[Path, Any]) -> None:
    here = {path.name for path in BUNDLE.rglob("*.so*")}
    needed = {name for facts in libraries.values() for name in facts.needed}
    assert {
        name for name in needed - here if name.startswith(("libQt6", "libicu", "libpyside", "libshiboken"))
    } == set()


def test_it_says_its_version(environment: dict[str, str]) -> None:
    assert (
        seamount("--version", environment=environment).strip()
        == f"seamount {script('linux/make_deb').version()}"
    )


def test_the_doctor_finds_everything_that_it_brings(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [str(BUNDLE / "seamount"), "doctor"], env=environment, capture_output=True, text=True
    )
    assert "Qt can draw without a display" in done.stdout, done.stdout + done.stderr
    assert re.search(r"llama\.cpp \(llama-cpp-python [0-9.]+\), CPU code for ", done.stdout)
    # Without the starter there is nothing to talk to, and that alone is wrong.
    wrong = [line for line in done.stdout.splitlines() if line.startswith("!!")]
    assert [line for line in wrong if "no model to talk to" not in line] == []


def test_the_starter_answers(environment: dict[str, str], tmp_path: Path) -> None:
    """From a folder of another name, in which nobody may write, with the starter beside the program."""
    place = tmp_path / "Être là (海山)"
    place.mkdir()
    for name in ("portable", "starter"):
        pattern = "seamount-[0-9]*-x86_64.tar.xz" if name == "portable" else "seamount-starter-*.tar"
        (archive,) = DIST.glob(pattern)
        subprocess.run(["tar", "-xf", str(archive), "-C", str(place)], check=True)
    (folder,) = place.iterdir()
    folder.chmod(0o555)
    try:
        done = subprocess.run(
            [str(folder / "seamount"), "chat", "--prompt", "What is the capital of France?"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        folder.chmod(0o755)
    assert "Paris" in done.stdout, done.stderr


def test_programs_of_the_system_load_the_systems_libraries(environment: dict[str, str]) -> None:
    code = (
        "import os, subprocess, sys\n"
        "print([name for name in os.environ if name.startswith(('LD_', 'QT_P', 'QML'))])\n"
        "ours = [sys.executable, '-c', 'import ssl; print(ssl.OPENSSL_VERSION)']\n"
        "print(subprocess.run(ours, capture_output=True, text=True, check=True).stdout)\n"
        "import ssl; print(ssl.OPENSSL_VERSION)\n"
        "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'libssl' in line})\n"
    )
    environment = {name: value for name, value in environment.items() if not name.startswith("QT_")}
    lines = seamount("-c", code, environment=environment).split("\n")
    assert lines[0] == "[]"
    assert lines[1] == lines[3]
    assert lines[4].startswith(str(BUNDLE))


def test_pip_is_inside_for_optional_parts(environment: dict[str, str]) -> None:
    code = "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
    assert seamount("-c", code, "--version", environment=environment).startswith("pip ")


def test_what_is_loaded_by_name_is_there(environment: dict[str, str]) -> None:
    """Backends of keyrings, dictionaries of a hub's client, formats of archives, event loops."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "from keyring.backend import _load_plugins\n"
        "import importlib.metadata as m\n"
        "print(len(m.entry_points(group='keyring.backends')))\n"
    )
    names = ["keyring.backends.SecretService", "keyring.backends.kwallet", "huggingface_hub.hf_api", "hf_xet"]
    names += [
        "uvicorn.protocols.http.h11_impl",
        "anyio._backends._asyncio",
        "pygments.lexers.python",
        "zstandard",
    ]
    names += ["unittest.mock", "pickletools", "cProfile", "xmlrpc.client", "sqlite3", "lzma", "curses.panel"]
    assert int(seamount("-c", code, *names, environment=environment)) >= 5


def test_every_sum_is_the_files() -> None:
    lines = [line.split("  ") for line in (DIST / "SHA256SUMS").read_text("utf-8").splitlines()]
    assert {name for _, name in lines} == {path.name for path in DIST.iterdir()} - {"SHA256SUMS"}
    for digest, name in lines:
        with (DIST / name).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest


def test_the_bill_names_everything_that_has_a_licence() -> None:
    (path,) = DIST.glob("seamount-*.cdx.json")
    bill = json.loads(path.read_text("utf-8"))
    index = json.loads((BUNDLE / "_internal" / "licences" / "index.json").read_text("utf-8"))
    assert {each["name"] for each in bill["components"]} | {"seamount"} == {each["name"] for each in index}
    assert all(each["licenses"] for each in bill["components"])
    purls = [each["purl"] for each in bill["components"]]
    assert len(purls) == len(set(purls))
    parts = next(each for each in bill["components"] if each["name"] == "llama_cpp_python")["components"]
    names = {each["name"] for each in parts}
    assert names == {
        each.name for each in (BUNDLE / "_internal/llama_cpp/lib").iterdir() if not each.is_symlink()
    }


def test_the_sizes_are_told_and_within_bounds(told: str) -> None:
    (size,) = re.findall(r"([0-9.]+) MB  installed", told)
    assert float(size) < 600
    (deb,) = DIST.glob("seamount_*_amd64.deb")
    assert deb.stat().st_size < 200 * 10**6


def test_a_second_call_makes_nothing_anew() -> None:
    before = {path: path.stat().st_mtime_ns for path in _made()}
    command = [str(PYTHON), str(ROOT / "packaging" / "release_files.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in _made()} == before


def _made() -> Iterator[Path]:
    yield BUNDLE / "seamount"
    yield from (path for path in DIST.iterdir() if path.suffix in (".deb", ".xz", ".tar", ".json"))
