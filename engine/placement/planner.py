"""Where each part of a model goes on a machine: GPU memory, RAM, or the disk.

Owns: the rules, and the words for each decision. Pure: the same sizes, room and wishes give the same plan, and a plan
never takes more of a place than there is room for. What does not fit is refused with its numbers (DoesNotFit), before
anything is loaded.

What shapes the rules: every token reads all of the dense part but only a few experts, so the dense part goes to the
fastest memory first (`gpu_layout`). On a processor alone llama.cpp copies weights into an order that it reads faster
unless it is told not to; that copy cannot be given back when memory is short, as the pages of a mapped file can, so it
is made only where all of it fits.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from engine.errors import DoesNotFit
from engine.model_table import size_text
from engine.placement.context_sizes import CacheType, V4Cache, cache_bytes, compute_bytes, input_bytes
from engine.placement.gpu_choice import chosen
from engine.placement.gpu_layout import Layout, layout
from engine.placement.hardware import Gpu, Memory, Processor
from engine.placement.hardware_record import HardwareRecord
from engine.placement.load_plan import Decision, LoadPlan, Part, Reach, What
from engine.placement.model_sizes import Matrix, ModelSizes
from engine.placement.plan_words import batch_decision, gpu_batch_decision, gpu_decisions, memory_decisions
from engine.placement.thread_choice import counted, expected_decision, expected_threads, free_threads
from engine.placement.turn_time import Favour, best_of, turn_clock
from engine.protocol_base import BackendChoice

LEAST_RESERVE_BYTES = 600_000_000
RESERVE_SHARE = 0.06
"""Of all RAM, for the desktop and what it opens next. What is available is already less than what is free to use."""
LEAST_GPU_RESERVE_BYTES = 400_000_000
GPU_RESERVE_SHARE = 0.05
"""Of the GPU's memory: the driver's own buffers, fragments, and a display."""
USUAL_BATCH_TOKENS = 512
LARGE_BATCH_TOKENS = 2048
"""Where experts come from a disk, a prompt reads each of them once for each batch."""
DRIVER_BYTES = 760_000_000
DRIVER_BYTES_PER_TOKEN = 58_000
"""GPU memory beyond llama.cpp's own buffers: CUDA's context, cuBLAS's workspace, and a pool that grows with the
micro-batch. On an H100 with layers of Flash it was 0.77 GB at 512 tokens, 0.99 at 4,096, 1.07 at 6,656."""
GPU_BATCHES = (512, 1024, 2048, 4096, 8192)
"""Of these one is taken by what a typical turn takes (`turn_time`). Between 4,096 and 8,192 nothing was gained on an
H100: attention to what is masked costs more than the bus saves."""
SMALL_BATCHES = (256, 128, 64)
STATES_BYTES = 512 << 20
"""For states of a context that cannot be cut back (V4), so that less of a conversation is read again."""


@dataclass(frozen=True)
class Room:
    """What of a machine a model may have. `gpus`: those that llama.cpp can compute on. `direct_reads`: whether
    experts can be read into memory of our own (`backends.expert_memory`)."""

    ram_total_bytes: int
    ram_free_bytes: int
    cores: int
    gpus: tuple[Gpu, ...] = ()
    direct_reads: bool = False

    @classmethod
    def of(cls, memory: Memory, processor: Processor, gpus: tuple[Gpu, ...] = ()) -> "Room":
        """Of a machine as `hardware` finds it now."""
        direct_reads = sys.platform == "linux"
        return cls(memory.total_bytes, memory.available_bytes, processor.cores, gpus, direct_reads)

    @property
    def ram_reserve_bytes(self) -> int:
        """What stays free for the rest of the machine."""
        return max(LEAST_RESERVE_BYTES, int(RESERVE_SHARE * self.ram_total_bytes))

    @property
    def ram_budget_bytes(self) -> int:
        """What is free, less the reserve."""
        return max(0, self.ram_free_bytes - self.ram_reserve_bytes)


@dataclass(frozen=True)
class Wishes:
    """What a person asks for. `threads` 0: as suits the machine. `gpu_budget_bytes` None: all that is free; 0: none."""

    context_tokens: int
    cache_type: CacheType = "f16"
    threads: int = 0
    gpu_budget_bytes: int | None = None
    favour: Favour = "balanced"
    """What a person mostly does, where one has to be weighed against the other: long answers, or long prompts."""
    backend: BackendChoice = "auto"
    """What computes it; the planner plans for llama.cpp alone."""


class ComputeBytes(NamedTuple):
    """What llama.cpp's buffers to compute in take."""

    gpu_bytes: int
    ram_bytes: int


