"""Contexts as bytes: the same to the bit when they come back, and nothing else is believed."""

import random
import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from convert.model_shape import ModelShape  # noqa: E402
from engine.model.cache import SequenceCache  # noqa: E402
from engine.model.checkpoint_config import network_config  # noqa: E402
from engine.model.config import NetworkConfig  # noqa: E402
from engine.model.model_error import ModelError  # noqa: E402
from engine.model.row_formats import CacheFormat  # noqa: E402
from engine.model.saved_cache import HEADER, Bytes, read_mark, read_state, state_bytes, write_state  # noqa: E402
from tests.convert.seeded_checkpoint import small_config  # noqa: E402

FORMATS: tuple[CacheFormat, ...] = ("f32", "bf16", "mixed")
POSITIONS = (0, 1, 3, 4, 7, 8, 127, 128, 129, 300)


def config_of(**changes: object) -> NetworkConfig:
    return network_config(ModelShape.from_config(small_config(layers=4, **changes)))


CONFIG = config_of()


def read(cache: SequenceCache, tokens: int, seed: int = 0) -> None:
    """Take tokens in, as layers and the draft block would stage them; the numbers are drawn."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    c = cache.config
    cache.begin(tokens, all_kept=False)
    for layer in cache.layers:
        layer.ring.stage(layer.ring.form.stored(drawn(tokens, c.head_dim)), all_kept=False)
        for each in layer.compressors:
            width = each.kv.shape[1]
            groups = each.stage(drawn(tokens, width), drawn(tokens, width), all_kept=False)
            rows = drawn(len(groups.kv) // each.ratio, each.form.columns)
            each.rows.stage(each.form.stored(rows))
    if cache.draft is not None:
        first = cache.position + (0 if cache.draft.hidden is not None else 1)
        rows = drawn(cache.position + tokens - first, c.head_dim)
        form = cache.draft.ring.form
        cache.draft.stage(first, form.stored(rows), drawn(tokens, c.hc_mult, c.hidden_size), all_kept=False)
    cache.commit()


def context(position: int, cache_format: CacheFormat = "f32", *, drafts: bool = True) -> SequenceCache:
    cache = SequenceCache(CONFIG, cache_format, drafts=drafts)
    if position:
        read(cache, position)
    return cache


def saved(cache: SequenceCache, *, rows: bool = True) -> Bytes:
    room = np.zeros(state_bytes(cache, rows=rows), np.uint8)
    write_state(cache, room, rows=rows)
    return room


@pytest.mark.parametrize("cache_format", FORMATS)
@pytest.mark.parametrize("position", POSITIONS)
def test_it_comes_back_to_the_bit_and_goes_on(cache_format: CacheFormat, position: int) -> None:
    cache = context(position, cache_format)
    kept = saved(cache)
    assert kept.nbytes == HEADER.size + cache.size_bytes + cache.draft_bytes
    kept.flags.writeable = False
    found = read_state(kept, CONFIG, cache_format, drafts=True)
    assert (found.position, found.size_bytes) == (position, cache.size_bytes)
    assert np.array_equal(saved(found), kept)
    for each in (cache, found):
        read(each, 5, seed=1)
    assert np.array_equal(saved(found), saved(cache))


@pytest.mark.parametrize("cache_format", FORMATS)
def test_a_mark_comes_back_with_the_rows_of_its_context(cache_format: CacheFormat) -> None:
    cache = context(133, cache_format)
    early, mark = saved(cache), saved(cache, rows=False)
    read(cache, 400, seed=1)
    whole = read_state(saved(cache), CONFIG, cache_format, drafts=True)
    assert mark.nbytes < early.nbytes
    whole.rewind(read_mark(mark, whole))
    assert np.array_equal(saved(whole), early)


def test_a_context_that_was_cut_back_comes_back_too() -> None:
    """Its ring has a row less, and its drafts begin anew."""
    cache = context(131)
    cache.cut(130)
    found = read_state(saved(cache), CONFIG, "f32", drafts=True)
    assert np.array_equal(saved(found), saved(cache))
    assert [end for end in range(131) if found.can_cut(end)] == [
        end for end in range(131) if cache.can_cut(end)
    ]


def test_drafts_may_be_left_out_or_begin_anew() -> None:
    with_drafts, without = context(140), context(140, drafts=False)
    left_out = read_state(saved(with_drafts), CONFIG, "f32")
    assert left_out.draft is None
    assert left_out.size_bytes == with_drafts.size_bytes
    anew = read_state(saved(without), CONFIG, "f32", drafts=True)
    assert anew.draft is not None
    assert (anew.draft.hidden, anew.draft.ring.first) == (None, 141)


@pytest.mark.parametrize("change", [-1, 1, -HEADER.size, 64])
@pytest.mark.parametrize("position", [0, 5, 200])
def test_bytes_of_another_length_are_refused(position: int, change: int) -> None:
    kept = saved(context(position))
    other = np.resize(kept, max(0, kept.nbytes + change))
    with pytest.raises(ModelError, match="This saved context cannot be used"):
        read_state(other, CONFIG, "f32", drafts=True)


@pytest.mark.parametrize("length", [0, 1, 7, 8, HEADER.size - 1, HEADER.size, HEADER.size + 1, 1000])
def test_what_was_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ModelError):
        read_state(saved(context(9))[:length], CONFIG, "f32", drafts=True)


@pytest.mark.parametrize(
    ("offset", "form", "value", "why"),
    [
        (0, "<Q", 1, "does not begin like one"),
        (8, "<I", 2, "of version 2"),
        (12, "<I", 1, "not kept as f32"),
        (12, "<I", 77, "not kept as f32"),
        (16, "<I", 9, "no version writes"),
        (16, "<I", 5, "no version writes"),
        (16, "<I", 3, "window does not lie"),
        (20, "<I", 1, "no version writes"),
        (24, "<Q", 2**63, "more than the model can"),
        (24, "<Q", 199, "is not"),
        (24, "<Q", 300, "do not hold the tokens"),
        (32, "<Q", 71, "do not hold the tokens"),
        (32, "<Q", 74, "do not hold the tokens"),
        (40, "<Q", 0, "window does not lie"),
        (40, "<Q", 201, "window does not lie"),
        (48, "<Q", 2**62, "is not"),
        (56, "<Q", 1, "no version writes"),
        (64, "<Q", 1, "another shape"),
    ],
)
def test_a_header_that_says_what_cannot_be_is_refused(offset: int, form: str, value: int, why: str) -> None:
    kept = saved(context(200))
    changed = struct.pack(form, value)
    kept[offset : offset + len(changed)] = np.frombuffer(changed, np.uint8)
    with pytest.raises(ModelError, match=why):
        read_state(kept, CONFIG, "f32", drafts=True)


@pytest.mark.parametrize("seed", range(4))
def test_no_change_of_the_header_is_worse_than_refused(seed: int) -> None:
    dice, kept = random.Random(seed), saved(context(131))
    for _ in range(100):
        other = kept.copy()
        for _ in range(dice.randrange(1, 4)):
            other[dice.randrange(HEADER.size)] = dice.randrange(256)
        if np.array_equal(other, kept):
            continue
        with pytest.raises(ModelError):
            read_state(other, CONFIG, "f32", drafts=True)


def test_another_models_context_is_refused() -> None:
    for change in ({"sliding_window": 64}, {"hidden_size": 512}, {"index_head_dim": 64}):
        with pytest.raises(ModelError, match="another shape"):
            read_state(saved(context(9)), config_of(**change), "f32", drafts=True)


def test_marks_and_wholes_are_not_taken_for_each_other() -> None:
    cache = context(50)
    with pytest.raises(ModelError, match="without its rows"):
        read_state(saved(cache, rows=False), CONFIG, "f32", drafts=True)
    with pytest.raises(ModelError, match="not a mark"):
        read_mark(saved(cache), cache)
    with pytest.raises(ModelError, match="a mark at 50 in a context of 49 tokens"):
        read_mark(saved(cache, rows=False), context(49))


def test_room_of_another_size_is_not_written() -> None:
    cache = context(9)
    with pytest.raises(ValueError, match="does not go into"):
        write_state(cache, np.zeros(state_bytes(cache) + 1, np.uint8))
