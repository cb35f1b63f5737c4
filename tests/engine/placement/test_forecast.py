"""The forecast by its formula: which way each figure goes, and that what was seen corrects it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DoesNotFit
from engine.placement.forecast import (
    LONG_PROMPT_TOKENS,
    SEEN_MARGIN,
    Forecast,
    Range,
    forecast,
    observed,
)
from engine.placement.hardware import Gpu
from engine.placement.hardware_record import Fingerprint, HardwareRecord, MeasuredDisk, Observed
from engine.placement.model_sizes import ModelSizes
from engine.placement.planner import Room, Wishes, plan
from tests.engine.placement.models import GB, any_model, dense_model, flash

RECORD = HardwareRecord(
    measured_at=1.7e9,
    fingerprint=Fingerprint(processor="CPU", cores=16, memory_bytes=256 * GB, disk="d"),
    memory_threads=16,
    memory_bytes_per_s=80e9,
    memory_one_bytes_per_s=12e9,
    arithmetic_per_s=50e9,
    disk=MeasuredDisk(sequential_bytes_per_s=6e9, random_bytes_per_s=5e9, mapped_bytes_per_s=2e9),
)
MUCH, LITTLE = Room(256 * GB, 240 * GB, 16), Room(64 * GB, 56 * GB, 16)


def told(sizes: ModelSizes, room: Room, record: HardwareRecord = RECORD, context: int = 8192) -> Forecast:
    found = forecast(sizes, plan(sizes, room, Wishes(context)), record)
    assert found is not None
    return found


def ranges(found: Forecast) -> list[Range]:
    return [each for each in vars(found).values() if isinstance(each, Range)]


def test_flash_in_ram_is_bound_by_ram_or_arithmetic_and_from_disk_by_the_disk() -> None:
    fast, slow = told(flash(), MUCH), told(flash(), LITTLE)
    # 11.6 GB a token at 64 of 80 GB/s are 5.5 tokens a second.
    assert fast.decode_tokens_per_s.likely < 80e9 / (flash().dense_bytes + flash().routed_bytes)
    assert fast.disk_bytes_per_token == Range(0, 0, 0)
    # At worst 70 % of 3.4 GB come from a disk of 2 GB/s.
    assert slow.decode_tokens_per_s.low < 1 / (0.6 * 3.4e9 / 2e9)
    assert slow.decode_tokens_per_s.high < fast.decode_tokens_per_s.high
    share = plan(flash(), LITTLE, Wishes(8192)).experts_in_memory_share
    assert slow.disk_bytes_per_token.high == pytest.approx((1 - share) * flash().routed_bytes, rel=1e-6)
    assert slow.ram_bytes <= LITTLE.ram_budget_bytes


@given(any_model(), st.integers(2 * GB, 512 * GB), st.sampled_from([512, 8192, 131_072]))
@settings(max_examples=100, deadline=None)
def test_every_range_is_one(sizes: ModelSizes, free: int, context: int) -> None:
    try:
        found = told(sizes, Room(free, free, 8), context=context)
    except DoesNotFit:
        return
    for each in ranges(found):
        assert 0 <= each.low <= each.likely * (1 + 1e-9)
        assert each.likely <= each.high * (1 + 1e-9)


@pytest.mark.parametrize("field", ["memory_bytes_per_s", "memory_one_bytes_per_s", "arithmetic_per_s"])
def test_a_faster_machine_is_never_slower(field: str) -> None:
    faster = RECORD.model_copy(update={field: 2 * getattr(RECORD, field)})
    for room in (MUCH, LITTLE):
        before, after = told(flash(), room), told(flash(), room, faster)
        assert after.decode_tokens_per_s.likely >= before.decode_tokens_per_s.likely
        assert after.prefill_tokens_per_s.likely >= before.prefill_tokens_per_s.likely


def test_a_disk_of_half_the_speed_doubles_the_waiting() -> None:
    assert RECORD.disk is not None
    slower = RECORD.model_copy(update={"disk": RECORD.disk.model_copy(update={"mapped_bytes_per_s": 1e9})})
    waits = [
        1 / told(flash(), LITTLE, record).decode_tokens_per_s.likely
        - 1 / told(flash(), MUCH, record).decode_tokens_per_s.likely
        for record in (RECORD, slower)
    ]
    # What is read from the disk is not read from RAM, so it is a little less than twice.
    assert waits[1] == pytest.approx(2 * waits[0], rel=0.25)


def test_a_long_prompt_only_where_the_context_holds_it() -> None:
    assert told(flash(), MUCH).long_prompt_s is None
    long = told(flash(), MUCH, context=131_072)
    assert long.long_prompt_s is not None
    # Attention grows with the depth: more than a hundred times a prompt of a thousand.
    assert long.long_prompt_s.likely > LONG_PROMPT_TOKENS / long.prefill_tokens_per_s.likely


def test_what_was_seen_corrects_and_narrows() -> None:
    seen = RECORD.with_observed(flash().key, Observed(decode=0.5, prefill=2.0))
    before, after = told(flash(), LITTLE), told(flash(), LITTLE, seen)
    assert after.seen
    assert not before.seen
    decode = after.decode_tokens_per_s
    assert decode.likely == pytest.approx(0.5 * before.decode_tokens_per_s.likely)
    assert decode.high / decode.low == pytest.approx(SEEN_MARGIN**2)
    assert after.prefill_tokens_per_s.likely == pytest.approx(2 * before.prefill_tokens_per_s.likely)
    assert told(dense_model(), LITTLE, seen) == told(dense_model(), LITTLE)


def test_what_a_run_gave_makes_the_next_forecast_right() -> None:
    bare = told(flash(), LITTLE)
    ratio = observed(bare, 1.25, 17.0)
    assert ratio is not None
    after = told(flash(), LITTLE, RECORD.with_observed(flash().key, ratio))
    assert after.decode_tokens_per_s.likely == pytest.approx(1.25)
    assert after.prefill_tokens_per_s.likely == pytest.approx(17.0)
    assert observed(bare, 0.0, 1.0) is None
    assert observed(bare, 1.0, 1e9) is None


def test_nothing_is_said_of_what_was_not_measured() -> None:
    without_disk = RECORD.model_copy(update={"disk": None})
    assert forecast(flash(), plan(flash(), LITTLE, Wishes(8192)), without_disk) is None
    assert forecast(flash(), plan(flash(), MUCH, Wishes(8192)), without_disk) is not None
    with_gpu = replace(MUCH, gpus=(Gpu("G", 80 * GB, 79 * GB),))
    assert forecast(flash(), plan(flash(), with_gpu, Wishes(8192)), RECORD) is None
