"""How the native engine lies in memory: the same kind of plan as llama.cpp's, by other rules.

Owns: what a context of it takes in each form, what it computes in, and the plan with its reasons. Pure; does not load
anything (`backends.native`). DeepSeek-V4 on the processor alone.

The file is mapped and never copied, so weights are the system's pages: what does not fit is read again when it is
wanted. A context, and what it computes in, must fit.
"""

from collections.abc import Sequence

from engine.errors import DoesNotFit
from engine.model_table import size_text
from engine.placement.context_sizes import CacheType, V4Cache
from engine.placement.load_plan import Decision, LoadPlan, Part, What
from engine.placement.model_sizes import ModelSizes
from engine.placement.plan_words import memory_decisions
from engine.placement.planner import STATES_BYTES, Room, Wishes
from engine.placement.thread_choice import counted, expected_decision, expected_threads

CHUNK_TOKENS = 512
"""Tokens of a prompt that are read in one pass."""
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
    said = counted(threads), "that is what was set"
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
            Decision("Seamount's own engine computes it", "it was asked for"),
            *memory_decisions(sizes, parts, budget, copied=False, on_disk_bytes=on_disk),
            Decision(f"The conversation is kept in {FORMS[wishes.cache_type]}", "that is what was chosen"),
            Decision(f"Prompts are read {batch:,} tokens at a time", "more gains nothing on a processor"),
            Decision(*said) if wishes.threads else expected_decision(threads, room.cores),
        ),
        idle_layers=sizes.idle_layers,
        computed_by="native",
    )


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
