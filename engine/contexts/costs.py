"""What it costs to have a prompt in the context.

Owns: the values, how fast this model reads as far as this process has seen it, and how long reading is foretold to
take. Does not know where a context starts from (`keeper`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import SeamountError
from engine.placement.forecast import Turn, foretold_rates
from engine.placement.hardware_record import NAME, HardwareRecord, read_record

if TYPE_CHECKING:
    from engine.placement.load_plan import LoadPlan

LEAST_READ_TOKENS = 64
"""Fewer tell nothing of how fast a prompt is read: they are mostly beginning and end."""
WEIGHT = 0.5
"""Of the newest reading in the mean with those before."""
LOADED_BYTES_PER_S = 1e9
"""How fast a kept state is read from a file and looked through, until it was seen: of the disk of a plain machine."""

Pace = Callable[[int, int], float | None]
"""Seconds to read so many tokens behind so many others; None: unknown."""


@dataclass(frozen=True)
class Cost:
    """Of `total` tokens, `kept` need not be read again: they are in the context or, `from_disk` of them, in a file.

    `seconds`: until all of them are there; None where that cannot be foretold.
    """

    total: int
    kept: int
    from_disk: int
    seconds: float | None

    @property
    def reread(self) -> int:
        """What is read again."""
        return self.total - self.kept


class Speeds:
    """How fast a model reads and a disk gives back what was kept. `pace`: what is foretold of reading.

    What was seen here counts where nothing is foretold: a forecast knows the depth, one figure does not.
    """

    def __init__(self, pace: Pace | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._pace = pace
        self._token_s: float | None = None
        self._bytes_per_s = LOADED_BYTES_PER_S

    def read(self, tokens: int, took_s: float) -> None:
        """So many tokens were read in so long."""
        if tokens >= LEAST_READ_TOKENS and took_s > 0:
            self._token_s = _mean(self._token_s, took_s / tokens)

    def loaded(self, size_bytes: int, took_s: float) -> None:
        """A state of that size came from a file in so long."""
        if size_bytes >= 2**20 and took_s > 0:
            self._bytes_per_s = _mean(self._bytes_per_s, size_bytes / took_s)

    def reading_s(self, tokens: int, depth_tokens: int) -> float | None:
        """How long reading so many tokens behind so many others takes, likely; None: unknown."""
        if tokens <= 0:
            return 0.0
        foretold = self._pace(tokens, depth_tokens) if self._pace is not None else None
        if foretold is None and self._token_s is not None:
            return tokens * self._token_s
        return foretold

    def loading_s(self, size_bytes: int) -> float:
        """How long it takes to have a state of that size from its file."""
        return size_bytes / self._bytes_per_s


def _mean(before: float | None, new: float) -> float:
    return new if before is None else (1 - WEIGHT) * before + WEIGHT * new


def foretold_pace(path: Path, plan: "LoadPlan | None", root: Path | None) -> Pace | None:
    """How long the model in the file `path`, loaded by `plan`, reads, by what was measured of this machine and what the
    model gave on it; None where it was loaded without a plan, or by the native engine, of which nothing is foretold.
    `root`: the data folder."""
    if plan is None or root is None or plan.computed_by != "llamacpp":
        return None
    from engine.placement.present_plan import sizes_of_file

    try:
        sizes = sizes_of_file(path)
    except SeamountError:
        return None
    known: list[tuple[int, HardwareRecord | None]] = []
    file = root / NAME

    def record() -> HardwareRecord | None:
        # It changes when the machine is measured, and as answers end.
        try:
            changed_ns = file.stat().st_mtime_ns
        except OSError:
            changed_ns = 0
        if not known or known[0][0] != changed_ns:
            known[:] = [(changed_ns, read_record(root))]
        return known[0][1]

    def seconds(tokens: int, depth_tokens: int) -> float | None:
        measured = record()
        if measured is None:
            return None
        rates = foretold_rates(sizes, plan, measured, Turn(depth_tokens, tokens, 0.0, 0, 0.0))
        return None if rates is None or rates[0] <= 0 else tokens / rates[0]

    return seconds
