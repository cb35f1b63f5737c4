"""The network on an NVIDIA GPU: what lies where, and how much fits.

Owns: which device there is, the way of the weights onto it, how its memory is shared out (dense weights, a context, a
pass, and what is left for experts in slots), and what is said when it is full. Dense matrices are uploaded in planes
(`kernels.device_layout`): the same numbers to the last bit. Experts that have no slot stay where the file maps them,
or in memory that the GPU reads by itself. How much is free is asked of the driver, never assumed. Knows no layer.

What a pass needs is reckoned from shapes, rather too large (`pass_bytes`); tests on a GPU hold it against what torch
says was used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch

from engine.model.attention import QUERIES_AT_ONCE, SCORES_AT_ONCE
from engine.model.compressor_state import OVERLAPPING
from engine.model.config import NetworkConfig
from engine.model.expert_policies import DecayedFrequency, ExpertPolicy, StaticByLayer
from engine.model.expert_store import ExpertStore
from engine.model.model_error import ModelError
from engine.model.row_formats import CacheFormat, RowFormat
from engine.model.tiered_experts import TieredExperts
from engine.model.weights import ExpertBank, NetworkWeights
from kernels.device_layout import laid_out
from kernels.experts.expert_slots import ExpertSlots
from kernels.matrices import Matrix

RESERVE_BYTES = 512 << 20
"""Left alone: the driver's own, kernels that are loaded, what an allocator cannot join together."""
OLDEST_CAPABILITY = (8, 0)
"""Ampere: the first with BF16 in its matrix units."""
# An expert's 13 MB cross PCIe in a quarter of a millisecond; in torch a processor takes longer to compute it, so a
# single token's experts are uploaded too.
FP4_KINDS = ("mxfp4", "fp4")
T = TypeVar("T")


@dataclass(frozen=True)
class Placed:
    """Weights and experts as `Network` takes them, and where they lie."""

    weights: NetworkWeights
    experts: ExpertStore
    device: torch.device
    activations: torch.dtype
    slots: int
    """How many experts have room on the GPU."""
    gpu_layers: tuple[int, ...]
    """Layers all of whose experts do."""


def gpu() -> torch.device | None:
    """The NVIDIA GPU that the network can run on; None: there is none, or it is too old."""
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < OLDEST_CAPABILITY:
        return None
    return torch.device("cuda", torch.cuda.current_device())


def free_bytes(device: torch.device) -> int:
    """What can still be taken: what the driver has, and what torch holds without using it."""
    index = cast(int | None, device.index)  # torch says int, and has None for "cuda"
    number = torch.cuda.current_device() if index is None else index
    free, total = torch.cuda.mem_get_info(number)
    used = torch.cuda.memory_allocated(number)
    unused = torch.cuda.memory_reserved(number) - used
    limit = int(torch.cuda.get_per_process_memory_fraction(number) * total)
    return max(0, min(free + unused, limit - used))


