"""Where each part of a model goes on a machine: GPU memory, RAM, or the disk.

Owns: the rules, and the words for each decision. Pure: the same sizes, room and wishes give the same plan, and a plan
never takes more of a place than there is room for. What does not fit is refused with its numbers (DoesNotFit), before
anything is loaded.

What shapes the rules: every token reads all of the dense part but only a few experts, so the dense part goes to the
fastest memory first. llama.cpp places the experts of a whole layer at a time. On a processor alone it copies weights
into an order that it reads faster unless it is told not to; that copy cannot be given back when memory is short, as
the pages of a mapped file can, so it is made only where all of it fits.
"""

from dataclasses import dataclass

from engine.errors import DoesNotFit
from engine.model_table import size_text
from engine.placement.context_sizes import CacheType, V4Cache, cache_bytes, compute_bytes
from engine.placement.hardware import Gpu, Memory, Processor
from engine.placement.load_plan import Decision, LoadPlan, Part, What
from engine.placement.model_sizes import ModelSizes

LEAST_RESERVE_BYTES = 600_000_000
RESERVE_SHARE = 0.06
"""Of all RAM, for the desktop and what it opens next. What is available is already less than what is free to use."""
LEAST_GPU_RESERVE_BYTES = 400_000_000
GPU_RESERVE_SHARE = 0.05
"""Of the GPU's memory: the driver's own buffers, fragments, and a display."""
USUAL_BATCH_TOKENS = 512
LARGE_BATCH_TOKENS = 2048
"""Where experts come from a disk or over the bus, a prompt reads each of them once for each batch."""
SMALL_BATCHES = (256, 128, 64)
STATES_BYTES = 512 << 20
"""For states of a context that cannot be cut back (V4), so that less of a conversation is read again."""


@dataclass(frozen=True)
class Room:
    """What of a machine a model may have. `gpus`: those that llama.cpp can compute on."""

    ram_total_bytes: int
    ram_free_bytes: int
    cores: int
    gpus: tuple[Gpu, ...] = ()

    @classmethod
    def of(cls, memory: Memory, processor: Processor, gpus: tuple[Gpu, ...] = ()) -> "Room":
        """Of a machine as `hardware` finds it now."""
        return cls(memory.total_bytes, memory.available_bytes, processor.cores, gpus)

    @property
    def ram_budget_bytes(self) -> int:
        """What is free, less a reserve."""
        reserve = max(LEAST_RESERVE_BYTES, int(RESERVE_SHARE * self.ram_total_bytes))
        return max(0, self.ram_free_bytes - reserve)


@dataclass(frozen=True)
class Wishes:
    """What a person asks for. `threads` 0: as suits the machine. `gpu_budget_bytes` None: all that is free; 0: none."""

    context_tokens: int
    cache_type: CacheType = "f16"
    threads: int = 0
    gpu_budget_bytes: int | None = None


def plan(sizes: ModelSizes, room: Room, wishes: Wishes) -> LoadPlan:
    """The plan. Raises DoesNotFit, with the bytes that are wanted and those that there are."""
    return _Planner(sizes, room, wishes).plan()


