"""What a loaded model needs of RAM."""

from dataclasses import replace

import pytest

from engine.placement.load_needs import (
    context_bytes,
    given_back_bytes,
    needed_mapped_bytes,
    reads_its_file_again,
    still_needed_bytes,
    weights_taken_bytes,
)
from engine.placement.load_plan import LoadPlan, Part


def plan_of(*, mapped: bool, copied: bool) -> LoadPlan:
    return LoadPlan(
        model="m",
        context_tokens=1,
        cache_type="f16",
        threads=1,
        micro_batch_tokens=1,
        memory_mapped=mapped,
        copied=copied,
        whole_window=False,
        gpu=None,
        gpu_number=0,
        gpu_layers=0,
        expert_layers_in_ram=(),
        parts=(
            Part("cache", 0, ram_bytes=1),
            Part("compute", None, ram_bytes=2),
            Part("dense", 0, ram_bytes=40),
            Part("output", None, ram_bytes=10),
            Part("states", None, ram_bytes=7),
            Part("experts", 0, ram_bytes=500, disk_bytes=9_000),
            Part("embedding", None, ram_bytes=50, disk_bytes=1),
        ),
        decisions=(),
    )


def test_of_a_mapped_model_what_every_token_reads_is_kept_and_nothing_of_it_is_taken() -> None:
    plan = plan_of(mapped=True, copied=False)
    assert needed_mapped_bytes(plan) == 50
    assert weights_taken_bytes(plan) == 0
    assert given_back_bytes(plan) == context_bytes(plan) == 3
    assert reads_its_file_again(plan)
    assert still_needed_bytes(plan, 0.0) == still_needed_bytes(plan, 1.0) == 53


def test_experts_that_are_read_into_memory_of_our_own_are_given_back_and_make_no_one_wait() -> None:
    plan = replace(plan_of(mapped=True, copied=False), experts_read="direct")
    assert not reads_its_file_again(plan)
    assert given_back_bytes(plan) == 503
    # They take what there is, while the model is loaded as later.
    assert still_needed_bytes(plan, 0.0) == 53


@pytest.mark.parametrize(("mapped", "copied"), [(True, True), (False, False)])
def test_a_copied_or_read_model_takes_all_of_it_bit_by_bit(mapped: bool, copied: bool) -> None:
    plan = plan_of(mapped=mapped, copied=copied)
    assert needed_mapped_bytes(plan) == 0
    assert not reads_its_file_again(plan)
    assert weights_taken_bytes(plan) == 600
    assert given_back_bytes(plan) == 603
    assert [still_needed_bytes(plan, each) for each in (-1, 0, 0.5, 1, 2)] == [603, 603, 303, 3, 3]


def test_what_lies_on_a_gpu_is_not_ram() -> None:
    plan = plan_of(mapped=False, copied=False)
    on_gpu = replace(
        plan, parts=tuple(replace(each, gpu_bytes=each.ram_bytes, ram_bytes=0) for each in plan.parts)
    )
    assert still_needed_bytes(on_gpu, 0.0) == 0
