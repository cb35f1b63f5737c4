"""What vLLM and SGLang keep on a GPU for the contexts of a DeepSeek-V4 besides its weights.

Owns: the arithmetic, from what both allocate for this model with a cache in FP8 (vLLM 0.33.0: the cache specs in
`vllm/models/deepseek_v4/` and `vllm/v1/attention/backends/mla/sparse_swa.py`; SGLang 0.5.23:
`sglang/srt/model_executor/pool_configurator.py`). Pure. Tensor parallel does not cut any of it: the model has one row
of keys and values for all heads, so every GPU of a group keeps the whole of that group's contexts.

A compressed row is 448 numbers in FP8, 64 in BF16 and 8 bytes of scales; a row of the indexer 128 in FP8 and 4 bytes.
Rows lie in pages of 256 tokens, each padded to what the attention kernels read at once. Not counted: what is lost
where pages of several sizes share one pool; both engines print at their start what they really have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from convert.model_shape import ModelShape
from engine.placement.cluster_weights import Engine

PAGE_TOKENS = 256
"""`--block-size 256` of vLLM, the page size that SGLang takes for this model."""
MOST_TOKENS = 1 << 40
"""Stands for as many as are wanted."""
_ALIGNMENT = 576
_ROPE_BYTES, _SCALE_BYTES, _INDEX_SCALE_BYTES, _F32 = 2, 8, 4, 4
_SGLANG_WINDOW_SHARE = 10
"""SGLang keeps raw rows of one token in so many (`swa_full_tokens_ratio` 0.1 for this model)."""
_SGLANG_RING = 8
"""Rows of an unfinished ratio-4 row that it keeps for each page of raw rows."""
_VLLM_RAW_PAGE = 64
_VLLM_STATE_PAGES = {4: 4, 128: 8}
"""Tokens in a page of raw rows, and in one of the sums of an unfinished row."""


@dataclass(frozen=True)
class CacheNeeds:
    """Bytes on one GPU: for each token of context, for each sequence besides, and once. `least_tokens`: fewer tokens
    of context in all cannot be, or the engine would not have the raw rows to read a prompt."""

    token_bytes: float
    sequence_bytes: int
    fixed_bytes: int
    least_tokens: int = PAGE_TOKENS

    def bytes_for(self, tokens: int, sequences: int) -> float:
        """What `sequences` contexts of `tokens` in all take."""
        return tokens * self.token_bytes + sequences * self.sequence_bytes + self.fixed_bytes

    def tokens_in(self, size_bytes: float, sequences: int) -> int:
        """Tokens of context that fit beside what `sequences` take, in whole pages; 0 where too few do."""
        left = size_bytes - self.fixed_bytes - sequences * self.sequence_bytes
        if left >= 0 and not self.token_bytes:  # a stage of layers that keep a window alone
            return MOST_TOKENS
        tokens = (
            int(max(0.0, left) / self.token_bytes) // PAGE_TOKENS * PAGE_TOKENS if self.token_bytes else 0
        )
        return tokens if tokens >= self.least_tokens else 0


def cache_needs(
    shape: ModelShape,
    layers: Sequence[int],
    engine: Engine,
    *,
    sequences: int,
    step_tokens: int,
    pipeline: int = 1,
) -> CacheNeeds:
    """What a GPU keeps whose stage has the `layers`, in a group that answers `sequences` at once and reads
    `step_tokens` of prompts in a step."""
    ratios = [shape.layer_ratios[layer] for layer in layers]
    if engine == "vllm":
        # The next step is put together while one runs; with a pipeline each stage has one.
        return _vllm(shape, ratios, max(2, pipeline) * step_tokens)
    return _sglang(shape, ratios, sequences, step_tokens)


def page_bytes(shape: ModelShape, ratio: int) -> int:
    """A layer's compressed rows of one page of tokens, with those of its indexer."""
    if not ratio:
        return 0
    rows = PAGE_TOKENS // ratio
    found = _padded(rows * _row_bytes(shape))
    if ratio == 4:
        found += _padded(rows * (shape.index_head_dim + _INDEX_SCALE_BYTES))
    return found


def _row_bytes(shape: ModelShape) -> int:
    rope = shape.qk_rope_head_dim
    return shape.head_dim - rope + _ROPE_BYTES * rope + _SCALE_BYTES


def _token_bytes(shape: ModelShape, ratios: Sequence[int]) -> float:
    return sum(page_bytes(shape, ratio) for ratio in ratios) / PAGE_TOKENS


def _state_numbers(shape: ModelShape, ratio: int) -> list[int]:
    """Sums and scores of a token that an unfinished row is made of, in F32: the layer's, then the indexer's. At ratio
    4 groups overlap, so there are twice as many."""
    if ratio == 4:
        return [4 * shape.head_dim, 4 * shape.index_head_dim]
    return [2 * shape.head_dim] if ratio == 128 else []


def _vllm(shape: ModelShape, ratios: Sequence[int], read_tokens: int) -> CacheNeeds:
    """vLLM keeps raw rows and unfinished ones in pages too: those of the window of each sequence, and of every token
    that is being read."""
    raw_page = _padded(_VLLM_RAW_PAGE * _row_bytes(shape))
    window_pages = -(-(shape.sliding_window - 1) // _VLLM_RAW_PAGE) + 1
    sequence = raw_page * window_pages * len(ratios)
    read = raw_page * (read_tokens // _VLLM_RAW_PAGE) * len(ratios)
    for ratio in ratios:
        for numbers in _state_numbers(shape, ratio):
            tokens = _VLLM_STATE_PAGES[ratio]
            page = _padded(tokens * _F32 * numbers)
            reach = 2 * ratio if ratio == 4 else ratio
            sequence += page * (-(-(reach - 1) // tokens) + 1)
            read += page * (read_tokens // tokens)
    return CacheNeeds(_token_bytes(shape, ratios), sequence, read)


def _sglang(shape: ModelShape, ratios: Sequence[int], sequences: int, step_tokens: int) -> CacheNeeds:
    """SGLang keeps raw rows for a tenth of all tokens, the unfinished rows of ratio 4 by their pages, and those of
    ratio 128 for each sequence."""
    raw = _padded(PAGE_TOKENS * _row_bytes(shape)) / PAGE_TOKENS * len(ratios)
    sequence = 0
    for ratio in ratios:
        numbers = _state_numbers(shape, ratio)
        if ratio == 4:
            raw += _SGLANG_RING / PAGE_TOKENS * _F32 * sum(numbers)
        elif ratio:
            sequence += ratio * _F32 * numbers[0]
    once = 2 * sequence  # one sequence more than asked for, and a ring at the end
    windows = step_tokens + sequences * PAGE_TOKENS
    return CacheNeeds(
        _token_bytes(shape, ratios) + raw / _SGLANG_WINDOW_SHARE,
        sequence,
        once,
        _SGLANG_WINDOW_SHARE * windows,
    )


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT
