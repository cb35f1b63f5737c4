"""Which states are kept."""

import threading

import numpy as np
import pytest

from engine.backends.checkpoints import NEWEST_KEPT, Checkpoints, State


def state(size_bytes: int = 10) -> State:
    return np.zeros(size_bytes, np.uint8)


def filled(budget_bytes: int, *places: int) -> Checkpoints:
    kept = Checkpoints(budget_bytes)
    for place in places:
        kept.add(place, state())
    return kept


def test_the_nearest_before_a_place_is_found() -> None:
    kept = filled(1000, 5, 20, 21)
    found = [kept.last_within(place) for place in (4, 5, 19, 20, 99)]
    assert [None if each is None else each.tokens for each in found] == [None, 5, 5, 20, 21]


def test_those_within_a_length_are_told_in_order() -> None:
    kept = filled(1000, 5, 20, 21)
    found = [[each.tokens for each in kept.within(tokens)] for tokens in (4, 5, 20, 99)]
    assert found == [[], [5], [5, 20], [5, 20, 21]]


def test_what_lies_beyond_a_cut_is_forgotten_with_its_bytes() -> None:
    kept = filled(1000, 5, 20, 21)
    kept.forget_beyond(20)
    assert (list(kept.places), kept.size_bytes) == ([5, 20], 20)
    kept.forget_beyond(0)
    assert (list(kept.places), kept.size_bytes) == ([], 0)


@pytest.mark.parametrize(
    ("tokens", "size_bytes", "wanted"),
    [(21, 10, True), (20, 10, False), (3, 10, False), (21, 100, True), (21, 101, False)],
)
def test_what_is_known_or_too_large_is_not_wanted(tokens: int, size_bytes: int, wanted: bool) -> None:
    assert filled(100, 5, 20).wants(tokens, size_bytes) is wanted


def test_nothing_is_wanted_without_a_budget() -> None:
    assert not Checkpoints(0).wants(5, 10)
    assert Checkpoints(10).wants(1, 10)


def test_they_never_take_more_than_the_budget() -> None:
    kept = Checkpoints(95)
    for place in range(1, 200):
        kept.add(place, state())
        assert kept.size_bytes == 10 * len(kept.places) <= 95


def test_a_long_prompt_stays_covered_evenly_and_its_end_densely() -> None:
    kept = filled(100, *range(512, 512 * 65, 512))
    places = list(kept.places)
    assert len(places) == 10
    assert places[-NEWEST_KEPT:] == [512 * n for n in (61, 62, 63, 64)]
    gaps = np.diff([0, *places[:-NEWEST_KEPT]])
    assert gaps.max() <= 4 * gaps.min(), places


def test_the_short_steps_of_old_turns_go_before_the_long_ones() -> None:
    """Turns of 1,000 tokens, each with a state 40 tokens before its end."""
    places = [place for turn in range(1, 7) for place in (1000 * turn - 40, 1000 * turn)]
    kept = filled(90, *places)
    assert list(kept.places) == [960, 1960, 2960, 3960, 4000, 4960, 5000, 5960, 6000]


def test_the_newest_stay_and_the_oldest_goes_where_there_is_room_for_few() -> None:
    assert list(filled(30, 100, 101, 102, 500).places) == [101, 102, 500]
    assert list(filled(10, 100, 101).places) == [101]


def test_in_need_the_cheapest_go_and_the_room_shrinks_until_it_is_given_back() -> None:
    kept = filled(100, 5, 6, 50, 60, 70, 80, 90)
    assert kept.relieve(15) == 20
    # The newest and those that save most reading stay.
    assert list(kept.places) == [50, 60, 70, 80, 90]
    assert kept.budget_bytes == 50
    kept.add(99, state())
    assert kept.size_bytes == 50
    assert kept.allow(30) == 30
    assert kept.allow(30) == 20
    assert kept.allow(30) == 0
    assert kept.budget_bytes == kept.whole_budget_bytes == 100


def test_more_than_there_is_takes_all_and_nothing_takes_nothing() -> None:
    kept = filled(100, 5, 6)
    assert kept.relieve(0) == 0
    assert kept.relieve(-5) == 0
    assert kept.relieve(1_000) == 20
    assert (list(kept.places), kept.budget_bytes) == ([], 0)
    assert not kept.wants(7, 10)
    assert kept.allow(-5) == 0


def test_states_may_go_while_another_thread_takes_them() -> None:
    kept = filled(10_000)
    ended = threading.Event()

    def take() -> None:
        for tokens in range(1, 20_000):
            if kept.wants(tokens, 10):
                kept.add(tokens, state())
            if tokens % 7 == 0:
                kept.forget_beyond(tokens - 3)
        ended.set()

    thread = threading.Thread(target=take)
    thread.start()
    while not ended.is_set():
        kept.relieve(500)
        kept.allow(700)
    thread.join()
    assert kept.size_bytes == 10 * len(kept.places)
    assert list(kept.places) == sorted(set(kept.places))
