"""What a plan decides, in words for a person: what, and why.

Owns: the sentences of memory, GPU and batches. Pure; decides nothing (`planner`).
"""

from collections.abc import Mapping, Sequence

from engine.model_table import size_text
from engine.placement.load_plan import Decision, Part
from engine.placement.model_sizes import ModelSizes
from engine.placement.turn_time import TURNS, Favour


def memory_decisions(
    sizes: ModelSizes, parts: Sequence[Part], budget_bytes: int, *, copied: bool, on_disk_bytes: int
) -> list[Decision]:
    """What lies in RAM, of `budget_bytes` that can be had, with the processor alone."""
    in_ram = size_text(sum(part.ram_bytes for part in parts))
    budget = size_text(budget_bytes)
    if copied:
        return [
            Decision(f"All of it in RAM, {in_ram} with its context", f"{budget} can be had of RAM"),
            Decision(
                "Weights may be copied into the order that the processor reads fastest", "the copy fits"
            ),
        ]
    read = "reads one row of the embedding"
    if sizes.experts:
        read = f"goes through {sizes.experts_used} of {sizes.experts} experts of a layer"
    return [
        Decision(
            f"{in_ram} in RAM, {size_text(on_disk_bytes)} left in the file on the disk",
            f"{budget} can be had of RAM, and a token {read}",
        ),
        Decision(
            "The file is mapped and nothing is copied",
            "the system can give mapped pages back when memory is short; a copy it would have to swap",
        ),
    ]


def batch_decision(batch_tokens: int, usual_tokens: int, *, streamed: bool) -> Decision:
    """The micro-batch of the processor. `streamed`: larger ones would pay, since each reads experts anew."""
    if batch_tokens > usual_tokens:
        why = "each batch of a prompt reads nearly all experts once"
    elif batch_tokens < usual_tokens or streamed:
        why = "a larger batch's buffers do not fit"
    else:
        why = "more gains nothing where all lies in RAM"
    return Decision(f"Prompts are read {batch_tokens} tokens at a time", why)


def gpu_decisions(
    sizes: ModelSizes,
    gpu: str,
    budget_bytes: int,
    parts: Sequence[Part],
    layers: int,
    on_gpu: Mapping[int, int],
    on_disk_bytes: int,
) -> list[Decision]:
    """What lies on a GPU, of `budget_bytes` that may be used, and how the rest is read. `on_gpu`: bytes of experts by
    layer."""
    count = len(sizes.layers)
    what = f"{size_text(sum(part.gpu_bytes for part in parts))} on {gpu}: {layers} of {count} layers"
    if sizes.expert_bytes:
        held = [
            on_gpu.get(at, 0) / each.expert_bytes for at, each in enumerate(sizes.layers) if each.expert_bytes
        ]
        what += f" without their experts, and the experts of {held.count(1)}"
        if some := sum(0 < each < 1 for each in held):
            what += f" and a part of those of {some} more"
    why = f"every token reads a layer's dense part, so that goes first; {size_text(budget_bytes)} may be used"
    if on_disk_bytes:
        rest = Decision(
            f"The model's file is mapped, {size_text(on_disk_bytes)} of it beyond RAM",
            "what does not fit is read from the disk when it is wanted",
        )
    elif sum(on_gpu.values()) >= sizes.expert_bytes and layers == count:
        rest = Decision("What is left for RAM is the embedding", "a token reads one row of it")
    else:
        rest = Decision(
            "The rest is read into memory that the GPU can reach", "prompts go several times faster"
        )
    return [Decision(what, why), rest]


def gpu_batch_decision(batch_tokens: int, favour: Favour) -> Decision:
    """The micro-batch with a GPU."""
    prompt, answer = TURNS[favour]
    best = f"a prompt of {prompt:,} tokens and an answer of {answer:,}"
    best = (
        f"neither of {best} takes much longer than it could"
        if favour == "balanced"
        else f"{best} take least time"
    )
    return Decision(
        f"Prompts are read {batch_tokens:,} tokens at a time",
        f"with that {best}: a larger batch brings what lies in RAM over the bus less often, and its buffers take "
        "memory from experts",
    )
