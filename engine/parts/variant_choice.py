"""Which variant of a part suits this machine, and why.

Owns: that rule. Pure; what the machine has is told.
"""

from engine.parts.part_lock import PartLock, Variant
from engine.placement.nvidia import Seen


def suited(lock: PartLock, seen: Seen) -> tuple[Variant, str]:
    """The variant, and the reason as a clause."""
    plain = next((each for each in lock.variant if each.least_driver is None), lock.variant[0])
    for_gpus = next((each for each in lock.variant if each.least_driver is not None), None)
    if for_gpus is None or not seen.gpus:
        return plain, "no NVIDIA GPU was found here"
    gpu = seen.gpus[0]
    if _numbers(gpu.driver) < _numbers(for_gpus.least_driver or "0"):
        return plain, (
            f"the driver of {gpu.name} is {gpu.driver}, and the set for GPUs needs {for_gpus.least_driver} or newer"
        )
    return for_gpus, f"{gpu.name} was found here"


def _numbers(version: str) -> tuple[int, ...]:
    """ "580.65.06" → (580, 65, 6); what is no number counts as 0."""
    return tuple(int(each) if each.isdecimal() else 0 for each in version.split("."))
