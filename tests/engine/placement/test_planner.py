"""Plans keep to every budget, whatever the machine and the model."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DoesNotFit
from engine.placement.hardware import Gpu
from engine.placement.load_plan import LoadPlan, What
from engine.placement.model_sizes import ModelSizes
from engine.placement.planner import (
    GPU_RESERVE_SHARE,
    LEAST_GPU_RESERVE_BYTES,
    Room,
    Wishes,
    plan,
)
from tests.engine.placement.models import GB, any_model, dense_model, flash, pro


@st.composite
def any_room(draw: st.DrawFn) -> Room:
    total = draw(st.integers(1, 512 * GB))
    gpus = []
    for number in range(draw(st.integers(0, 2))):
        size_bytes = draw(st.integers(1, 96 * GB))
        gpus.append(Gpu(f"GPU {number}", size_bytes, draw(st.integers(0, size_bytes))))
    return Room(total, draw(st.integers(0, total)), draw(st.integers(1, 64)), tuple(gpus))


wishes = st.builds(
    Wishes,
    context_tokens=st.sampled_from([512, 8192, 131_072, 1 << 20]),
    cache_type=st.sampled_from(["f32", "f16", "q8_0"]),
    threads=st.integers(0, 8),
    gpu_budget_bytes=st.none() | st.integers(0, 96 * GB),
)


def made(sizes: ModelSizes, room: Room, wished: Wishes) -> LoadPlan | None:
    try:
        return plan(sizes, room, wished)
    except DoesNotFit:
        return None


@pytest.mark.slow
@given(any_model(), any_room(), wishes)
@settings(max_examples=300, deadline=None)
def test_no_budget_is_ever_exceeded(sizes: ModelSizes, room: Room, wished: Wishes) -> None:
    found = made(sizes, room, wished)
    if found is None:
        return
    assert found.held_bytes("ram") <= room.ram_budget_bytes
    if found.gpu is None:
        assert found.held_bytes("gpu") == 0
        assert found.gpu_layers == 0
        return
    gpu = room.gpus[found.gpu_number]
    assert gpu.name == found.gpu
    reserve = max(LEAST_GPU_RESERVE_BYTES, int(GPU_RESERVE_SHARE * gpu.total_bytes))
    budget = gpu.free_bytes - reserve
    if wished.gpu_budget_bytes is not None:
        budget = min(budget, wished.gpu_budget_bytes)
    assert found.held_bytes("gpu") <= budget


@pytest.mark.slow
@given(any_model(), any_room(), wishes)
@settings(max_examples=300, deadline=None)
def test_every_byte_of_a_tensor_has_exactly_one_place(sizes: ModelSizes, room: Room, wished: Wishes) -> None:
    found = made(sizes, room, wished)
    if found is None:
        return
    assert all(min(part.gpu_bytes, part.ram_bytes, part.disk_bytes) >= 0 for part in found.parts)
    placed: dict[object, int] = {}
    for part in found.parts:
        if part.what in ("experts", "dense", "embedding", "output"):
            assert (part.what, part.layer) not in placed
            placed[part.what, part.layer] = part.size_bytes
    for at, layer in enumerate(sizes.layers):
        assert placed.pop(("experts", at), 0) == layer.expert_bytes
        assert placed.pop(("dense", at)) == layer.dense_bytes
    # Of a tied output the GPU gets a copy of the embedding; elsewhere both are one.
    copy = sizes.embedding_bytes if sizes.tied and found.gpu is not None else 0
    assert placed.pop(("output", None)) == sizes.output_bytes + copy
    assert placed.pop(("embedding", None), 0) == sizes.embedding_bytes
    assert placed == {}
    # What is copied or not mapped cannot be read from the file later.
    if found.copied or not found.memory_mapped:
        assert found.held_bytes("disk") == 0
    # What lies on the GPU is what its layers are: the rest of each is kept away by a pattern.
    first = len(sizes.layers) - found.gpu_layers
    for part in found.parts:
        if part.what == "experts" and part.layer is not None:
            on_gpu = part.layer >= first and part.layer not in found.expert_layers_in_ram
            stay = {matrix for layer, matrix in found.matrices_in_ram if layer == part.layer}
            assert on_gpu or not stay
            matrices = dict(sizes.layers[part.layer].matrices)
            in_ram = sum(matrices[matrix] for matrix in stay) if on_gpu else part.size_bytes
            assert part.gpu_bytes == part.size_bytes - in_ram
            assert bool(stay) == (0 < part.gpu_bytes < part.size_bytes)
        if part.what in ("dense", "cache") and part.layer is not None and part.size_bytes:
            assert (part.gpu_bytes > 0) is (part.layer >= first)


@given(any_model(), any_room(), wishes, st.integers(0, 64 * GB))
@settings(max_examples=200, deadline=None)
def test_more_memory_never_makes_a_plan_worse(
    sizes: ModelSizes, room: Room, wished: Wishes, more: int
) -> None:
    """Without a GPU: what a roomier machine leaves on the disk is no more, but for larger buffers."""
    less = made(sizes, replace(room, gpus=()), wished)
    roomy = replace(
        room, gpus=(), ram_free_bytes=room.ram_free_bytes + more, ram_total_bytes=room.ram_total_bytes
    )
    found = made(sizes, roomy, wished)
    if less is None:
        return
    assert found is not None

    def buffers(each: LoadPlan) -> int:
        kinds: tuple[What, ...] = ("compute", "cache", "states")
        return sum(each.part_bytes(kind, "ram") for kind in kinds)

    larger = max(0, buffers(found) - buffers(less))
    assert found.held_bytes("disk") <= less.held_bytes("disk") + larger


@given(any_model(), any_room(), wishes)
@settings(max_examples=50, deadline=None)
def test_the_same_gives_the_same(sizes: ModelSizes, room: Room, wished: Wishes) -> None:
    assert made(sizes, room, wished) == made(sizes, room, wished)


def test_flash_in_much_ram_is_copied() -> None:
    found = plan(flash(), Room(256 * GB, 240 * GB, 16), Wishes(8192))
    assert (found.copied, found.memory_mapped, found.held_bytes("disk")) == (True, True, 0)
    assert found.threads == 15
    assert found.micro_batch_tokens == 512
    assert not found.whole_window
    assert found.experts_in_memory_share == 1


def test_flash_in_little_ram_stays_in_its_file() -> None:
    """The trap: a copy in anonymous memory of more than there is ends in swap or a kill."""
    found = plan(flash(), Room(64 * GB, 56 * GB, 8), Wishes(8192))
    assert (found.copied, found.memory_mapped) == (False, True)
    assert found.held_bytes("disk") > 90 * GB
    assert 0.25 < found.experts_in_memory_share < 0.35
    assert found.micro_batch_tokens == 2048
    assert any("nothing is copied" in each.what for each in found.decisions)


def test_what_does_not_fit_is_refused_with_its_numbers() -> None:
    with pytest.raises(DoesNotFit) as caught:
        plan(pro(), Room(16 * GB, 12 * GB, 8), Wishes(8192))
    text = caught.value.text
    assert "28 GB of it that every token reads" in text
    assert "8,192 tokens" in text
    assert "11 GB can be had: 12 GB are free" in text
    with pytest.raises(DoesNotFit, match="that it weighs"):
        plan(dense_model(layer_bytes=GB), Room(16 * GB, 12 * GB, 8), Wishes(8192))


def test_a_smaller_batch_is_taken_where_the_usual_one_does_not_fit() -> None:
    small = dense_model()
    # The working memory at 512 tokens is about 210 MB, at 64 about 190 MB, the weights 120 MB.
    found = plan(small, Room(4 * GB, 600_000_000 + 320_000_000, 2), Wishes(8192))
    assert found.micro_batch_tokens < 512
    assert found.held_bytes("ram") <= 320_000_000


def test_a_gpu_gets_the_dense_part_first_and_then_whole_layers_of_experts() -> None:
    gpu = Gpu("H100", 80 * GB, 79 * GB)
    found = plan(flash(), Room(256 * GB, 240 * GB, 16, (gpu,)), Wishes(8192))
    assert found.gpu_layers == 43
    assert found.part_bytes("dense", "gpu") == sum(layer.dense_bytes for layer in flash().layers)
    on_gpu = sum(part.what == "experts" and part.gpu_bytes == part.size_bytes for part in found.parts)
    assert 15 <= on_gpu <= 20
    apart = {layer for layer, _ in found.matrices_in_ram}
    assert found.expert_layers_in_ram == tuple(range(43 - on_gpu - len(apart)))
    assert not found.memory_mapped  # so that the bus is used at full speed
    assert not found.copied
    assert 2048 <= found.micro_batch_tokens <= 8192


def test_a_gpu_that_holds_no_layer_is_left_and_that_is_said() -> None:
    found = plan(flash(), Room(256 * GB, 240 * GB, 16, (Gpu("Old", GB, GB // 2),)), Wishes(8192))
    assert found.gpu is None
    assert any("Old is not used" in each.what for each in found.decisions)


def test_of_several_gpus_the_freest_is_used() -> None:
    gpus = (Gpu("A", 24 * GB, 10 * GB), Gpu("B", 24 * GB, 20 * GB))
    found = plan(flash(), Room(256 * GB, 240 * GB, 16, gpus), Wishes(8192))
    assert (found.gpu, found.gpu_number) == ("B", 1)
    assert plan(flash(), Room(256 * GB, 240 * GB, 16, gpus), Wishes(8192, gpu_budget_bytes=0)).gpu is None


def test_the_context_is_at_most_what_the_model_was_trained_for() -> None:
    assert plan(dense_model(), Room(64 * GB, 56 * GB, 8), Wishes(1 << 20)).context_tokens == 8192


def test_what_was_set_is_kept() -> None:
    found = plan(dense_model(), Room(64 * GB, 56 * GB, 8), Wishes(2048, threads=3, cache_type="q8_0"))
    assert (found.threads, found.cache_type) == (3, "q8_0")
    assert plan(dense_model(), Room(64 * GB, 56 * GB, 1), Wishes(2048)).threads == 1


def test_a_dense_model_whose_embedding_alone_is_beyond_is_told_in_its_own_words() -> None:
    untied = replace(dense_model(), tied=False, output_bytes=30_000_000)
    # Cache 180 MiB, buffers 22, layers 90 MB, output 30: of the embedding's 30 MB about half has room.
    room = Room(4 * GB, 600_000_000 + 355_000_000, 2)
    found = plan(untied, room, Wishes(8192))
    assert 0 < found.held_bytes("disk") < 30_000_000
    assert any("reads one row of the embedding" in each.why for each in found.decisions)
    assert not any("experts" in each.why for each in found.decisions)


def test_every_decision_says_what_and_why() -> None:
    for room in (Room(256 * GB, 240 * GB, 16), Room(64 * GB, 56 * GB, 8)):
        for each in plan(flash(), room, Wishes(8192)).decisions:
            assert each.what
            assert each.why
            assert not each.what.endswith(".")


def test_experts_from_the_disk_are_read_directly_where_the_system_can_and_memory_holds_some() -> None:
    little, tiny = Room(64 * GB, 56 * GB, 8), Room(16 * GB, 11_100_000_000, 8)
    wished = Wishes(8192)
    assert plan(flash(), replace(little, direct_reads=True), wished).experts_read == "direct"
    assert plan(flash(), little, wished).experts_read == "mapped"
    least = plan(flash(), replace(tiny, direct_reads=True), wished)
    assert 0 < least.part_bytes("experts", "ram") < 2 * flash().routed_share * flash().layers[0].expert_bytes
    assert least.experts_read == "mapped"
    much = plan(flash(), Room(256 * GB, 240 * GB, 8, direct_reads=True), wished)
    assert much.experts_read == "mapped"  # nothing comes from the disk
