"""A context's state: its size, what a pass may change, forks, marks and cutting back."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from convert.model_shape import ModelShape  # noqa: E402
from engine.model.cache import SequenceCache  # noqa: E402
from engine.model.checkpoint_config import network_config  # noqa: E402
from engine.model.config import NetworkConfig  # noqa: E402
from engine.model.saved_cache import state_bytes, write_state  # noqa: E402
from tests.convert.released_configs import FLASH, PRO  # noqa: E402
from tests.convert.seeded_checkpoint import small_config  # noqa: E402

GOLDEN = {
    1: 496_640,
    3: 1_489_920,
    4: 2_024_960,
    7: 3_514_880,
    8: 2_821_120,
    127: 27_399_680,
    128: 10_484_736,
    129: 10_918_912,
    1_048_576: 10_335_600_640,
}
"""Bytes of Pro's context after so many tokens, BF16 rows and F32 raw rows: the release's own buffers, counted."""


def config_of(released: dict[str, object]) -> NetworkConfig:
    return network_config(ModelShape.from_config(released))


def read(cache: SequenceCache, tokens: int, fill: "Callable[..., torch.Tensor] | None" = None) -> None:
    """Take `tokens` tokens in, as the layers would stage them; the numbers are of no meaning."""
    cache.begin(tokens, all_kept=False)
    stage(cache, tokens, fill)
    cache.commit()


def stage(cache: SequenceCache, tokens: int, fill: "Callable[..., torch.Tensor] | None" = None) -> None:
    fill = fill or torch.zeros
    for layer in cache.layers:
        form = layer.ring.form
        made = fill(tokens, form.width, device=cache.device).to(form.dtype)
        layer.ring.stage(made, all_kept=cache.all_kept)
        for each in layer.compressors:
            width = each.kv.shape[1]
            kv, gate = (fill(tokens, width, device=cache.device) for _ in range(2))
            groups = each.stage(kv, gate, all_kept=cache.all_kept)
            count = len(groups.kv) // each.ratio
            each.rows.stage(fill(count, each.form.width, device=cache.device).to(each.form.dtype))


def content(cache: SequenceCache) -> bytes:
    """All that it remembers."""
    import numpy as np

    room = np.zeros(state_bytes(cache), np.uint8)
    write_state(cache, room)
    return room.tobytes()


def drawn(seed: int) -> "Callable[..., torch.Tensor]":
    generator = torch.Generator().manual_seed(seed)
    return lambda *size, device: torch.randn(*size, generator=generator, device=device)


@pytest.fixture
def small() -> NetworkConfig:
    return config_of(small_config(layers=4, head_dim=128, sliding_window=128))


@pytest.mark.parametrize("tokens", GOLDEN)
def test_pro_takes_what_the_release_takes(tokens: int) -> None:
    """On torch's device without memory, by the code that stages and commits: a million tokens take none here."""
    cache = SequenceCache(config_of(PRO), "bf16", "meta")
    read(cache, tokens)
    assert cache.size_bytes == GOLDEN[tokens]


@pytest.mark.parametrize("tokens", [1, 7, 129])
def test_the_same_with_memory_behind_it(tokens: int) -> None:
    cache = SequenceCache(config_of(PRO), "bf16")
    read(cache, tokens)
    held = sum(
        each.nbytes
        for layer in cache.layers
        for each in (
            layer.ring.last(128),
            *(part for c in layer.compressors for part in (c.kv, c.gate, c.rows.kept)),
        )
    )
    assert cache.size_bytes == held == GOLDEN[tokens]


