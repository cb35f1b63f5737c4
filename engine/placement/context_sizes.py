"""What a context of llama.cpp takes in memory besides the model: its cache, and the buffers that it computes in.

Owns: the arithmetic of both for DeepSeek-V4 and for ordinary attention. Pure. The cache is exact, by what
llama.cpp allocates (llama-kv-cache-dsv4.cpp and llama-kv-cache.cpp); the compute buffers are an estimate from
above, fitted to what llama.cpp 0.3.36's bindings report for Flash, Pro and a small dense model.

DeepSeek-V4 keeps a window of raw rows in every layer, one compressed row for each 4 or 128 tokens in most of them,
and beside those the state of the row being made. So its cache grows by 6,880 bytes a token (Flash, F16), where
ordinary attention of that width would take twenty times as much.
"""

from dataclasses import dataclass
from typing import Literal

CacheType = Literal["f32", "f16", "q8_0"]

_BLOCK: dict[str, tuple[int, int]] = {"f32": (1, 4), "f16": (1, 2), "q8_0": (32, 34)}
_CELLS = 256
"""llama.cpp rounds contexts and V4's compressed rows up to a multiple of that many."""


@dataclass(frozen=True)
class V4Cache:
    """What V4's cache depends on; `ratios`: one for each layer (0, 4 or 128)."""

    ratios: tuple[int, ...]
    head_dim: int
    index_head_dim: int
    window: int
    heads: int
    hidden: int


@dataclass(frozen=True)
class PlainCache:
    """Ordinary attention: how many numbers of keys and of values each layer keeps for a token, and what the compute
    buffers depend on (`inner`: the widest feed-forward that is computed at once; `heads` of attention)."""

    rows: tuple[tuple[int, int], ...]
    hidden: int
    inner: int
    heads: int = 0


CacheShape = V4Cache | PlainCache


def cells(context_tokens: int) -> int:
    """Tokens that a context of `context_tokens` really has room for."""
    return _padded(max(1, context_tokens))


def cache_bytes(
    shape: CacheShape,
    context_tokens: int,
    cache_type: CacheType,
    *,
    micro_batch_tokens: int,
    whole_window: bool,
) -> tuple[int, ...]:
    """Bytes of the cache, for each layer that has one, in their order. `whole_window`: V4's raw rows are kept for
    the whole context (llama.cpp's `swa_full`)."""
    context = cells(context_tokens)
    if isinstance(shape, PlainCache):
        return tuple(
            context * (_row_bytes(keys, cache_type) + _row_bytes(values, cache_type))
            for keys, values in shape.rows
        )
    raw = context if whole_window else _padded(min(context, shape.window + micro_batch_tokens))
    row, index_row = _row_bytes(shape.head_dim, cache_type), _row_bytes(shape.index_head_dim, cache_type)
    found: list[int] = []
    for ratio in shape.ratios:
        rows = _padded(-(-context // ratio)) if ratio else 0
        # Sums and scores of the row being made, in F32; ratio 4 pools the group before with it.
        if ratio == 4:
            state = 2 * 4 * 2 * ratio * 2 * (shape.head_dim + shape.index_head_dim)
            found.append((raw + rows) * row + rows * index_row + state)
        else:
            found.append((raw + rows) * row + 2 * 4 * ratio * shape.head_dim)
    return tuple(found)


def compute_bytes(
    shape: CacheShape,
    context_tokens: int,
    *,
    micro_batch_tokens: int,
    whole_window: bool,
    cache_type: CacheType = "f16",
) -> int:
    """Bytes of the compute buffers, reckoned rather too large: for each token of a micro-batch the widest rows of a
    layer, and for each pair of it and a token of the context what masks and scores take. With a cache in F32 flash
    attention is off, and the scores of all heads are there at once."""
    context = cells(context_tokens)
    batch = min(micro_batch_tokens, context)
    scores = 0
    if isinstance(shape, PlainCache):
        if cache_type == "f32":
            scores = 4 * shape.heads * context
        return batch * (4 * (8 * shape.hidden + 2 * shape.inner) + 2 * context + scores)
    if cache_type == "f32":
        raw = context if whole_window else _padded(min(context, shape.window + batch))
        compressed = max((_padded(-(-context // ratio)) for ratio in shape.ratios if ratio), default=0)
        scores = 4 * shape.heads * (raw + compressed)
    # Fitted: queries of all heads 1.5 times, the four streams of the hyper-connections 5.5 times.
    rows = 4 * (3 * shape.heads * shape.head_dim // 2 + 22 * shape.hidden)
    return batch * (rows + 3 * context + (5 * context if whole_window else 0) + scores)


def input_bytes(
    shape: CacheShape, context_tokens: int, *, micro_batch_tokens: int, whole_window: bool
) -> int:
    """Bytes of buffers that the processor needs beside a GPU which computes every layer: the rows of the embedding
    and the masks, which it prepares. Reckoned rather too large."""
    context = cells(context_tokens)
    batch = min(micro_batch_tokens, context)
    masks = 2 * context if isinstance(shape, PlainCache) else (7 if whole_window else 3) * context
    return batch * (2 * 4 * shape.hidden + masks)


def attended_rows(shape: CacheShape, depth_tokens: int) -> float:
    """Rows that a token at `depth_tokens` attends to on a processor, all layers together, in rows of `head_dim`
    (V4) or of a layer's keys. The processor computes every compressed row and masks those that were not chosen."""
    if isinstance(shape, PlainCache):
        return float(depth_tokens * len(shape.rows))
    rows = 0.0
    for ratio in shape.ratios:
        rows += min(shape.window, depth_tokens) + (depth_tokens / ratio if ratio else 0.0)
        if ratio == 4:
            rows += depth_tokens / ratio * shape.index_head_dim / max(1, shape.head_dim)
    return rows


def _padded(count: int) -> int:
    return -(-count // _CELLS) * _CELLS


def _row_bytes(numbers: int, cache_type: CacheType) -> int:
    block, size_bytes = _BLOCK[cache_type]
    return -(-numbers // block) * size_bytes