def place(
    config: NetworkConfig,
    weights: NetworkWeights,
    device: torch.device,
    *,
    context_tokens: int,
    chunk_tokens: int,
    cache_format: CacheFormat,
    activations: torch.dtype = torch.bfloat16,
    gpu_bytes: int | None = None,
    ram_bytes: int = 0,
    moving: bool = False,
    most_slots: int | None = None,
) -> Placed:
    """Put the weights onto `device`, and as many experts as there is room for beside a context and a pass.

    gpu_bytes: for all of it; None: what is free. ram_bytes: for copies of other experts in memory that the GPU reads
    by itself. most_slots: for experts, those that pass through among them; None: as many as there is room for.
    Whole layers get slots, the first ones first; others keep room for one layer's experts that pass through with a
    prompt. moving: slots and copies follow what is asked for instead, beginning empty, where there is not room for
    all; with less room than one layer's experts pass through in, there are none.

    Raises ModelError where even dense weights, context and pass do not fit, and for numbers that are not finite; what
    was uploaded is given back.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    have = free_bytes(device) - RESERVE_BYTES if gpu_bytes is None else gpu_bytes
    needed = dense_bytes(weights) + cache_bytes(config, cache_format, context_tokens)
    needed += pass_bytes(config, chunk_tokens, activations)
    if needed > have:
        raise ModelError(
            "This model cannot be used on the GPU",
            f"its dense weights, a context of {context_tokens:,} tokens and the reading of {chunk_tokens:,} take "
            f"{_said(needed)}, and {_said(have)} are free",
            "choose a smaller context, close what else uses the GPU, or use the processor",
        )
    blocks = [*weights.blocks, *([weights.draft.block] if weights.draft is not None else [])]
    banks = [block.moe.experts for block in blocks]
    _look_at_dense(config, weights)
    try:
        on = _moved(replace(weights, checks=None), device)
        slots, layers, staging = _slots(config, banks, have - needed, device, most_slots, moving=moving)
        policy: ExpertPolicy = DecayedFrequency(len(banks), config.n_routed_experts)
        if moving and len(layers) < len(banks):
            layers = []
        else:
            others = [layer for layer in range(len(banks)) if layer not in layers]
            policy = StaticByLayer(layers, others if ram_bytes else [])
        experts = TieredExperts(
            banks,
            policy,
            slots=slots,
            staging=staging,
            ram_bytes=ram_bytes if slots is not None else 0,
            pinned=ram_bytes > 0 and device.type == "cuda",
            apart=True,
            upload_tokens=1,
        )
        if weights.checks is not None:
            for layer in layers:
                weights.checks.experts(layer, range(len(banks[layer])))
        experts.settle(sum(len(bank) * bank.matrices(0).size_bytes * 2 for bank in banks))
    except torch.OutOfMemoryError as error:
        raise ModelError(
            "This model cannot be used on the GPU",
            f"its memory became full while weights were put there; {_said(free_bytes(device))} are free",
            "close what else uses the GPU, or use the processor",
        ) from error
    # Experts that stay in the file are looked at when they are first chosen.
    checks = None if len(layers) == len(banks) else weights.checks
    held = 0 if slots is None else slots.count - staging
    return Placed(replace(on, checks=checks), experts, device, activations, held, tuple(layers))


def dense_bytes(weights: NetworkWeights) -> int:
    """All weights but the routed experts'."""
    return _size(weights)


def cache_bytes(config: NetworkConfig, cache_format: CacheFormat, tokens: int) -> int:
    """A context of so many tokens: windows, raw rows, compressed rows, with what growing wastes at most."""
    row = RowFormat(cache_format, config.head_dim, config.qk_rope_head_dim).row_bytes
    key = RowFormat(cache_format, config.index_head_dim, None).row_bytes
    total = 0
    for ratio in config.compress_ratios:
        total += config.sliding_window * row
        if ratio:
            widths = (
                2 * (config.head_dim + config.index_head_dim) if ratio == OVERLAPPING else config.head_dim
            )
            total += 2 * 4 * 2 * ratio * widths
            total += tokens // ratio * (row + (key if ratio == OVERLAPPING else 0)) * 3 // 2
    return total


def pass_bytes(config: NetworkConfig, tokens: int, activations: torch.dtype) -> int:
    """What a pass over so many tokens takes beside weights and context."""
    c, size = config, activations.itemsize
    streams = c.hc_mult * c.hidden_size
    used = c.num_experts_per_tok
    per_token = streams * (3 * size + 8)  # before and after a layer, the embedding's; F32 for the mixes
    per_token += used * (c.moe_intermediate_size + c.hidden_size) * (size + 4) + 8 * c.hidden_size * 4
    per_token += 8 * 4 * (c.head_dim + c.index_head_dim)  # values and gates, joined to those before
    queries = min(tokens, QUERIES_AT_ONCE) * c.num_attention_heads * c.head_dim * size * 6
    largest = max(
        c.num_attention_heads * c.head_dim * c.q_lora_rank,
        c.o_groups * c.o_lora_rank * c.hidden_size,
        c.index_n_heads * c.index_head_dim * c.q_lora_rank,
        2 * c.head_dim * c.hidden_size,
    )
    return tokens * per_token + queries + 2 * largest * 4 + 12 * 4 * SCORES_AT_ONCE + 8 * c.vocab_size


