"""What answers really gave on this machine, noted so that the next forecast of the same model is nearer.

Owns: which turns tell something, how they are weighed against what was seen before, and how seldom the file is
written. Does not know what a turn is otherwise, nor the formula (`forecast`). A forecast is a help, no more: what goes
wrong here is a line in the log.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from engine.errors import SeamountError
from engine.placement.forecast import Turn, observed, observed_key
from engine.placement.hardware_record import Observed, read_record, write_record
from engine.placement.load_plan import LoadPlan
from engine.placement.measurement import present_fingerprint
from engine.placement.model_sizes import ModelSizes
from engine.placement.present_plan import sizes_of_file

LEAST_READ_TOKENS, LEAST_WRITTEN_TOKENS = 64, 32
"""A turn tells something of a rate if it had so many tokens: fewer are mostly beginning and end."""
WEIGHT = 0.3
"""Of the newest turn, in the mean with those before: what was seen six turns ago counts a tenth."""
AT_MOST_EVERY_S = 60.0
_MOST_WAITING = 256

_log = logging.getLogger(__name__)


class Experience:
    """For one data folder; `models`: whose disk counts. Any thread may call it."""

    def __init__(self, root: Path, models: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._root, self._models, self._now = root, models, now
        self._lock = threading.Lock()
        self._sizes: tuple[Path, ModelSizes] | None = None
        self._waiting: list[tuple[str, Observed]] = []
        self._written_s: float | None = None

    def note(self, path: Path, plan: LoadPlan, turn: Turn) -> None:
        """A turn of the model in the file `path`, loaded by `plan`, has ended. Raises nothing."""
        if plan.computed_by != "llamacpp":  # forecasts are of that alone
            return
        told = replace(
            turn,
            read_tokens=turn.read_tokens if turn.read_tokens >= LEAST_READ_TOKENS else 0,
            written_tokens=turn.written_tokens if turn.written_tokens >= LEAST_WRITTEN_TOKENS else 0,
            # What is left out of the count is behind the others all the same.
            depth_tokens=turn.depth_tokens
            + (0 if turn.read_tokens >= LEAST_READ_TOKENS else turn.read_tokens),
        )
        if not told.read_tokens and not told.written_tokens:
            return
        with self._lock:
            record = read_record(self._root)
            if record is None:
                return
            here = present_fingerprint(self._models)
            # A plan that uses a GPU names it, and one that is gone is in no plan.
            if not record.fingerprint.agrees(here.model_copy(update={"gpus": record.fingerprint.gpus})):
                return
            sizes = self._sizes_of(path)
            seen = None if sizes is None else observed(sizes, plan, record, told)
            if sizes is None or seen is None:
                return
            self._waiting.append((observed_key(sizes, plan), seen))
            del self._waiting[:-_MOST_WAITING]
            if self._written_s is None or self._now() - self._written_s >= AT_MOST_EVERY_S:
                self._write()

    def close(self) -> None:
        """Write what was not written yet. Raises nothing."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        self._written_s = self._now()
        # Read anew: the machine may have been measured meanwhile, by another process.
        record = read_record(self._root)
        if record is None:
            self._waiting.clear()
            return
        for key, seen in self._waiting:
            record = record.with_observed(key, seen.after(record.observed.get(key), WEIGHT))
        try:
            write_record(self._root, record)
        except SeamountError as error:
            _log.warning("%s", error.text)
            return
        self._waiting.clear()

    def _sizes_of(self, path: Path) -> ModelSizes | None:
        if self._sizes is None or self._sizes[0] != path:
            try:
                self._sizes = (path, sizes_of_file(path))
            except SeamountError as error:
                _log.warning("what %s gave is not noted: %s", path.name, error.text)
                return None
        return self._sizes[1]
