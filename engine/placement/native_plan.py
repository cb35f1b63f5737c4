"""How the native engine lies in memory: the same kind of plan as llama.cpp's, by other rules.

Owns: what a context of it takes in each form, what it computes in, and the plan with its reasons. Pure; does not load
anything (`backends.native`).

On the processor alone the file is mapped and never copied, so weights are the system's pages: what does not fit is
read again when it is wanted. A context, and what it computes in, must fit. It is not copied since a copy would hold the
same bytes, only so that the system could not take them back by itself.

On a GPU lie all weights but the experts, contexts, and as many experts as there is room for. Which ones, where it is
not all of them, follows what is asked for; the rest come through slots that are kept free for them, so that what is
computed does not depend on where an expert lies. Without room for those slots the processor computes the experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import DoesNotFit
from engine.model_table import size_text
from engine.placement.context_sizes import CacheType, V4Cache
from engine.placement.hardware import Gpu
from engine.placement.load_plan import Decision, LoadPlan, Part, What
from engine.placement.model_sizes import ModelSizes
from engine.placement.plan_words import memory_decisions
from engine.placement.planner import (
    GPU_RESERVE_SHARE,
    LEAST_GPU_RESERVE_BYTES,
    STATES_BYTES,
    Room,
    Wishes,
)
from engine.placement.thread_choice import counted, expected_decision, expected_threads

CHUNK_TOKENS = 512
"""Tokens of a prompt that are read in one pass."""
GPU_CHUNKS_TOKENS = (2048, 512, 128)
"""On a GPU: experts that have no slot cross the bus once for each pass. The largest that takes a small share."""
PASS_SHARE = 8
"""So many passes' memory the GPU must have for a larger one than the smallest."""
GPU_DRIVER_BYTES = 1 << 30
"""The driver's own, kernels that are loaded, and what an allocator cannot join together."""
HOST_BYTES = 256 << 20
"""Memory of the processor that a GPU's pass takes: logits, a part of a state on its way."""
SLICES_BYTES = 96 << 20
"""Attention, the indexer's scores and bands of decoded weights are computed in slices of bounded size."""
FORMS: dict[CacheType, str] = {
    "f32": "F32",
    "f16": "BF16",
    "q8_0": "FP8, BF16 and FP4, as the release is served",
}
"""What the native engine keeps a context in for each kind that can be chosen."""
_MIXED_OVERHEAD_BYTES = 72
"""Of a packed row of 448 numbers in FP8 and 64 in BF16: 584 bytes, 72 more than one for each number."""


def native_plan(sizes: ModelSizes, room: Room, wishes: Wishes) -> LoadPlan:
    """The plan. Raises DoesNotFit with the bytes that are wanted and those that there are."""
    shape = sizes.cache
    if not isinstance(shape, V4Cache):
        raise ValueError("the native engine computes DeepSeek-V4 alone")
    trained = sizes.context_train_tokens
    context = min(wishes.context_tokens, trained) if trained else wishes.context_tokens
    said: list[Decision] = []
    number = _gpu_number(room, wishes, said)
    if number is not None:
        found = _on_gpu(sizes, shape, room, wishes, context, number, said)
        if found is not None:
            return found
    return _on_processor(sizes, shape, room, wishes, context, said)


