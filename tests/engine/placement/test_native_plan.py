from dataclasses import replace

import pytest

from engine.errors import DoesNotFit
from engine.placement.context_sizes import V4Cache
from engine.placement.load_needs import given_back_bytes, needed_mapped_bytes
from engine.placement.native_plan import CHUNK_TOKENS, cache_bytes, compute_bytes, native_plan
from engine.placement.planner import Room, Wishes
from tests.engine.placement.models import GB, dense_model, flash

MUCH = Room(512 * GB, 480 * GB, 16)
LITTLE = Room(64 * GB, 50 * GB, 16)


def test_all_of_it_lies_somewhere_and_nothing_is_copied() -> None:
    for room in (MUCH, LITTLE):
        plan = native_plan(flash(), room, Wishes(8192))
        weights = ("dense", "output", "experts", "embedding")
        assert sum(plan.part_bytes(what, place) for what in weights for place in ("ram", "disk")) == (
            flash().loaded_bytes
        )
        assert plan.held_bytes("ram") <= room.ram_budget_bytes
        assert plan.memory_mapped and not plan.copied and plan.gpu is None
        assert plan.computed_by == "native"
        assert needed_mapped_bytes(plan) == flash().dense_bytes
        # What is given back is what was taken beside the mapped file.
        assert given_back_bytes(plan) == plan.part_bytes("cache", "ram") + plan.part_bytes("compute", "ram")
    assert native_plan(flash(), MUCH, Wishes(8192)).held_bytes("disk") == 0


def test_experts_go_to_the_disk_before_what_every_token_reads() -> None:
    plan = native_plan(flash(), LITTLE, Wishes(8192))
    assert plan.part_bytes("experts", "disk") > 0
    assert plan.part_bytes("dense", "disk") == plan.part_bytes("output", "disk") == 0
    assert any("left in the file on the disk" in each.what for each in plan.decisions)


def test_a_context_that_does_not_fit_is_refused_with_its_numbers() -> None:
    with pytest.raises(DoesNotFit) as refused:
        native_plan(flash(), Room(4 * GB, int(1.2 * GB), 2), Wishes(1_048_576))
    assert "for a context of 1,048,576 tokens beside the mapped file" in refused.value.text
    assert "1.2 GB are free" in refused.value.text
    plan = native_plan(flash(), Room(4 * GB, int(1.4 * GB), 2), Wishes(1024))
    assert plan.context_tokens == 1024


def test_what_was_set_is_kept_to() -> None:
    plan = native_plan(flash(), MUCH, Wishes(100, "f32", threads=3))
    assert (plan.context_tokens, plan.cache_type, plan.threads) == (100, "f32", 3)
    assert plan.micro_batch_tokens == 100
    trained = replace(flash(), context_train_tokens=4096)
    plan = native_plan(trained, MUCH, Wishes(8192))
    assert (plan.context_tokens, plan.micro_batch_tokens) == (4096, CHUNK_TOKENS)


def test_each_form_of_the_context_takes_what_it_takes() -> None:
    """A layer's window and rows; what is being made of the next row is in F32 in all of them."""
    shape = V4Cache(ratios=(0, 4, 128), head_dim=512, index_head_dim=128, window=128, heads=64, hidden=4096)
    states = (0, 2 * 4 * 2 * 4 * 2 * (512 + 128), 2 * 4 * 128 * 512)
    for form, row, index_row in (("f32", 2048, 512), ("f16", 1024, 256), ("q8_0", 584, 68)):
        found = cache_bytes(shape, 1024, form)  # type: ignore[arg-type]
        assert found == (128 * row, (128 + 256) * row + 256 * index_row + states[1], 136 * row + states[2])


def test_rows_that_are_read_as_f32_are_reckoned() -> None:
    """Of the indexer's keys a layer has one for each four tokens: at a million tokens they are 134 MB."""
    shape = V4Cache(ratios=(0, 4, 128), head_dim=512, index_head_dim=128, window=128, heads=64, hidden=4096)
    short, full = (compute_bytes(shape, tokens, "f16") for tokens in (1024, 1_048_576))
    assert full - short == 4 * 128 * (1_048_576 - 1024) // 4
    assert compute_bytes(shape, 1_048_576, "f32") == compute_bytes(shape, 1024, "f32") < short
    assert compute_bytes(shape, 100, "f32") < compute_bytes(shape, 1024, "f32")


def test_another_architecture_has_no_plan() -> None:
    with pytest.raises(ValueError, match="DeepSeek-V4 alone"):
        native_plan(dense_model(), MUCH, Wishes(1024))
