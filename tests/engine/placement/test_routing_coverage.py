import numpy as np
import pytest

from engine.placement.routing_coverage import PERIODS, SHARES, coverage
from engine.placement.routing_trace import RoutingTrace, TraceHead
from tests.benchmarks.routing_patterns import PATTERNS


def trace(choices: dict[int, object], experts: int) -> RoutingTrace:
    arrays = {layer: np.array(each, np.uint16) for layer, each in choices.items()}
    used = next(iter(arrays.values())).shape[1]
    return RoutingTrace(TraceHead("m", experts, used, tuple(arrays)), arrays, 0)


def pattern(name: str, tokens: int) -> RoutingTrace:
    return trace({layer: PATTERNS[name](layer, tokens, 40, 4, 1) for layer in (1, 2)}, 40)


def test_figures_that_can_be_counted_by_hand() -> None:
    # Layer 5 asks for expert 0 always; layer 7 for each of 20 in turn: 20 + 20 questions.
    figures = coverage(trace({5: [[0]] * 20, 7: [[n] for n in range(20)]}, 20))
    shares = {each.share: each for each in figures.shares}
    assert shares[0.05].experts == 2  # of 40: expert 0 of layer 5, and one of layer 7
    assert shares[0.05].hindsight == pytest.approx(21 / 40)
    assert shares[0.05].learnt == pytest.approx(10 / 20)
    assert shares[0.75].experts == 30
    assert shares[0.75].hindsight == 1.0
    assert shares[0.05].decayed == pytest.approx(10 / 20)
    first, second = figures.layers
    assert (first.layer, first.live, first.covered) == (5, 1, (1.0, 1.0, 1.0))
    assert (second.layer, second.live, second.covered) == (7, 20, (2 / 20, 5 / 20, 10 / 20))
    assert len(figures.periods) == PERIODS - 1
    assert all(each.tokens == 2 and each.within == 1.0 for each in figures.periods)
    assert all(each.before == 0.5 for each in figures.periods)


@pytest.mark.parametrize("name", PATTERNS)
def test_more_experts_cover_more_and_hindsight_is_best(name: str) -> None:
    figures = coverage(pattern(name, 600))
    assert [each.share for each in figures.shares] == list(SHARES)
    for key in ("hindsight", "learnt", "recent", "decayed"):
        values = [getattr(each, key) for each in figures.shares]
        assert values == sorted(values), key
        assert all(0 <= value <= 1 for value in values)
    assert all(each.learnt <= each.hindsight + 0.05 for each in figures.shares)
    assert all(each.before <= each.within for each in figures.periods)


def test_changing_topics_show_over_time() -> None:
    steady, changing = coverage(pattern("skewed", 2560)), coverage(pattern("topical", 2560))

    def lost(figures: object) -> float:
        return float(np.mean([each.within - each.before for each in figures.periods]))  # type: ignore[attr-defined]

    assert lost(changing) > lost(steady) + 0.1


@pytest.mark.parametrize("tokens", [1, 2, 19])
def test_a_short_trace_has_figures_too(tokens: int) -> None:
    figures = coverage(pattern("uniform", tokens))
    assert figures.tokens == tokens
    assert figures.periods == ()
    assert figures.shares[-1].hindsight > 0
