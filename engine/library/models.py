"""The models on this machine: the starter, the models folder, and files added where they lie.

Owns: the ids of models, and which sampling suits a model. Does not know what makes a file loadable
(`model_files`), how what was added is remembered (`added_files`), or how a model is loaded (`backends`).

Ids are stable as long as the file stays where it is: "starter", "folder:<path within the models folder>",
"file:<first 12 hex digits of the SHA-256 of the path>".
"""

import hashlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.conversation import clean_text
from engine.errors import ModelFileError, NotFound
from engine.library.added_files import AddedFiles
from engine.library.catalogue_entries import CATALOGUE, starter_entry
from engine.library.model_files import FileFacts, ModelFiles, is_later_part, is_script
from engine.library.starter import starter_file
from engine.paths import DataFolder
from engine.protocol import ErrorBody, ModelEntry, Sampling

STARTER_ID = "starter"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldModel:
    """A model of the library with its file; `path` may not be fit to be shown, that of `entry` is."""

    entry: ModelEntry
    path: Path
    facts: FileFacts


class ModelLibrary:
    """The models of one data folder. Any thread may call it; it reads files, so not the window's thread."""

    def __init__(self, folder: DataFolder, catalogue: Path = CATALOGUE) -> None:
        self._folder = folder.models
        self.added = AddedFiles(folder.models / "added.json")
        self._files = ModelFiles()
        self._lock = threading.Lock()
        self._starter = starter_entry(catalogue)
        self.remotes: Callable[[], list[ModelEntry]] = list
        """The models on other machines, which are in the list and nowhere else in the library."""

    def entries(self) -> list[ModelEntry]:
        """All models, the starter first, then the folder's by path, then the added ones, then those on other machines;
        with what is wrong.

        Headers are read again only where a file changed.
        """
        return [*(each.entry for each in self.held()), *self.remotes()]

    def held(self) -> list[HeldModel]:
        """The entries with the file of each, and what it says of itself."""
        found = self._found()
        self._files.keep_only([path for _, _, path in found])
        facts = [self._files.facts(path) for _, _, path in found]
        names = [each.name for each in facts]
        return [
            HeldModel(
                self._entry(model_id, source, path, each, ambiguous=names.count(each.name) > 1), path, each
            )
            for (model_id, source, path), each in zip(found, facts, strict=True)
        ]

    def entry(self, model_id: str) -> ModelEntry:
        """One model. Raises NotFound."""
        for each in self.entries():
            if each.id == model_id:
                return each
        raise NotFound(
            "The model cannot be found",
            f"there is none with the id {clean_text(model_id)[0][:200]!r} any more",
            "choose another one",
        )

    def add(self, path: str) -> ModelEntry:
        """Register a GGUF file where it lies; one that is known already is returned as it is.

        Raises ModelFileError for a file that cannot be used, DataFolderError when the list cannot be kept.
        """
        cleaned, unstorable = clean_text(path)
        what = f"{cleaned[-200:]} cannot be added"
        if unstorable or not path.strip():
            raise ModelFileError(what, "that is not the path of a file", "choose a .gguf file")
        try:
            file = Path(path).expanduser().absolute()
        except RuntimeError as error:
            raise ModelFileError(what, str(error), "write the whole path") from error
        if is_script(file):
            raise ModelFileError(
                what, "a script is only taken from the models folder", f"copy it to {self._folder}"
            )
        facts = self._files.facts(file)
        if facts.problem is not None:
            raise facts.problem
        with self._lock:
            for model_id, _, known in self._found():
                if os.path.realpath(known) == os.path.realpath(file):
                    return self.entry(model_id)
            self.added.add_model(file)
        return self.entry(_file_id(file))

    def sampling(self, model_id: str) -> Sampling:
        """What suits the model: the catalogue's word, else its maker's, else ours. Raises NotFound."""
        if model_id == STARTER_ID:
            self.entry(model_id)
            return Sampling.model_validate(self._starter["sampling"])
        path = next((path for each, _, path in self._found() if each == model_id), None)
        if path is None:
            self.entry(model_id)
            return Sampling()
        recommended = self._files.facts(path).sampling or {}
        sampling = Sampling()
        for name, value in recommended.items():
            try:
                sampling = Sampling.model_validate(sampling.model_dump() | {name: value})
            except ValidationError:
                _log.warning("%s recommends %s = %r, which is ignored", path.name, name, value)
        return sampling

    def default_id(self) -> str | None:
        """The starter, else the first model of this machine without a problem; None when there is none. One on another
        machine is never chosen for anybody."""
        return next((each.entry.id for each in self.held() if each.entry.problem is None), None)

    # --- inside -------------------------------------------------------------------------------------

    def _found(self) -> list[tuple[str, str, Path]]:
        """(id, source, path) of every model."""
        found: list[tuple[str, str, Path]] = []
        if (starter := starter_file(str(self._starter["package"]), str(self._starter["file"]))) is not None:
            found.append((STARTER_ID, "starter", starter))
        found += [
            (f"folder:{path.relative_to(self._folder).as_posix()}", "folder", path) for path in self._walk()
        ]
        real = {os.path.realpath(path) for _, _, path in found}
        for name in self.added.read().models:
            if os.path.realpath(name) not in real:
                real.add(os.path.realpath(name))
                found.append((_file_id(Path(name)), "file", Path(name)))
        return found

    def _walk(self) -> list[Path]:
        """Model files in the models folder, through links, each folder once, hidden ones left out."""
        files: list[Path] = []
        seen: set[str] = set()
        for folder, folders, names in os.walk(self._folder, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(folder) / name
                wanted = name.lower().endswith(".gguf") or is_script(path)
                if wanted and not name.startswith(".") and not is_later_part(path):
                    files.append(path)
        return sorted(files, key=lambda path: path.relative_to(self._folder).as_posix().casefold())

    def _entry(
        self, model_id: str, source: Any, path: Path, facts: FileFacts, *, ambiguous: bool
    ) -> ModelEntry:
        name = facts.name
        if source == "starter":
            name = str(self._starter["name"])
        elif ambiguous:
            # Two quantisations of one model bear the same name in their headers.
            name = f"{name} ({path.stem})"
        problem = facts.problem
        return ModelEntry(
            id=clean_text(model_id)[0],
            name=clean_text(name)[0],
            path=clean_text(str(path))[0],
            size_bytes=facts.size_bytes,
            source=source,
            architecture=facts.architecture,
            context_train_tokens=facts.context_train_tokens,
            problem=None if problem is None else ErrorBody(code=problem.code, text=problem.text),
        )


def _file_id(path: Path) -> str:
    return f"file:{hashlib.sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
