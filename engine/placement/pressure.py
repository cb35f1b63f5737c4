"""How short this machine's memory is at a moment: calm, short, or critical.

Owns: what is read of the system for that, and the thresholds, each with its reason. Does not know what is done about it
(`engine.memory_watch`, `engine.backends.load_guard`) or what a model weighs.

Two signs are read together. *Free*: what programs can still have, as the planner counts it, less what the caller says
it has to keep, against the reserve that every plan leaves to the rest of the machine. *Stalled*: the share of the time
in which programs waited for memory, Linux's pressure stall information (Documentation/accounting/psi.rst), of the
machine and of this process's control group. Where a system does not tell that, memory read back from swap stands for
it. Page faults do not: a model that is mapped faults by design, however much memory there is. For the same reason
stalling alone is no sign: a model larger than the memory reads its own pages again and again, and the kernel counts
that as waiting for memory.
"""

import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import psutil

from engine.placement import control_groups
from engine.placement.planner import Room

SYSTEM_PRESSURE = Path("/proc/pressure/memory")
SHORT_SHARE = 1 / 2
"""Of the reserve: below it memory is short. A plan leaves all of the reserve free; the half above is for what a desktop
takes and gives back all the time, and nothing is done about that."""
CRITICAL_SHARE = 1 / 4
"""Of the reserve: 150 MB on a small machine, about what a browser's new page takes. Below that the kernel has to
throw out what programs are using."""
NEAR_SHARES = 2
"""Of the reserve: up to there stalling counts. Beyond it, it is a large file that is read again and again."""
SHORT_STALL = 0.10
"""Some program waited for memory a tenth of the time. The kernel's own example of a trigger (psi.rst) is 15 %."""
CRITICAL_STALL = 0.40
"""All programs waited at once. systemd-oomd begins to kill at 60 % of that for half a minute (oomd.conf,
DefaultMemoryPressureLimit); a model should have given back what it can before."""
SWAP_BYTES_PER_S = 16_000_000
"""Read back from swap: by a tenth of the time on a disk that reads swapped pages at 160 MB/s."""


Stall = tuple[int, int]
"""(some, full) in microseconds."""


class Level(IntEnum):
    """How short memory is; the higher, the shorter."""

    CALM = 0
    SHORT = 1
    CRITICAL = 2


@dataclass(frozen=True)
class Reading:
    """What the system says at a moment. `stalls`: by source (this process's group, the machine), the microseconds ever
    in which some and in which all programs waited for memory; none where it does not tell. `swapped_in_bytes`: read
    back from swap, ever; only where stalls are not told."""

    at_s: float
    total_bytes: int
    available_bytes: int
    stalls: tuple[Stall, ...] = ()
    swapped_in_bytes: int = 0


@dataclass(frozen=True)
class Strain:
    """Between two readings. `free_bytes` is less than nothing where more has to be kept than there is. Shares are of
    the time between, 0 to 1."""

    free_bytes: int
    reserve_bytes: int
    some_share: float = 0.0
    full_share: float = 0.0
    swap_in_bytes_per_s: float = 0.0

    @property
    def missing_bytes(self) -> int:
        """What has to be given back for the whole reserve to be free; 0 when it is."""
        return max(0, self.reserve_bytes - self.free_bytes)


def read() -> Reading:
    """What the system says now. Raises nothing that a running system does not."""
    found, limits = psutil.virtual_memory(), control_groups.limits()
    files = (*control_groups.memory_pressure_files(), SYSTEM_PRESSURE)
    stalls = tuple(stall for path in files if (stall := stalls_in(_text(path))) is not None)
    return Reading(
        at_s=time.monotonic(),
        total_bytes=found.total if limits.memory_bytes is None else min(found.total, limits.memory_bytes),
        available_bytes=found.available
        if limits.free_bytes is None
        else min(found.available, limits.free_bytes),
        stalls=stalls,
        swapped_in_bytes=0 if stalls else psutil.swap_memory().sin,
    )


def strain(before: Reading | None, now: Reading, kept_bytes: int = 0, *, stalls: bool = True) -> Strain:
    """What there is between two readings; without one before, only what is free. `kept_bytes`: available as the system
    counts it, and yet needed, such as the mapped weights that every token reads. `stalls` False: they mean nothing
    now."""
    reserve = Room(now.total_bytes, 0, 1).ram_reserve_bytes
    free = now.available_bytes - kept_bytes
    passed_s = 0.0 if before is None else now.at_s - before.at_s
    if before is None or passed_s <= 0 or not stalls:
        return Strain(free, reserve)
    # Where a source has come or gone in between, nothing can be compared.
    pairs = (
        tuple(zip(before.stalls, now.stalls, strict=True)) if len(before.stalls) == len(now.stalls) else ()
    )
    return Strain(
        free,
        reserve,
        some_share=max((new[0] - old[0] for old, new in pairs), default=0) / 1e6 / passed_s,
        full_share=max((new[1] - old[1] for old, new in pairs), default=0) / 1e6 / passed_s,
        swap_in_bytes_per_s=(now.swapped_in_bytes - before.swapped_in_bytes) / passed_s,
    )


def level(found: Strain) -> Level:
    """How short memory is. Pure."""
    reserve = found.reserve_bytes
    near = found.free_bytes < NEAR_SHARES * reserve
    if found.free_bytes < CRITICAL_SHARE * reserve or (near and found.full_share >= CRITICAL_STALL):
        return Level.CRITICAL
    stalled = found.some_share >= SHORT_STALL or found.swap_in_bytes_per_s >= SWAP_BYTES_PER_S
    if found.free_bytes < SHORT_SHARE * reserve or (near and stalled):
        return Level.SHORT
    return Level.CALM


def stalls_in(text: str) -> Stall | None:
    """What a pressure file's two lines say; None for anything else."""
    totals: dict[str, int] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        value = rest.rpartition("total=")[2]
        if kind in ("some", "full") and value.isdecimal():
            totals[kind] = int(value)
    return (totals["some"], totals["full"]) if len(totals) == 2 else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:  # no such file, or a kernel that was told not to account for it
        return ""
