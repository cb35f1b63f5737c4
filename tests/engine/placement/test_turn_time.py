"""What a typical turn takes decides between micro-batches."""

from dataclasses import replace

from engine.placement.hardware import Gpu
from engine.placement.hardware_record import (
    DeviceRates,
    Fingerprint,
    HardwareRecord,
    MeasuredGpu,
    Multiplying,
)
from engine.placement.load_plan import LoadPlan, Part
from engine.placement.model_sizes import ModelSizes
from engine.placement.planner import Room, Wishes, plan
from engine.placement.token_time import TokenTime
from engine.placement.turn_time import Favour, Rates, TurnTime, best_of, turn_clock, turn_time
from tests.engine.placement.models import GB, dense_model, flash


def gpu_record() -> HardwareRecord:
    multiplying = Multiplying(one_bytes_per_s=2e12, many_per_s=2e14)
    rates = DeviceRates(
        copy_bytes_per_s=2.6e12,
        pinned_bytes_per_s=5.4e10,
        pageable_bytes_per_s=1e10,
        back_bytes_per_s=5.4e10,
        operation_s=2e-6,
        exchange_s=2e-5,
        q8_0=multiplying,
        mxfp4=multiplying,
    )
    return HardwareRecord(
        measured_at=1.7e9,
        fingerprint=Fingerprint(processor="CPU", cores=16, memory_bytes=256 * GB, disk="d"),
        memory_threads=16,
        memory_bytes_per_s=80e9,
        memory_one_bytes_per_s=12e9,
        arithmetic_per_s=50e9,
        gpus=[MeasuredGpu(name="G", rates=rates)],
    )


ROOM = Room(256 * GB, 240 * GB, 16, (Gpu("G", 24 * GB, 23 * GB),))


def turn_s(
    model: ModelSizes, plan: LoadPlan, favour: Favour = "balanced", rates: Rates | None = None
) -> float:
    return turn_time(model, plan, favour, rates).turn_s


def batch(favour: Favour) -> int:
    return plan(flash(), ROOM, Wishes(131_072, favour=favour)).micro_batch_tokens


def with_experts(host_bytes: int, batch_tokens: int, *, mapped: bool = False) -> LoadPlan:
    found = plan(flash(), ROOM, Wishes(131_072))
    total = flash().expert_bytes
    experts = Part("experts", None, gpu_bytes=total - host_bytes, ram_bytes=host_bytes)
    parts = (*(part for part in found.parts if part.what != "experts"), experts)
    return replace(found, parts=parts, micro_batch_tokens=batch_tokens, memory_mapped=mapped)


def test_what_lies_in_ram_is_brought_over_once_for_each_batch() -> None:
    large, small = (turn_s(flash(), with_experts(100 * GB, each)) for each in (4096, 512))
    more = 7 * 100 * GB / Rates().bus_bytes_per_s  # eight batches for 4,000 tokens, not one
    assert 0.9 * more < small - large < 1.6 * more


def test_more_experts_on_the_gpu_and_pinned_memory_take_less_time() -> None:
    assert turn_s(flash(), with_experts(50 * GB, 2048)) < turn_s(flash(), with_experts(100 * GB, 2048))
    pinned, mapped = (turn_s(flash(), with_experts(100 * GB, 2048, mapped=each)) for each in (False, True))
    assert pinned < mapped


def test_a_turn_is_at_most_what_the_context_holds() -> None:
    found = with_experts(100 * GB, 512)
    assert turn_s(flash(), replace(found, context_tokens=1024)) < turn_s(flash(), found) / 3


def test_what_is_favoured_moves_the_choice() -> None:
    assert batch("answers") <= batch("balanced") <= batch("prompts")
    assert batch("answers") < batch("prompts")


def test_with_a_slow_bus_large_batches_gain_more_than_with_a_fast_one() -> None:
    def gain(bus_bytes_per_s: float) -> float:
        rates = Rates(bus_bytes_per_s=bus_bytes_per_s)
        small, large = (turn_s(flash(), with_experts(100 * GB, each), rates=rates) for each in (512, 4096))
        return small / large

    assert gain(5e9) > gain(50e9) > 1


def test_of_a_small_model_that_is_all_on_the_gpu_batches_stay_small() -> None:
    assert plan(dense_model(), ROOM, Wishes(8192)).micro_batch_tokens <= 1024


def test_where_all_of_v4_lies_on_the_gpu_neither_small_nor_huge_batches_are_best() -> None:
    """As on an H100: few tokens for each expert cost most, and attention to what is masked after that."""
    rates = Rates(3e12, 41e12, 55e9)
    small, best, huge = (
        turn_s(flash(), with_experts(0, each), "prompts", rates) for each in (512, 2048, 8192)
    )
    assert best < huge < small


def test_what_was_measured_decides_where_it_suffices() -> None:
    found = with_experts(100 * GB, 2048)
    record = gpu_record()
    clock = turn_clock(flash(), "balanced", record)
    times = TokenTime(flash(), found, record)
    assert clock(found) == (times.prompt_s(4000), 500 * times.token_s(1.0, 4250))
    unknown = replace(found, gpu="another", gpu_number=7)
    assert clock(unknown) == turn_time(flash(), unknown) == turn_clock(flash(), "balanced", None)(unknown)


def test_the_reason_names_the_turn() -> None:
    found = plan(flash(), ROOM, Wishes(131_072, favour="answers"))
    assert any("prompt of 1,000 tokens and an answer of 2,000" in each.why for each in found.decisions)


def test_where_nothing_is_favoured_neither_prompts_nor_answers_lose_much() -> None:
    """By the turn alone the first would be taken, whose prompts take twice as long."""
    plans = [TurnTime(1.0, 3.3), TurnTime(0.5, 3.6), TurnTime(0.49, 5.0)]
    assert best_of(plans, "answers") == 1
    assert best_of([TurnTime(1.0, 3.0), *plans[1:]], "answers") == 0
    assert best_of([TurnTime(1.0, 3.0), *plans[1:]], "balanced") == 1
    assert best_of([TurnTime(1.005, 1.0), TurnTime(1.0, 1.0)], "balanced") == 0