def fitting_tokens(config: NetworkConfig, have_bytes: int, activations: torch.dtype, most: int) -> int:
    """How many tokens, at most `most`, a pass can read in so many bytes; 0: not one."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if pass_bytes(config, middle, activations) <= have_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def exhausted(
    config: NetworkConfig, device: torch.device, tokens: int, held: int, activations: torch.dtype
) -> ModelError:
    """What is said when a pass over `tokens` behind `held` found the GPU's memory full. What it took is free again."""
    torch.cuda.empty_cache()
    free = free_bytes(device)
    fits = min(fitting_tokens(config, free, activations, tokens), tokens - 1)
    return ModelError(
        "The text could not be read",
        f"the GPU's memory is full: {tokens:,} tokens at once, behind {held:,}, take about "
        f"{_said(pass_bytes(config, tokens, activations))}, {_said(free)} are free, and {fits:,} tokens would fit",
        "close what else uses the GPU, or load the model with a smaller context; what was read before is still there",
    )


def _slots(
    config: NetworkConfig,
    banks: Sequence[ExpertBank],
    have: int,
    device: torch.device,
    most: int | None,
    *,
    moving: bool,
) -> tuple[ExpertSlots | None, list[int], int]:
    """Slots for whole layers, which layers, and how many slots more are for experts that pass through."""
    one, each = banks[0].matrices(0), config.n_routed_experts
    if any(bank.matrices(0).gate.kind not in FP4_KINDS for bank in banks):
        return None, [], 0
    room = max(0, have) // ExpertSlots.slot_bytes(one.gate.columns, one.gate.rows)
    room = room if most is None else min(room, most)
    if moving and room < len(banks) * each:
        # Any of a layer's experts must have a place at once: then bits do not depend on where they were before.
        if room < each:
            return None, [], 0
        return ExpertSlots(room, one.gate.columns, one.gate.rows, device), [], each
    layers = len(banks) if room >= len(banks) * each else max(0, room - each) // each
    staging = 0 if layers == len(banks) else min(each, room - layers * each)
    count = layers * each + staging
    if not count:
        return None, [], 0
    return ExpertSlots(count, one.gate.columns, one.gate.rows, device), list(range(layers)), staging


def _look_at_dense(config: NetworkConfig, weights: NetworkWeights) -> None:
    """Whether all numbers are finite, before they are uploaded: a GPU does not look again."""
    checks = weights.checks
    if checks is None:
        return
    checks.begin_pass()
    checks.embedding(torch.arange(config.vocab_size))
    for layer in range(len(weights.blocks) + (weights.draft is not None)):
        checks.block(layer)
    checks.output()


def _moved(part: T, device: torch.device) -> T:
    """The same dataclass with its tensors and matrices on `device`; what is none of these stays."""
    return _mapped(part, device)


def _mapped(part: Any, device: torch.device) -> Any:
    if isinstance(part, Matrix):
        return laid_out(part, device)
    if isinstance(part, torch.Tensor):
        return part.to(device)
    if isinstance(part, list | tuple):
        return tuple(_mapped(each, device) for each in part)  # pyright: ignore[reportUnknownVariableType]
    if is_dataclass(part) and not isinstance(part, type):
        return replace(
            part, **{f.name: _mapped(getattr(part, f.name), device) for f in fields(part) if f.init}
        )
    return part


def _size(part: Any) -> int:
    if isinstance(part, Matrix):
        return part.size_bytes
    if isinstance(part, torch.Tensor):
        return part.nbytes
    if isinstance(part, list | tuple):
        return sum(_size(each) for each in part)  # pyright: ignore[reportUnknownVariableType]
    if is_dataclass(part) and not isinstance(part, type):
        return sum(_size(getattr(part, f.name)) for f in fields(part))
    return 0


def _said(size_bytes: int) -> str:
    return f"{max(0, size_bytes) / (1 << 20):,.0f} MiB"
