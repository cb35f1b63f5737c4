"""How a model is to be loaded: what of it lies where, and why.

Owns: the plan as a value, with its bytes and reasons, and what it means for llama.cpp, by the names of its parameters.
Pure; does not know how a plan is found (`planner`) and does not touch llama.cpp.
"""

from dataclasses import dataclass
from typing import Literal

from convert.ggml_types import GGML_TYPES
from engine.placement.context_sizes import CacheType
from engine.placement.model_sizes import Matrix

What = Literal["experts", "dense", "embedding", "output", "cache", "states", "compute", "driver"]
"""Parts of a model and of its context; "driver" is what a GPU's own software takes beside them, which llama.cpp does
not tell of."""
Place = Literal["gpu", "ram", "disk"]
ExpertsRead = Literal["direct", "mapped"]
"""How experts come from the disk: read into memory of our own, many requests at once; or through the mapped file, one
page fault after the other."""
Reach = Literal["processor", "gpu", "both"]
"""What computes: the processor alone; a GPU with all weights in its memory; a GPU and, with weights in RAM, both."""

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
    GPU, and after them the output, which llama.cpp places before any layer. `idle_layers`: what it counts as layers
    of this file and does not load. `copied`: weights may be copied into memory in the order that the processor reads
    fastest; else they stay in the mapped file."""

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
    """Of the layers on the GPU, those whose experts stay with the processor, all of them."""
    parts: tuple[Part, ...]
    decisions: tuple[Decision, ...]
    experts_read: ExpertsRead = "mapped"
    matrices_in_ram: tuple[tuple[int, Matrix], ...] = ()
    """Of other layers on the GPU, the matrices of their experts that stay with the processor."""
    idle_layers: int = 0
    prompt_threads: int = 0
    """Threads that read prompts; 0: as many as write answers (`threads`)."""
    computed_by: Literal["llamacpp", "native"] = "llamacpp"
    """Whose plan it is. Forecasts are of llama.cpp alone, and what is asked of its parameters is of its plans."""

    experts_move: bool = False
    """Of the native engine: which experts lie on the GPU follows what is asked for; else they stay where they are."""

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

    @property
    def reach(self) -> Reach:
        """What computes with it; the table of the embedding is looked up in RAM in any case."""
        if self.gpu is None:
            return "processor"
        weights = [part for part in self.parts if part.what in ("experts", "dense", "output")]
        return "both" if any(part.ram_bytes or part.disk_bytes for part in weights) else "gpu"

    def model_parameters(self) -> dict[str, int | bool | str]:
        """`llama_model_params` by field; a string is the name of one of llama.cpp's constants."""
        # A build that reaches a GPU would use it for large batches though no layer lies there: number -1 is none.
        return {
            "load_mode": "LLAMA_LOAD_MODE_MMAP" if self.memory_mapped else "LLAMA_LOAD_MODE_NONE",
            "use_extra_bufts": self.copied,
            "n_gpu_layers": 0 if self.gpu is None else self.gpu_layers + 1 + self.idle_layers,
            "split_mode": "LLAMA_SPLIT_MODE_NONE",
            "main_gpu": -1 if self.gpu is None else self.gpu_number,
        }

    def context_parameters(self) -> dict[str, int | bool | str]:
        """`llama_context_params` by field; a string is the name of one of llama.cpp's constants."""
        cache = _TYPE_IDS[self.cache_type]
        # A quantised cache can be read by flash attention only; with F32 it is off, so that what is computed does
        # not depend on how a prompt was divided.
        attention = {"f32": "DISABLED", "f16": "AUTO", "q8_0": "ENABLED"}[self.cache_type]
        return {
            "n_ctx": self.context_tokens,
            "n_batch": self.micro_batch_tokens,
            "n_ubatch": self.micro_batch_tokens,
            "n_threads": self.threads,
            "n_threads_batch": self.prompt_threads or self.threads,
            "type_k": cache,
            "type_v": cache,
            "flash_attn_type": f"LLAMA_FLASH_ATTN_TYPE_{attention}",
            "swa_full": self.whole_window,
        }

    def tensors_in_ram(self) -> tuple[str, ...]:
        """Regular expressions of the tensors of GPU layers that are kept in the processor's memory."""
        patterns: list[str] = []
        if self.expert_layers_in_ram:
            numbers = "|".join(map(str, self.expert_layers_in_ram))
            patterns.append(rf"^blk\.({numbers})\.ffn_(gate|up|down|gate_up)_exps\.")
        patterns += [rf"^blk\.{layer}\.ffn_{matrix}_exps\." for layer, matrix in self.matrices_in_ram]
        return tuple(patterns)
