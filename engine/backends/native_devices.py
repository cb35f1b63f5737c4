"""The native engine's network where a plan says: on the processor, or on an NVIDIA GPU that torch reaches.

Owns: which GPUs those are and what is free of them, carrying out a plan's placement, and what is said where a GPU does
not keep to it. Importing this module loads torch. Does not know contexts (`native_memory`) or the contract (`native`).

On the processor experts stay in the mapped file: the system keeps its pages in memory as far as there is room and takes
them back by itself, where a copy would be the same bytes a second time. On a GPU they lie in tiers
(`engine.model.tiered_experts`).
"""

import logging
import platform
from dataclasses import dataclass

import torch

from engine.errors import ModelLoadError
from engine.model import devices
from engine.model.expert_copies import copy_bytes
from engine.model.expert_store import MappedExperts
from engine.model.model_error import ModelError
from engine.model.network import Network
from engine.model.row_formats import CacheFormat
from engine.model.tensor_source import OpenModel
from engine.model.tiered_experts import TieredExperts
from engine.placement.hardware import Gpu
from engine.placement.load_plan import LoadPlan
from kernels import triton_toolchain

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Computing:
    """A network where it lies. `tiers`: its experts' store where they move between a GPU, memory and the file."""

    network: Network
    tiers: TieredExperts | None
    gpu_weights_bytes: int
    """Of weights and slots on a GPU; 0 on the processor."""
    experts_on: str
    """What computes the experts, "cpu" or "cuda": their last bits depend on it, not on where their bytes lie."""

    @property
    def device(self) -> torch.device:
        """Where all but experts is computed, and contexts lie."""
        return self.network.device


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that the network can run on, by torch's numbers; those before the oldest that will do are left out of
    use by having nothing free."""
    if not torch.cuda.is_available():
        return ()
    if (why := triton_toolchain.trouble()) is not None:
        _logger.warning(
            "no GPU is used by the native engine, because %s; a C compiler (gcc) and the headers of Python %s are "
            "needed for it (docs/parts.md)",
            why,
            platform.python_version(),
        )
        return ()
    found: list[Gpu] = []
    for number in range(torch.cuda.device_count()):
        try:
            name = torch.cuda.get_device_name(number)
            total = torch.cuda.mem_get_info(number)[1]
            usable = torch.cuda.get_device_capability(number) >= devices.OLDEST_CAPABILITY
            free = devices.free_bytes(torch.device("cuda", number)) if usable else 0
        except RuntimeError as error:
            _logger.warning(
                "GPU %d does not answer torch, so the native engine leaves it alone: %s", number, error
            )
            return ()  # a number of those after it would be another one's
        found.append(Gpu(name, total, free, f"CUDA{number}", "CUDA"))
    return tuple(found)


def computing(model: OpenModel, plan: LoadPlan | None, cache_format: CacheFormat, *, name: str) -> Computing:
    """The network of an open model by the plan; without one, or without a GPU in it, on the processor.

    Raises ModelLoadError where the GPU has not the memory that was planned, or fails; what was taken is free again.
    """
    weights = model.weights
    if plan is None or plan.gpu is None:
        blocks = [*weights.blocks, *([weights.draft.block] if weights.draft else [])]
        experts = MappedExperts([block.moe.experts for block in blocks])
        return Computing(
            Network(model.config, weights, cache_format=cache_format, experts=experts), None, 0, "cpu"
        )
    try:
        return _on_gpu(model, plan, _device(plan), cache_format)
    except ModelError as error:
        why, hint = error.why, error.hint
    except RuntimeError as error:  # torch's for want of memory are such, and all that a driver says
        why, hint = str(error).partition("\n")[0], "close what else uses the GPU, or use the processor"
    # Said only here: while the error is at hand, what was taken is not free.
    forget(torch.device("cuda"))
    raise ModelLoadError(f"{name} could not be put onto {plan.gpu}", why, hint)


def without_room(name: str, context_tokens: int) -> ModelLoadError:
    """What is said where weights have found room on a GPU and the context has not."""
    forget(torch.device("cuda"))
    return ModelLoadError(
        f"{name} could not be put onto the GPU",
        f"its memory became full with a context of {context_tokens:,} tokens",
        "set a smaller context, or close what else uses the GPU",
    )


def forget(device: torch.device) -> None:
    """Give the GPU's driver what torch holds and nobody uses."""
    if device.type == "cuda" and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _device(plan: LoadPlan) -> torch.device:
    return torch.device("cuda", plan.gpu_number)


def _on_gpu(model: OpenModel, plan: LoadPlan, device: torch.device, cache_format: CacheFormat) -> Computing:
    config, weights = model.config, model.weights
    planned = plan.held_bytes("gpu") - plan.part_bytes("driver", "gpu")
    free = devices.free_bytes(device) - devices.RESERVE_BYTES if device.type == "cuda" else planned
    one = weights.blocks[0].moe.experts.matrices(0)
    on_gpu = plan.part_bytes("experts", "gpu")
    elsewhere = plan.part_bytes("experts", "ram") + plan.part_bytes("experts", "disk")
    slots: int | None = None  # all of them: the draft block's too, if there is room
    if elsewhere:
        # A layer's worth of slots is kept free; the plan counts them among what is computed in.
        slots = on_gpu // one.size_bytes + config.n_routed_experts if plan.experts_move else 0
    copies = plan.part_bytes("experts", "ram") // one.size_bytes if plan.experts_read == "direct" else 0
    placed = devices.place(
        config,
        weights,
        device,
        context_tokens=plan.context_tokens,
        chunk_tokens=plan.micro_batch_tokens,
        cache_format=cache_format,
        gpu_bytes=min(planned, free),
        ram_bytes=copies * copy_bytes(one, pinned=device.type == "cuda"),
        moving=plan.experts_move,
        most_slots=slots,
    )
    network = Network(
        config,
        placed.weights,
        cache_format=cache_format,
        experts=placed.experts,
        activations=placed.activations,
        device=device,
    )
    tiers = placed.experts if isinstance(placed.experts, TieredExperts) else None
    slot_bytes = 0 if tiers is None else tiers.slots_bytes
    return Computing(
        network, tiers, devices.dense_bytes(placed.weights) + slot_bytes, device.type if slot_bytes else "cpu"
    )
