"""Having an installed part importable in this process.

Owns: the place on `sys.path`, behind everything that the program brings, and the mark that a process has the part
loaded. Does not import what is in it. Where the Python itself has the package (a checkout, `pip install
"seamount[native]"`), that one counts and nothing is done.

`settle` says where parts lie, once for a process; `ready` is called right before the package is imported.
"""

import importlib
import importlib.util
import logging
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from engine.parts.part_folder import PartFolder
from engine.parts.part_lock import read_lock
from engine.paths import DataFolder

_logger = logging.getLogger(__name__)
_part: PartFolder | None = None
_added: Path | None = None
_mark: FileLock | None = None


def native_part(data: DataFolder) -> PartFolder:
    """The part that the native engine runs on, in a data folder."""
    return PartFolder(data.parts, read_lock())


def settle(part: PartFolder) -> Path | None:
    """Have what is installed of `part` importable from now on; the folder that was added for it. Raises nothing.

    Called again after it was installed or removed. What has been imported by then stays until this process ends.
    """
    global _part, _added  # a process has one sys.path
    _part = part
    if part.lock.probe in sys.modules:
        return _added
    leave()
    if importlib.util.find_spec(part.lock.probe) is None and (installed := part.installed()) is not None:
        _added = installed.folder
        sys.path.append(str(_added))
        importlib.invalidate_caches()
    return _added


def leave() -> None:
    """Take what `settle` added away again."""
    global _added
    if _added is not None:
        if str(_added) in sys.path:
            sys.path.remove(str(_added))
        _added = None
        importlib.invalidate_caches()


def ready() -> None:
    """To be called before the package is imported: it may have been installed, or removed, by another process since,
    and from now on it must not be. Raises nothing."""
    global _mark
    if _part is None:
        return
    folder = settle(_part)
    if folder is None or _mark is not None:
        return
    try:
        _mark = _part.use(folder)
    except (OSError, Timeout) as error:
        _logger.warning("that %s is in use could not be noted: %s", folder, error)


def added() -> Path | None:
    """The set that `settle` has found and made importable."""
    return _added


def loaded_from() -> Path | None:
    """The set that this process has imported the package from; None: from none."""
    if _part is None or _added is None or _part.lock.probe not in sys.modules:
        return None
    return _added
