"""What a model that is loaded by a plan cannot do without in RAM, while it is loaded and afterwards.

Owns: those sums over a plan's parts. Pure. What takes whatever there is, experts in mapped pages and states of the
context, is not needed. Does not know what is free (`pressure`).
"""

from engine.placement.load_plan import LoadPlan


def needed_mapped_bytes(plan: LoadPlan) -> int:
    """Bytes of the mapped file that every token reads: the system counts them as available, and a model that loses
    them reads them from the disk for each token. 0 where nothing is mapped, or all of it is copied."""
    if not _is_mapped(plan):
        return 0
    return plan.part_bytes("dense", "ram") + plan.part_bytes("output", "ram")


def reads_its_file_again(plan: LoadPlan) -> bool:
    """Whether a model loaded by `plan` reads pages of its mapped file again and again, since they do not all fit: the
    kernel counts that as waiting for memory, though nobody is short of it."""
    return _is_mapped(plan) and plan.experts_read == "mapped" and plan.held_bytes("disk") > 0


def context_bytes(plan: LoadPlan) -> int:
    """Bytes of RAM of the context and of the buffers to compute in, which are there until the model is closed."""
    return plan.part_bytes("cache", "ram") + plan.part_bytes("compute", "ram")


def weights_taken_bytes(plan: LoadPlan) -> int:
    """Bytes of RAM that weights take which are not pages of the mapped file."""
    if _is_mapped(plan):
        return 0
    return sum(plan.part_bytes(what, "ram") for what in ("dense", "output", "experts", "embedding"))


def still_needed_bytes(plan: LoadPlan, fraction: float) -> int:
    """Bytes that a load by `plan`, of which `fraction` (0 to 1) is done, will yet take of RAM or must keep there."""
    left = 1 - min(max(fraction, 0.0), 1.0)
    return context_bytes(plan) + needed_mapped_bytes(plan) + int(weights_taken_bytes(plan) * left)


def given_back_bytes(plan: LoadPlan) -> int:
    """Bytes of RAM that are free again when a model loaded by `plan` is closed; pages of its file always were."""
    own_experts = plan.part_bytes("experts", "ram") if _is_mapped(plan) and _has_own_experts(plan) else 0
    return context_bytes(plan) + weights_taken_bytes(plan) + own_experts


def _has_own_experts(plan: LoadPlan) -> bool:
    """Whether experts lie in memory of our own in the place of the mapped file's pages."""
    if plan.experts_read != "direct":
        return False
    return plan.part_bytes("experts", "disk") > 0 or plan.computed_by == "native"


def _is_mapped(plan: LoadPlan) -> bool:
    """Whether weights in RAM are pages of the mapped file."""
    return plan.memory_mapped and not plan.copied
