import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.sampling as sampling_module
from engine.errors import GenerationError
from engine.protocol import Sampling
from engine.sampling import draw, uniform

settings.register_profile("sampling", deadline=None)
settings.load_profile("sampling")


def shares(logits: list[float], sampling: Sampling) -> list[tuple[int, float]]:
    """The reference: what is left after the filters, in drawing order, as (id, probability)."""
    best = max(logits)
    scaled = [math.exp((value - best) / sampling.temperature) for value in logits]
    left = [i for i in range(len(logits)) if scaled[i] >= sampling.min_p or logits[i] == best]
    if sampling.top_p < 1:
        left.sort(key=lambda i: (-logits[i], i))
        whole = math.fsum(scaled[i] for i in left)
        kept: list[int] = []
        while left and (not kept or math.fsum(scaled[i] for i in kept) < sampling.top_p * whole):
            kept.append(left.pop(0))
        left = kept
    whole = math.fsum(scaled[i] for i in left)
    return [(i, scaled[i] / whole) for i in left]


def drawn(table: list[tuple[int, float]], point: float) -> int:
    total = 0.0
    for token_id, share in table:
        total += share
        if point < total:
            return token_id
    return table[-1][0]


def near_a_border(
    logits: list[float], sampling: Sampling, table: list[tuple[int, float]], point: float
) -> bool:
    """Float32 weights may fall on the other side where the reference is within 1e-5 of a border."""
    best = max(logits)
    scaled = [math.exp((value - best) / sampling.temperature) for value in logits]
    if any(abs(value - sampling.min_p) < 1e-5 for value in scaled):
        return True
    full = shares(logits, sampling.model_copy(update={"top_p": 1.0}))
    total = 0.0
    for _, share in sorted(full, key=lambda entry: (-logits[entry[0]], entry[0])):
        total += share
        if abs(total - sampling.top_p) < 1e-5:
            return True
    total = 0.0
    for _, share in table:
        total += share
        if abs(total - point) < 1e-5:
            return True
    return False


logit_lists = st.lists(
    st.one_of(st.integers(-30, 30).map(float), st.floats(-30, 30, width=32)), min_size=1, max_size=60
)
samplings = st.builds(
    Sampling,
    temperature=st.one_of(st.sampled_from([0.1, 0.7, 1.0, 10.0]), st.floats(0.05, 10)),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 1.0)),
    min_p=st.one_of(st.just(0.0), st.floats(0.001, 1.0)),
    seed=st.integers(0, 2**63 - 1),
)


@settings(max_examples=400)
@given(logit_lists, samplings, st.integers(0, 2**20))
def test_draws_what_the_readable_reference_draws(
    values: list[float], sampling: Sampling, position: int
) -> None:
    logits = np.array(values, np.float32)
    exact = [float(value) for value in logits]
    assert sampling.seed is not None
    point = uniform(sampling.seed, position)
    table = shares(exact, sampling)
    chosen = draw(logits, sampling, position)
    if not near_a_border(exact, sampling, table, point):
        assert chosen == drawn(table, point)


@given(logit_lists)
def test_temperature_zero_takes_the_best_and_the_lowest_id_of_equals(values: list[float]) -> None:
    logits = np.array(values, np.float32)
    chosen = draw(logits, Sampling(temperature=0), 5)
    assert logits[chosen] == max(logits)
    assert chosen == list(logits).index(max(logits))


@given(logit_lists, samplings, st.integers(0, 1000))
def test_a_draw_depends_on_nothing_but_its_arguments(
    values: list[float], sampling: Sampling, position: int
) -> None:
    logits = np.array(values, np.float32)
    before = logits.copy()
    first = draw(logits, sampling, position)
    draw(logits, sampling, position + 1)
    assert draw(logits, sampling, position) == first
    assert np.array_equal(logits, before)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0, top_p=1.0, min_p=0.0, seed=7),
        Sampling(temperature=0.7, top_p=0.9, min_p=0.0, seed=8),
        Sampling(temperature=1.5, top_p=1.0, min_p=0.1, seed=9),
        Sampling(temperature=2.0, top_p=0.8, min_p=0.05, seed=10),
    ],
)
def test_frequencies_follow_the_probabilities(sampling: Sampling) -> None:
    logits = np.array([2.0, 1.5, 1.5, 0.0, -1.0, 0.7, -4.0, 1.9], np.float32)
    expected = dict(shares([float(value) for value in logits], sampling))
    count = 4000
    seen = np.bincount([draw(logits, sampling, position) for position in range(count)], minlength=logits.size)
    assert {i for i in range(logits.size) if seen[i]} <= set(expected)
    statistic = sum((seen[i] - count * share) ** 2 / (count * share) for i, share in expected.items())
    # Seeds are fixed, so this cannot flicker. 35 is beyond chi-square's 0.99999 quantile at 7 degrees.
    assert statistic < 35


