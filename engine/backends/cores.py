"""How many threads arithmetic should use.

Owns: the count of cores this process may use. Does not know what computes.
"""

from pathlib import Path

import psutil

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # Linux; absent elsewhere, and then nothing is limited


def threads_to_use(asked: int) -> int:
    """`asked`, or for 0: the physical cores this process may use, less one, at least one.

    Hyper-threads are not counted, since two of one core share the units that multiply; where psutil cannot
    tell them from cores, every logical processor is counted. One core stays free for the window and the
    HTTP service: llama.cpp's threads wait for each other after every operation, so a single one of them
    that has to share its core slows them all. CPU affinity and a container's CPU quota are respected.
    """
    if asked > 0:
        return asked
    logical = psutil.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or logical
    usable = min(_allowed_processors(logical), logical)
    # Of the processors allowed, as many are cores of their own as in the whole machine.
    cores = max(1, usable * min(physical, logical) // logical)
    if (quota := _quota_cores(_CGROUP_QUOTA)) is not None:
        cores = min(cores, max(1, int(quota)))
    return max(1, cores - 1)


def _allowed_processors(logical: int) -> int:
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # not on macOS
    return len(affinity()) if affinity is not None else logical


def _quota_cores(path: Path) -> float | None:
    """Cores that a control group grants (Linux cgroup v2, `cpu.max`: "quota period" or "max period")."""
    try:
        quota, period = path.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
