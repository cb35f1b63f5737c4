"""What a person asks to have, turned into exactly what is to be fetched and where it goes.

Owns: the meaning of a name (an entry's, a repository's, an address), and the places that a job gets unless it was
told: OWNER/NAME in the folder for checkpoints, NAME.gguf in the models folder. Asks no hub: what is not known
beforehand (which commit "main" is) the job finds out. Entries are `catalogue_entries`.
"""

import os
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from engine.conversation import clean_text
from engine.errors import BadRequest, Conflict
from engine.library.catalogue_entries import Entry, is_pattern, load_catalogue, why_refused
from engine.library.fetched_folder import read_notes
from engine.library.fetching.fetch_plan import CHECKPOINT_FILES
from engine.library.hub_place import endpoint_of
from engine.library.model_files import parts_pattern
from engine.library.repository_names import Place, checked_revision, is_commit, read_place, split_revision
from engine.paths import DataFolder
from engine.protocol import Settings
from engine.protocol_jobs import FetchRequest

SUFFIX = ".gguf"
_WHAT = "The model cannot be fetched"


@dataclass(frozen=True)
class Wanted:
    """What a name stands for. `files`: patterns; empty: what a model needs. `entry` None: not of the catalogue."""

    repository: str
    revision: str
    files: tuple[str, ...]
    entry: Entry | None

    @property
    def is_gguf(self) -> bool:
        """Whether finished models are fetched, not a checkpoint."""
        return bool(self.files) and all(pattern.lower().endswith(SUFFIX) for pattern in self.files)


def wanted(
    what: str, revision: str | None, settings: Settings, folder: DataFolder, *, to_fetch: bool = False
) -> Wanted:
    """What is meant by an entry's name, OWNER/NAME, either with @REVISION, or the address of a page.

    Raises BadRequest for what is none of them, for a repository that is known not to be of use, and, `to_fetch`, for
    one of several models of which none is named.
    """
    catalogue = load_catalogue(folder)
    text = what.strip()
    named, at = (text, None) if "://" in text else split_revision(text)
    entry = catalogue.find(named)
    if entry is not None:
        place = Place(entry.repository, at)
    else:
        place = read_place(text, endpoint_of(settings))
        entry = catalogue.find(place.repository)
    if why := why_refused(place.repository):
        raise BadRequest(f"{place.repository} cannot be used", why, "choose another model")
    chosen = checked_revision(revision) if revision else place.revision
    files = (parts_pattern(place.file),) if place.file else tuple(entry.files) if entry else ()
    if place.file and not place.file.lower().endswith(SUFFIX):
        files = tuple(entry.files) if entry else ()
    if not files and entry is None and to_fetch:
        _refuse_many(place.repository, [each.name for each in catalogue.of_repository(place.repository)])
    return Wanted(
        place.repository if entry is None else entry.repository,
        chosen or (entry.revision if entry else "main"),
        files,
        entry,
    )


def resolve(asked: FetchRequest, settings: Settings, folder: DataFolder) -> FetchRequest:
    """`asked` with nothing left open: `what` is then OWNER/NAME, and revision and folder are set, as are
    `convert.target` and, where the catalogue knows them, `files` and `release`.

    The folder is OWNER/NAME, or NAME@REVISION when another revision of that repository lies there; that of a GGUF is
    in the models folder, where the library finds it. A target is never a file that is there.
    Raises BadRequest, Conflict.
    """
    named = wanted(asked.what, asked.revision, settings, folder, to_fetch=not asked.files)
    files = tuple(asked.files) or named.files
    for pattern in files:
        if not is_pattern(pattern):
            raise BadRequest(_WHAT, "a pattern of files leads out of the repository", "correct it")
    meant = Wanted(named.repository, named.revision, files, named.entry)
    if asked.convert is not None and meant.is_gguf:
        raise BadRequest(
            f"{meant.repository} cannot be converted",
            "it is a GGUF already, which is what a conversion makes",
            "fetch it without converting it",
        )
    convert = asked.convert
    if convert is not None:
        convert = convert.model_copy(update={"target": str(_target(convert.target, meant, folder))})
    release = asked.release or (named.entry.release if named.entry else None)
    return asked.model_copy(
        update={
            "what": meant.repository,
            "revision": meant.revision,
            # What an unknown repository holds, a checkpoint or a GGUF, the job finds out.
            "files": list(files or (CHECKPOINT_FILES if named.entry else ())),
            "folder": str(_folder(asked.folder, meant, settings, folder)),
            "convert": convert,
            "release": release,
        }
    )


