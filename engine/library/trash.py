"""Files and folders into the system's trash, or deleted for good.

Owns: the one use of `send2trash`, and what its refusals mean. Does not know what may be removed (`removal`).
"""

import os
import shutil
import stat
from pathlib import Path

from engine.conversation import clean_text
from engine.errors import LibraryError


def to_trash(path: Path) -> None:
    """Put a file, folder or link into the trash. Raises LibraryError where that cannot be done: it then lies where
    it lay."""
    from send2trash import send2trash

    what = f"{clean_text(path.name)[0]} could not be put into the trash"
    try:
        send2trash(str(path))
    except Exception as error:
        if not os.path.lexists(path):
            return
        number = error.errno if isinstance(error, OSError) else None
        reason = clean_text(os.strerror(number) if number else type(error).__name__)[0]
        raise LibraryError(
            what, f"its disk has no trash that you may use ({reason})", "delete it for good if you mean it"
        ) from error
    if os.path.lexists(path):
        raise LibraryError(what, "the system left it where it is", "delete it for good if you mean it")


def delete(path: Path) -> None:
    """Delete a file, a folder with all that is in it, or a link (not what it leads to); nothing if it is gone.

    Raises LibraryError; of a folder, a part may then be deleted.
    """
    try:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        name = clean_text(str(error.filename or path))[0]
        raise LibraryError(
            f"{clean_text(path.name)[0]} could not be deleted",
            f"{name} cannot be removed ({error.strerror or error})",
            "give yourself permission to write in its folder and try again",
        ) from error
