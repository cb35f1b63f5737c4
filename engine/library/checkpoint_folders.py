"""The checkpoints on this machine: fetched ones below the folders for them, and folders added where they lie.

Owns: finding them in a bounded walk, and what can be told of one without reading its shards. Does not know jobs,
or how a folder is fetched or converted.
"""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from convert.checkpoint import CONFIG, INDEX, SINGLE
from engine.conversation import clean_text
from engine.errors import LibraryError
from engine.library.fetched_folder import Fetched, read_notes
from engine.library.fetching.fetch_manifest import parts_folder

MOST_FOLDERS = 5_000
DEEPEST = 4
"""Levels below a folder for checkpoints that are looked into: OWNER/NAME and some that a person made."""
MOST_FILES = 100_000
MAX_INDEX_BYTES = 100_000_000
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class CheckpointFolder:
    """One folder. `root`: the folder for checkpoints that it lies in; None: it was added where it lies."""

    path: Path
    root: Path | None
    notes: Fetched | None
    files: int
    size_bytes: int
    complete: bool

    @property
    def id(self) -> str:
        """Its id in the library."""
        return f"checkpoint:{self.path}"

    @property
    def name(self) -> str:
        """Its model's name, for people."""
        return clean_text(self.notes.repository.rpartition("/")[2] if self.notes else self.path.name)[0]


class CheckpointFolders:
    """Finds them. Any thread may call it; it reads folders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shards: dict[Path, tuple[tuple[int, int], frozenset[str]]] = {}

    def found(self, roots: Sequence[Path], added: Sequence[str]) -> list[CheckpointFolder]:
        """Below `roots`, then those of `added`; each real folder once."""
        seen: set[str] = set()
        folders: list[CheckpointFolder] = []
        for root in dict.fromkeys(roots):
            folders += [self._look(path, root) for path in sorted(_walk(root, seen))]
        for text in added:
            real = os.path.realpath(text)
            if real not in seen:
                seen.add(real)
                folders.append(self._look(Path(text), None))
        return folders

    def addable(self, path: Path) -> CheckpointFolder:
        """The folder at `path`, to be added. Raises LibraryError for what is no checkpoint."""
        what = f"{clean_text(path.name)[0]} cannot be added"
        try:
            names = {each.name for each in os.scandir(path)}
        except OSError as error:
            raise LibraryError(
                what, error.strerror or str(error), "choose a folder that you may read"
            ) from error
        if CONFIG not in names or not any(name.endswith(WEIGHTS) for name in names):
            raise LibraryError(
                what,
                "there is no config.json with .safetensors files in it",
                "choose the folder of a checkpoint, or a .gguf file",
            )
        return self._look(path, None)

    def _look(self, path: Path, root: Path | None) -> CheckpointFolder:
        notes = read_notes(path)
        files, size_bytes = _measured(path)
        complete = not notes.lacks(path) if notes else self._is_whole(path)
        return CheckpointFolder(path, root, notes, files, size_bytes, complete)

    def _is_whole(self, path: Path) -> bool:
        """Whether every shard that the index names is there; its headers are looked at by whoever uses it."""
        try:
            return all((path / name).exists() for name in self._shards_of(path)) and (path / CONFIG).exists()
        except (OSError, ValueError, RecursionError):
            return False

    def _shards_of(self, path: Path) -> frozenset[str]:
        index = path / INDEX
        try:
            status = index.stat()
        except FileNotFoundError:
            return frozenset({SINGLE})
        state = (status.st_size, status.st_mtime_ns)
        with self._lock:
            known = self._shards.get(index)
        if known is None or known[0] != state:
            if status.st_size > MAX_INDEX_BYTES:
                raise ValueError("an index that is too long")
            table: Any = json.loads(index.read_bytes())
            weights: Any = cast(dict[str, Any], table).get("weight_map") if isinstance(table, dict) else None
            if not isinstance(weights, dict) or not weights:
                raise ValueError("an index of no shards")
            known = state, frozenset(str(name) for name in cast(dict[str, Any], weights).values())
            with self._lock:
                self._shards[index] = known
        return known[1]


def _walk(root: Path, seen: set[str]) -> Iterator[Path]:
    """Folders of checkpoints below `root`, through links, each real folder once, hidden ones left out."""
    todo = [(root, 0)]
    looked = 0
    while todo and looked < MOST_FOLDERS:
        folder, depth = todo.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        looked += 1
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        names = {each.name for each in entries}
        if depth and _is_checkpoint(folder, names):
            yield folder
            continue
        if depth < DEEPEST:
            todo += [
                (folder / each.name, depth + 1)
                for each in entries
                if not each.name.startswith(".") and _is_folder(each)
            ]


def _is_checkpoint(folder: Path, names: set[str]) -> bool:
    if CONFIG in names and any(name.endswith(WEIGHTS) for name in names):
        return True
    notes = read_notes(folder) if ".cache" in names else None
    if notes is None or not notes.is_gguf:
        return notes is not None
    # Fetched GGUFs are models; of those that have not arrived there is nothing else to show. What was there and was
    # removed or moved has left no parts.
    return notes.lacks(folder) and parts_folder(folder).is_dir()


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _measured(folder: Path) -> tuple[int, int]:
    """(files, bytes) of all that is below a folder; links count as what they lead to, folders behind them do not."""
    files = size_bytes = 0
    for parent, _, names in os.walk(folder):
        hidden = ".cache" in Path(parent).relative_to(folder).parts
        for name in names:
            try:
                size_bytes += (Path(parent) / name).stat().st_size
            except OSError:
                continue
            # The notes of a download are not files of the model, though they take room.
            files += not hidden
        if files > MOST_FILES:
            break
    return files, size_bytes
