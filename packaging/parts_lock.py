"""Writes `assets/parts/native.toml` anew: what the optional part is made of, with sums and sizes.

    .venv/bin/python packaging/parts_lock.py

Owns: reading `packaging/locks/native.in` (names and versions, chosen by a person), asking pip's index for each wheel's
name, sum and size, and the layout of the result. Fetches the ends of wheels only, where a wheel's own list of files
lies; the CUDA set is gigabytes. Does not choose versions: it complains where one of the wheels asks for another.
Uses pip's own code for finding, of which no release promises that it stays; run by `make lock` alone.
"""

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pip._internal.commands.download import DownloadCommand
from pip._internal.network.lazy_wheel import LazyZipOverHTTP

ROOT = Path(__file__).resolve().parents[1]
CHOSEN = ROOT / "packaging" / "locks" / "native.in"
LOCK = ROOT / "assets" / "parts" / "native.toml"
BASE = ROOT / "packaging" / "locks" / "run.txt"
TAIL_BYTES = 1 << 20
_PINNED = re.compile(r"^([\w.-]+)==([\w.+!]+)", re.MULTILINE)


class Index:
    """What pip finds by the configuration of this machine."""

    def __init__(self) -> None:
        command = DownloadCommand("download", "")
        options, _ = command.parse_args([])
        with command.main_context():
            self._session = command.get_default_session(options)
            self._finder = command._build_package_finder(options, self._session)

    def wheel(self, name: str, version: str) -> tuple[dict[str, object], list[str]]:
        """One wheel for this Python and platform as the lock has it, and what it requires. Raises SystemExit."""
        found = [each for each in self._finder.find_all_candidates(name) if str(each.version) == version]
        best = self._finder.make_candidate_evaluator(name).compute_best_candidate(
            [each for each in found if each.link.is_wheel]
        )
        if best.best_candidate is None:
            raise SystemExit(f"pip finds no wheel of {name} {version} for this Python and platform")
        link = best.best_candidate.link
        if link.is_file:
            size_bytes = Path(link.file_path).stat().st_size
            with ZipFile(link.file_path) as archive:
                unpacked_bytes, requires = _told(archive)
        else:
            lazy = LazyZipOverHTTP(link.url_without_fragment, self._session, TAIL_BYTES)
            size_bytes = lazy._length
            with lazy, ZipFile(lazy) as archive:
                unpacked_bytes, requires = _told(archive)
        sha256 = link.hash if link.hash_name == "sha256" else None
        if sha256 is None and link.is_file:  # a plain folder of wheels tells no sums
            with Path(link.file_path).open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 is None:
            raise SystemExit(f"the index tells no SHA-256 of {link.filename}")
        facts = {
            "name": name,
            "version": version,
            "file": link.filename,
            "sha256": sha256,
            "size_bytes": size_bytes,
            "unpacked_bytes": unpacked_bytes,
        }
        return facts, requires


def _told(archive: ZipFile) -> tuple[int, list[str]]:
    """What it takes unpacked, and its requirements."""
    metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
    lines = archive.read(metadata).decode().partition("\n\n")[0].splitlines()
    requires = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    return sum(each.file_size for each in archive.infolist()), requires


def unmet(name: str, requires: list[str], versions: dict[str, str], left_out: list[str]) -> list[str]:
    """What `name` asks for and does not get, a line each. Extras are asked for by nobody here."""
    lines: list[str] = []
    for text in requires:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        key = canonicalize_name(wanted.name)
        if key in left_out:
            continue
        if key not in versions:
            lines.append(f"{name} needs {text}, which is neither here nor in {BASE.name}")
        elif not wanted.specifier.contains(versions[key].partition("+")[0], prereleases=True):
            lines.append(f"{name} needs {text}, and {versions[key]} is chosen")
    return lines


def main() -> int:
    """Write the lock; the exit status."""
    chosen = tomllib.loads(CHOSEN.read_text("utf-8"))
    base = {canonicalize_name(name): version for name, version in _PINNED.findall(BASE.read_text("utf-8"))}
    index = Index()
    lines = [
        "# Written by packaging/parts_lock.py from packaging/locks/native.in; docs/parts.md tells what it is.",
        "format = 1",
        *(f"{key} = {json.dumps(chosen[key])}" for key in ("name", "title", "python", "platform", "probe")),
    ]
    complaints: list[str] = []
    for variant in chosen["variant"]:
        pins = [line.split("==") for line in variant["packages"]]
        versions = base | {canonicalize_name(name): version for name, version in pins}
        left_out = [canonicalize_name(name) for name in chosen["left_out"]]
        lines += ["", "[[variant]]"]
        lines += [
            f"{key} = {json.dumps(variant[key])}"
            for key in ("name", "title", "least_driver")
            if key in variant
        ]
        for name, version in pins:
            facts, requires = index.wheel(name, version)
            complaints += unmet(name, requires, versions, left_out)
            lines += ["", "[[variant.wheel]]"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in facts.items()]
            print(f"{variant['name']}: {facts['file']}", flush=True)
    if complaints:
        print("\n".join(complaints), file=sys.stderr)
        return 1
    LOCK.parent.mkdir(exist_ok=True)
    LOCK.write_text("\n".join(lines) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
