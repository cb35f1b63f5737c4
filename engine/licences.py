"""The parts of the program that others made, with their licences.

Owns: where the texts are found: in a bundle's folder `licences/`, else in what the installed packages say of
themselves, for all that Seamount needs, directly or not. Does not judge licences. What it reads was installed with the
program; it is bounded all the same.
"""

import json
import re
from collections.abc import Iterator
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, cast

from engine.errors import NotFound
from engine.protocol_about import LONGEST_LICENCE, LicenceEntry, LicenceText

BUNDLED = Path(__file__).resolve().parents[1] / "licences"
"""In a bundle: `index.json`, a list of {name, version, licence, file}, and a text of UTF-8 for each."""
PROGRAM = "seamount"
_LARGEST_INDEX_BYTES = 4 << 20
_MOST_ENTRIES = 5_000
_LONGEST_WORDS = 200
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_TEXT_NAME = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)", re.IGNORECASE)
_SEPARATORS = re.compile(r"[-_.]+")


class _Part(NamedTuple):
    entry: LicenceEntry
    files: tuple[Path, ...]


class Licences:
    """Looked up when they are first asked for; the program does not change while it runs. Any thread."""

    def __init__(self, bundled: Path = BUNDLED) -> None:
        self._bundled = bundled

    def entries(self) -> list[LicenceEntry]:
        """All parts, by name."""
        return [part.entry for part in self._parts]

    def text(self, place: int) -> LicenceText:
        """The text of the part at that place in `entries`. Raises NotFound."""
        if not 0 <= place < len(self._parts):
            raise NotFound(
                "There is no such licence", f"the list has {len(self._parts)}", "look it up in the list"
            )
        part = self._parts[place]
        texts = [text for path in part.files if (text := _read(path))]
        if not texts:
            said = part.entry.licence or "it does not say which"
            texts = [f"The package brings no text of its licence ({said}); it is at the package's own page."]
        return LicenceText(name=part.entry.name, text="\n\n".join(texts)[:LONGEST_LICENCE])

    @cached_property
    def _parts(self) -> list[_Part]:
        found = _of_bundle(self._bundled)
        if found is None:
            found = [_of_distribution(each) for each in _needed()]
        return sorted(found, key=lambda part: _plain(part.entry.name))


def _of_bundle(folder: Path) -> list[_Part] | None:
    """What the index names; None without one that can be read."""
    index = folder / "index.json"
    try:
        with index.open("rb") as file:
            found: Any = json.loads(file.read(_LARGEST_INDEX_BYTES))
        rows = cast("list[dict[str, str]]", found)[:_MOST_ENTRIES]
        return [
            _Part(
                LicenceEntry(
                    name=_words(row["name"]), version=_words(row["version"]), licence=_words(row["licence"])
                ),
                (folder / Path(row["file"]).name,),  # nothing outside of the folder is ever shown
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _needed() -> Iterator[metadata.Distribution]:
    """Every installed package that Seamount's needs lead to, also those that are only needed at times."""
    waiting, seen = [PROGRAM], {PROGRAM}
    while waiting:
        name = waiting.pop()
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if name != PROGRAM:
            yield found
        for requirement in found.requires or ():
            named = _REQUIREMENT.match(requirement)
            # What a package's own extras ask for is no part of this program; Seamount's own extras are.
            if named is None or (name != PROGRAM and "extra ==" in requirement):
                continue
            needed = _plain(named.group(1))
            if needed not in seen:
                seen.add(needed)
                waiting.append(needed)


def _of_distribution(found: metadata.Distribution) -> _Part:
    said = cast("dict[str, Any]", found.metadata.json)
    files = tuple(
        Path(str(found.locate_file(path)))
        for path in found.files or ()
        if path.parts[0].endswith(".dist-info") and _TEXT_NAME.search(path.name)
    )
    classifiers = [
        str(each).rpartition(" :: ")[2] for each in said.get("classifier") or () if "License ::" in str(each)
    ]
    short = str(said.get("license") or "").strip().partition("\n")[0]
    licence = str(said.get("license_expression") or ", ".join(classifiers) or short)
    entry = LicenceEntry(
        name=_words(str(said["name"])), version=_words(found.version), licence=_words(licence)
    )
    return _Part(entry, files)


def _plain(name: str) -> str:
    """As indexes of packages compare names (PEP 503)."""
    return _SEPARATORS.sub("-", name).casefold()


def _words(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_WORDS]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_LICENCE).decode("utf-8", "replace").replace("\r\n", "\n").strip()
    except OSError:
        return ""
