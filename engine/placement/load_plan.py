"""How a model is to be loaded: what of it lies where, and why.

Owns: the plan as a value, with its bytes and reasons, and what it means for llama.cpp, by the names of its parameters.
Pure; does not know how a plan is found (`planner`) and does not touch llama.cpp.
"""

from dataclasses import dataclass
from typing import Literal

from convert.ggml_types import GGML_TYPES
from engine.placement.context_sizes import CacheType

What = Literal["experts", "dense", "embedding", "output", "cache", "states", "compute"]
Place = Literal["gpu", "ram", "disk"]

_TYPE_IDS = {kind.name.lower(): number for number, kind in GGML_TYPES.items()}


@dataclass(frozen=True)
class Part:
    """A part of the model or its context, and how many of its bytes lie where. On the disk means: in the model's
    file, read when they are wanted, and forgotten when memory is."""

    what: What
    layer: int | None
    gpu_bytes: int = 0
    ram_bytes: int = 0
    disk_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return self.gpu_bytes + self.ram_bytes + self.disk_bytes


@dataclass(frozen=True)
class Decision:
    """Something that was decided, for a person: what, and why, a sentence each without a full stop."""

    what: str
    why: str


@dataclass(frozen=True)
class LoadPlan:
    """A whole plan. `gpu` None: the processor alone. `gpu_layers`: that many of the last layers are computed on the
    GPU, one more than there are: the output too. `copied`: weights may be copied into memory in the order that the
    processor reads fastest; else they stay in the mapped file."""

    model: str
    context_tokens: int
    cache_type: CacheType
    threads: int
    micro_batch_tokens: int
    memory_mapped: bool
    copied: bool
    whole_window: bool
    gpu: str | None
    gpu_number: int
    gpu_layers: int
    expert_layers_in_ram: tuple[int, ...]
    """Of the layers on the GPU, those whose experts stay with the processor."""
    parts: tuple[Part, ...]
    decisions: tuple[Decision, ...]

    def held_bytes(self, place: Place) -> int:
        """What lies in a place, all parts together."""
        return sum(getattr(part, f"{place}_bytes") for part in self.parts)

    def part_bytes(self, what: What, place: Place) -> int:
        """What lies of one kind of part in a place."""
        return sum(getattr(part, f"{place}_bytes") for part in self.parts if part.what == what)

    @property
    def experts_in_memory_share(self) -> float:
        """The share of the experts' bytes that need no disk; 1 without experts."""
        experts = [part for part in self.parts if part.what == "experts"]
        total = sum(part.size_bytes for part in experts)
        return 1 - sum(part.disk_bytes for part in experts) / total if total else 1.0

    def model_parameters(self) -> dict[str, int | bool | str]:
        """`llama_model_params` by field; `load_mode` is the name of llama.cpp's constant."""
        parameters: dict[str, int | bool | str] = {
            "load_mode": "LLAMA_LOAD_MODE_MMAP" if self.memory_mapped else "LLAMA_LOAD_MODE_NONE",
            "use_extra_bufts": self.copied,
            "n_gpu_layers": self.gpu_layers,
        }
        if self.gpu is not None:
            parameters |= {"split_mode": "LLAMA_SPLIT_MODE_NONE", "main_gpu": self.gpu_number}
        return parameters

    def context_parameters(self) -> dict[str, int | bool]:
        """`llama_context_params` by field."""
        cache = _TYPE_IDS[self.cache_type]
        return {
            "n_ctx": self.context_tokens,
            "n_batch": self.micro_batch_tokens,
            "n_ubatch": self.micro_batch_tokens,
            "n_threads": self.threads,
            "n_threads_batch": self.threads,
            "type_k": cache,
            "type_v": cache,
            "swa_full": self.whole_window,
        }

    def tensors_in_ram(self) -> tuple[str, ...]:
        """Regular expressions of the tensors of GPU layers that are kept in the processor's memory."""
        if not self.expert_layers_in_ram:
            return ()
        numbers = "|".join(map(str, self.expert_layers_in_ram))
        return (rf"^blk\.({numbers})\.ffn_(gate|up|down|gate_up)_exps\.",)
