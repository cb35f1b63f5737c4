"""What the notes in a fetched folder say of it, for those who only list, name or remove it.

Owns: nothing of its own; it reads a manifest (`fetch_manifest`) without an error where it is broken or newer: who
goes on with the download is told of that.
"""

from dataclasses import dataclass
from pathlib import Path

from engine.errors import FetchFailed
from engine.library.fetching.fetch_manifest import read_manifest
from engine.library.fetching.remote_file import place_of


@dataclass(frozen=True)
class Fetched:
    """A folder that was fetched, or begun to be. `files`: (path in it, bytes) of all that belongs there; `revision`:
    what the commit was asked for as, "" where that is not known."""

    repository: str
    commit: str
    files: tuple[tuple[str, int], ...]
    revision: str = ""

    @property
    def is_gguf(self) -> bool:
        """Whether finished models are fetched, not a checkpoint."""
        return any(name.lower().endswith(".gguf") for name, _ in self.files)

    def lacks(self, folder: Path) -> bool:
        """Whether one of the files is not there, or is not as long as it should be."""
        for name, size_bytes in self.files:
            try:
                if place_of(folder, name).stat().st_size != size_bytes:
                    return True
            except (OSError, ValueError):
                return True
        return False


def read_notes(folder: Path) -> Fetched | None:
    """The notes in `folder`; None where there are none, or none that can be understood."""
    try:
        manifest = read_manifest(folder)
    except FetchFailed:
        return None
    if manifest is None:
        return None
    files = tuple((each.path, each.size_bytes) for each in manifest.files)
    return Fetched(manifest.repository, manifest.commit, files, manifest.revision)
