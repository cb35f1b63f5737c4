"""What a folder of fetched files is to hold: the hub's listing, pinned when the download began.

Owns: `.cache/seamount/fetch.json` in the folder, and the other places of a download's notes. A download that goes on
asks for no listing again, so a branch that moves, a repository that is renamed, or a listing that changes does not
change what is fetched. Does not fetch. A manifest is read with suspicion: it may come from another machine.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from engine.atomic_file import write_atomically
from engine.errors import FetchFailed
from engine.library.fetching.remote_file import RemoteFile, check_names, long_path

MAGIC = "seamount-fetch"
VERSION = 1
MAX_BYTES = 64 << 20
MAX_FILE_BYTES = 1 << 50
_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Manifest:
    """A repository at one commit, and the files of it that are wanted.

    `modified_ns`: the time of change that every file of it gets, known before the file is there. `noted_s`: when the
    manifest was made (Unix seconds). `title`: the model's name for people, "" where none was told. `revision`: what
    the commit was asked for as, a branch for example; "" where that is not known.
    """

    repository: str
    commit: str
    files: tuple[RemoteFile, ...]
    patterns: tuple[str, ...] = ()
    modified_ns: int = 0
    noted_s: float = 0.0
    title: str = ""
    revision: str = ""

    @property
    def total_bytes(self) -> int:
        """All of its files together."""
        return sum(each.size_bytes for each in self.files)


def notes_folder(folder: Path) -> Path:
    """Where all notes about a download into `folder` lie."""
    return long_path(folder / ".cache" / "seamount")


def manifest_path(folder: Path) -> Path:
    """The manifest of a folder, there or not."""
    return notes_folder(folder) / "fetch.json"


def parts_folder(folder: Path) -> Path:
    """Where files lie that have not arrived as a whole."""
    return notes_folder(folder) / "parts"


def quarantine_folder(folder: Path) -> Path:
    """Where files are put that came from the hub and are not what they should be."""
    return notes_folder(folder) / "quarantine"


def replaced_folder(folder: Path) -> Path:
    """Where files are put that somebody else had laid in the place of a wanted one. They are nobody's to delete."""
    return notes_folder(folder) / "replaced"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Note down what `folder` is to hold. Raises OSError."""
    table: dict[str, Any] = {
        "magic": MAGIC,
        "version": VERSION,
        "repository": manifest.repository,
        "commit": manifest.commit,
        "revision": manifest.revision,
        "title": manifest.title,
        "patterns": list(manifest.patterns),
        "modified_ns": manifest.modified_ns,
        "noted_s": manifest.noted_s,
        "files": [
            {"path": each.path, "size_bytes": each.size_bytes}
            | ({"sha256": each.sha256} if each.sha256 else {})
            | ({"git_sha1": each.git_sha1} if each.git_sha1 else {})
            for each in manifest.files
        ],
    }
    path = manifest_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(table, ensure_ascii=False, indent=1) + "\n").encode(), mode=0o644)


def read_manifest(folder: Path) -> Manifest | None:
    """What `folder` is to hold; None when nothing was ever fetched into it.

    Raises FetchFailed for a manifest that is broken, or written by a newer Seamount.
    """
    path = manifest_path(folder)
    what = f"The download in {folder} cannot be gone on with"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        why = f"its list of files cannot be read ({error.strerror or error})"
        raise FetchFailed(what, why, f"make {path} readable") from error
    try:
        table: Any = json.loads(raw)
        if table["magic"] != MAGIC:
            raise ValueError("magic")
        if isinstance(table["version"], int) and table["version"] > VERSION:
            raise FetchFailed(what, "it was begun by a newer Seamount", "update this one")
        return _manifest(table)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FetchFailed(
            what, "its list of files is broken", f"delete {path} and fetch again; what has arrived is kept"
        ) from error


def _manifest(table: Mapping[str, Any]) -> Manifest:
    """Raises ValueError, KeyError, TypeError, FetchFailed (a name that is refused)."""
    files = tuple(_file(each) for each in cast(list[dict[str, Any]], table["files"]))
    repository = _text(table["repository"])
    check_names((each.path for each in files), repository)
    commit = _text(table["commit"])
    modified_ns, noted_s = table["modified_ns"], table["noted_s"]
    if not _COMMIT.fullmatch(commit) or type(modified_ns) is not int or not 0 <= modified_ns < 2**63:
        raise ValueError("commit")
    if not isinstance(noted_s, int | float):
        raise TypeError("noted_s")
    patterns = tuple(_text(each) for each in cast(list[Any], table["patterns"]))
    title, revision = _text(table["title"]), _text(table.get("revision", ""))
    return Manifest(repository, commit, files, patterns, modified_ns, float(noted_s), title, revision)


def _file(entry: Mapping[str, Any]) -> RemoteFile:
    size, sha256, git = entry["size_bytes"], entry.get("sha256"), entry.get("git_sha1")
    if type(size) is not int or not 0 <= size < MAX_FILE_BYTES:
        raise ValueError("size_bytes")
    for digest, digits in ((sha256, 64), (git, 40)):
        if digest is not None and not (_HEX.fullmatch(_text(digest)) and len(digest) == digits):
            raise ValueError("digest")
    return RemoteFile(_text(entry["path"]), size, sha256, git)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text")
    return value
