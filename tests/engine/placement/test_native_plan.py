from dataclasses import replace

import pytest

from engine.errors import DoesNotFit
from engine.placement.context_sizes import V4Cache
from engine.placement.hardware import Gpu
from engine.placement.load_needs import given_back_bytes, needed_mapped_bytes
from engine.placement.model_sizes import ModelSizes
from engine.placement.native_plan import (
    CHUNK_TOKENS,
    GPU_CHUNKS_TOKENS,
    cache_bytes,
    compute_bytes,
    gpu_compute_bytes,
    native_plan,
)
from engine.placement.planner import Room, Wishes
from tests.convert.released_configs import FLASH, PRO
from tests.engine.placement.models import GB, dense_model, flash, pro

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


def on_gpu(gpu_gb: float, ram_gb: int = 256) -> Room:
    return Room(ram_gb * GB, ram_gb * GB, 16, (Gpu("a GPU", int(gpu_gb * GB), int(gpu_gb * GB)),))


@pytest.mark.parametrize("ram_gb", [2, 64, 512])
@pytest.mark.parametrize("gpu_gb", [8, 16, 17.5, 24, 80, 192, 1000])
@pytest.mark.parametrize("sizes", [flash(), pro()], ids=["flash", "pro"])
def test_on_a_gpu_all_of_it_lies_somewhere_within_what_may_be_taken(
    sizes: ModelSizes, gpu_gb: float, ram_gb: int
) -> None:
    room = on_gpu(gpu_gb, ram_gb)
    plan = native_plan(sizes, room, Wishes(8192))
    assert plan.held_bytes("gpu") <= 0.95 * gpu_gb * GB
    assert plan.held_bytes("ram") <= room.ram_budget_bytes
    weights = ("dense", "output", "experts", "embedding")
    lie = sum(plan.part_bytes(what, place) for what in weights for place in ("gpu", "ram", "disk"))
    assert lie == sizes.loaded_bytes
    assert all(min(part.gpu_bytes, part.ram_bytes, part.disk_bytes) >= 0 for part in plan.parts)
    assert (plan.gpu is None) == (plan.held_bytes("gpu") == 0)
    if plan.gpu is not None:
        assert plan.part_bytes("dense", "gpu") + plan.part_bytes("output", "gpu") == sizes.dense_bytes
        assert plan.experts_move == (0 < plan.part_bytes("experts", "gpu") < sizes.expert_bytes)
        copies = plan.part_bytes("experts", "ram") if plan.experts_read == "direct" else 0
        assert given_back_bytes(plan) == plan.part_bytes("compute", "ram") + copies


def test_what_lies_where_on_a_gpu_is_said() -> None:
    def said(room: Room, wishes: Wishes) -> str:
        plan = native_plan(flash(), room, wishes)
        return "\n".join(f"{each.what}: {each.why}" for each in plan.decisions)

    whole = native_plan(flash(), on_gpu(192), Wishes(8192))
    assert not whole.experts_move and whole.held_bytes("disk") == 0
    assert "and these too" in said(on_gpu(192), Wishes(8192))
    some = said(on_gpu(80), Wishes(8192))
    assert "of 11,008 of these" in some and "are copied into memory that the GPU reads by itself" in some
    assert "The other experts stay in the mapped file" in said(
        replace(on_gpu(80, 2), ram_free_bytes=int(0.9 * GB)), Wishes(8192)
    )
    assert "its budget is set to nothing" in said(on_gpu(80), Wishes(8192, gpu_budget_bytes=0))
    assert "a GPU is not used: all but its experts takes" in said(
        on_gpu(80), Wishes(8192, gpu_budget_bytes=GB)
    )
    assert "which the processor computes" in said(on_gpu(14), Wishes(8192))
    two = Room(256 * GB, 256 * GB, 16, (Gpu("one", 24 * GB, 20 * GB), Gpu("two", 80 * GB, 70 * GB)))
    assert "Of 2 GPUs two is used" in said(two, Wishes(8192))
    assert native_plan(flash(), two, Wishes(8192)).gpu_number == 1


def test_a_gpu_s_budget_is_kept_to_and_what_is_not_fp4_stays_off_its_slots() -> None:
    plan = native_plan(flash(), on_gpu(80), Wishes(8192, gpu_budget_bytes=30 * GB))
    assert 20 * GB < plan.held_bytes("gpu") <= 30 * GB
    other = replace(
        flash(), layers=tuple(replace(each, expert_bytes=each.expert_bytes * 2) for each in flash().layers)
    )
    plan = native_plan(other, on_gpu(80), Wishes(8192))
    assert plan.gpu is not None and plan.part_bytes("experts", "gpu") == 0
    assert any("a GPU takes FP4 experts alone" in each.why for each in plan.decisions)


@pytest.mark.parametrize("which", ["flash", "pro"])
def test_what_is_planned_for_a_gpu_is_enough_for_what_is_done_there(which: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from convert.model_shape import ModelShape
    from engine.model import devices
    from engine.model.checkpoint_config import network_config

    config, sizes = (FLASH, flash()) if which == "flash" else (PRO, pro())
    network, shape = network_config(ModelShape.from_config(config)), sizes.cache
    assert isinstance(shape, V4Cache)
    for tokens in GPU_CHUNKS_TOKENS:
        planned = gpu_compute_bytes(sizes, shape, tokens)
        done = devices.pass_bytes(network, tokens, torch.bfloat16)
        assert done <= planned <= 2 * done
    for kept, form in (("f16", "bf16"), ("f32", "f32"), ("q8_0", "mixed")):
        for context in (512, 65_536, 1 << 20):
            planned = 2 * sum(cache_bytes(shape, context, kept))
            assert devices.cache_bytes(network, form, context) <= planned
