"""When each model was last used: `models/last_used.json`.

Owns: that file. It only helps a person to choose what to remove, so what goes wrong with it is a line in the log.
"""

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from engine.atomic_file import write_atomically

FORMAT = 1
MAX_BYTES = 1 << 20
MOST_MODELS = 1_000
AT_MOST_EVERY_S = 300.0
"""How often the file is written while one model is in use."""

_log = logging.getLogger(__name__)


class LastUsed:
    """The times of one models folder, seconds since 1970 by model id. Any thread may call it."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._times: dict[str, float] | None = None
        self._written: tuple[str, float] | None = None

    def times(self) -> dict[str, float]:
        """When each model was last used."""
        with self._lock:
            return dict(self._read())

    def is_due(self, model_id: str) -> bool:
        """Whether it is time to write down that the model is used; reads nothing."""
        # A clock that was set back counts from where it is now.
        before = self._written
        return before is None or before[0] != model_id or not 0 <= self._now() - before[1] < AT_MOST_EVERY_S

    def mark(self, model_id: str) -> bool:
        """The model is used at this moment; whether that was written down now. Raises nothing."""
        with self._lock:
            if not self.is_due(model_id):
                return False
            now = self._now()
            times = self._read()
            times[model_id] = now
            while len(times) > MOST_MODELS:
                del times[min(times, key=lambda each: times[each])]
            self._written = (model_id, now)
            try:
                content = json.dumps({"format": FORMAT, "times": times}, indent=1) + "\n"
                write_atomically(self._path, content.encode("utf-8"))
            except OSError as error:
                _log.warning("%s cannot be written: %s", self._path, error)
                return False
            return True

    def _read(self) -> dict[str, float]:
        if self._times is None:
            try:
                with self._path.open("rb") as file:
                    self._times = _times(json.loads(file.read(MAX_BYTES)))
            except FileNotFoundError:
                self._times = {}
            except (OSError, ValueError, RecursionError) as error:
                _log.warning("%s cannot be read and is ignored: %s", self._path, error)
                self._times = {}
        return self._times


def _times(document: Any) -> dict[str, float]:
    """What the file says. Raises ValueError."""
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    table = cast(dict[str, Any], document)
    times: Any = table.get("times")
    if table.get("format") != FORMAT or not isinstance(times, dict):
        raise ValueError("it is of another format")
    return {
        model_id: float(value)
        for model_id, value in cast(dict[str, Any], times).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