def _on_processor(
    sizes: ModelSizes, shape: V4Cache, room: Room, wishes: Wishes, context: int, said: Sequence[Decision]
) -> LoadPlan:
    cache = cache_bytes(shape, context, wishes.cache_type)
    compute = compute_bytes(shape, context, wishes.cache_type)
    budget, needed = room.ram_budget_bytes, sum(cache) + compute
    if needed > budget:
        raise DoesNotFit(
            f"{sizes.name} does not fit into this machine's memory",
            f"the native engine needs {size_text(needed)} there for a context of {context:,} tokens beside the mapped "
            f"file, and {size_text(budget)} can be had: {size_text(room.ram_free_bytes)} are free, of which a part is "
            "kept for other programs",
            "set a smaller context, or close other programs",
        )
    left = budget - needed
    states = min(STATES_BYTES, left // 2)
    weights = _weights(sizes, left - states)
    parts = (
        *(Part("cache", at, ram_bytes=each) for at, each in enumerate(cache)),
        Part("compute", None, ram_bytes=compute),
        Part("states", None, ram_bytes=states),
        *weights,
    )
    on_disk = sum(part.disk_bytes for part in parts)
    threads = wishes.threads or expected_threads(room.cores)
    batch = min(CHUNK_TOKENS, context)
    return LoadPlan(
        model=sizes.name,
        context_tokens=context,
        cache_type=wishes.cache_type,
        threads=threads,
        micro_batch_tokens=batch,
        memory_mapped=True,
        copied=False,
        whole_window=False,
        gpu=None,
        gpu_number=0,
        gpu_layers=0,
        expert_layers_in_ram=(),
        parts=parts,
        decisions=(
            _ASKED,
            *said,
            *memory_decisions(sizes, parts, budget, copied=False, on_disk_bytes=on_disk),
            _kept_in(wishes.cache_type),
            Decision(f"Prompts are read {batch:,} tokens at a time", "more gains nothing on a processor"),
            _threads(wishes, room),
        ),
        idle_layers=sizes.idle_layers,
        computed_by="native",
    )


@dataclass(frozen=True)
class _Shares:
    """Of experts: how many have a slot, how many slots are kept free, and how many more have copies in memory."""

    slots: int
    free_slots: int
    copies: int
    one_bytes: int


def _gpu_number(room: Room, wishes: Wishes, said: list[Decision]) -> int | None:
    if not room.gpus:
        return None
    if wishes.gpu_budget_bytes == 0:
        said.append(Decision("No GPU is used", "its budget is set to nothing"))
        return None
    number = max(range(len(room.gpus)), key=lambda each: (room.gpus[each].free_bytes, -each))
    if len(room.gpus) > 1:
        name = room.gpus[number].name
        said.append(Decision(f"Of {len(room.gpus)} GPUs {name} is used", "it has most memory free"))
    return number


def _gpu_budget(gpu: Gpu, wishes: Wishes) -> int:
    reserve = max(LEAST_GPU_RESERVE_BYTES, int(GPU_RESERVE_SHARE * gpu.total_bytes))
    budget = max(0, gpu.free_bytes - reserve)
    return budget if wishes.gpu_budget_bytes is None else min(budget, wishes.gpu_budget_bytes)


def _on_gpu(
    sizes: ModelSizes,
    shape: V4Cache,
    room: Room,
    wishes: Wishes,
    context: int,
    number: int,
    said: list[Decision],
) -> LoadPlan | None:
    """With a GPU; None, and why is said, where it cannot hold what every token reads, or memory not the rest."""
    gpu = room.gpus[number]
    budget = _gpu_budget(gpu, wishes)
    cache = cache_bytes(shape, context, wishes.cache_type)
    weights = sum(each.dense_bytes for each in sizes.layers) + sizes.output_bytes + sizes.embedding_bytes
    # Twice the context: a kept state of it and one that was read on from there share only what both begin with.
    needed = weights + 2 * sum(cache) + GPU_DRIVER_BYTES
    chunks = [min(each, context) for each in GPU_CHUNKS_TOKENS]
    batch = next(
        (each for each in chunks if PASS_SHARE * gpu_compute_bytes(sizes, shape, each) <= budget - needed),
        chunks[-1],
    )
    compute = gpu_compute_bytes(sizes, shape, batch)
    left = budget - needed - compute
    if left < 0:
        why = (
            f"all but its experts takes {size_text(budget - left)}, and {size_text(budget)} of it may be used"
        )
        said.append(Decision(f"{gpu.name} is not used", why))
        return None
    ram_left = room.ram_budget_bytes - HOST_BYTES
    if ram_left < 0:
        said.append(
            Decision(f"{gpu.name} is not used", "there is not even room in RAM for what it leaves there")
        )
        return None
    states = min(STATES_BYTES, ram_left // 2)
    ram_left -= states
    shares = _shares(sizes, left, ram_left)
    parts = (
        *(Part("cache", at, gpu_bytes=each) for at, each in enumerate(cache)),
        Part(
            "compute",
            None,
            gpu_bytes=compute + shares.free_slots * shares.one_bytes,
            ram_bytes=HOST_BYTES + shares.copies * (pinned_bytes(shares.one_bytes) - shares.one_bytes),
        ),
        Part("driver", None, gpu_bytes=GPU_DRIVER_BYTES),
        Part("states", None, gpu_bytes=sum(cache), ram_bytes=states),
        *(Part("dense", at, gpu_bytes=each.dense_bytes) for at, each in enumerate(sizes.layers)),
        Part("output", None, gpu_bytes=sizes.output_bytes),
        Part("embedding", None, gpu_bytes=sizes.embedding_bytes),
        *_expert_parts(sizes, shares, ram_left),
    )
    total = sum(part.gpu_bytes for part in parts)
    threads = wishes.threads or expected_threads(room.cores)
    what = f"{size_text(total)} on {gpu.name}: all but the experts, {_experts_said(sizes, shares)}"
    return LoadPlan(
        model=sizes.name,
        context_tokens=context,
        cache_type=wishes.cache_type,
        threads=threads,
        micro_batch_tokens=batch,
        memory_mapped=True,
        copied=False,
        whole_window=False,
        gpu=gpu.name,
        gpu_number=number,
        gpu_layers=len(sizes.layers),
        expert_layers_in_ram=(),
        parts=parts,
        decisions=(
            _ASKED,
            *said,
            Decision(
                what, f"{size_text(budget)} of it may be used, and every token reads all but the experts"
            ),
            _rest(sizes, shares),
            _kept_in(wishes.cache_type),
            Decision("Between operations numbers are BF16", "that is what the GPU multiplies fastest"),
            Decision(
                f"Prompts are read {batch:,} tokens at a time",
                "experts that have no place on the GPU cross the bus once for each time",
            ),
            _threads(wishes, room),
        ),
        experts_read="direct" if shares.copies else "mapped",
        idle_layers=sizes.idle_layers,
        computed_by="native",
        experts_move=shares.slots + shares.free_slots > 0 and shares.slots < _experts(sizes),
    )


def _shares(sizes: ModelSizes, gpu_left: int, ram_left: int) -> _Shares:
    """Of all the model's experts, with so many bytes left on the GPU and in memory."""
    each = sizes.experts
    one = max((layer.expert_bytes for layer in sizes.layers), default=0) // max(1, each)
    room = gpu_left // one if one and _is_fp4(sizes) else 0
    if not one or room >= _experts(sizes):
        return _Shares(_experts(sizes), 0, 0, one)
    if room < each:
        return _Shares(0, 0, 0, one)
    slots = room - each
    # A quarter is left to pages of the file.
    copies = ram_left * 3 // 4 // pinned_bytes(one)
    return _Shares(slots, each, min(_experts(sizes) - slots, copies), one)


def pinned_bytes(size_bytes: int) -> int:
    """What torch takes for so many bytes that a GPU reads by itself: a power of two."""
    return 1 << max(0, size_bytes - 1).bit_length()


def _is_fp4(sizes: ModelSizes) -> bool:
    """Whether all experts are FP4, 17 bytes for 32 numbers: slots hold no others."""
    return all(32 * layer.expert_bytes == 17 * layer.expert_numbers for layer in sizes.layers)


def _experts(sizes: ModelSizes) -> int:
    return sizes.experts * len(sizes.layers)


def _expert_parts(sizes: ModelSizes, shares: _Shares, ram_left: int) -> list[Part]:
    """By layer, as if what has a place were of all layers alike: which ones they are is not known before."""
    total = sizes.expert_bytes
    on_gpu = total if shares.slots == _experts(sizes) else shares.slots * shares.one_bytes
    in_ram = min(shares.copies * shares.one_bytes if shares.copies else ram_left, total - on_gpu)
    parts: list[Part] = []
    before = 0
    for at, layer in enumerate(sizes.layers):
        after = before + layer.expert_bytes
        here, placed = (after * some // total - before * some // total for some in (on_gpu, on_gpu + in_ram))
        if layer.expert_bytes:
            parts.append(Part("experts", at, here, placed - here, layer.expert_bytes - placed))
        before = after
    return parts


def _experts_said(sizes: ModelSizes, shares: _Shares) -> str:
    if shares.slots == _experts(sizes):
        return "and these too"
    if not shares.free_slots:
        return "which the processor computes"
    return f"and {shares.slots:,} of {_experts(sizes):,} of these"


def _rest(sizes: ModelSizes, shares: _Shares) -> Decision:
    if shares.slots == _experts(sizes):
        return Decision("Nothing of the model is left for RAM", "all of it has room on the GPU")
    if not shares.free_slots:
        why = "experts are computed on a GPU from slots for a whole layer's at least"
        if not _is_fp4(sizes):
            why = "a GPU takes FP4 experts alone, and these are stored otherwise"
        return Decision("Experts stay in the mapped file", why)
    what = "The other experts stay in the mapped file"
    if shares.copies:
        what = f"Of the other experts {shares.copies:,} are copied into memory that the GPU reads by itself"
    return Decision(what, "which ones lie where follows what is asked for, and all of them the GPU computes")


_ASKED = Decision("Seamount's own engine computes it", "it was asked for")


def _kept_in(cache_type: CacheType) -> Decision:
    return Decision(f"The conversation is kept in {FORMS[cache_type]}", "that is what was chosen")


def _threads(wishes: Wishes, room: Room) -> Decision:
    if wishes.threads:
        return Decision(counted(wishes.threads), "that is what was set")
    return expected_decision(expected_threads(room.cores), room.cores)


def gpu_compute_bytes(sizes: ModelSizes, shape: V4Cache, tokens: int) -> int:
    """Bytes of a pass over so many tokens on a GPU: never less than `engine.model.devices.pass_bytes`, which knows all
    shapes."""
    hidden, width = shape.hidden, 0
    if sizes.experts:
        numbers = max(layer.expert_numbers for layer in sizes.layers)
        width = -(-numbers // (3 * hidden * sizes.experts))
    per_token = 4 * hidden * (3 * 2 + 8) + sizes.experts_used * (width + hidden) * 6 + 32 * hidden
    per_token += 32 * (shape.head_dim + shape.index_head_dim)
    queries = min(tokens, 512) * shape.heads * shape.head_dim * 2 * 6
    # No matrix is a third of a layer; decoded it takes 8 bytes a number.
    matrix = 8 * max(layer.dense_numbers for layer in sizes.layers) // 3
    return tokens * per_token + queries + matrix + 8 * sizes.output_numbers // hidden + (320 << 20)


def cache_bytes(shape: V4Cache, context_tokens: int, cache_type: CacheType) -> tuple[int, ...]:
    """Bytes of a full context for each layer: the window, compressed rows and the indexer's, and in F32 what a row is
    being made of."""
    row, index_row = (
        _row_bytes(shape.head_dim, cache_type),
        _index_row_bytes(shape.index_head_dim, cache_type),
    )
    found: list[int] = []
    for ratio in shape.ratios:
        rows = context_tokens // ratio if ratio else 0
        size_bytes = (min(context_tokens, shape.window) + rows) * row
        if ratio == 4:
            # Sums and scores of this group and the one before, of two widths; for the indexer the same.
            state = 2 * 4 * 2 * ratio * 2 * (shape.head_dim + shape.index_head_dim)
            size_bytes += rows * index_row + state
        elif ratio:
            size_bytes += 2 * 4 * ratio * shape.head_dim
        found.append(size_bytes)
    return tuple(found)


def compute_bytes(shape: V4Cache, context_tokens: int, cache_type: CacheType) -> int:
    """Bytes of a pass of one chunk, reckoned rather too large: queries and outputs of all heads, the four streams and
    what is mixed of them, each in F32, slices, and a layer's rows that are read as F32 all at once. At Flash's shape a
    chunk of 512 tokens took 459 to 521 MB of the 570 that are reckoned."""
    batch = min(CHUNK_TOKENS, context_tokens)
    numbers = batch * (4 * shape.heads * shape.head_dim + 24 * shape.hidden)
    if cache_type != "f32":
        # The indexer's keys, or the few rows of a ratio that has no choice.
        widths = ((ratio, shape.index_head_dim if ratio == 4 else shape.head_dim) for ratio in shape.ratios)
        numbers += max((context_tokens // ratio * width for ratio, width in widths if ratio), default=0)
    return 4 * numbers + SLICES_BYTES


def _weights(sizes: ModelSizes, left: int) -> Sequence[Part]:
    """The mapped file, in memory as far as `left` goes: first what every token reads, then experts, then the table of
    which a token reads a row."""
    wanted: list[tuple[What, int | None, int]] = [
        *(("dense", at, each.dense_bytes) for at, each in enumerate(sizes.layers)),
        ("output", None, sizes.output_bytes),
        *(("experts", at, each.expert_bytes) for at, each in enumerate(sizes.layers)),
        ("embedding", None, sizes.embedding_bytes),
    ]
    placed: list[Part] = []
    for what, layer, size_bytes in wanted:
        here = min(size_bytes, left)
        left -= here
        if size_bytes:
            placed.append(Part(what, layer, ram_bytes=here, disk_bytes=size_bytes - here))
    return placed


def _row_bytes(numbers: int, cache_type: CacheType) -> int:
    if cache_type == "q8_0":
        return numbers + _MIXED_OVERHEAD_BYTES
    return numbers * (4 if cache_type == "f32" else 2)


def _index_row_bytes(numbers: int, cache_type: CacheType) -> int:
    if cache_type == "q8_0":
        return numbers // 2 + numbers // 32
    return numbers * (4 if cache_type == "f32" else 2)
