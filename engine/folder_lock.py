"""The lock of a data folder: one process at a time changes what is in it.

Owns: taking `engine.lock`, and what is said when another has it. An engine holds it for its whole life (`serve`), a
command that works on the folder itself while it does; a crash releases it. Does not know what is done meanwhile.
"""

import contextlib
from collections.abc import Generator

from filelock import FileLock, Timeout

from engine.errors import DataFolderError, EngineRunning
from engine.paths import DataFolder

TIMEOUT_S = 1.0


@contextlib.contextmanager
def locked(folder: DataFolder, what: str, remedy: str) -> Generator[None, None, None]:
    """Hold the folder's lock. Who looks whether it is free holds it for a moment: so wait a little.

    `what` failed if it cannot be had, and the `remedy`. Raises EngineRunning, DataFolderError.
    """
    lock = FileLock(folder.engine_lock, timeout=TIMEOUT_S)
    try:
        lock.acquire()
    except Timeout as error:
        raise EngineRunning(what, f"another one already serves {folder.root}", remedy) from error
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
