"""What lies on this machine, as the library shows it: models with all that belongs to them, and checkpoints.

Owns: which files make up one item, and what is told of it (release, exactness, where it came from, when it was
used). Does not remove or move anything, and does not know where jobs come from.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convert.conversion_error import ConversionError
from convert.conversion_plan import path_of
from convert.receipt import Receipt, read_receipt, receipt_path
from engine.conversation import clean_text
from engine.encoding.release import ARCHITECTURES, choose_release
from engine.errors import NotFound, UnknownRelease
from engine.library.checkpoint_folders import CheckpointFolder, CheckpointFolders
from engine.library.fetched_folder import Fetched, read_notes
from engine.library.in_use import InUse
from engine.library.last_used import LastUsed
from engine.library.model_files import parts_of
from engine.library.models import HeldModel, ModelLibrary
from engine.protocol_jobs import Exactness
from engine.protocol_library import LibraryItem

Origin = Literal["starter", "folder", "file", "checkpoint", "added_checkpoint"]
DEEPEST = 4
"""Folders above a model that may hold the notes of its download."""


@dataclass(frozen=True)
class Holding:
    """An item, and what is not for others' eyes: `takes`, the files or the one folder that it is made of;
    `fetched_in`: the folder that it was fetched into."""

    item: LibraryItem
    takes: tuple[Path, ...]
    origin: Origin
    release_names: tuple[str, ...] = ()
    fetched_in: Path | None = None


class Holdings:
    """The items of one library. Any thread may call it; it reads files, so not the event loop's."""

    def __init__(self, library: ModelLibrary, last_used: LastUsed) -> None:
        self._library = library
        self._last_used = last_used
        self._folders = CheckpointFolders()
        self._lock = threading.Lock()
        self._receipts: dict[Path, tuple[tuple[int, int], Receipt | None]] = {}

    def found(self, checkpoint_roots: Sequence[Path], in_use: InUse) -> list[Holding]:
        """The models, then the checkpoints below `checkpoint_roots` and those that were added."""
        held = self._library.held()
        drafts = _drafts(held)
        used = self._last_used.times()
        holdings = [
            self._model(each, drafts.get(each.path), used.get(each.entry.id), in_use)
            for each in held
            if each.path not in {draft.path for draft in drafts.values()}
        ]
        added = self._library.added.read().checkpoints
        folders = self._folders.found(checkpoint_roots, added)
        loaded = [each.path for each in held if in_use.by_model(each.entry.id)]
        return holdings + [_checkpoint(folder, in_use, loaded) for folder in folders]

    def find(self, item_id: str, checkpoint_roots: Sequence[Path], in_use: InUse) -> Holding:
        """One item. Raises NotFound."""
        for holding in self.found(checkpoint_roots, in_use):
            if holding.item.id == item_id:
                return holding
        raise NotFound(
            "That cannot be found in the library",
            f"there is nothing with the id {clean_text(item_id)[0][:200]!r} any more",
            "look at the library again",
        )

    def add_checkpoint(self, path: Path) -> None:
        """Take a checkpoint's folder in where it lies. Raises LibraryError for what is none, DataFolderError."""
        self._library.added.add_checkpoint(self._folders.addable(path).path)

    def _model(
        self, held: HeldModel, draft: HeldModel | None, used_at: float | None, in_use: InUse
    ) -> Holding:
        entry, facts = held.entry, held.facts
        takes = _files_of(held.path)
        size_bytes = entry.size_bytes
        if draft is not None:
            takes += _files_of(draft.path)
            size_bytes += draft.entry.size_bytes
        fetched_in, notes = (None, None) if entry.source == "starter" else _notes_above(held.path)
        loaded = in_use.by_model(entry.id) or (draft is not None and in_use.by_model(draft.entry.id))
        item = LibraryItem(
            id=entry.id,
            kind="model",
            name=entry.name,
            release=_title(facts.release_names) if facts.architecture in ARCHITECTURES else None,
            path=entry.path,
            files=sum(path.suffix.lower() == ".gguf" for path in takes) or 1,
            size_bytes=size_bytes,
            repository=facts.repository or (notes.repository if notes else None),
            revision=facts.revision or (notes.commit if notes else None),
            exactness=self._exactness([held, draft] if draft else [held]),
            last_used_at=used_at,
            in_use=loaded or in_use.by_job(entry.id, takes),
            removable=entry.source != "starter",
            movable=entry.source != "starter",
            problem=entry.problem,
        )
        if entry.source == "remote":
            raise ValueError("what lies here is of this machine")
        return Holding(item, tuple(takes), entry.source, facts.release_names, fetched_in)

    def _exactness(self, files: Sequence[HeldModel]) -> Exactness | None:
        """What the receipts of a model and its drafter say together; None without the model's."""
        receipts = [self._receipt(each.path) for each in files]
        if not receipts or receipts[0] is None:
            return None
        known = [each for each in receipts if each is not None]
        errors = [tensor.error for each in known for tensor in each.tensors.values()]
        worst = [error[1] for error in errors if error is not None]
        return Exactness(
            lossless=all(each.lossless for each in known),
            exact=len(errors) - len(worst),
            approximate=len(worst),
            worst_relative_rms=max(worst, default=0.0),
        )

    def _receipt(self, gguf: Path) -> Receipt | None:
        """The receipt beside a file, if it is of this file as it is; read again only when it changed."""
        path = receipt_path(gguf)
        try:
            status, size_bytes = path.stat(), gguf.stat().st_size
        except (OSError, ValueError):
            return None
        state = (status.st_size, status.st_mtime_ns)
        with self._lock:
            known = self._receipts.get(path)
        if known is None or known[0] != state:
            try:
                known = state, read_receipt(gguf)
            except ConversionError:
                known = state, None
            with self._lock:
                self._receipts[path] = known
        receipt = known[1]
        # The rest of the check is `seamount verify`: this is only to show no other file's receipt.
        return receipt if receipt is not None and receipt.size_bytes == size_bytes else None


