"""Taking something out of the library, with all that belongs to it and nothing else.

Owns: which files go and which never do: what is only linked here, what was added where it lies (another program may
own it: it is taken off the list and stays), and folders that hold more than the library put there. Does not know
how a trash works (`trash`).
"""

import contextlib
import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path

from convert.conversion_progress import progress_path
from convert.target_file import part_of
from engine.conversation import clean_text
from engine.errors import Conflict, LibraryError
from engine.library import trash
from engine.library.added_files import AddedFiles
from engine.library.fetched_folder import read_notes
from engine.library.fetching.fetch_plan import CHECKPOINT_FILES
from engine.library.holdings import Holding
from engine.library.in_use import InUse
from engine.library.model_files import is_later_part, parts_of
from engine.library.starter import starter_removal
from engine.protocol_library import Removed

ALWAYS_OURS = (".gitattributes", ".DS_Store", "Thumbs.db", "desktop.ini")
"""What the hub and file managers leave in any folder."""
OUR_NOTES = ("seamount", "huggingface")
_MOST_NAMED = 3


def remove(
    holding: Holding, *, for_good: bool, roots: Sequence[Path], added: AddedFiles, in_use: InUse
) -> Removed:
    """Remove an item. `roots`: the folders for models and checkpoints.

    A file or folder that was added where it lies is only taken off the list: `Removed.size_bytes` is then 0. So it
    is when a link is removed: what it leads to stays. Raises Conflict while it is in use, LibraryError.
    """
    item = holding.item
    what = f"{item.name} was not removed"
    if in_use.by_model(item.id):
        raise Conflict(what, "it is the model that is loaded", "load another one first")
    if in_use.by_job(item.id, holding.takes):
        raise Conflict(what, "a job works on it", "let that finish, or cancel it first")
    if item.in_use:
        raise Conflict(what, "it is in use", "wait until it is not")
    match holding.origin:
        case "starter":
            raise LibraryError(what, "it was installed with Seamount", starter_removal())
        case "file" | "added_checkpoint":
            added.take_off(holding.takes[0])
            return Removed(size_bytes=0, in_trash=False)
        case "folder":
            takes = _of_model(what, holding, roots)
        case "checkpoint":
            takes = _of_checkpoint(what, holding.takes[0], roots)
    size_bytes = sum(_size_bytes(path) for path in takes)
    for path in takes:
        if for_good:
            trash.delete(path)
        else:
            trash.to_trash(path)
    _tidy(takes[0].parent, roots)
    return Removed(size_bytes=size_bytes, in_trash=not for_good and size_bytes > 0)


def _of_model(what: str, holding: Holding, roots: Sequence[Path]) -> list[Path]:
    first = holding.takes[0]
    _refuse_linked(what, first.parent, roots)
    takes = [path for path in holding.takes if os.path.lexists(path)]
    if not takes:
        raise LibraryError(what, "it is not there any more", "look at the library again")
    folder = holding.fetched_in
    if folder is not None and not _strangers(folder, but=set(takes)) and folder not in roots:
        _refuse_precious(what, folder, roots)
        return [folder]
    leftovers = [] if part_of(first).exists() else [progress_path(first), _lock_of(first)]
    return [*takes, *(path for path in leftovers if path.is_file())]


def _lock_of(gguf: Path) -> Path:
    return part_of(gguf).with_suffix(".part.lock")


def _of_checkpoint(what: str, folder: Path, roots: Sequence[Path]) -> list[Path]:
    _refuse_linked(what, folder, roots)
    _refuse_precious(what, folder, roots)
    notes = read_notes(folder)
    if notes is not None and notes.is_gguf and (models := _arrived_models(folder)):
        raise LibraryError(
            what,
            f"its folder also holds “{clean_text(models[0].name)[0][:80]}”, which is a model of its own",
            "remove that one first, or move it elsewhere",
        )
    if strangers := _strangers(folder):
        named = ", ".join(f"“{clean_text(path.name)[0][:80]}”" for path in strangers[:_MOST_NAMED])
        more = f" and {len(strangers) - _MOST_NAMED:,} more" if len(strangers) > _MOST_NAMED else ""
        raise LibraryError(
            what,
            f"its folder also holds {named}{more}, which did not come with the model",
            f"move that elsewhere first, or delete {clean_text(str(folder))[0]} yourself",
        )
    return [folder]


def _arrived_models(folder: Path) -> list[Path]:
    """The GGUFs below `folder` that are there as a whole."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".gguf")
    return [path for path in found if not is_later_part(path) and all(map(Path.is_file, parts_of(path)))]


def _strangers(folder: Path, but: "set[Path] | None" = None) -> list[Path]:
    """Files below `folder` that no download and no conversion put there; GGUFs other than `but` are."""
    notes = read_notes(folder)
    ours = {name for name, _ in notes.files} if notes else set[str]()
    patterns = ALWAYS_OURS if notes else (*ALWAYS_OURS, *CHECKPOINT_FILES)
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        inside = Path(parent).relative_to(folder)
        if inside.parts[:1] == (".cache",) and len(inside.parts) > 1 and inside.parts[1] in OUR_NOTES:
            folders.clear()
            continue
        for name in [*names, *(each for each in folders if (Path(parent) / each).is_symlink())]:
            path = Path(parent) / name
            relative = (inside / name).as_posix()
            if but is not None and name.lower().endswith(".gguf"):
                known = path in but
            else:
                known = (
                    relative in ours
                    or (but is not None and path in but)
                    or any(fnmatch.fnmatchcase(relative, each) for each in patterns)
                )
            if not known:
                found.append(path)
    return found


def _refuse_linked(what: str, folder: Path, roots: Sequence[Path]) -> None:
    """Raise for a folder that a link leads to, from below one of `roots`: it lies, and belongs, elsewhere."""
    for root in roots:
        if folder.is_relative_to(root):
            direct = Path(os.path.realpath(root)) / folder.relative_to(root)
            if os.path.normcase(os.path.realpath(folder)) == os.path.normcase(direct):
                return
    raise LibraryError(
        what, "it is only linked into the library and lies elsewhere", "remove it where it lies, or the link"
    )


def _refuse_precious(what: str, folder: Path, roots: Sequence[Path]) -> None:
    """Raise for a folder that other things of the person live in: a home, a disk, the library itself."""
    real = Path(os.path.realpath(folder))
    kept = [Path(os.path.realpath(path)) for path in (*roots, Path.home())]
    if os.path.ismount(real) or any(path.is_relative_to(real) for path in kept):
        raise LibraryError(
            what, f"{clean_text(str(folder))[0]} holds more than a model", "delete its files yourself"
        )


def _tidy(folder: Path, roots: Sequence[Path]) -> None:
    """Remove the owner's folder if it is empty now."""
    if any(folder != root and folder.is_relative_to(root) for root in roots):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _size_bytes(path: Path) -> int:
    """What becomes free when the path is gone: nothing of a link."""
    if path.is_symlink():
        return 0
    if not path.is_dir():
        return path.lstat().st_size
    total = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total
