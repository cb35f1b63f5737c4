"""What a person added where it lies: `models/added.json`.

Owns: that file. Does not look at what it names: a path stays in the list when its disk is not there.

    {"format": 2, "paths": [<GGUF files>], "checkpoints": [<folders>]}

Format 1 had no folders. A file that cannot be understood counts as empty, and is set aside before another is
written.
"""

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from engine.atomic_file import is_disk_full, name_beside, write_atomically
from engine.errors import DataFolderError, DiskFull

FORMAT = 2
KNOWN_FORMATS = (1, 2)
MAX_BYTES = 16 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Added:
    """The paths in the order they came."""

    models: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()


class AddedFiles:
    """The list in one models folder. Any thread may call it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def read(self) -> Added:
        """What is in the list; nothing, and a line in the log, when it cannot be understood."""
        try:
            return self._parsed()
        except FileNotFoundError:
            return Added()
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("%s cannot be read and is ignored: %s", self._path, error)
            return Added()

    def add_model(self, path: Path) -> None:
        """Raises DataFolderError when the list cannot be kept; so do the others."""
        self._change(lambda before: replace(before, models=_with(before.models, path)))

    def add_checkpoint(self, path: Path) -> None:
        """A folder."""
        self._change(lambda before: replace(before, checkpoints=_with(before.checkpoints, path)))

    def take_off(self, path: Path) -> None:
        """Forget a file or folder; nothing if it is not in the list."""
        self._change(lambda before: Added(_without(before.models, path), _without(before.checkpoints, path)))

    def _change(self, changed: Callable[[Added], Added]) -> None:
        with self._lock:
            before = self.read()
            after = changed(before)
            if after == before:
                return
            self._write(after)

    def _parsed(self) -> Added:
        with self._path.open("rb") as file:
            return _added(file.read(MAX_BYTES))

    def _write(self, added: Added) -> None:
        table = {"format": FORMAT, "paths": list(added.models), "checkpoints": list(added.checkpoints)}
        try:
            if self._path.exists():
                try:
                    self._parsed()
                except (ValueError, RecursionError):
                    # What cannot be understood is not overwritten.
                    self._path.rename(name_beside(self._path, "broken"))
            write_atomically(self._path, (json.dumps(table, indent=1) + "\n").encode("utf-8"))
        except OSError as error:
            what = "The list of what was added cannot be changed"
            if is_disk_full(error):
                why, remedy = f"the disk that holds {self._path.parent} is full", "free some space there"
                raise DiskFull(what, why, f"{remedy} and try again") from error
            why = f"{self._path} cannot be written ({error.strerror or error})"
            raise DataFolderError(what, why, "give yourself permission to write there") from error


def _added(content: bytes) -> Added:
    """What the bytes of added.json say. Raises ValueError."""
    document: Any = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    table = cast(dict[str, Any], document)
    if table.get("format") not in KNOWN_FORMATS:
        raise ValueError(f"its format is {table.get('format')!r}, not {FORMAT}")
    return Added(_texts(table.get("paths")), _texts(table.get("checkpoints", [])))


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in cast(list[Any], value)):
        raise ValueError("its paths are not a list of texts")
    return tuple(cast(list[str], value))


def _with(paths: tuple[str, ...], path: Path) -> tuple[str, ...]:
    return paths if any(_same(each, path) for each in paths) else (*paths, str(path))


def _without(paths: tuple[str, ...], path: Path) -> tuple[str, ...]:
    return tuple(each for each in paths if not _same(each, path))


def _same(text: str, path: Path) -> bool:
    return text == str(path) or os.path.realpath(text) == os.path.realpath(path)
