"""Which experts to keep at hand, as rules that a trace can be run through.

Owns: the rules and how often each would have had an expert at hand that was asked for. Pure: holds and moves no
expert. Does not know files, memory or devices.

An expert is a slot: the number of its layer among the layers, times the experts of a layer, plus its own number.
What was just read can be kept at no cost, so a rule sees each token's experts after they were asked for. The
first tokens of a trace, for which nothing can be at hand yet, are asked for but not counted.
"""

from collections import OrderedDict
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.placement.routing_trace import RoutingTrace

Slots = NDArray[np.int64]
"""[tokens, layers times used]: what each token asks for, in the order of the layers."""


class Rule(Protocol):
    """A memory of a fixed number of experts."""

    def ask(self, slots: NDArray[np.int64]) -> int:
        """How many of one token's `slots` are at hand; then keeps what it thinks best."""
        ...


class LeastRecent:
    """Drops what was not asked for the longest: about what a page cache does."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[int, None] = OrderedDict()

    def ask(self, slots: NDArray[np.int64]) -> int:
        """See `Rule`; a slot may be dropped for another of the same token."""
        hits = 0
        for slot in slots.tolist():
            if slot in self._held:
                hits += 1
                self._held.move_to_end(slot)
                continue
            self._held[slot] = None
            if len(self._held) > self._size:
                self._held.popitem(last=False)
        return hits


class DecayedCounts:
    """Keeps what was asked for most, older questions counting less.

    half_life_tokens: after so many tokens a question counts half. advantage: what is held counts so many questions
    more, so that two of the same worth do not take turns. floor: so many experts of each layer are held in any
    case, the most asked for, since a layer that never has one at hand makes every token wait.
    """

    def __init__(
        self,
        size: int,
        *,
        layers: int,
        experts: int,
        half_life_tokens: float = 256.0,
        advantage: float = 0.5,
        floor: int = 1,
    ) -> None:
        self._size = min(size, layers * experts)
        self._floor = min(floor, self._size // layers)
        self._layers = layers
        self._decay = 0.5 ** (1.0 / half_life_tokens)
        self._advantage = advantage
        self._counts: NDArray[np.float64] = np.zeros(layers * experts)
        self._held: NDArray[np.bool_] = np.zeros(layers * experts, bool)

    @property
    def held(self) -> NDArray[np.int64]:
        """The slots at hand."""
        return np.flatnonzero(self._held)

    def ask(self, slots: NDArray[np.int64]) -> int:
        """See `Rule`."""
        hits = int(self._held[slots].sum())
        self._counts *= self._decay
        self._counts[slots] += 1.0
        worth = self._counts + self._advantage * self._held
        # Nothing is held that was not read: only what was held before, or was asked for just now.
        here = self._held.copy()
        here[slots] = True
        worth[~here] = -1.0
        if self._floor:
            first = worth.reshape(self._layers, -1)
            most = np.argpartition(-first, self._floor - 1, axis=1)[:, : self._floor]
            first[np.arange(self._layers)[:, None], most] += 1e9 * (
                first[np.arange(self._layers)[:, None], most] >= 0
            )
        best = np.argpartition(-worth, self._size - 1)[: self._size]
        self._held[:] = False
        self._held[best] = worth[best] >= 0
        return hits


def asked_slots(trace: RoutingTrace) -> Slots:
    """What each token of a trace asks for."""
    head = trace.head
    slots: Slots = np.empty((trace.tokens, len(head.layers) * head.used), np.int64)
    for number, layer in enumerate(head.layers):
        part = slots[:, number * head.used : (number + 1) * head.used]
        np.add(trace.choices[layer], number * head.experts, out=part, dtype=np.int64)
    return slots


def hit_share(slots: Slots, rule: Rule, uncounted_tokens: int = 0) -> float:
    """The share, 0 to 1, of what was asked for that was at hand; the first tokens only fill the memory.

    Raises ValueError where no token is left to count.
    """
    if not 0 <= uncounted_tokens < len(slots):
        raise ValueError(f"{uncounted_tokens} of {len(slots)} tokens uncounted")
    hits = [rule.ask(row) for row in slots]
    return sum(hits[uncounted_tokens:]) / slots[uncounted_tokens:].size
