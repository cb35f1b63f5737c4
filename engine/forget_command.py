"""`seamount doctor --forget`: everything of Seamount's off this machine, but the program itself.

Owns: saying first what would go and what stays, asking, and the refusal while anything runs. Does not know what is
Seamount's, nor how it goes (`forgetting`).
"""

import sys

from engine.errors import BadRequest, Conflict, EngineRunning
from engine.folder_lock import locked
from engine.forgetting import Inventory, Removable, inventory, remove
from engine.housekeeping import bytes_text, counted_text
from engine.launch import running_engine
from engine.library.jobs.jobs import running_titles
from engine.paths import DataFolder

WORD = "forget"
_WHAT = "Nothing was removed"
_CLOSE = "close every window and end `seamount serve` where it runs, then try again"


def forget(folder: DataFolder, *, sure: bool, only_look: bool) -> int:
    """Tell what there is, ask unless `sure`, and remove it; the exit status: 0, or 1 where not all of it went.

    `only_look`: no more than that. Raises BadRequest, EngineRunning, Conflict, DataFolderError; nothing is gone then.
    """
    found = inventory(folder)
    _tell(found)
    if only_look or found.is_empty:
        return 0
    _refuse_running(folder)
    if not sure and not _asked():
        print(f"{_WHAT}.")
        return 1
    problems = _removed(folder)
    for each in problems:
        print(each, file=sys.stderr)
    if problems:
        return 1
    print("All of that is gone. The program itself is removed as it was installed.")
    return 0


def _tell(found: Inventory) -> None:
    if found.is_empty:
        print(f"There is nothing of Seamount's in {found.root}.")
    else:
        print(
            f"This would be removed for good, not to the trash: {bytes_text(found.size_bytes)} in {found.root}"
        )
    for each in found.removable:
        print(f"  {_line(each)}")
    for entry in found.keyring:
        print(f"  from the keyring: {entry.kind}")
    for sentence in found.stays:
        print(sentence)


def _line(each: Removable) -> str:
    name = each.path.name
    if each.leads_to is not None:
        return f"{name}: {each.kind}; the link alone, and {each.leads_to} stays"
    return f"{name}: {each.kind}, {counted_text(each.files, 'file')}, {bytes_text(each.size_bytes)}"


def _refuse_running(folder: DataFolder) -> None:
    if running_engine(folder) is not None:
        raise EngineRunning(_WHAT, f"an engine serves {folder.root}", _CLOSE)
    if titles := running_titles(folder.jobs):
        raise Conflict(
            _WHAT,
            f"{titles[0]} is still being worked on",
            "open Seamount, or see `seamount jobs`, and cancel it first",
        )


def _asked() -> bool:
    if not sys.stdin.isatty():
        raise BadRequest(_WHAT, "nobody is there to be asked", "add --yes")
    try:
        return input(f"There is no way back. Type “{WORD}” to remove all of it: ").strip().lower() == WORD
    except EOFError:
        print()
        return False


def _removed(folder: DataFolder) -> list[str]:
    """Under the folder's lock, so that no engine begins meanwhile; what has come since it was told is not missed."""
    if not folder.root.exists():
        return remove(inventory(folder))
    with locked(folder, _WHAT, _CLOSE):
        problems = remove(inventory(folder))
    if sys.platform == "win32":
        # There an open file stays: what the lock kept goes now.
        problems = remove(inventory(folder))
    return problems
