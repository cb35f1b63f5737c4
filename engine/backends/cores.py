"""With how many threads arithmetic may be worth doing on the cores that this process may use.

Owns: those numbers, and what tells quick cores from economical ones. Does not know what computes, nor which of the
numbers is best (`placement.thread_choice`).
"""

import subprocess
import sys
from pathlib import Path

from engine.placement import hardware
from engine.placement.thread_choice import candidates, expected_threads

_SYSTEM = Path("/sys/devices")
_HYBRID = Path("cpu_core/cpus")
"""Linux on Intel: the processors of the quick cores, as `0-11,16`; absent where all cores are alike."""
_MAX_LIST_BYTES = 4096


def threads_to_use(asked: int) -> int:
    """`asked`, or for 0 what suits the cores that this process may use where nothing can be tried."""
    return asked or expected_threads(hardware.processor().cores)


def numbers_to_try() -> tuple[tuple[int, ...], int]:
    """Numbers of threads worth trying, ascending, and how many cores this process may use."""
    processor = hardware.processor()
    # A container's quota counts processors as well as cores.
    limited = processor.cores < processor.usable * processor.physical // processor.logical
    processors = processor.cores if limited else processor.usable
    return candidates(processor.cores, processors, fast_cores(_SYSTEM)), processor.cores


def fast_cores(system: Path) -> int:
    """How many of the cores are the quick ones of a hybrid processor; 0 where all are alike or nothing tells.

    `system`: Linux's /sys/devices, where Intel's are listed as hyper-threads, and ARM's by capacity. macOS is asked
    by its `sysctl`.
    """
    if sys.platform == "darwin":
        return _apple_cores()
    try:
        listed = _processors((system / _HYBRID).read_text()[:_MAX_LIST_BYTES])
        cores = {
            _first(system / f"system/cpu/cpu{number}/topology/thread_siblings_list") for number in listed
        }
        return len(cores)
    except (OSError, ValueError):
        pass
    try:
        capacities = [
            int(path.read_text()[:16]) for path in (system / "system/cpu").glob("cpu[0-9]*/cpu_capacity")
        ]
    except (OSError, ValueError):
        return 0
    quick = sum(each == max(capacities) for each in capacities)
    return quick if quick < len(capacities) else 0


def _apple_cores() -> int:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "hw.perflevel0.physicalcpu"],
            capture_output=True,
            timeout=5,
            check=True,
        )
        return max(0, int(done.stdout))
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def _first(path: Path) -> int:
    return min(_processors(path.read_text()[:_MAX_LIST_BYTES]))


def _processors(listed: str) -> list[int]:
    """Numbers of a list as the kernel writes it, such as `0-3,8`. Raises ValueError."""
    found: list[int] = []
    for part in listed.strip().split(","):
        first, _, last = part.partition("-")
        start, end = int(first), int(last or first)
        if not 0 <= start <= end < 65536:
            raise ValueError(listed)
        found += range(start, end + 1)
    return found
