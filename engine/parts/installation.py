"""Installing a part, and removing it.

Owns: the order of it. Each wheel is fetched, its sum seen, unpacked and deleted, so that the disk holds one at a time.
A set gets its name when all of it is on the disk, and only then an older one goes. Whatever ends it on the way (a full
disk, a kill, a stop) leaves nothing that counts: the next attempt begins anew, and deletes what is left. Does not know
threads or who is told (`part_desk`).
"""

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import fault_points
from engine.atomic_file import is_disk_full, sync_folder, write_atomically
from engine.errors import Conflict, DataFolderError, DiskFull, PartBrokeOff, PartError
from engine.model_table import size_text
from engine.parts import search_path
from engine.parts.part_folder import NOTE, Installed, PartFolder
from engine.parts.part_lock import Variant, Wheel
from engine.parts.wheel_fetch import fetch
from engine.parts.wheel_file import unpack

MOST_TRIES = 3
"""Of one wheel whose download breaks off in the middle."""
_NOT, _NOT_REMOVED = "The part was not installed", "The part was not removed"


@dataclass(frozen=True)
class Watch:
    """Who waits: `tell(done_bytes, total_bytes, item)` as it goes, `stopped()` whether it is to end."""

    tell: Callable[[int, int, str], None] = lambda _done, _total, _item: None
    stopped: Callable[[], bool] = lambda: False


def install(
    part: PartFolder, variant: Variant, watch: Watch | None = None, *, find_links: Path | None = None
) -> Installed:
    """Install `part` in that variant, in place of another one. `find_links`: a folder with wheels that pip looks into.

    Raises PartError and its kinds, Conflict, DiskFull, DataFolderError, TaskStopped.
    """
    watch = watch or Watch()
    if not part.lock.fits_here:
        raise PartError(_NOT, why_not_here(part), remedy_elsewhere(part))
    with part.locked():
        part.clean()
        present = part.installed()
        if present is not None and present.folder == part.place(variant):
            return present
        _check_room(part, variant)
        try:
            unfinished = part.unfinished()
            try:
                _make(part, variant, unfinished, find_links, watch)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        except OSError as error:
            raise _disk_trouble(part, error) from error
        fault_points.at("part-renamed")
        _drop_others(part, part.place(variant))
        installed = part.installed()
    if installed is None:
        raise PartError(_NOT, "its folder is not there any more", "try again")
    return installed


def remove(part: PartFolder) -> int:
    """Delete what is installed of `part`; bytes that became free, about. Raises Conflict while a process has it loaded
    or installs it, DataFolderError."""
    with part.locked():
        present = part.installed()
        for each in part.sets():
            if users := part.users(each):
                raise _in_use(users)
        search_path.leave()
        try:
            part.remove_all()
        except OSError as error:
            raise DataFolderError(
                _NOT_REMOVED,
                f"a file in {part.root} could not be deleted ({error.strerror or error})",
                "end other programs that use it, and try again",
            ) from error
    return 0 if present is None else present.unpacked_bytes


def why_not_here(part: PartFolder) -> str:
    """Why the part is not for this Python or machine, a clause."""
    lock = part.lock
    return f"its packages are for Python {lock.python} on {lock.platform}"


def remedy_elsewhere(part: PartFolder) -> str:
    """What to do there."""
    return f'get it with `pip install "seamount[{part.lock.name}]"` into the Python that runs Seamount'


def _in_use(users: list[int]) -> Conflict:
    if users == [os.getpid()]:
        return Conflict(
            _NOT_REMOVED,
            "this engine has it loaded, since it computed a model with it",
            "let llama.cpp compute the model (Settings → Machine → Computed by), restart the engine, and try again",
        )
    named = ", ".join(map(str, users))
    who = f"process {named} has" if len(users) == 1 else f"the processes {named} have"
    return Conflict(_NOT_REMOVED, f"{who} it loaded", "end what runs there, and try again")


def _check_room(part: PartFolder, variant: Variant) -> None:
    free_bytes = shutil.disk_usage(part.root).free
    if free_bytes < variant.needed_bytes:
        raise DiskFull(
            _NOT,
            f"it needs {size_text(variant.needed_bytes)} while it is installed, and {size_text(free_bytes)} are free "
            f"on the disk that holds {part.root}",
            "free some space there and try again",
        )


def _make(part: PartFolder, variant: Variant, folder: Path, find_links: Path | None, watch: Watch) -> None:
    """All of the set in `folder`, then under its own name."""
    packages, incoming = folder / "packages", folder / "incoming"
    packages.mkdir()
    incoming.mkdir()
    done_bytes, written = 0, dict[str, bytes]()
    for wheel in variant.wheel:
        path = _fetched(wheel, incoming, find_links, watch, done_bytes, variant.size_bytes)
        unpack(path, packages, most_bytes=wheel.unpacked_bytes, written=written, stopped=watch.stopped)
        path.unlink()
        done_bytes += wheel.size_bytes
    write_atomically(packages / NOTE, part.note(variant))
    # File by file would take minutes on a slow disk; a rename that outlives its files would be a part of empty ones.
    if hasattr(os, "sync"):
        os.sync()
    fault_points.at("part-whole")
    target = part.place(variant)
    if target.exists():  # not whole, or it would have been taken as it is
        part.take_away(target)
    packages.rename(target)
    sync_folder(part.root)


def _fetched(
    wheel: Wheel, incoming: Path, find_links: Path | None, watch: Watch, before_bytes: int, total_bytes: int
) -> Path:
    """The wheel. A download that breaks off begins again, a few times; one that does not begin is not tried again."""

    def tell(came_bytes: int) -> None:
        watch.tell(before_bytes + came_bytes, total_bytes, wheel.title)

    tell(0)
    for _ in range(MOST_TRIES - 1):
        with contextlib.suppress(PartBrokeOff):
            return fetch(wheel, incoming, find_links=find_links, tell=tell, stopped=watch.stopped)
    return fetch(wheel, incoming, find_links=find_links, tell=tell, stopped=watch.stopped)


def _drop_others(part: PartFolder, kept: Path) -> None:
    """Sets that this one has taken the place of; one that is in use goes when it is not any more."""
    for each in part.sets():
        if each != kept and not part.users(each):
            with contextlib.suppress(OSError):
                part.take_away(each)


def _disk_trouble(part: PartFolder, error: OSError) -> DiskFull | DataFolderError:
    if is_disk_full(error):
        return DiskFull(
            _NOT, f"the disk that holds {part.root} is full", "free some space there and try again"
        )
    return DataFolderError(
        _NOT,
        f"{part.root} cannot be written ({error.strerror or error})",
        "check the disk and your permission to write there",
    )