class _Planner:
    """A plan while it is made."""

    def __init__(self, sizes: ModelSizes, room: Room, wishes: Wishes) -> None:
        self._sizes, self._room, self._wishes = sizes, room, wishes
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
        host, on_disk = self._host_parts(left, set(range(len(sizes.layers))), embedding=not sizes.tied)
        parts += host
        copied = not on_disk
        self._say_memory(parts, copied=copied, on_disk=on_disk)
        self._say_batch(batch, streamed=on_disk > 0 and sizes.expert_bytes > 0)
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
        """The GPU with most memory free, its number, and what may be taken of it."""
        gpus = self._room.gpus
        if not gpus or self._wishes.gpu_budget_bytes == 0:
            if gpus:
                self._say("No GPU is used", "its budget is set to nothing")
            return None
        number = max(range(len(gpus)), key=lambda each: (gpus[each].free_bytes, -each))
        gpu = gpus[number]
        reserve = max(LEAST_GPU_RESERVE_BYTES, int(GPU_RESERVE_SHARE * gpu.total_bytes))
        budget = max(0, gpu.free_bytes - reserve)
        if self._wishes.gpu_budget_bytes is not None:
            budget = min(budget, self._wishes.gpu_budget_bytes)
        if len(gpus) > 1:
            self._say(f"Of {len(gpus)} GPUs {gpu.name} is used", "it has most memory free")
        return number, gpu, budget

    def _with_gpu(self, number: int, gpu: Gpu, budget: int) -> LoadPlan | None:
        """A plan that uses the GPU; None where not a single layer has room there, or the rest no room in RAM."""
        for batch in (LARGE_BATCH_TOKENS, USUAL_BATCH_TOKENS):
            found = self._gpu_layers(budget, batch)
            if found > 0:
                break
        else:
            self._say(f"{gpu.name} is not used", f"{size_text(budget)} of it hold not even one layer")
            return None
        sizes, count = self._sizes, len(self._sizes.layers)
        cache, compute = self._cache(batch), self._compute(batch)
        first = count - min(found, count)
        left = budget - self._gpu_need(found, batch)
        kept: list[int] = []
        parts: list[Part] = []
        for at in reversed(range(first, count)):
            size_bytes = sizes.layers[at].expert_bytes
            if size_bytes <= left:
                left -= size_bytes
                parts.append(Part("experts", at, gpu_bytes=size_bytes))
            elif size_bytes:
                kept.append(at)
        output_on_gpu = found > count
        parts += [
            *self._cache_parts(cache, on_gpu=min(found, count)),
            # The processor needs buffers of its own for what it computes.
            Part("compute", None, gpu_bytes=compute, ram_bytes=compute),
            *(
                Part("dense", at, **{"gpu_bytes" if at >= first else "ram_bytes": each.dense_bytes})
                for at, each in enumerate(sizes.layers)
            ),
            *self._output_parts(on_gpu=output_on_gpu),
        ]
        ram_left = self._room.ram_budget_bytes - sum(part.ram_bytes for part in parts)
        if ram_left < 0:
            self._say(f"{gpu.name} is not used", "what the processor would keep does not fit into RAM")
            return None
        in_ram = sum(sizes.layers[at].expert_bytes for at in (*range(first), *kept))
        parts.append(states := self._states_part(ram_left, in_ram + sizes.embedding_bytes))
        ram_left -= states.ram_bytes
        # A tied output on the GPU is a copy: the rows of the embedding are still looked up in RAM.
        host, on_disk = self._host_parts(
            ram_left, set(range(first)) | set(kept), embedding=output_on_gpu or not sizes.tied
        )
        parts += host
        mapped = on_disk > 0
        on_gpu = sum(part.gpu_bytes for part in parts)
        self._say(
            f"{size_text(on_gpu)} on {gpu.name}: {min(found, count)} of {count} layers without their experts, "
            f"and the experts of {sum(part.what == 'experts' and part.gpu_bytes > 0 for part in parts)}",
            f"every token reads a layer's dense part, so that goes first; {size_text(budget)} may be used",
        )
        if mapped:
            self._say(
                f"The model's file is mapped, {size_text(on_disk)} of it beyond RAM",
                "what does not fit is read from the disk when it is wanted",
            )
        else:
            self._say(
                "The rest is read into memory that the GPU can reach", "prompts go several times faster"
            )
        self._say_batch(batch, streamed=True)
        return self._result(
            parts, batch=batch, mapped=mapped, copied=False, gpu=gpu, number=number, layers=found, kept=kept
        )

    def _gpu_layers(self, budget: int, batch: int) -> int:
        """How many of the last layers fit without their experts; one more than there are: the output too."""
        count = len(self._sizes.layers)
        for layers in range(count + 1, 0, -1):
            if self._gpu_need(layers, batch) <= budget:
                return layers
        return 0

    def _gpu_need(self, layers: int, batch: int) -> int:
        count = len(self._sizes.layers)
        first = count - min(layers, count)
        need = self._compute(batch) + sum(each.dense_bytes for each in self._sizes.layers[first:])
        need += sum(self._layer_caches(batch)[first:])
        return need + (self._output_bytes() if layers > count else 0)

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
        return compute_bytes(
            self._sizes.cache, self._context, micro_batch_tokens=batch, whole_window=self._whole_window
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

    def _host_parts(self, left: int, expert_layers: set[int], *, embedding: bool) -> tuple[list[Part], int]:
        """The experts of these layers, and the embedding, in RAM as far as `left` goes; and what is beyond it."""
        parts: list[Part] = []
        on_disk = 0
        wanted: list[tuple[What, int | None, int]] = [
            ("experts", at, self._sizes.layers[at].expert_bytes) for at in sorted(expert_layers)
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

    def _say_memory(self, parts: list[Part], *, copied: bool, on_disk: int) -> None:
        in_ram = sum(part.ram_bytes for part in parts)
        budget = size_text(self._room.ram_budget_bytes)
        if copied:
            self._say(
                f"All of it in RAM, {size_text(in_ram)} with its context", f"{budget} can be had of RAM"
            )
            self._say(
                "Weights may be copied into the order that the processor reads fastest", "the copy fits"
            )
            return
        sizes = self._sizes
        read = "reads one row of the embedding"
        if sizes.experts:
            read = f"goes through {sizes.experts_used} of {sizes.experts} experts of a layer"
        self._say(
            f"{size_text(in_ram)} in RAM, {size_text(on_disk)} left in the file on the disk",
            f"{budget} can be had of RAM, and a token {read}",
        )
        self._say(
            "The file is mapped and nothing is copied",
            "the system can give mapped pages back when memory is short; a copy it would have to swap",
        )

    def _say_batch(self, batch: int, *, streamed: bool) -> None:
        """`streamed`: larger batches would pay, since each reads experts anew."""
        if batch > USUAL_BATCH_TOKENS:
            why = "each batch of a prompt reads nearly all experts once"
        elif batch < USUAL_BATCH_TOKENS or streamed:
            why = "a larger batch's buffers do not fit"
        else:
            why = "more gains nothing where all lies in RAM"
        self._say(f"Prompts are read {batch} tokens at a time", why)

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
    ) -> LoadPlan:
        threads = self._wishes.threads or max(1, self._room.cores - 1)
        if self._wishes.threads:
            self._say(f"{threads} threads", "that is what was set")
        else:
            free = "one core stays free" if self._room.cores > 1 else "there is one core"
            self._say(
                f"{threads} thread{'s' if threads > 1 else ''}",
                f"{free}: a thread that has to share its core holds up all others",
            )
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
        )
