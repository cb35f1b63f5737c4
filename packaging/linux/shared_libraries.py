"""What programs and libraries of Linux ask of the system: other libraries, and versions of symbols.

Owns: reading that from the files with `objdump` (binutils, which PyInstaller needs as well). Does not know which Debian
package has what.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_FILE = re.compile(r"^(\S.*):\s+file format elf")
_NEEDED = re.compile(r"^\s+NEEDED\s+(\S+)")
_VERSION = re.compile(r"^\s+0x[0-9a-f]+ 0x[0-9a-f]+ \d+ ((?:GLIBC|GLIBCXX|CXXABI)_[0-9.]+)$")


class LibraryError(Exception):
    """A library asks for what nobody gives it, or cannot be read; the text says which."""


class Facts(NamedTuple):
    """Of one file."""

    needed: frozenset[str]
    """Names of libraries that it is linked with (DT_NEEDED)."""
    versions: frozenset[str]
    """Versions of the C and C++ runtimes' symbols: "GLIBC_2.34", "GLIBCXX_3.4.29"."""


def elf_files(folder: Path) -> Iterator[Path]:
    """Every program and library beneath a folder, links left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size > 4:
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def facts(paths: Iterable[Path]) -> dict[Path, Facts]:
    """Of each file. Raises LibraryError where one cannot be read."""
    files = list(paths)
    if not files:
        return {}
    command = ["objdump", "-p", *map(str, files)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
        )
    except FileNotFoundError as error:
        raise LibraryError("objdump is missing: install binutils") from error
    found: dict[Path, tuple[set[str], set[str]]] = {}
    needed, versions = set[str](), set[str]()
    asked = False
    for line in done.stdout.splitlines():
        if match := _FILE.match(line):
            needed, versions = found[Path(match[1])] = (set(), set())
        elif match := _NEEDED.match(line):
            needed.add(match[1])
        elif not line.startswith(" "):
            asked = line.startswith("Version References")
        elif asked and (match := _VERSION.match(line)):
            versions.add(match[1])
    if missing := [str(path) for path in files if path not in found]:
        raise LibraryError(f"objdump cannot read {missing[0]} ({done.stderr.strip()[-200:]})")
    return {path: Facts(frozenset(needed), frozenset(versions)) for path, (needed, versions) in found.items()}


def outside(folder: Path) -> dict[str, list[Path]]:
    """{library that is not in the folder: the files that are linked with it}. Raises LibraryError."""
    here = {path.name for path in folder.rglob("*") if path.is_file()}
    found: dict[str, list[Path]] = {}
    for path, each in facts(elf_files(folder)).items():
        for name in each.needed - here:
            found.setdefault(name, []).append(path)
    return found
