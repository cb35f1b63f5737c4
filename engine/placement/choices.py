"""What a person has chosen for each model: `placement.json` in the data folder.

Owns: the file's shape, reading it so that nothing in it can stop a model from being loaded, and writing it whole or
not at all. A file that is broken is as none and is set aside; an entry that is broken is as none. Does not know what
the choices mean (`planner`), nor the settings that count where nothing was chosen.
"""

import contextlib
import json
import logging
import threading
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from engine.atomic_file import is_disk_full, name_beside, write_atomically
from engine.errors import DataFolderError, DiskFull
from engine.protocol_placement import Choices

FORMAT = 1
NAME = "placement.json"
MAX_BYTES = 1 << 20
MOST_MODELS = 500
MAX_ID_CHARACTERS = 5000

_log = logging.getLogger(__name__)


class KeptChoices:
    """The choices of one data folder. Any thread."""

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        self._lock = threading.Lock()
        self._known: dict[str, Choices] | None = None

    def of(self, model_id: str) -> Choices:
        """What was chosen for a model; Choices() where nothing was."""
        with self._lock:
            return self._all().get(model_id, Choices())

    def keep(self, model_id: str, choices: Choices) -> None:
        """Keep what is chosen for a model; what says nothing is forgotten. After a crash there is the old file or the
        new one. Of too many models the one that was chosen for first is forgotten. Raises DiskFull, DataFolderError.
        """
        with self._lock:
            kept = {name: each for name, each in self._all().items() if name != model_id}
            if choices != Choices() and len(model_id) <= MAX_ID_CHARACTERS:
                kept[model_id] = choices
            for name in list(kept)[: max(0, len(kept) - MOST_MODELS)]:
                del kept[name]
            self._write(kept)
            self._known = kept

    def _all(self) -> dict[str, Choices]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> dict[str, Choices]:
        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
            table = json.loads(self._path.read_bytes())
            if not isinstance(table, dict) or cast("dict[str, Any]", table).get("format") != FORMAT:
                raise ValueError(f"it is not of format {FORMAT}")
            models = cast("dict[str, Any]", table).get("models")
            if not isinstance(models, dict):
                raise ValueError("it names no models")
        except FileNotFoundError:
            return {}
        except OSError as error:
            _log.warning("%s is ignored: %s", self._path, error.strerror or error)
            return {}
        except (ValueError, RecursionError) as error:
            _log.warning("%s is set aside: %s", self._path, error)
            with contextlib.suppress(OSError):
                self._path.rename(name_beside(self._path, "broken"))
            return {}
        found: dict[str, Choices] = {}
        for name, each in list(cast("dict[str, Any]", models).items())[:MOST_MODELS]:
            try:
                found[name] = Choices.model_validate(each)
            except ValidationError:
                _log.warning("%s: what was chosen for %.200r cannot be used", self._path, name)
        return found

    def _write(self, kept: dict[str, Choices]) -> None:
        models = {name: each.model_dump(exclude_none=True) for name, each in kept.items()}
        content = json.dumps({"format": FORMAT, "models": models}, indent=2)
        try:
            write_atomically(self._path, content.encode() + b"\n")
        except OSError as error:
            what, why = "The choices for the model cannot be kept", error.strerror or str(error)
            if is_disk_full(error):
                why = f"the disk that holds {self._path.parent} is full"
                raise DiskFull(what, why, "free some space there and try again") from error
            why = f"{self._path} cannot be written ({why})"
            raise DataFolderError(what, why, "give yourself permission to write there") from error
