"""Stops the load of a model when memory runs short while it is being loaded.

Owns: when a load looks at the memory, and the sentence when what it still needs is no longer there. A plan was made for
what was free at that moment; another program may take it, or a container's limit may be lowered, before the load is
through. Does not know how memory is read (`engine.placement.pressure`), what a plan needs (`load_needs`) or how a load
is given up: it stands in the place of the load's `on_progress`, and raises there.

It looks ahead: a load is stopped as soon as what it still needs is not free, not when nothing is free any more. Between
two calls of `on_progress` (llama.cpp calls it before each matrix) nothing can be stopped, nor before the first one,
which on Linux comes when a mapped file was read whole (MAP_POPULATE in src/llama-mmap.cpp).
"""

import time
from collections.abc import Callable

from engine.errors import DoesNotFit
from engine.model_table import size_text
from engine.placement import pressure
from engine.placement.load_needs import still_needed_bytes
from engine.placement.load_plan import LoadPlan
from engine.placement.pressure import Level, Reading

STALL_S = 0.5
"""In less time than that a single moment in which the kernel tidies up would count as waiting all the time."""
LOOK_S = 0.05
"""Between two looks at the memory, of about a third of a millisecond each; at 10 GB/s half a gigabyte."""


class LoadGuard:
    """`on_progress` of one load by `plan`: asks the caller's own, and raises DoesNotFit when memory runs short."""

    def __init__(
        self,
        plan: LoadPlan,
        on_progress: Callable[[float], bool],
        read: Callable[[], Reading] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read`: of this machine's memory unless another one is given."""
        self._plan, self._on_progress, self._clock = plan, on_progress, clock
        self._read = read or pressure.read
        self._before = self._read()
        self._looked_s = clock()

    def __call__(self, fraction: float) -> bool:
        """Whether to go on at the loaded `fraction`, 0 to 1. Raises DoesNotFit."""
        now_s = self._clock()
        # At the end always: the context, which nothing can stop, is made next.
        if now_s - self._looked_s >= LOOK_S or fraction >= 1:
            self._look(fraction)
            self._looked_s = now_s
        return self._on_progress(fraction)

    def _look(self, fraction: float) -> None:
        needed = still_needed_bytes(self._plan, fraction)
        now = self._read()
        long_enough = now.at_s - self._before.at_s >= STALL_S
        found = pressure.strain(self._before, now, needed, stalls=long_enough)
        if long_enough:
            self._before = now
        if pressure.level(found) is Level.CRITICAL:
            kept = size_text(found.reserve_bytes)
            raise DoesNotFit(
                f"{self._plan.model} was not loaded",
                f"memory got short while it was being loaded: it needs {size_text(needed)} more, and of the "
                f"{size_text(max(0, now.available_bytes))} that are left {kept} belong to other programs",
                "close other programs or set a smaller context, and load it again",
            )
