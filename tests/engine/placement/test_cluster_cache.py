"""What contexts take on a GPU: against the entries' sizes, and against the engines' own sums done by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.model_shape import ModelShape
from engine.placement.cluster_cache import MOST_TOKENS, PAGE_TOKENS, CacheNeeds, cache_needs, page_bytes
from engine.placement.cluster_weights import Engine
from tests.convert.released_configs import FLASH, PRO

FLASH_SHAPE, PRO_SHAPE = ModelShape.from_config(FLASH), ModelShape.from_config(PRO)


def needs(
    shape: ModelShape, engine: Engine, *, sequences: int = 8, layers: range | None = None
) -> CacheNeeds:
    own = range(shape.num_hidden_layers) if layers is None else layers
    return cache_needs(shape, own, engine, sequences=sequences, step_tokens=8192)


@pytest.mark.parametrize(
    ("shape", "exact"), [(FLASH_SHAPE, 3850.25), (PRO_SHAPE, 30 * 179 + 31 * 4.5625)], ids=["flash", "pro"]
)
def test_a_tokens_rows_and_little_padding(shape: ModelShape, exact: float) -> None:
    """584 bytes of a row and 132 of the indexer's for 4 tokens, or 584 for 128: 3,850.25 bytes a token of Flash."""
    found = needs(shape, "vllm").token_bytes
    assert exact <= found <= 1.02 * exact


def test_pages_are_padded_to_what_the_kernels_read() -> None:
    assert page_bytes(FLASH_SHAPE, 0) == 0
    assert page_bytes(FLASH_SHAPE, 128) == 1728  # 2 rows of 584
    assert page_bytes(FLASH_SHAPE, 4) == 37_440 + 8640  # 64 rows of 584, 64 of 132
    assert page_bytes(PRO_SHAPE, 4) == page_bytes(FLASH_SHAPE, 4)


def test_sglang_keeps_raw_rows_of_a_tenth_of_the_tokens() -> None:
    raw = 43 * 584 + 21 * 8 / 256 * 4 * (4 * 512 + 4 * 128)
    both = needs(FLASH_SHAPE, "sglang").token_bytes - needs(FLASH_SHAPE, "vllm").token_bytes
    assert raw / 10 <= both <= 1.01 * raw / 10


def test_a_sequence_has_its_window_and_its_unfinished_rows() -> None:
    # vLLM: 3 pages of 64 raw rows in each layer; 3 pages of 4 tokens at ratio 4 with the indexer's; 17 of 8 at 128.
    assert needs(FLASH_SHAPE, "vllm").sequence_bytes == (
        43 * 3 * 37_440 + 21 * 3 * (32_832 + 8640) + 20 * 17 * 32_832
    )
    # SGLang: 128 tokens of 1,024 numbers in F32 in each layer of ratio 128.
    assert needs(FLASH_SHAPE, "sglang").sequence_bytes == 20 * 128 * 1024 * 4


def test_what_is_being_read_is_kept_whole_until_it_is_read() -> None:
    small = cache_needs(FLASH_SHAPE, range(43), "vllm", sequences=8, step_tokens=2048).fixed_bytes
    assert needs(FLASH_SHAPE, "vllm").fixed_bytes == 4 * small
    deep = cache_needs(FLASH_SHAPE, range(43), "vllm", sequences=8, step_tokens=2048, pipeline=4)
    assert deep.fixed_bytes == 2 * small


def test_a_stage_has_only_its_layers() -> None:
    for engine in ("vllm", "sglang"):
        parts = [needs(PRO_SHAPE, engine, layers=layers) for layers in (range(30), range(30, 61))]
        whole = needs(PRO_SHAPE, engine)
        assert sum(part.token_bytes for part in parts) == pytest.approx(whole.token_bytes)
        assert sum(part.sequence_bytes for part in parts) == whole.sequence_bytes
        assert sum(part.fixed_bytes for part in parts) == whole.fixed_bytes


@given(size=st.integers(0, 200 * 10**9), sequences=st.integers(1, 300))
def test_what_fits_fits_and_a_page_more_does_not(size: int, sequences: int) -> None:
    for engine in ("vllm", "sglang"):
        need = needs(FLASH_SHAPE, engine, sequences=sequences)
        tokens = need.tokens_in(size, sequences)
        assert tokens % PAGE_TOKENS == 0
        if tokens:
            assert need.bytes_for(tokens, sequences) <= size
            assert tokens >= need.least_tokens
        more = max(tokens + PAGE_TOKENS, need.least_tokens)
        assert need.bytes_for(more, sequences) > size or tokens >= more


def test_layers_that_keep_a_window_alone_hold_any_context() -> None:
    need = needs(FLASH_SHAPE, "vllm", layers=range(2))
    assert need.token_bytes == 0
    assert need.tokens_in(need.fixed_bytes + 8 * need.sequence_bytes, 8) == MOST_TOKENS
    assert need.tokens_in(need.fixed_bytes, 8) == 0


def test_sglang_needs_raw_rows_enough_to_read_a_prompt() -> None:
    need = needs(FLASH_SHAPE, "sglang", sequences=8)
    assert need.least_tokens == 10 * (8192 + 8 * 256)
    assert need.tokens_in(need.bytes_for(need.least_tokens, 8), 8) == need.least_tokens
    assert need.tokens_in(need.bytes_for(need.least_tokens - PAGE_TOKENS, 8), 8) == 0
