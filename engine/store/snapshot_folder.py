"""The folder of snapshots: what lies in it, and what becomes of what cannot be used.

Owns: the names in the folder, looking through it at the start, and setting damaged files aside. Does not know what a
snapshot serves for, when one is written or which goes when there is no room (`snapshots`).
"""

import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from engine import fault_points
from engine.store.snapshot_catalogue import Entry
from engine.store.snapshot_file import NewerSnapshotError, OtherSealError, SnapshotFileError, read_index
from engine.store.snapshot_room import PART_SUFFIX

if TYPE_CHECKING:
    from engine.store.sealing import Cipher

SUFFIX, DAMAGED = ".kv", "damaged"
DAMAGED_KEPT = 3
"""So many damaged files are kept, for who wants to know what happened."""

_logger = logging.getLogger(__name__)


class SnapshotFolder:
    """The files in `path`. Any thread may call it."""

    def __init__(self, path: Path, cipher: "Cipher | None") -> None:
        self.path = path
        self._cipher = cipher
        self._strangers: dict[Path, int] = {}
        """Files that cannot be used here, of a newer Seamount or sealed, and their sizes."""

    def create(self) -> None:
        """Make it, for its owner alone. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def named(self, name: str) -> Path:
        """Where the snapshot of that name lies."""
        return self.path / f"{name}{SUFFIX}"

    def look_through(self) -> list[Entry]:
        """The snapshots in it that may be used. Raises nothing.

        Temporaries of a dead engine are deleted; where everything is sealed, what is not sealed is, too; what is
        damaged is set aside.
        """
        entries: list[Entry] = []
        try:
            paths = sorted(self.path.iterdir()) if self.path.is_dir() else []
        except OSError as error:
            _logger.warning("the snapshots in %s cannot be listed: %s", self.path, error)
            return entries
        for path in paths:
            try:
                about = path.lstat()
                if stat.S_ISREG(about.st_mode) and path.suffix == PART_SUFFIX:
                    path.unlink()
                elif stat.S_ISREG(about.st_mode) and path.suffix == SUFFIX:
                    entries += self._entry(path, about.st_size, about.st_mtime)
            except OSError as error:
                _logger.warning("the snapshot %s cannot be used: %s", path.name, error)
        if self._cipher is not None:
            self.drop_damaged()  # of a time when nothing was sealed
        return entries

    def set_aside(self, path: Path, why: str) -> None:
        """Put a damaged file where it is never used again; of many only the newest are kept.

        Where everything is sealed it is deleted: who knows what stands in it.
        """
        _logger.warning("the snapshot %s is damaged and was set aside: %s", path.name, why)
        folder = self.path / DAMAGED
        if self._cipher is not None:
            self.delete(path)
            return
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            path.replace(folder / path.name)
            os.utime(folder / path.name)
        except OSError:
            self.delete(path)
        for old in self.damaged()[:-DAMAGED_KEPT]:
            self.delete(old)

    def damaged(self) -> list[Path]:
        """The files that were set aside, the oldest first."""
        try:
            files = [each for each in (self.path / DAMAGED).iterdir() if each.is_file()]
            return sorted(files, key=lambda each: each.stat().st_mtime_ns)
        except OSError:
            return []

    def drop_damaged(self) -> int:
        """Delete what was set aside; how many bytes went."""
        damaged = self.damaged()
        freed = sum(map(size_of, damaged))
        for each in damaged:
            self.delete(each)
        return freed

    @property
    def stranger_bytes(self) -> int:
        """What the files take that cannot be used here."""
        return sum(list(self._strangers.values()))

    def drop_strangers(self) -> int:
        """Delete what cannot be used here; how many bytes went."""
        strangers, self._strangers = self._strangers, {}
        for each in strangers:
            self.delete(each)
        return sum(strangers.values())

    def delete(self, path: Path) -> bool:
        """Delete a file of the folder; whether it is gone. One that stays is found at the next start."""
        try:
            fault_points.at("snapshot-evict")
            path.unlink(missing_ok=True)
        except OSError as error:
            _logger.warning("the snapshot %s cannot be deleted: %s", path.name, error)
            return False
        return True

    def _entry(self, path: Path, size_bytes: int, used_at_s: float) -> list[Entry]:
        try:
            return [Entry(path, size_bytes, used_at_s, read_index(path, self._cipher))]
        except OtherSealError:
            if self._cipher is not None:
                self.delete(path)
            else:
                self._strangers[path] = size_bytes
        except NewerSnapshotError:
            self._strangers[path] = size_bytes
        except SnapshotFileError as error:
            self.set_aside(path, str(error))
        return []


def size_of(path: Path) -> int:
    """A file's size in bytes; 0 when it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
