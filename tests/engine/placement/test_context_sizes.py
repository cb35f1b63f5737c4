"""What a context takes, against the golden counts of the checkpoint's own code and llama.cpp's own reports."""

import pytest

from engine.placement.context_sizes import PlainCache, V4Cache, attended_rows, cache_bytes, compute_bytes
from tests.engine.placement.models import flash, pro

MIB = 1 << 20
SMALL = PlainCache(((192, 192),) * 30, hidden=576, inner=1536)


def mib(
    shape: V4Cache | PlainCache, context: int, batch: int, kind: str = "f16", whole: bool = False
) -> float:
    found = cache_bytes(shape, context, kind, micro_batch_tokens=batch, whole_window=whole)  # type: ignore[arg-type]
    return sum(found) / MIB


@pytest.mark.parametrize(
    ("context", "batch", "kind", "whole", "told"),
    [
        (8192, 512, "f16", True, 344 + 42 + 5 + 10.5),
        (8192, 512, "f16", False, 32.25 + 42 + 5 + 10.5),
        (8192, 2048, "f16", False, 96.75 + 42 + 5 + 10.5),
        (8192, 64, "f16", False, 10.75 + 42 + 5 + 10.5),
        (65536, 512, "f16", True, 2752 + 336 + 10 + 84),
        (65536, 512, "q8_0", False, 17.13 + 178.5 + 5.31 + 44.62),
        (131072, 2048, "f16", False, 96.75 + 672 + 20 + 168),
    ],
)
def test_flash_takes_what_llama_cpp_reports(
    context: int, batch: int, kind: str, whole: bool, told: float
) -> None:
    """MiB of its four caches; the states of the rows being made are 11.65 MiB at any size."""
    cache = flash().cache
    assert isinstance(cache, V4Cache)
    assert mib(cache, context, batch, kind, whole) == pytest.approx(told + 1.3125 + 10 + 0.328, abs=0.02)


def test_it_grows_as_the_checkpoints_own_code_does() -> None:
    """V4.md 3: compressed rows of Pro at 1,048,576 tokens; 9,848 bytes a token, 6,880 of Flash."""
    for sizes, per_token in ((pro(), 9848), (flash(), 6880)):
        short, long = (
            sum(cache_bytes(sizes.cache, context, "f16", micro_batch_tokens=512, whole_window=False))
            for context in (1 << 19, 1 << 20)
        )
        assert long - short == per_token << 19
    golden = 10_335_600_640
    ring_and_states = 31 * 1024 * 128 + 30 * (1024 * 128 + 10240 * 4)
    fixed = sum(cache_bytes(pro().cache, 1 << 19, "f16", micro_batch_tokens=512, whole_window=False)) - (
        9848 << 19
    )
    assert (
        sum(cache_bytes(pro().cache, 1 << 20, "f16", micro_batch_tokens=512, whole_window=False)) - fixed
        == golden - ring_and_states
    )


def test_ordinary_attention() -> None:
    assert mib(SMALL, 8192, 512) == 180
    assert mib(SMALL, 131_072, 2048) == 2880
    assert mib(SMALL, 100, 512) == 180 / 32  # rounded up to 256 tokens


@pytest.mark.parametrize(
    ("model", "context", "batch", "told"),
    [
        ("flash", 512, 512, 254.59),
        ("flash", 8192, 512, 263.59),
        ("flash", 8192, 2048, 1060.17),
        ("flash", 8192, 64, 32.94),
        ("flash", 131_072, 512, 413.13),
        ("flash", 131_072, 2048, 1399.33),
        ("flash", 1 << 20, 512, 1780.84),
        ("pro", 8192, 512, 472.09),
        ("pro", 131_072, 2048, 2137.17),
        ("small", 8192, 512, 21.51),
        ("small", 8192, 64, 2.69),
        ("small", 131_072, 2048, 566.05),
    ],
)
def test_the_buffers_are_no_less_than_llama_cpp_reports_and_not_much_more(
    model: str, context: int, batch: int, told: float
) -> None:
    """MiB that llama-cpp-python 0.3.36 reported of these models, or of Pro's first layers."""
    shape = {"flash": flash().cache, "pro": pro().cache, "small": SMALL}[model]
    found = compute_bytes(shape, context, micro_batch_tokens=batch, whole_window=False) / MIB
    assert told <= found <= 1.35 * told


def test_a_whole_window_costs_more_buffers() -> None:
    found = compute_bytes(flash().cache, 65536, micro_batch_tokens=512, whole_window=True) / MIB
    assert 491.09 <= found <= 1.35 * 491.09


def test_attention_on_a_processor_goes_over_every_compressed_row() -> None:
    cache = flash().cache
    assert attended_rows(cache, 100) > 43 * 100
    assert attended_rows(cache, 128_000) == pytest.approx(43 * 128 + 21 * 32_000 * 1.25 + 20 * 1000)
    assert attended_rows(SMALL, 1000) == 30_000