def checkpoints_folder(settings: Settings, folder: DataFolder) -> Path:
    """Where checkpoints go: the settings' folder, else the models folder."""
    named = settings.checkpoints_folder
    return whole_path(named, "The folder for checkpoints cannot be used") if named else folder.models


def whole_path(text: str, what: str) -> Path:
    """`text` as a path from the root on. Raises BadRequest."""
    if clean_text(text)[1] or not text.strip():
        raise BadRequest(what, "that is not the path of a folder or file", "write it from the root on")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise BadRequest(what, "there is no such home folder", "write the whole path") from error
    if not path.is_absolute():
        raise BadRequest(what, "that is not a whole path", "write it from the root on")
    return Path(os.path.normpath(path))


def _folder(named: str | None, meant: Wanted, settings: Settings, folder: DataFolder) -> Path:
    if named is not None:
        return whole_path(named, _WHAT)
    above = folder.models if meant.is_gguf else checkpoints_folder(settings, folder)
    owner, name = meant.repository.split("/")
    place = above / owner / name
    notes = read_notes(place)
    if notes is None:
        return place
    if meant.is_gguf and not any(fnmatch(path, each) for path, _ in notes.files for each in meant.files):
        # Another model of the same repository lies there, and a folder has one set of notes.
        return above / owner / f"{name}-{_stem(meant.files[0])}"
    if is_commit(meant.revision) and notes.commit != meant.revision:
        # One folder holds one commit: what is in it must stay what its notes say.
        return above / owner / f"{name}@{meant.revision[:7]}"
    if not is_commit(meant.revision) and notes.revision not in ("", notes.commit, meant.revision):
        return above / owner / f"{name}@{re.sub(r'[^A-Za-z0-9._-]+', '_', meant.revision)[:80].strip('._')}"
    return place


def _stem(pattern: str) -> str:
    """What is left of a pattern of GGUFs as a part of a folder's name."""
    stem = pattern.rpartition("/")[2][: -len(SUFFIX)]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[:80].strip("._") or "model"


def _target(named: str | None, meant: Wanted, folder: DataFolder) -> Path:
    what = f"{meant.repository} cannot be converted"
    if named is None:
        target = folder.models / f"{meant.repository.rpartition('/')[2]}{SUFFIX}"
        remedy = "remove it from the library first, or name another file"
    else:
        target, remedy = whole_path(named, what), "name another file, or remove that one"
        if target.suffix.lower() != SUFFIX:
            raise BadRequest(what, "the result's name does not end in .gguf", "name it NAME.gguf")
    if os.path.lexists(target):
        raise Conflict(what, f"{clean_text(str(target))[0]} is there already", remedy)
    return target


def _refuse_many(repository: str, names: list[str]) -> None:
    """Raise where a whole repository would be fetched that plainly holds finished models side by side."""
    if names:
        remedy = f"choose one of {', '.join(names)}, or name a file of it"
    elif re.search(r"(?:^|[-_.])gguf(?:[-_.]|$)", repository.rpartition("/")[2], re.IGNORECASE):
        remedy = "look it up in the library and choose one, or name a file of it"
    else:
        return
    raise BadRequest(
        f"{repository} cannot be fetched as a whole", "its repository holds several models", remedy
    )