def _drafts(held: Sequence[HeldModel]) -> dict[Path, HeldModel]:
    """The drafter that belongs to a model, by the model's path: beside it under its name, of the same checkpoint."""
    by_path = {each.path: each for each in held}
    drafts: dict[Path, HeldModel] = {}
    for each in held:
        draft = by_path.get(path_of(each.path, "draft"))
        if (
            draft is not None
            and draft.path != each.path
            and draft.facts.role == "draft"
            and each.facts.role == "model"
            and draft.facts.fingerprint == each.facts.fingerprint
        ):
            drafts[each.path] = draft
    return drafts


def _files_of(gguf: Path) -> list[Path]:
    """All parts of a model, and its receipt where there is one."""
    receipt = receipt_path(gguf)
    return [*parts_of(gguf), *([receipt] if receipt.is_file() else [])]


def _notes_above(path: Path) -> tuple[Path | None, Fetched | None]:
    """The nearest folder above a model that it was fetched into, and its notes."""
    for folder in list(path.parents)[:DEEPEST]:
        notes = read_notes(folder)
        if notes is not None:
            inside = path.relative_to(folder).as_posix()
            return (folder, notes) if any(name == inside for name, _ in notes.files) else (None, None)
    return None, None


def _checkpoint(folder: CheckpointFolder, in_use: InUse, loaded: Sequence[Path]) -> Holding:
    """The item of a folder; `loaded`: files of loaded models, of which one may lie in it."""
    real = folder.path.resolve()
    names = (folder.notes.repository, folder.name) if folder.notes else (folder.name,)
    item_id = clean_text(folder.id)[0]
    added = folder.root is None
    item = LibraryItem(
        id=item_id,
        kind="checkpoint",
        name=folder.name,
        release=_title(names),
        path=clean_text(str(folder.path))[0],
        files=folder.files,
        size_bytes=folder.size_bytes,
        repository=folder.notes.repository if folder.notes else None,
        revision=folder.notes.commit if folder.notes else None,
        complete=folder.complete,
        in_use=in_use.by_job(item_id, [folder.path])
        or any(path.resolve().is_relative_to(real) for path in loaded),
    )
    origin: Origin = "added_checkpoint" if added else "checkpoint"
    return Holding(item, (folder.path,), origin, names, folder.path if folder.notes else None)


def _title(names: Sequence[str]) -> str | None:
    try:
        return choose_release(names).title
    except UnknownRelease:
        return None
