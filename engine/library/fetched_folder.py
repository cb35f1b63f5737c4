"""What the notes in a fetched folder say of it, for those who only list, name or remove it.

Owns: which folders are ours, and whether all that was to be fetched lies there. Fetches nothing.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from engine.library.repository_names import is_commit, is_repository

NOTES = Path(".cache") / "seamount" / "fetch.json"
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Fetched:
    """A folder that was fetched, or begun to be. `files`: (path in it, bytes) of all that belongs there."""

    repository: str
    commit: str
    files: tuple[tuple[str, int], ...]

    @property
    def is_gguf(self) -> bool:
        """Whether finished models are fetched, not a checkpoint."""
        return any(name.lower().endswith(".gguf") for name, _ in self.files)

    def lacks(self, folder: Path) -> bool:
        """Whether one of the files is not there, or is not as long as it should be."""
        for name, size_bytes in self.files:
            try:
                if (folder / name).stat().st_size != size_bytes:
                    return True
            except (OSError, ValueError):
                return True
        return False


def read_notes(folder: Path) -> Fetched | None:
    """The notes in `folder`; None where there are none, or none that can be understood."""
    try:
        with (folder / NOTES).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        table: Any = json.loads(raw)
        repository, commit = str(table["repository"]), str(table["commit"])
        files = tuple(
            (str(each["path"]), int(each["size_bytes"]))
            for each in cast(list[dict[str, Any]], table["files"])
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not is_repository(repository) or not is_commit(commit):
        return None
    return Fetched(repository, commit, files)
