"""Choices of experts as routers make them, drawn from a seed: what synthetic models and simulations replay.

A pattern is int32 [tokens, used]: for each token of one layer, the experts that it goes to, none twice.

- uniform: every expert as likely as any other; the worst case for whatever keeps some of them at hand.
- skewed: a fixed order of popularity for each layer, the expert at rank r asked for as 1/(r+1).
- topical: skewed, and the order changes every `TOPIC_TOKENS` tokens, as it does from topic to topic.

A recorded trace (`engine.placement.routing_trace`) can be replayed instead: its tokens one after the other, and again
from its first where more are wanted.
"""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.placement.routing_trace import RoutingTrace

Routes = NDArray[np.int32]

TOPIC_TOKENS = 256
_ROWS = 4096
"""Tokens drawn at a time: 4,096 rows of 384 doubles are 13 MB."""


def uniform(layer: int, tokens: int, experts: int, used: int, seed: int) -> Routes:
    """Every expert as likely as any other."""
    return _drawn(_random("uniform", layer, seed), np.zeros(experts), tokens, used)


def skewed(layer: int, tokens: int, experts: int, used: int, seed: int) -> Routes:
    """The expert at rank r asked for as 1/(r+1), ranks drawn once for the layer."""
    random = _random("skewed", layer, seed)
    return _drawn(random, _popularity(random, experts), tokens, used)


def topical(layer: int, tokens: int, experts: int, used: int, seed: int) -> Routes:
    """Skewed, with new ranks every `TOPIC_TOKENS` tokens."""
    random = _random("topical", layer, seed)
    parts = [
        _drawn(random, _popularity(random, experts), min(TOPIC_TOKENS, tokens - start), used)
        for start in range(0, tokens, TOPIC_TOKENS)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, used), np.int32)


def replayed(trace: RoutingTrace, layer: int, tokens: int, experts: int, used: int) -> Routes:
    """What a trace's tokens chose in the layer at that place among its layers.

    Raises ValueError for a trace of another number of experts, or with fewer layers than that.
    """
    head = trace.head
    if (head.experts, head.used) != (experts, used):
        raise ValueError(f"the trace is of {head.used} of {head.experts} experts, not of {used} of {experts}")
    if layer >= len(head.layers):
        raise ValueError(f"the trace has {len(head.layers)} layers, and layer {layer} is wanted")
    return trace.choices[head.layers[layer]][np.arange(tokens) % trace.tokens].astype(np.int32)


PATTERNS: dict[str, Callable[[int, int, int, int, int], Routes]] = {
    "uniform": uniform,
    "skewed": skewed,
    "topical": topical,
}


def _random(name: str, layer: int, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{name} {layer} {seed}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _popularity(random: np.random.Generator, experts: int) -> NDArray[np.float64]:
    """The logarithm of how often each is asked for."""
    return -np.log(1.0 + random.permutation(experts))


def _drawn(random: np.random.Generator, logs: NDArray[np.float64], tokens: int, used: int) -> Routes:
    """`used` different experts a token, drawn one after the other by weight: the largest of log + Gumbel noise."""
    rows = np.empty((tokens, used), np.int32)
    for start in range(0, tokens, _ROWS):
        count = min(_ROWS, tokens - start)
        noisy = logs + random.gumbel(size=(count, logs.size))
        rows[start : start + count] = np.argpartition(-noisy, used - 1, axis=1)[:, :used]
    return rows
