import numpy as np
import pytest

from engine.placement.residency import DecayedCounts, LeastRecent, hit_share
from engine.placement.resident_set import ResidentSet
from tests.benchmarks.routing_patterns import PATTERNS

LAYERS, EXPERTS, USED = 4, 32, 3


def chosen(*tokens: list[int]) -> "np.ndarray[tuple[int, int], np.dtype[np.int32]]":
    return np.array(tokens, np.int32)


def test_what_was_asked_for_is_held_and_not_read_twice() -> None:
    held = ResidentSet(1000, [10, 10], 8)
    assert held.ask(0, chosen([1, 2])) == ([1, 2], [])
    assert held.ask(1, chosen([1, 3])) == ([1, 3], [])
    assert held.ask(0, chosen([2, 4], [4, 1])) == ([4], [])
    assert held.held_bytes == 50
    assert held.holds(0, 4) and not held.holds(1, 4)


def test_what_was_asked_for_least_goes_first_and_never_what_is_needed_now() -> None:
    held = ResidentSet(30, [10], 8)
    held.ask(0, chosen([1, 2]))
    held.ask(0, chosen([1, 3]))
    held.ask(0, chosen([1, 3]))
    assert held.ask(0, chosen([4, 2])) == ([4], [(0, 3)])  # 2 is worth less, but needed
    assert held.held_bytes == 30


def test_what_is_new_goes_before_what_stayed_and_is_asked_for_as_often() -> None:
    held = ResidentSet(30, [10, 10], 8)
    held.ask(0, chosen([1]))
    held.ask(1, chosen([1]))
    held.ask(0, chosen([2]))
    # Of the three, expert 1 of layer 0 was asked for before 2 was: it stays.
    assert held.ask(1, chosen([2])).dropped == [(0, 2)]


def test_each_layer_keeps_one_as_long_as_another_has_more() -> None:
    held = ResidentSet(40, [10, 10], 8)
    held.ask(0, chosen([1]))
    for _ in range(3):
        held.ask(1, chosen([1, 2, 3]))
    assert held.ask(1, chosen([4])).dropped[0][0] == 1
    assert held.holds(0, 1)
    assert held.resize(10) and held.held_bytes == 10


def test_it_never_holds_more_than_its_budget_and_counts_what_it_holds() -> None:
    draws = np.random.default_rng(5)
    sizes = [7, 11, 13, 5]
    held = ResidentSet(300, sizes, EXPERTS, half_life_tokens=3)
    here: set[tuple[int, int]] = set()
    for step in range(400):
        layer = step % LAYERS
        tokens = draws.integers(1, 4)
        wanted = np.stack([draws.permutation(EXPERTS)[:USED] for _ in range(tokens)]).astype(np.int32)
        missing, dropped = held.ask(layer, wanted)
        here -= set(dropped)
        assert not here & {(layer, each) for each in missing}
        here |= {(layer, each) for each in missing}
        assert {(layer, each) for each in wanted.flat} <= here
        assert held.held_bytes == sum(sizes[layer] for layer, _ in here) <= 300
        assert all(held.holds(*each) for each in here)


def test_a_smaller_budget_drops_what_is_not_computed_with_and_the_rest_at_rest() -> None:
    held = ResidentSet(100, [10], 8)
    held.ask(0, chosen([1, 2, 3]))
    held.ask(0, chosen([4, 5]))
    assert sorted(held.resize(0)) == [(0, 1), (0, 2), (0, 3)]
    assert held.held_bytes == 20
    held.rest()
    assert sorted(held.resize(0)) == [(0, 4), (0, 5)]
    with pytest.raises(ValueError, match="1 experts in 0 bytes"):
        held.ask(0, chosen([1]))


def test_what_is_forgotten_is_read_again() -> None:
    held = ResidentSet(100, [10, 10], 8)
    held.ask(0, chosen([1, 2]))
    held.ask(1, chosen([1, 2]))
    held.forget(1)
    held.forget(0, [2])
    assert held.held_bytes == 10
    assert held.ask(0, chosen([1, 2])).missing == [2]
    assert held.ask(1, chosen([2, 1])).missing == [1, 2]


def test_long_use_does_not_wear_it_out() -> None:
    held = ResidentSet(30, [10], 8, half_life_tokens=1)
    for step in range(5000):
        held.ask(0, chosen([1, 2 + step % 2 * 3]))
    assert np.isfinite(held._worth).all()
    assert held.holds(0, 1) and held.ask(0, chosen([1])).missing == []


class AsRule:
    """A resident set in place of a `residency.Rule`: one expert is one byte."""

    def __init__(self, size: int) -> None:
        self._held = ResidentSet(size, [1] * LAYERS, EXPERTS)

    def ask(self, slots: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> int:
        hits = 0
        for layer, each in enumerate(slots.reshape(LAYERS, -1) % EXPERTS):
            hits += len(each) - len(self._held.ask(layer, each[None].astype(np.int32)).missing)
        return hits


def test_run_through_a_skewed_trace_it_is_as_good_as_the_rule_that_it_is() -> None:
    tokens = 1500
    slots = np.concatenate(
        [PATTERNS["skewed"](layer, tokens, EXPERTS, USED, 1) + layer * EXPERTS for layer in range(LAYERS)],
        axis=1,
    ).astype(np.int64)
    size = LAYERS * EXPERTS // 4
    ours = hit_share(slots, AsRule(size), 300)
    rule = hit_share(slots, DecayedCounts(size, layers=LAYERS, experts=EXPERTS), 300)
    least_recent = hit_share(slots, LeastRecent(size), 300)
    assert ours > least_recent + 0.05
    assert abs(ours - rule) < 0.03