def test_the_stream_never_changes() -> None:
    # Stored conversations are continued by (seed, position): these numbers are a promise.
    assert [uniform(1234, position) for position in (0, 1, 2, 4095, 2**20)] == GOLDEN_UNIFORMS
    logits = np.linspace(-6, 6, 1000, dtype=np.float32)[np.random.default_rng(3).permutation(1000)]
    assert [draw(logits, Sampling(seed=42), position) for position in range(12)] == GOLDEN_DEFAULT
    wide = Sampling(temperature=1.2, top_p=0.9, min_p=0.0, seed=42)
    assert [draw(logits, wide, position) for position in range(12)] == GOLDEN_TOP_P


GOLDEN_UNIFORMS = [
    0.3347236812982095,
    0.5920534818812643,
    0.08098741258028985,
    0.4997272485599086,
    0.7125139184986901,
]
GOLDEN_DEFAULT = [940, 42, 702, 320, 128, 57, 71, 50, 669, 541, 787, 46]
GOLDEN_TOP_P = [488, 262, 62, 638, 44, 144, 429, 108, 222, 497, 652, 638]


def test_uniform_depends_on_both_and_stays_in_the_unit_interval() -> None:
    points = {uniform(seed, position) for seed in range(30) for position in range(30)}
    assert len(points) == 900
    assert all(0 <= point < 1 for point in points)
    assert 0 <= uniform(2**63 - 1, 2**40) < 1


def test_equal_logits_are_all_reachable_and_ordered_by_id() -> None:
    logits = np.zeros(129_280, np.float32)
    chosen = draw(logits, Sampling(temperature=1.0, top_p=0.5, min_p=0.0, seed=5), 17)
    # The list is the lower half of the ids, and the draw its inverse.
    assert chosen == math.floor(uniform(5, 17) * 64_640)


@pytest.mark.parametrize("seed", range(5))
def test_large_sets_are_ordered_like_small_ones(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = (random.standard_normal(3000) * 10.0 ** random.integers(-40, 30, 3000)).astype(np.float32)
    logits[random.integers(0, 3000, 900)] = random.choice(np.array([0.0, -0.0, 1.5, -1.5], np.float32), 900)
    expected = sorted(range(logits.size), key=lambda i: (-float(logits[i]), i))
    assert list(sampling_module._best_first(logits)) == expected


def test_min_p_one_leaves_only_the_best() -> None:
    logits = np.array([1.0, 3.0, 2.999], np.float32)
    assert {draw(logits, Sampling(temperature=10, min_p=1, seed=1), p) for p in range(50)} == {1}


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e-3])
def test_a_tiny_temperature_is_the_best_token(temperature: float) -> None:
    logits = np.array([1.0, 3.0, 2.9], np.float32)
    for top_p, min_p in ((1.0, 0.0), (0.9, 0.0), (1.0, 0.05), (0.9, 0.05)):
        sampling = Sampling(temperature=temperature, top_p=top_p, min_p=min_p, seed=1)
        assert {draw(logits, sampling, p) for p in range(20)} == {1}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_logit_that_is_not_finite_is_an_error(bad: float, temperature: float) -> None:
    logits = np.array([0.0, bad, 1.0], np.float32)
    with pytest.raises(GenerationError, match="not finite"):
        draw(logits, Sampling(temperature=temperature, seed=1), 0)


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([3e38, -3e38, 0.0], np.float32)
    for sampling in (Sampling(temperature=10, top_p=1, min_p=0, seed=1), Sampling(temperature=0.01, seed=1)):
        assert draw(logits, sampling, 0) == 0


def test_a_draw_without_a_seed_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="seed"):
        draw(np.zeros(3, np.float32), Sampling(), 0)
