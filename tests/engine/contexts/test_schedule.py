"""Where relays stand: at the same places from wherever a way is repeated."""

from itertools import pairwise

import pytest

from engine.contexts.schedule import Schedule

USUAL = Schedule()


def test_reading_stops_at_the_same_places_wherever_it_starts() -> None:
    stops = USUAL.prefill_stops(0, 200_000)
    assert stops[:4] == [8192, 16_384, 24_576, 32_768]
    for start in (0, 1, 8191, 8192, 50_000, 100_000):
        assert USUAL.prefill_stops(start, 200_000) == [stop for stop in stops if stop > start]
    assert USUAL.prefill_stops(0, 8192) == []
    assert USUAL.prefill_stops(8192, 8193) == []
    assert USUAL.prefill_stops(8191, 8193) == [8192]


@pytest.mark.parametrize("end", [20_000, 100_000, 1_000_000])
def test_a_cut_reading_loses_at_most_a_fifth_and_little_is_written_for_it(end: int) -> None:
    stops = [0, *USUAL.prefill_stops(0, end), end]
    assert all(b - a <= max(USUAL.prefill_tokens, a / 4) for a, b in pairwise(stops))
    assert sum(stops) <= 6.2 * end + 4 * USUAL.prefill_tokens


def test_a_prompts_end_has_one_if_enough_was_read() -> None:
    assert USUAL.at_prompt_end(0, 256)
    assert not USUAL.at_prompt_end(1, 256)


def test_large_states_are_copied_more_seldom() -> None:
    assert USUAL.gap(0) == USUAL.gap(50 * 2**20) == 256
    assert USUAL.gap(700 * 2**20) == 2800


def test_another_rule_has_another_key() -> None:
    assert USUAL.key == Schedule().key
    rules = [Schedule(prefill_tokens=4096), Schedule(prompt_tokens=1), Schedule(least_gap_tokens=1)]
    keys = {rule.key for rule in [*rules, Schedule(bytes_per_token=1), USUAL]}
    assert len(keys) == 5
    # By how much is kept at an answer's end nothing that follows differs.
    assert Schedule(end_tokens=1).key == USUAL.key
