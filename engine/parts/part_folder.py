"""The folder `parts` of a data folder: what is installed there, what is only half there, and who uses it.

Owns: the names in it, which installed set is the one to use, and taking one away. Does not know how a set is made
(`installation`) or loaded (`search_path`).

`NAME-DIGEST/` is a whole set with `part.json` beside its packages; it got its name when everything was on the disk.
`.NAME-*` is half of one, made or removed; whoever holds `.lock` may delete it. `.used/PID` is locked by a process for
as long as it has the part loaded.
"""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engine import fault_points
from engine.errors import Conflict, DataFolderError
from engine.parts.part_lock import PartLock, Variant, this_platform, this_python

FORMAT = 1
NOTE = "part.json"
_LARGEST_NOTE_BYTES = 100_000


@dataclass(frozen=True)
class Installed:
    """A whole set. `current`: it is what this version of the program would install."""

    folder: Path
    variant: str
    version: str
    """Of the package that the part is named for."""
    unpacked_bytes: int
    current: bool


class PartFolder:
    """One part in one data folder. Creates nothing but what it is asked to."""

    def __init__(self, root: Path, lock: PartLock) -> None:
        """`root`: `DataFolder.parts`."""
        self.root, self.lock = root, lock

    def installed(self) -> Installed | None:
        """The set to use: of this version of the program before an earlier one's. Raises nothing.

        One for another Python or platform is none: it could not be loaded.
        """
        found = [each for each in map(self._read, self.sets()) if each is not None]
        return max(found, key=lambda each: (each.current, each.folder.stat().st_mtime), default=None)

    def place(self, variant: Variant) -> Path:
        """Where a set of that variant lies once it is whole."""
        return self.root / f"{self.lock.name}-{self.lock.digest(variant)}"

    def note(self, variant: Variant) -> bytes:
        """What `part.json` says of a set of that variant."""
        return json.dumps(
            {
                "format": FORMAT,
                "name": self.lock.name,
                "variant": variant.name,
                "python": self.lock.python,
                "platform": self.lock.platform,
                "unpacked_bytes": variant.unpacked_bytes,
                "packages": {each.name: each.version for each in variant.wheel},
            },
            indent=1,
        ).encode()

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Be the only one who changes the folder. Raises Conflict while another process does, DataFolderError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = FileLock(self.root / ".lock", timeout=0)
            lock.acquire()
        except Timeout as error:
            raise Conflict(
                "That was not begun",
                "another program is installing or removing a part here",
                "wait until it has ended",
            ) from error
        except OSError as error:
            raise DataFolderError(
                f"The folder {self.root} cannot be used",
                error.strerror or str(error),
                "give yourself permission to write there",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def unfinished(self) -> Path:
        """A new folder to make a set in. Raises OSError."""
        folder = self.root / f".{self.lock.name}-{secrets.token_hex(6)}"
        folder.mkdir(mode=0o700)
        return folder

    def clean(self) -> None:
        """Delete what is half there, and sets that another has taken the place of, unless they are in use.

        For who holds the lock. Raises nothing: what cannot be deleted now is, the next time.
        """
        for each in self._entries(f".{self.lock.name}-"):
            shutil.rmtree(each, ignore_errors=True)
        kept = self.installed()
        for each in self.sets():
            if kept is not None and kept.current and each != kept.folder and not self.users(each):
                with contextlib.suppress(OSError):
                    self.take_away(each)

    def take_away(self, folder: Path) -> None:
        """Delete a set: at once not there any more, then file by file. For who holds the lock. Raises OSError."""
        aside = self.root / f".{self.lock.name}-{secrets.token_hex(6)}"
        folder.rename(aside)
        fault_points.at("part-removing")
        shutil.rmtree(aside)

    def remove_all(self) -> None:
        """Delete every set and what is half there. For who holds the lock. Raises OSError."""
        for each in self.sets():
            self.take_away(each)
        for each in self._entries(f".{self.lock.name}-"):
            shutil.rmtree(each)
        with contextlib.suppress(OSError):  # a mark is in it still
            (self.root / ".used").rmdir()

    # --- who uses it ----------------------------------------------------------------------------------

    def users(self, folder: Path) -> list[int]:
        """The processes that have the set in `folder` loaded. A mark that nobody holds is deleted. Raises nothing."""
        found: list[int] = []
        for mark in sorted(self._marks(folder)):
            lock = FileLock(mark, timeout=0)
            try:
                with lock:
                    pass
            except (Timeout, OSError):
                with contextlib.suppress(ValueError):
                    found.append(int(mark.name.rpartition("-")[2]))
            else:
                with contextlib.suppress(OSError):
                    mark.unlink(missing_ok=True)
        return found

    def use(self, folder: Path) -> FileLock:
        """Mark the set in `folder` as in use by this process, until the lock that is returned goes. Raises OSError."""
        used = self.root / ".used"
        used.mkdir(exist_ok=True, mode=0o700)
        mark = FileLock(used / f"{folder.name}-{os.getpid()}", timeout=0)
        mark.acquire()
        return mark

    def _marks(self, folder: Path) -> list[Path]:
        try:
            return list((self.root / ".used").glob(f"{folder.name}-*"))
        except OSError:
            return []

    # --- reading ----------------------------------------------------------------------------------------

    def sets(self) -> list[Path]:
        """The folders of whole sets, of whatever version."""
        return self._entries(f"{self.lock.name}-")

    def _entries(self, prefix: str) -> list[Path]:
        """Folders, no links, whose name begins so."""
        try:
            inside = sorted(self.root.iterdir())
        except OSError:
            return []
        return [each for each in inside if each.name.startswith(prefix) and _is_own_folder(each)]

    def _read(self, folder: Path) -> Installed | None:
        try:
            with (folder / NOTE).open("rb") as file:
                told: Any = json.loads(file.read(_LARGEST_NOTE_BYTES))
            here = (told["format"], told["name"], told["python"], told["platform"])
            if here != (FORMAT, self.lock.name, this_python(), this_platform()):
                return None
            variant, packages = str(told["variant"]), dict(told["packages"])
            current = any(self.place(each) == folder for each in self.lock.variant)
            version = str(packages[self.lock.variant[0].wheel[0].name])
            return Installed(folder, variant, version, int(told["unpacked_bytes"]), current)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


def _is_own_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
