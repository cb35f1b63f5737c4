import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.placement.residency import DecayedCounts, LeastRecent, asked_slots, hit_share
from engine.placement.routing_trace import RoutingTrace, TraceHead
from tests.benchmarks.routing_patterns import PATTERNS

LAYERS, EXPERTS, USED = 3, 32, 4


def trace(pattern: str, tokens: int = 1500) -> RoutingTrace:
    choices = {
        layer: PATTERNS[pattern](layer, tokens, EXPERTS, USED, 0).astype(np.uint16) for layer in range(LAYERS)
    }
    return RoutingTrace(TraceHead("m", EXPERTS, USED, tuple(range(LAYERS))), choices, 0)


def decayed(size: int, **changes: float) -> DecayedCounts:
    return DecayedCounts(size, layers=LAYERS, experts=EXPERTS, **changes)  # type: ignore[arg-type]


def test_slots_tell_layers_apart() -> None:
    slots = asked_slots(trace("uniform", 10))
    assert slots.shape == (10, LAYERS * USED)
    for layer in range(LAYERS):
        part = slots[:, layer * USED : (layer + 1) * USED]
        assert (part // EXPERTS == layer).all()
        assert np.array_equal(part % EXPERTS, trace("uniform", 10).choices[layer])


def test_least_recent_drops_what_was_not_asked_for_the_longest() -> None:
    rule = LeastRecent(3)
    assert rule.ask(np.array([1, 2, 3])) == 0
    assert rule.ask(np.array([1])) == 1
    assert rule.ask(np.array([4])) == 0  # 2 goes
    assert rule.ask(np.array([2])) == 0  # 3 goes
    assert rule.ask(np.array([1, 4, 2])) == 3


def test_counts_keep_what_is_asked_for_most_against_passers_by() -> None:
    rule = decayed(3, floor=0)
    for _ in range(5):
        rule.ask(np.array([0, 1, 2]))
    for stranger in range(10, 16):
        rule.ask(np.array([stranger]))
    assert rule.held.tolist() == [0, 1, 2]


def test_counts_follow_a_change_of_topic() -> None:
    rule = decayed(3, floor=0, half_life_tokens=4)
    for _ in range(20):
        rule.ask(np.array([0, 1, 2]))
    for _ in range(20):
        rule.ask(np.array([40, 41, 42]))
    assert rule.held.tolist() == [40, 41, 42]


def test_two_of_the_same_worth_do_not_take_turns() -> None:
    rule = decayed(1, floor=0, half_life_tokens=1000)
    for _ in range(10):
        rule.ask(np.array([5]))
        assert rule.held.tolist() == [5]
        rule.ask(np.array([6]))
        assert rule.held.tolist() == [5]


def test_every_layer_keeps_its_floor() -> None:
    rule = decayed(5, floor=1)
    for _ in range(50):  # the first layer asks for what it always asks for, the others for ever new ones
        rule.ask(np.array([0, 1, 2, 3, 4, 5]))
    rule.ask(np.array([EXPERTS + 7]))
    rule.ask(np.array([2 * EXPERTS + 9]))
    assert {slot // EXPERTS for slot in rule.held.tolist()} == {0, 1, 2}
    assert len(rule.held) == 5


@settings(max_examples=50, deadline=None)
@given(
    size=st.integers(1, LAYERS * EXPERTS + 5),
    floor=st.integers(0, 4),
    seed=st.integers(0, 1000),
    half_life=st.floats(1, 1000),
)
def test_no_rule_holds_more_than_its_size_or_what_was_never_read(
    size: int, floor: int, seed: int, half_life: float
) -> None:
    rule = decayed(size, floor=floor, half_life_tokens=half_life)
    random = np.random.default_rng(seed)
    read: set[int] = set()
    for _ in range(30):
        before = set(rule.held.tolist())
        slots = random.choice(LAYERS * EXPERTS, 6, replace=False)
        assert rule.ask(slots) == len(before & set(slots.tolist()))
        read |= set(slots.tolist())
        assert set(rule.held.tolist()) <= before | set(slots.tolist()) <= read
        assert len(rule.held) <= size
    assert len(rule.held) == min(size, len(read))


def test_skew_is_what_counts_are_good_for() -> None:
    size = LAYERS * EXPERTS // 4
    for pattern, better in (("skewed", 0.05), ("topical", 0.02), ("uniform", -0.02)):
        slots = asked_slots(trace(pattern))
        recent = hit_share(slots, LeastRecent(size), 500)
        counted = hit_share(slots, decayed(size, half_life_tokens=64), 500)
        assert counted > recent + better, pattern


def test_a_memory_for_all_has_all_and_uncounted_tokens_are_not_counted() -> None:
    slots = asked_slots(trace("uniform"))
    assert hit_share(slots, LeastRecent(LAYERS * EXPERTS), 1000) == 1.0
    assert hit_share(slots, decayed(LAYERS * EXPERTS), 1000) == 1.0
    assert 0 < hit_share(slots[:5], LeastRecent(LAYERS * EXPERTS)) < 1
    with pytest.raises(ValueError, match="tokens uncounted"):
        hit_share(slots[:5], LeastRecent(1), 5)