@pytest.mark.parametrize("seed", range(6))
def test_pros_size_is_a_function_of_the_number_of_tokens(seed: int) -> None:
    """31 layers of ratio 128, 30 of ratio 4, whatever passes the tokens came in."""
    dice = random.Random(seed)
    cache = SequenceCache(config_of(PRO), "bf16", "meta")
    for _ in range(4):
        read(cache, dice.choice([1, 2, dice.randrange(3, 300), dice.randrange(300, 200_000)]))
        s = cache.position
        window, raw = min(s, 128), s if s < 4 else 4 + s % 4
        by_128 = 1024 * (window + s // 128) + 4096 * (s % 128)
        by_4 = 1024 * (window + s // 4) + 256 * (s // 4) + 10240 * raw
        assert cache.size_bytes == 31 * by_128 + 30 * by_4


@pytest.mark.parametrize(
    ("released", "cache_format", "bytes_of_4096"),
    [
        (FLASH, "bf16", 4096 * 6880),
        (PRO, "bf16", 4096 * 9848),
        (FLASH, "mixed", 4096 * 21 * 163 + 32 * 20 * 584),
        (PRO, "mixed", 4096 * 30 * 163 + 32 * 31 * 584),
        (FLASH, "f32", 4096 * 13760),
        (PRO, "f32", 4096 * 19696),
    ],
)
def test_what_more_tokens_take(released: dict[str, object], cache_format: str, bytes_of_4096: int) -> None:
    """(main + key) / 4 for each layer of ratio 4 and main / 128 for each of 128; 584 and 68 bytes where packed."""
    cache = SequenceCache(config_of(released), cache_format, "meta")  # type: ignore[arg-type]
    read(cache, 4096)
    before = cache.size_bytes
    read(cache, 4096)
    assert cache.size_bytes - before == bytes_of_4096


def test_nothing_changes_before_the_commit(small: NetworkConfig) -> None:
    cache = SequenceCache(small, "f32")
    read(cache, 203, drawn(0))
    before = content(cache)
    cache.begin(9, all_kept=True)
    stage(cache, 9, drawn(1))
    assert content(cache) == before
    cache.drop()
    assert (content(cache), cache.position) == (before, 203)


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_the_first_tokens_of_a_pass_can_be_kept_alone(small: NetworkConfig, count: int) -> None:
    cache = SequenceCache(small, "f32")
    read(cache, 126)
    cache.begin(5, all_kept=True)
    stage(cache, 5)
    cache.commit(count)
    fresh = SequenceCache(small, "f32")
    read(fresh, 126 + count)
    assert (content(cache), cache.position) == (content(fresh), 126 + count)


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_a_commit_that_finds_no_memory_changes_nothing(
    small: NetworkConfig, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    cache = SequenceCache(small, "f32")
    read(cache, 126, drawn(0))
    before = content(cache)
    cache.begin(5, all_kept=True)
    stage(cache, 5, drawn(1))
    compressors = [each for layer in cache.layers for each in layer.compressors]

    def no_memory(end: int) -> None:
        raise MemoryError

    monkeypatch.setattr(compressors[fails_at], "prepare", no_memory)
    with pytest.raises(MemoryError):
        cache.commit(3)
    cache.drop()
    assert (content(cache), cache.position) == (before, 126)


def test_after_a_commit_that_found_no_memory_another_number_can_be_kept(
    small: NetworkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, fresh = SequenceCache(small, "f32"), SequenceCache(small, "f32")
    for each in (cache, fresh):
        read(each, 126, drawn(0))
        each.begin(5, all_kept=True)
        stage(each, 5, drawn(1))
    last = [each for layer in cache.layers for each in layer.compressors][-1]
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(last, "prepare", lambda _end: (_ for _ in ()).throw(MemoryError))
        cache.commit(5)
    cache.commit(1)
    fresh.commit(1)
    assert (content(cache), cache.position) == (content(fresh), 127)


def test_of_a_pass_that_keeps_all_no_fewer_can_be_kept(small: NetworkConfig) -> None:
    cache = SequenceCache(small, "f32")
    cache.begin(5, all_kept=False)
    stage(cache, 5)
    with pytest.raises(ValueError, match="4 tokens of a pass over 5"):
        cache.commit(4)
    with pytest.raises(ValueError, match="6 tokens"):
        cache.commit(6)
    cache.commit(5)
    assert cache.position == 5


@pytest.mark.parametrize("tokens", [3, 130, 515])
def test_forks_go_their_own_ways(small: NetworkConfig, tokens: int) -> None:
    cache = SequenceCache(small, "bf16")
    read(cache, tokens, drawn(0))
    before = content(cache)
    twin = cache.fork()
    assert content(twin) == before
    read(twin, 140, drawn(1))
    assert content(cache) == before
    later = content(twin)
    read(cache, 140, drawn(2))
    assert content(twin) == later
    assert content(cache) != later


def test_a_fork_shares_the_compressed_rows(small: NetworkConfig) -> None:
    cache = SequenceCache(small, "f32")
    read(cache, 1024)
    ours, theirs = (each.layers[2].compressors[0].rows.kept for each in (cache, cache.fork()))
    assert ours.data_ptr() == theirs.data_ptr()
    shared = sum(c.rows.kept.nbytes for layer in cache.layers for c in layer.compressors)
    assert cache.mark().size_bytes == cache.own_bytes == cache.size_bytes - shared
    assert shared > 0


def test_marks_bring_it_back_as_often_as_one_likes(small: NetworkConfig) -> None:
    cache = SequenceCache(small, "f32")
    read(cache, 133, drawn(0))
    first, early = cache.mark(), content(cache)
    read(cache, 300, drawn(1))
    second, late = cache.mark(), content(cache)
    for mark, wanted in ((first, early), (second, late), (first, early)):
        cache.rewind(mark)
        assert (content(cache), cache.position) == (wanted, mark.position)
        read(cache, 150, drawn(2))


def test_what_was_written_after_a_rewind_does_not_touch_later_marks(small: NetworkConfig) -> None:
    cache = SequenceCache(small, "f32")
    read(cache, 256, drawn(0))
    first = cache.mark()
    read(cache, 256, drawn(1))
    second, late = cache.mark(), content(cache)
    cache.rewind(first)
    read(cache, 512, drawn(2))
    cache.rewind(second)
    assert content(cache) == late


ANYWHERE, SAME_GROUP, ONE_BACK = "anywhere", "same group of 4", "one back"


@pytest.mark.parametrize("position", [1, 5, 7, 8, 11, 12, 100, 127, 128, 129, 131, 132, 255, 257])
def test_it_can_be_cut_back_just_where_the_text_says(small: NetworkConfig, position: int) -> None:
    cache = SequenceCache(small, "f32")
    read(cache, position)
    rule = ANYWHERE if position < 8 else SAME_GROUP if position <= 128 else ONE_BACK
    for end in range(-1, position + 2):
        allowed = {
            ANYWHERE: 0 <= end <= position,
            SAME_GROUP: 4 * (position // 4) <= end <= position,
            ONE_BACK: end in (position, position - (1 if position % 4 else 0)),
        }[rule] or end == 0
        assert cache.can_cut(end) == allowed, (position, end)


@pytest.mark.parametrize(
    ("position", "end"), [(8, 7), (128, 127), (129, 127), (132, 131), (258, 256), (9, 10)]
)
def test_elsewhere_it_is_not_cut_and_nothing_changes(small: NetworkConfig, position: int, end: int) -> None:
    cache = SequenceCache(small, "f32")
    read(cache, position, drawn(0))
    before = content(cache)
    with pytest.raises(ValueError, match=f"of {position} tokens cannot be cut back to {end}"):
        cache.cut(end)
    assert content(cache) == before


def test_a_model_that_never_compresses_is_cut_within_its_window(small: NetworkConfig) -> None:
    plain = replace(small, compress_ratios=(0, 0, 0, 0))
    cache = SequenceCache(plain, "f32")
    read(cache, 128)
    assert all(cache.can_cut(end) for end in range(129))
    read(cache, 1)
    assert [end for end in range(130) if cache.can_cut(end)] == [0, 128, 129]


def test_room_for_what_will_come_is_taken_once(small: NetworkConfig) -> None:
    cache = SequenceCache(small, "f32")
    cache.reserve(1024)
    rows = cache.layers[2].compressors[0].rows
    held = rows.allocated_bytes
    for _ in range(16):
        read(cache, 64)
    assert rows.allocated_bytes == held == 256 * 128 * 4
