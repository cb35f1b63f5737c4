"""How the encoding's properties and fuzz are run: the same cases every time, more of them when asked for.

`SEAMOUNT_FUZZ_SECONDS` and `SEAMOUNT_FUZZ_SEED` make the fuzz long and start it elsewhere (`make campaign`).
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings


def for_all(*strategies: Any, examples: int = 100, **named: Any) -> Callable[[Callable[..., None]], Any]:
    """`given`, with examples that are the same in every run."""
    steady = settings(
        derandomize=True,
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    return lambda test: steady(given(*strategies, **named)(test))


def fuzz(what: str, one: Callable[[int], None], *, rounds: int) -> None:
    """`one(seed)` for `rounds` seeds, or for as long as the campaign wants; a failing seed is told."""
    first = int(os.environ.get("SEAMOUNT_FUZZ_SEED", "1"))
    until = time.monotonic() + float(os.environ.get("SEAMOUNT_FUZZ_SECONDS", "0"))
    done = 0
    while done < rounds or time.monotonic() < until:
        try:
            one(first + done)
        except BaseException:
            print(f"{what}: seed {first + done}", file=sys.stderr)
            raise
        done += 1
    print(f"{what}: seeds {first} to {first + done - 1} held")
