"""How much of what a trace asked for a part of the experts would have answered.

Owns: the figures of `seamount experts`: by share of experts, by layer, over time. Pure. Does not know how they are
shown. A share is of all experts of all layers (0 to 1); a coverage is of all questions of the trace (0 to 1).

Two coverages stand side by side. With hindsight: the experts that this very trace asked for most, which nobody
could have known. Without: those of the first half, asked by the second. How far the two are apart says how much
is chance and change of topic; rules that learn as they go (`residency`) lie between or, where topics change, above.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.placement.residency import DecayedCounts, LeastRecent, Slots, asked_slots, hit_share
from engine.placement.routing_trace import RoutingTrace

SHARES = (0.05, 0.10, 0.25, 0.50, 0.75)
LAYER_SHARES = (0.10, 0.25, 0.50)
PERIODS = 10
RULE_TOKENS = 4_000
"""The rules are run through the last tokens only; a long trace would take minutes."""


@dataclass(frozen=True)
class ShareCoverage:
    """What a memory for `share` of the experts (`experts` of them) covers.

    hindsight, learnt: see above. recent, decayed: by the two rules of `residency`, run through the trace, its
    second half counted; `rule_tokens` says how many tokens that were.
    """

    share: float
    experts: int
    hindsight: float
    learnt: float
    recent: float
    decayed: float


@dataclass(frozen=True)
class LayerCoverage:
    """One layer: how many experts were asked for at all, and what its most asked ones cover, with hindsight."""

    layer: int
    live: int
    covered: tuple[float, ...]
    """For each of LAYER_SHARES, of the experts of this layer."""


@dataclass(frozen=True)
class PeriodCoverage:
    """A part of the trace: what the quarter of the experts most asked for before it, and in it, cover of it."""

    first_token: int
    tokens: int
    before: float
    within: float


@dataclass(frozen=True)
class Coverage:
    """All figures of one trace."""

    tokens: int
    rule_tokens: int
    shares: tuple[ShareCoverage, ...]
    layers: tuple[LayerCoverage, ...]
    periods: tuple[PeriodCoverage, ...]
    """Empty for a trace too short to be cut into periods."""


def coverage(trace: RoutingTrace) -> Coverage:
    """The figures of a trace. A trace of one token has no second half: there `learnt` and the rules are 0."""
    slots = asked_slots(trace)
    size = len(trace.head.layers) * trace.head.experts
    recent = slots[-RULE_TOKENS:]
    return Coverage(
        tokens=len(slots),
        rule_tokens=len(recent) - len(recent) // 2,
        shares=tuple(_share(share, slots, recent, trace) for share in SHARES),
        layers=tuple(_layer(trace, layer) for layer in trace.head.layers),
        periods=_periods(slots, size),
    )


def _share(share: float, slots: Slots, recent: Slots, trace: RoutingTrace) -> ShareCoverage:
    layers, experts = len(trace.head.layers), trace.head.experts
    held = max(1, round(share * layers * experts))
    whole = _counts(slots, layers * experts)
    half = len(slots) // 2
    first, second = (_counts(part, layers * experts) for part in (slots[:half], slots[half:]))
    uncounted = len(recent) // 2
    rules = (LeastRecent(held), DecayedCounts(held, layers=layers, experts=experts))
    found = [hit_share(recent, rule, uncounted) if uncounted else 0.0 for rule in rules]
    return ShareCoverage(
        share, held, _covered(whole, whole, held), _covered(first, second, held) if half else 0.0, *found
    )


def _layer(trace: RoutingTrace, layer: int) -> LayerCoverage:
    counts = _counts(trace.choices[layer].astype(np.int64), trace.head.experts)
    held = [max(1, round(share * trace.head.experts)) for share in LAYER_SHARES]
    return LayerCoverage(
        layer, int(np.count_nonzero(counts)), tuple(_covered(counts, counts, each) for each in held)
    )


def _periods(slots: Slots, size: int) -> tuple[PeriodCoverage, ...]:
    if len(slots) < 2 * PERIODS:
        return ()
    held = max(1, size // 4)
    edges = [len(slots) * number // PERIODS for number in range(PERIODS + 1)]
    counts = [_counts(slots[start:end], size) for start, end in pairwise(edges)]
    return tuple(
        PeriodCoverage(
            edges[number],
            edges[number + 1] - edges[number],
            _covered(counts[number - 1], counts[number], held),
            _covered(counts[number], counts[number], held),
        )
        for number in range(1, PERIODS)
    )


def _counts(slots: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.bincount(slots.reshape(-1), minlength=size)


def _covered(learnt: NDArray[np.int64], asked: NDArray[np.int64], held: int) -> float:
    """What the `held` slots with the highest counts in `learnt` cover of `asked`."""
    total = int(asked.sum())
    best = np.argsort(-learnt, kind="stable")[:held]
    return float(asked[best].sum()) / total if total else 0.0
