"""From logits to one token.

Owns: the order of the filters and the random numbers. Keeps no state: the draw for the token at absolute
context position p depends on (logits, settings, seed, p) alone, so a replay, a continuation or a retry with
the same seed draws the same tokens. Does not know where logits come from or what tokens mean.

The order of the filters:

1. temperature: logits are divided by it. 0 means the largest logit; the lowest id wins a tie.
2. min-p: tokens less likely than `min_p` times the likeliest are dropped.
3. top-p: of what is left, renormalised, the shortest list of likeliest tokens (logit descending, id
   ascending) whose probability reaches `top_p` is kept.
4. what is left is renormalised, and one token is drawn by the inverse of its cumulative distribution:
   in the order of the list where top-p is below 1, else by ascending id.

The random number is the first of numpy's Philox4x64-10 with key = seed and counter = position.
"""

import math

import numpy as np
from numpy.typing import NDArray

from engine.backends.base import Logits
from engine.errors import GenerationError
from engine.protocol import Sampling

# How far below the best scaled logit the search for the top-p list looks, until it holds enough. Whole
# values, not counts: tokens of equal logit then stay together and the outcome does not hang on how a partial
# sort breaks ties.
_DEPTHS = (2.0, 4.0, 6.0, 8.0, 12.0)
_LOWEST = float(np.finfo(np.float32).min)


def uniform(seed: int, position: int) -> float:
    """The random number in [0, 1) that belongs to (seed, position)."""
    return float(np.random.Generator(np.random.Philox(key=seed, counter=position)).random())


def draw(logits: Logits, sampling: Sampling, position: int) -> int:
    """The id of the token at absolute context position `position`.

    `logits`: float32 [vocabulary], un-normalised; not changed. `sampling.seed` must be set unless the
    temperature is 0. Raises GenerationError when a logit is not a finite number.
    """
    best = float(logits.max())
    # NaN and +inf show in the maximum, -inf in the minimum: cheaper than testing each.
    if not (math.isfinite(best) and math.isfinite(float(logits.min()))):
        raise GenerationError(
            "The next token could not be chosen",
            "the model computed a number that is not finite",
            "retry the answer; if it happens again, the model file may be damaged, so fetch it anew",
        )
    if sampling.temperature == 0:
        return int(logits.argmax())
    if sampling.seed is None:
        raise ValueError("a draw needs a seed")
    point = uniform(sampling.seed, position)
    # A temperature like 1e-310 would overflow; below this one the best token has all the probability anyway.
    inverse = 1.0 / max(sampling.temperature, 1e-6)
    ids: NDArray[np.intp] | None = None
    if sampling.min_p > 0:
        ids = np.flatnonzero(logits >= _bound(best + math.log(sampling.min_p) / inverse, best))
        if ids.size == 1:
            return int(ids[0])
        weights = _weights(logits[ids], best, inverse)
    elif sampling.top_p < 1:
        ids, weights, total = _likeliest(logits, best, inverse, sampling.top_p)
        return _nucleus_draw(logits[ids], ids, weights, sampling.top_p * total, point)
    else:
        weights = _weights(logits, best, inverse)
    if ids is not None and sampling.top_p < 1:
        total = float(weights.sum(dtype=np.float64))
        return _nucleus_draw(logits[ids], ids, weights, sampling.top_p * total, point)
    chosen = _inverse(np.cumsum(weights, dtype=np.float64), point)
    return chosen if ids is None else int(ids[chosen])


def _bound(value: float, best: float) -> np.float32:
    """`value` in the logits' own type; rounding must neither push the best token out nor overflow."""
    return np.float32(min(max(value, _LOWEST), best))


def _weights(logits: Logits, best: float, inverse_temperature: float) -> NDArray[np.float32]:
    """exp((logit - best) / temperature): float32 [n], the best is 1. Sums of them are taken in float64."""
    # exp(-104) is below the smallest float32, so nothing is lost by a floor there; without one the
    # difference could overflow.
    weights = np.maximum(logits, _bound(best - 104.0 / inverse_temperature, best))
    weights -= np.float32(best)
    weights *= np.float32(inverse_temperature)
    return np.exp(weights, out=weights)


def _likeliest(
    logits: Logits, best: float, inverse: float, top_p: float
) -> tuple[NDArray[np.intp], NDArray[np.float32], float]:
    """(ids ascending, weights, weight of the whole vocabulary) of a set that holds the top-p list."""
    every = _weights(logits, best, inverse)
    total = float(every.sum(dtype=np.float64))
    for depth in _DEPTHS:
        ids = np.flatnonzero(logits >= _bound(best - depth / inverse, best))
        weights = every[ids]
        if float(weights.sum(dtype=np.float64)) >= top_p * total:
            return ids, weights, total
    return np.arange(logits.size), every, total


def _nucleus_draw(
    logits: Logits, ids: NDArray[np.intp], weights: NDArray[np.float32], wanted: float, point: float
) -> int:
    """Draw from the shortest list of likeliest tokens whose weight reaches `wanted`."""
    order = _best_first(logits)
    cumulative = np.cumsum(weights[order], dtype=np.float64)
    # Rounding may leave the whole sum a hair short of `wanted`; the list is then everything.
    length = min(int(np.searchsorted(cumulative, wanted, side="left")) + 1, cumulative.size)
    return int(ids[order[_inverse(cumulative[:length], point)]])


def _best_first(logits: Logits) -> NDArray[np.intp]:
    """Indices in the order logit descending, index ascending."""
    if logits.size < 1024:
        return np.argsort(-logits, kind="stable")
    # A stable sort of floats is twice as slow as one of integers, so each logit's bits, turned into an
    # integer that falls as the logit rises, go above its index.
    bits = (logits + np.float32(0)).view(np.uint32)  # the sum turns -0 into 0, its equal
    falling = np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF))
    keys = falling.astype(np.uint64) << np.uint64(32)
    keys |= np.arange(logits.size, dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.intp)


def _inverse(cumulative: NDArray[np.float64], point: float) -> int:
    """Index of the first entry above `point` times the whole."""
    index = int(np.searchsorted(cumulative, point * float(cumulative[-1]), side="right"))
    return min(index, cumulative.size - 1)
