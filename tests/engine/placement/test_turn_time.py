"""What a typical turn takes decides between micro-batches."""

from dataclasses import replace

from engine.placement.hardware import Gpu
from engine.placement.load_plan import LoadPlan, Part
from engine.placement.planner import Room, Wishes, plan
from engine.placement.turn_time import Favour, Rates, turn_s
from tests.engine.placement.models import GB, dense_model, flash

ROOM = Room(256 * GB, 240 * GB, 16, (Gpu("G", 24 * GB, 23 * GB),))


def batch(favour: Favour = "balanced", rates: Rates | None = None, room: Room = ROOM) -> int:
    return plan(flash(), room, Wishes(131_072, favour=favour), rates=rates).micro_batch_tokens


def with_experts(host_bytes: int, batch_tokens: int, *, mapped: bool = False) -> LoadPlan:
    found = plan(flash(), ROOM, Wishes(131_072))
    total = flash().expert_bytes
    experts = Part("experts", None, gpu_bytes=total - host_bytes, ram_bytes=host_bytes)
    parts = (*(part for part in found.parts if part.what != "experts"), experts)
    return replace(found, parts=parts, micro_batch_tokens=batch_tokens, memory_mapped=mapped)


def test_what_lies_in_ram_is_brought_over_once_for_each_batch() -> None:
    large, small = (turn_s(flash(), with_experts(100 * GB, each)) for each in (4096, 512))
    more = 7 * 100 * GB / Rates().bus_bytes_per_s  # eight batches for 4,000 tokens, not one
    assert 0.9 * more < small - large < 1.1 * more


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


def test_with_a_slow_bus_batches_are_larger_than_with_a_fast_one() -> None:
    assert batch("answers", Rates(bus_bytes_per_s=2e9)) > batch("answers", Rates(bus_bytes_per_s=400e9))


def test_where_all_lies_on_the_gpu_larger_batches_gain_little_and_smaller_buffers_are_taken() -> None:
    assert plan(dense_model(), ROOM, Wishes(8192)).micro_batch_tokens <= 1024


def test_the_reason_names_the_turn() -> None:
    found = plan(flash(), ROOM, Wishes(131_072, favour="answers"))
    assert any("prompt of 1,000 tokens and an answer of 2,000" in each.why for each in found.decisions)
