"""One file of a repository, and which of its names may become a file here.

Owns: what the hub tells of a file (size, digests), and the names that are refused: those that climb out of the
folder, that some system cannot store, or that two files would share on a disk without upper and lower case. Knows
neither the hub nor how files are fetched. Names come from outside: nothing is trusted.
"""

import hashlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from convert.wording import quoted
from engine.errors import FetchFailed

LONGEST_PATH = 1000
LONGEST_PART_BYTES = 200
"""Disks hold names of 255; the notes beside a file bear its name with something before and behind it."""
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")
_FORBIDDEN = re.compile(r'[<>:"|?*\\]')
_OWN_FOLDER = ".cache"


class Digest(Protocol):
    """A hash in the middle of a file, as hashlib has it."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def copy(self) -> "Digest": ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True)
class RemoteFile:
    """A file at the hub. `path`: its place in the repository, with slashes.

    Large files have a `sha256` of their content; small ones a `git_sha1`, the name git gives their content.
    """

    path: str
    size_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def digest(self) -> str:
        """What the content must come to, as hexadecimal text; "" where the hub told none."""
        return self.sha256 or self.git_sha1 or ""

    def hasher(self) -> Digest:
        """A fresh hash that ends at `digest` when all of the content went through it."""
        if self.sha256 is None and self.git_sha1 is not None:
            return hashlib.sha1(b"blob %d\0" % self.size_bytes, usedforsecurity=False)
        return hashlib.sha256()

    @property
    def is_shard(self) -> bool:
        """Whether it holds weights of a checkpoint."""
        return self.path.endswith(".safetensors")


def check_names(paths: Iterable[str], repository: str) -> None:
    """Raise FetchFailed when a path cannot become a file below a folder, on this system or another one."""
    seen: dict[str, str] = {}
    for path in paths:
        if why := _problem(path):
            raise _refused(repository, f"its file {quoted(path)} {why}")
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        if other := seen.get(folded):
            raise _refused(
                repository,
                f"its files {quoted(other)} and {quoted(path)} would be one file on many disks",
            )
        seen[folded] = path
    for folded, path in seen.items():
        for place, letter in enumerate(folded):
            if letter == "/" and (other := seen.get(folded[:place])):
                raise _refused(
                    repository, f"{quoted(other)} is a file, and a folder in the name of {quoted(path)}"
                )


def place_of(folder: Path, path: str) -> Path:
    """Where the file `path` of a repository lies below `folder`; the path was checked by `check_names`."""
    return long_path(folder.joinpath(*path.split("/")))


def long_path(path: Path) -> Path:
    """The same path in the form that Windows takes at any length; elsewhere the path itself."""
    if sys.platform != "win32":
        return path
    text = os.path.abspath(path)  # noqa: PTH100 - this form must be free of "..", and links stay links
    if len(text) < 248 or text.startswith("\\\\?\\"):
        return Path(text)
    return Path(f"\\\\?\\UNC\\{text[2:]}" if text.startswith("\\\\") else f"\\\\?\\{text}")


def _problem(path: str) -> str:
    """Why the path is refused, as the end of a sentence; "" for one that is well."""
    if not path or len(path) > LONGEST_PATH:
        return "has no name, or one that is too long"
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "would lie outside of its folder"
    if not path.isprintable():
        return "has characters in its name that cannot be shown"
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return "has a name that is not text"
    if longest > LONGEST_PART_BYTES:
        return "has a name that is too long"
    if _FORBIDDEN.search(path):
        return "has a character in its name that not every system can store"
    if any(part[-1] in ". " or part[0] == " " or _DEVICES.fullmatch(part) for part in parts):
        return "has a name that Windows keeps for itself or cannot store"
    if parts[0].casefold() == _OWN_FOLDER:
        return "would lie among the notes about the download"
    return ""


def _refused(repository: str, why: str) -> FetchFailed:
    return FetchFailed(
        f"{repository} cannot be fetched", why, "tell those who keep the repository, or choose other files"
    )
