"""The lock of a data folder: one process at a time changes what is in it.

Owns: taking `engine.lock`, and what is said when another has it. An engine holds it for its whole life (`serve`), a
command that works on the folder itself while it does; a crash releases it. Who has it can say what takes so long, so
that whoever waits can tell. Does not know what is done meanwhile.
"""

import contextlib
import json
import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from filelock import FileLock, Timeout

from engine.atomic_file import write_atomically
from engine.errors import DataFolderError, EngineRunning
from engine.paths import DataFolder

TIMEOUT_S = 1.0
_LARGEST_NOTE_BYTES = 2_000


@dataclass(frozen=True)
class LongWork:
    """What is done under the lock, half a sentence, and by which process."""

    words: str
    pid: int


@contextlib.contextmanager
def locked(folder: DataFolder, what: str, remedy: str) -> Generator[None, None, None]:
    """Hold the folder's lock. Who looks whether it is free holds it for a moment: so wait a little.

    `what` failed if it cannot be had, and the `remedy`. Raises EngineRunning, DataFolderError.
    """
    lock = FileLock(folder.engine_lock, timeout=TIMEOUT_S)
    try:
        lock.acquire()
    except Timeout as error:
        work = noted_work(folder)
        if work is not None:
            why, remedy = f"{work.words}, in {folder.root}", "try again when that is done"
        else:
            why = f"an engine already serves {folder.root}"
        raise EngineRunning(what, why, remedy) from error
    except OSError as error:
        raise DataFolderError(
            f"The data folder {folder.root} cannot be locked",
            error.strerror or str(error),
            "give yourself permission to write there, or name another folder with --data",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def noted(folder: DataFolder, words: str) -> Generator[None, None, None]:
    """Say meanwhile what takes long: `words` are half a sentence, "the conversations are being encrypted".

    For who holds the lock. A note that cannot be written changes nothing.
    """
    with contextlib.suppress(OSError):
        write_atomically(folder.long_work, json.dumps({"words": words, "pid": os.getpid()}).encode())
    try:
        yield
    finally:
        forget_work(folder)


def forget_work(folder: DataFolder) -> None:
    """Remove the note; for who holds the lock, also that of a process that died."""
    with contextlib.suppress(OSError):
        folder.long_work.unlink(missing_ok=True)


def noted_work(folder: DataFolder) -> LongWork | None:
    """What was noted, true or not any more; None when nothing is, or nothing that can be read."""
    try:
        with folder.long_work.open("rb") as file:
            found: Any = json.loads(file.read(_LARGEST_NOTE_BYTES))
        words, pid = str(found["words"]), int(found["pid"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return LongWork(" ".join(words.split()), pid) if words and pid > 0 else None