Known = Mapping[tuple[Reach, int], ComputeBytes]
"""Of a model with a context: its compute buffers where they are known and need not be reckoned, by what computes and
by the micro-batch."""


def plan(
    sizes: ModelSizes,
    room: Room,
    wishes: Wishes,
    known: Known | None = None,
    record: HardwareRecord | None = None,
) -> LoadPlan:
    """The plan. `record`: what was measured of this machine; None: it is taken for a middling one.

    Raises DoesNotFit, with the bytes that are wanted and those that there are.
    """
    return _Planner(sizes, room, wishes, known or {}, record).plan()


class _Planner:
    """A plan while it is made."""

    def __init__(
        self,
        sizes: ModelSizes,
        room: Room,
        wishes: Wishes,
        known: Known,
        record: HardwareRecord | None,
    ) -> None:
        self._sizes, self._room, self._wishes = sizes, room, wishes
        self._known, self._record = known, record
        trained = sizes.context_train_tokens
        self._context = min(wishes.context_tokens, trained) if trained else wishes.context_tokens
        # V4's memory cannot be cut back in any case; where another's can, the window's tokens must still be there.
        self._whole_window = not isinstance(sizes.cache, V4Cache)
        self._decisions: list[Decision] = []

    def plan(self) -> LoadPlan:
        gpu = self._gpu()
        if gpu is not None:
            found = self._with_gpu(*gpu)
            if found is not None:
                return found
        return self._on_processor()

    # --- the processor alone -----------------------------------------------------------------------

    def _on_processor(self) -> LoadPlan:
        budget = self._room.ram_budget_bytes
        sizes = self._sizes
        batch = self._batch_on_processor(budget)
        cache, compute = self._cache(batch), self._compute(batch)
        parts = [
            *self._cache_parts(cache, on_gpu=0),
            Part("compute", None, ram_bytes=compute),
            *(Part("dense", at, ram_bytes=each.dense_bytes) for at, each in enumerate(sizes.layers)),
            *self._output_parts(),
        ]
        left = budget - sum(part.ram_bytes for part in parts)
        wanted = sizes.expert_bytes + (0 if sizes.tied else sizes.embedding_bytes)
        parts.append(states := self._states_part(left, wanted))
        left -= states.ram_bytes
        experts = {at: each.expert_bytes for at, each in enumerate(sizes.layers)}
        host, on_disk = self._host_parts(left, experts, embedding=not sizes.tied)
        parts += host
        copied = not on_disk
        self._decisions += memory_decisions(
            sizes, parts, self._room.ram_budget_bytes, copied=copied, on_disk_bytes=on_disk
        )
        streamed = on_disk > 0 and sizes.expert_bytes > 0
        self._decisions.append(batch_decision(batch, USUAL_BATCH_TOKENS, streamed=streamed))
        return self._result(parts, batch=batch, mapped=True, copied=copied)

    def _batch_on_processor(self, budget: int) -> int:
        """The micro-batch that fits; the large one where experts are read from the disk. Raises DoesNotFit."""
        everything = self._sizes.loaded_bytes
        usual = self._working(USUAL_BATCH_TOKENS)
        streams = self._sizes.expert_bytes > 0 and everything + usual > budget
        for batch in (*((LARGE_BATCH_TOKENS,) if streams else ()), USUAL_BATCH_TOKENS, *SMALL_BATCHES):
            if self._working(batch) + self._sizes.dense_bytes <= budget:
                return batch
        raise self._refusal(self._working(SMALL_BATCHES[-1]), budget)

    def _working(self, batch: int) -> int:
        return sum(self._cache(batch)) + self._compute(batch)

    def _refusal(self, working: int, budget: int) -> DoesNotFit:
        dense = self._sizes.dense_bytes
        part = "of it that every token reads" if self._sizes.expert_bytes else "that it weighs"
        free = size_text(self._room.ram_free_bytes)
        return DoesNotFit(
            f"{self._sizes.name} does not fit into this machine's memory",
            f"it needs {size_text(dense + working)} there ({size_text(dense)} {part}, {size_text(working)} for a "
            f"context of {self._context:,} tokens), and {size_text(budget)} can be had: {free} are free, of which a "
            "part is kept for other programs",
            "set a smaller context, close other programs, or choose a smaller model",
        )

    # --- with a GPU --------------------------------------------------------------------------------

    def _gpu(self) -> tuple[int, Gpu, int] | None:
        """The GPU that is used, its number, and what may be taken of it."""
        gpus = self._room.gpus
        if not gpus or self._wishes.gpu_budget_bytes == 0:
            if gpus:
                self._say("No GPU is used", "its budget is set to nothing")
            return None
        asked_for = self._wishes.gpu_budget_bytes is not None
        number, said = chosen(gpus, self._record, self._wishes.favour, asked_for=asked_for)
        self._decisions += said
        if number is None:
            return None
        gpu = gpus[number]
        reserve = max(LEAST_GPU_RESERVE_BYTES, int(GPU_RESERVE_SHARE * gpu.total_bytes))
        budget = max(0, gpu.free_bytes - reserve)
        if self._wishes.gpu_budget_bytes is not None:
            budget = min(budget, self._wishes.gpu_budget_bytes)
        return number, gpu, budget

    def _with_gpu(self, number: int, gpu: Gpu, budget: int) -> LoadPlan | None:
        """A plan that uses the GPU; None where not a single layer has room there, or the rest no room in RAM."""
        layouts = [(each, self._layout(budget, each)) for each in self._gpu_batches()]
        layouts = [(batch, found) for batch, found in layouts if found is not None]
        if not layouts:
            self._say(f"{gpu.name} is not used", f"{size_text(budget)} of it hold not even one layer")
            return None
        clock = turn_clock(self._sizes, self._wishes.favour, self._record)
        said = len(self._decisions)
        plans: list[tuple[LoadPlan, list[Decision]]] = []
        for batch, found_layout in layouts:
            found = self._from_layout(found_layout, batch, number, gpu, budget)
            if found is not None:
                plans.append((found, self._decisions[said:]))
            del self._decisions[said:]
        if not plans:
            self._say(f"{gpu.name} is not used", "what the processor would keep does not fit into RAM")
            return None
        best, decisions = plans[best_of([clock(each) for each, _ in plans], self._wishes.favour)]
        self._decisions += decisions
        return replace(best, decisions=tuple(self._decisions))

    def _gpu_batches(self) -> list[int]:
        return [each for each in GPU_BATCHES if each <= self._context] or [self._context]

    def _layout(self, budget: int, batch: int) -> Layout | None:
        def compute(reach: Literal["gpu", "both"]) -> int:
            known = self._known.get((reach, batch))
            found = self._reckoned(batch) if known is None else known.gpu_bytes
            if reach == "gpu":
                return found
            # What stays in RAM is brought over, a matrix at a time for a whole batch and two for the end of a prompt,
            # into buffers where at other times attention is computed. A rehearsal does not show the latter.
            return max(found, 2 * self._sizes.largest_matrix_bytes)

        left = budget - self._driver(batch)
        return layout(self._sizes.layers, self._layer_caches(batch), self._output_bytes(), compute, left)

    @staticmethod
    def _driver(batch: int) -> int:
        return DRIVER_BYTES + DRIVER_BYTES_PER_TOKEN * batch

    def _host_compute(self, batch: int, found: Layout) -> int:
        if (known := self._known.get((found.reach, batch))) is not None:
            return known.ram_bytes
        if found.layers < len(self._sizes.layers):
            return self._reckoned(batch)
        return input_bytes(
            self._sizes.cache, self._context, micro_batch_tokens=batch, whole_window=self._whole_window
        )

    def _from_layout(self, layout: Layout, batch: int, number: int, gpu: Gpu, budget: int) -> LoadPlan | None:
        sizes, count = self._sizes, len(self._sizes.layers)
        first = count - layout.layers
        parts: list[Part] = []
        host: dict[int, int] = {}
        for at, each in enumerate(sizes.layers):
            here = layout.on_gpu.get(at, 0)
            if each.expert_bytes > here:
                host[at] = each.expert_bytes - here
            elif here:
                parts.append(Part("experts", at, gpu_bytes=here))
        parts += [
            *self._cache_parts(self._cache(batch), on_gpu=layout.layers),
            Part(
                "compute", None, gpu_bytes=layout.compute_bytes, ram_bytes=self._host_compute(batch, layout)
            ),
            Part("driver", None, gpu_bytes=self._driver(batch)),
            *(
                Part("dense", at, **{"gpu_bytes" if at >= first else "ram_bytes": each.dense_bytes})
                for at, each in enumerate(sizes.layers)
            ),
            *self._output_parts(on_gpu=True),
        ]
        ram_left = self._room.ram_budget_bytes - sum(part.ram_bytes for part in parts)
        if ram_left < 0:
            return None
        parts.append(states := self._states_part(ram_left, sum(host.values()) + sizes.embedding_bytes))
        ram_left -= states.ram_bytes
        # A tied output on the GPU is a copy: the rows of the embedding are still looked up in RAM.
        in_ram, on_disk = self._host_parts(ram_left, host, embedding=True)
        parts += [
            replace(part, gpu_bytes=layout.on_gpu.get(part.layer, 0))
            if part.what == "experts" and part.layer is not None
            else part
            for part in in_ram
        ]
        mapped = on_disk > 0
        self._decisions += gpu_decisions(
            sizes, gpu.name, budget, parts, layout.layers, layout.on_gpu, on_disk
        )
        self._decisions.append(gpu_batch_decision(batch, self._wishes.favour))
        apart = {at for at, _ in layout.apart}
        return self._result(
            parts,
            batch=batch,
            mapped=mapped,
            copied=False,
            gpu=gpu,
            number=number,
            layers=layout.layers,
            kept=[at for at in host if at >= first and at not in apart],
            apart=layout.apart,
        )

    # --- parts -------------------------------------------------------------------------------------

    def _cache(self, batch: int) -> tuple[int, ...]:
        return cache_bytes(
            self._sizes.cache,
            self._context,
            self._wishes.cache_type,
            micro_batch_tokens=batch,
            whole_window=self._whole_window,
        )

    def _layer_caches(self, batch: int) -> tuple[int, ...]:
        """The cache by layer; of a model where only some layers have one, as if they were the last."""
        cache = self._cache(batch)
        return (0,) * (len(self._sizes.layers) - len(cache)) + cache

    def _compute(self, batch: int) -> int:
        known = self._known.get(("processor", min(batch, self._context)))
        return self._reckoned(batch) if known is None else known.ram_bytes

    def _reckoned(self, batch: int) -> int:
        return compute_bytes(
            self._sizes.cache,
            self._context,
            micro_batch_tokens=batch,
            whole_window=self._whole_window,
            cache_type=self._wishes.cache_type,
        )

    def _cache_parts(self, cache: tuple[int, ...], *, on_gpu: int) -> list[Part]:
        count = len(self._sizes.layers)
        filled = (0,) * (count - len(cache)) + cache
        return [
            Part("cache", at, **{"gpu_bytes" if at >= count - on_gpu else "ram_bytes": size_bytes})
            for at, size_bytes in enumerate(filled)
        ]

    def _states_part(self, left: int, wanted_bytes: int) -> Part:
        """Of `left`, beside the `wanted_bytes` of weights if those fit. Without any room for states a conversation
        goes on, and reads more of itself again."""
        if not isinstance(self._sizes.cache, V4Cache):
            return Part("states", None)
        return Part(
            "states", None, ram_bytes=min(STATES_BYTES, left - wanted_bytes if left >= wanted_bytes else left)
        )

    def _output_bytes(self) -> int:
        """A tied output is the embedding's table, which the GPU gets a copy of."""
        return self._sizes.output_bytes + (self._sizes.embedding_bytes if self._sizes.tied else 0)

    def _output_parts(self, *, on_gpu: bool = False) -> list[Part]:
        if on_gpu:
            return [Part("output", None, gpu_bytes=self._output_bytes())]
        parts = [Part("output", None, ram_bytes=self._sizes.output_bytes)]
        if self._sizes.tied:
            parts.append(Part("embedding", None, ram_bytes=self._sizes.embedding_bytes))
        return parts

    def _host_parts(self, left: int, experts: dict[int, int], *, embedding: bool) -> tuple[list[Part], int]:
        """These bytes of experts by layer, and the embedding, in RAM as far as `left` goes; and what is beyond it."""
        parts: list[Part] = []
        on_disk = 0
        wanted: list[tuple[What, int | None, int]] = [
            ("experts", at, size_bytes) for at, size_bytes in sorted(experts.items())
        ]
        if embedding:
            # A token reads one row of it: that may as well come from the disk, so it comes last.
            wanted.append(("embedding", None, self._sizes.embedding_bytes))
        for what, layer, size_bytes in wanted:
            if size_bytes:
                here = min(size_bytes, left)
                left -= here
                on_disk += size_bytes - here
                parts.append(Part(what, layer, ram_bytes=here, disk_bytes=size_bytes - here))
        return parts, on_disk

    # --- words -------------------------------------------------------------------------------------

    def _say(self, what: str, why: str) -> None:
        self._decisions.append(Decision(what, why))

    def _result(
        self,
        parts: list[Part],
        *,
        batch: int,
        mapped: bool,
        copied: bool,
        gpu: Gpu | None = None,
        number: int = 0,
        layers: int = 0,
        kept: list[int] | None = None,
        apart: tuple[tuple[int, Matrix], ...] = (),
    ) -> LoadPlan:
        cores = self._room.cores
        # Experts that are read from the disk want a core for that.
        streamed = any(part.what == "experts" and part.disk_bytes for part in parts)
        threads = self._wishes.threads or (free_threads(cores) if streamed else expected_threads(cores))
        if self._wishes.threads:
            self._say(counted(threads), "that is what was set")
        else:
            self._decisions.append(expected_decision(threads, cores))
        return LoadPlan(
            model=self._sizes.name,
            context_tokens=self._context,
            cache_type=self._wishes.cache_type,
            threads=threads,
            micro_batch_tokens=min(batch, self._context),
            memory_mapped=mapped,
            copied=copied,
            whole_window=self._whole_window,
            gpu=None if gpu is None else gpu.name,
            gpu_number=number,
            gpu_layers=layers,
            expert_layers_in_ram=tuple(sorted(kept or ())),
            parts=tuple(parts),
            decisions=tuple(self._decisions),
            matrices_in_ram=apart,
            idle_layers=self._sizes.idle_layers,
            experts_read="direct" if self._reads_directly(parts) else "mapped",
        )

    def _reads_directly(self, parts: list[Part]) -> bool:
        """Whether experts from the disk are read directly: not into memory that holds those of hardly two tokens."""
        experts = [part for part in parts if part.what == "experts"]
        held = sum(part.ram_bytes for part in experts)
        largest = max((layer.expert_bytes for layer in self._sizes.layers), default=0)
        missing = any(part.disk_bytes for part in experts)
        return self._room.direct_reads and missing and held >= 2 * self._sizes.routed_share * largest
