"""The forecast by its formula: which way each figure goes, and that what was seen corrects it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DoesNotFit
from engine.placement.context_sizes import V4Cache
from engine.placement.forecast import (
    COPYING_BYTES_PER_S,
    LONG_PROMPT_TOKENS,
    OPENING_S,
    SEEN_MARGIN,
    Forecast,
    Range,
    Turn,
    forecast,
    foretold_rates,
    observed,
    observed_key,
)
from engine.placement.hardware import Gpu
from engine.placement.hardware_record import Fingerprint, HardwareRecord, MeasuredDisk, Observed
from engine.placement.model_sizes import LayerSizes, ModelSizes
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


def test_experts_that_are_read_directly_come_at_the_disk_s_rate_for_pieces() -> None:
    placed = plan(flash(), LITTLE, Wishes(8192))
    faults = forecast(flash(), placed, RECORD)
    direct = forecast(flash(), replace(placed, experts_read="direct"), RECORD)
    assert faults is not None
    assert direct is not None
    slow_s, quick_s = (1 / each.decode_tokens_per_s.likely for each in (faults, direct))
    read = faults.disk_bytes_per_token.likely
    assert slow_s - quick_s == pytest.approx(read / 2e9 - read / 5e9)
    assert direct.prefill_tokens_per_s.likely > faults.prefill_tokens_per_s.likely
    # Where memory does not hold what a batch wants of one layer, its batches go by page faults still.
    tight = plan(flash(), Room(24 * GB, 14 * GB, 16), Wishes(8192))
    assert 0 < tight.part_bytes("experts", "ram") < flash().layers[0].expert_bytes
    both = [forecast(flash(), replace(tight, experts_read=way), RECORD) for way in ("direct", "mapped")]
    assert None not in both
    assert both[0].prefill_tokens_per_s == both[1].prefill_tokens_per_s
    assert both[0].decode_tokens_per_s.likely > both[1].decode_tokens_per_s.likely


def test_a_long_prompt_only_where_the_context_holds_it() -> None:
    assert told(flash(), MUCH).long_prompt_s is None
    long = told(flash(), MUCH, context=131_072)
    assert long.long_prompt_s is not None
    # Attention grows with the depth: more than a hundred times a prompt of a thousand.
    assert long.long_prompt_s.likely > LONG_PROMPT_TOKENS / long.prefill_tokens_per_s.likely


def test_what_was_seen_corrects_and_narrows() -> None:
    key = observed_key(flash(), plan(flash(), LITTLE, Wishes(8192)))
    seen = RECORD.with_observed(key, Observed(decode=0.5, prefill=2.0))
    before, after = told(flash(), LITTLE), told(flash(), LITTLE, seen)
    assert after.seen
    assert not before.seen
    decode = after.decode_tokens_per_s
    assert decode.likely == pytest.approx(0.5 * before.decode_tokens_per_s.likely)
    assert decode.high / decode.low == pytest.approx(SEEN_MARGIN**2)
    assert after.prefill_tokens_per_s.likely == pytest.approx(2 * before.prefill_tokens_per_s.likely)
    assert told(dense_model(), LITTLE, seen) == told(dense_model(), LITTLE)


@pytest.mark.parametrize("depth", [0, 4000])
def test_what_a_turn_gave_makes_the_next_forecast_of_such_a_turn_right(depth: int) -> None:
    placed = plan(flash(), LITTLE, Wishes(8192))
    turn = Turn(depth, 700, 17.0, 50, 1.25)
    seen = observed(flash(), placed, RECORD, turn)
    assert seen is not None
    after = RECORD.with_observed(observed_key(flash(), placed), seen)
    assert foretold_rates(flash(), placed, after, turn) == pytest.approx((17.0, 1.25))
    # What was seen does not count twice.
    assert observed(flash(), placed, after, turn) == seen


def test_a_rate_that_cannot_be_is_not_noted() -> None:
    placed = plan(flash(), LITTLE, Wishes(8192))
    assert observed(flash(), placed, RECORD, Turn(0, 700, 0.0, 50, float("nan"))) is None
    half = observed(flash(), placed, RECORD, Turn(0, 700, 1e12, 50, 1.25))
    assert half is not None
    assert half.prefill is None
    after = told(flash(), LITTLE, RECORD.with_observed(observed_key(flash(), placed), half))
    assert after.seen
    assert after.prefill_tokens_per_s == told(flash(), LITTLE).prefill_tokens_per_s


def test_what_one_placement_gave_is_not_said_of_another() -> None:
    here = plan(flash(), LITTLE, Wishes(8192))
    key = observed_key(flash(), here)
    others = [
        plan(flash(), MUCH, Wishes(8192)),
        plan(flash(), LITTLE, Wishes(8192, cache_type="q8_0")),
        plan(flash(), replace(LITTLE, gpus=(Gpu("G", 80 * GB, 79 * GB),)), Wishes(8192)),
        replace(here, experts_read="direct"),
    ]
    keys = {observed_key(flash(), each) for each in others}
    assert len(keys) == len(others)
    assert key not in keys
    # A few megabytes more or less are free at every load.
    nearly = replace(LITTLE, ram_free_bytes=LITTLE.ram_free_bytes - 50_000_000)
    assert observed_key(flash(), plan(flash(), nearly, Wishes(8192))) == key


def test_a_load_reads_the_whole_file_and_from_the_disk_where_memory_does_not_hold_it() -> None:
    disk = RECORD.disk
    assert disk is not None
    whole_s = flash().loaded_bytes / disk.sequential_bytes_per_s
    assert told(flash(), LITTLE).load_s.likely == pytest.approx(OPENING_S + whole_s)
    assert told(flash(), LITTLE).load_s.low > whole_s / 2
    # Copied into another order, which takes longer than reading.
    copying_s = flash().loaded_bytes / COPYING_BYTES_PER_S
    assert told(flash(), MUCH).load_s.likely == pytest.approx(
        OPENING_S + max(copying_s, whole_s / 2), rel=0.1
    )
    assert told(dense_model(), MUCH).load_s.likely < 0.5


def test_nothing_is_said_of_a_file_that_is_no_model() -> None:
    for nothing in (replace(flash(), layers=()), replace(dense_model(), layers=(LayerSizes(0, 4, 0, 0),))):
        found = plan(nothing, MUCH, Wishes(8192))
        assert forecast(nothing, found, RECORD) is None
        assert observed(nothing, found, RECORD, Turn(0, 100, 10.0, 100, 10.0)) is None
    assert isinstance(flash().cache, V4Cache)
    headless = replace(flash(), cache=replace(flash().cache, head_dim=0))  # type: ignore[arg-type]
    assert told(headless, MUCH).decode_tokens_per_s.likely > 0


def test_nothing_is_said_of_what_was_not_measured() -> None:
    without_disk = RECORD.model_copy(update={"disk": None})
    assert forecast(flash(), plan(flash(), LITTLE, Wishes(8192)), without_disk) is None
    assert forecast(flash(), plan(flash(), MUCH, Wishes(8192)), without_disk) is not None
    with_gpu = replace(MUCH, gpus=(Gpu("G", 80 * GB, 79 * GB),))
    assert forecast(flash(), plan(flash(), with_gpu, Wishes(8192)), RECORD) is None
