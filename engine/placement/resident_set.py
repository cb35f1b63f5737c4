"""Which experts of a model are in memory while it is used, and which go when others come.

Owns: the rule, in bytes: how often each expert was asked for, older questions counting less; what is held; what is
dropped so that what is wanted has room. Pure: reads and frees nothing. Does not know files or addresses.

It is `residency.DecayedCounts` for a model at work: asked layer by layer instead of token by token, since a layer's
experts must be in memory before it is computed, and holding them costs bytes that another layer's may need. What was
only just read is the first to go unless it is worth more than what has been held for longer: of two that are asked
for equally often one stays, instead of each making the other be read again.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HALF_LIFE_TOKENS = 256.0
ADVANTAGE = 0.5
"""So many questions more count for what is held since before this token."""
FLOOR = 1
"""So many experts of each layer are dropped last, since a layer that has none at hand makes every token wait."""
_LARGEST_GAIN = 1e12


class Asked(NamedTuple):
    """Of one layer: the experts to read, and as (layer, expert) what was dropped for them."""

    missing: list[int]
    dropped: list[tuple[int, int]]


class ResidentSet:
    """A memory of `budget_bytes` for experts. Layers are counted from 0 among those that have experts.

    expert_bytes: of one expert of each layer.
    """

    def __init__(
        self,
        budget_bytes: int,
        expert_bytes: Sequence[int],
        experts: int,
        *,
        half_life_tokens: float = HALF_LIFE_TOKENS,
    ) -> None:
        self.budget_bytes = budget_bytes
        self.held_bytes = 0
        self._bytes = list(expert_bytes)
        self._experts = experts
        self._half_life = half_life_tokens
        slots = len(self._bytes) * experts
        self._worth: NDArray[np.float64] = np.zeros(slots)
        self._held: NDArray[np.bool_] = np.zeros(slots, bool)
        self._new: NDArray[np.bool_] = np.zeros(slots, bool)
        self._pinned: NDArray[np.bool_] = np.zeros(slots, bool)
        self._in_layer: NDArray[np.int64] = np.zeros(len(self._bytes), np.int64)
        self._gain = 1.0  # what a question counts now: later ones more, which is the same as older ones less
        self._last_layer = len(self._bytes)

    def wants(self, layer: int, experts: int) -> int:
        """The bytes of so many experts of a layer."""
        return experts * self._bytes[layer]

    def holds(self, layer: int, expert: int) -> bool:
        """Whether an expert is held."""
        return bool(self._held[layer * self._experts + expert])

    def ask(self, layer: int, chosen: NDArray[np.int32]) -> Asked:
        """What the tokens of a batch chose, [tokens, used]; all of it is held from now on, and nothing of it is
        dropped before another layer is asked for or `rest`. Raises ValueError where that is more than the budget."""
        experts, times = np.unique(chosen, return_counts=True)
        if self.wants(layer, len(experts)) > self.budget_bytes:
            raise ValueError(f"{len(experts)} experts in {self.budget_bytes} bytes")
        tokens = len(chosen)
        if layer <= self._last_layer:
            self._age(tokens)
        self._last_layer = layer
        slots = layer * self._experts + experts.astype(np.int64)
        # A long prompt's questions are all as old as each other: together they count as those of one half-life.
        self._worth[slots] += self._gain * times * min(1.0, self._half_life / tokens)
        self._pinned[:] = False
        self._pinned[slots] = True
        missing = slots[~self._held[slots]]
        dropped = self._make_room(self.wants(layer, len(missing)))
        self._held[missing] = self._new[missing] = True
        self._in_layer[layer] += len(missing)
        self.held_bytes += self.wants(layer, len(missing))
        return Asked((missing - layer * self._experts).tolist(), dropped)

    def rest(self) -> None:
        """Nothing is being computed with: everything may be dropped."""
        self._pinned[:] = False

    def resize(self, budget_bytes: int) -> list[tuple[int, int]]:
        """Another budget from now on; returns what is dropped, as far as it is not being computed with."""
        self.budget_bytes = budget_bytes
        return self._make_room(0)

    def forget(self, layer: int, experts: Sequence[int] | None = None) -> None:
        """These experts of a layer (all of them) are not held after all; how often they were asked for stays."""
        numbers = range(self._experts) if experts is None else experts
        slots = layer * self._experts + np.fromiter(numbers, np.int64)
        count = int(self._held[slots].sum())
        self._held[slots] = self._new[slots] = self._pinned[slots] = False
        self._in_layer[layer] -= count
        self.held_bytes -= self.wants(layer, count)

    def _age(self, tokens: int) -> None:
        self._new[:] = False
        self._gain *= 2.0 ** min(tokens / self._half_life, 1.0)
        if self._gain > _LARGEST_GAIN:
            self._worth /= self._gain
            self._gain = 1.0

    def _make_room(self, wanted_bytes: int) -> list[tuple[int, int]]:
        """Drop what is worth least until there is room for so many bytes, or nothing is left that may go."""
        over = self.held_bytes + wanted_bytes - self.budget_bytes
        dropped: list[tuple[int, int]] = []
        spared: list[int] = []
        if over <= 0:
            return dropped
        here = np.flatnonzero(self._held & ~self._pinned)
        worth = self._worth[here] + ADVANTAGE * self._gain * ~self._new[here]
        # Sorting all of a large model's experts for each layer would take longer than reading one.
        enough = over // min(self._bytes) + 1 + FLOOR * len(self._bytes)
        if enough < len(here):
            part = np.argpartition(worth, enough)[:enough]
            here, worth = here[part], worth[part]
        ordered: list[int] = here[np.argsort(worth, kind="stable")].tolist()
        for slot in ordered:
            if over <= 0:
                break
            if self._in_layer[slot // self._experts] <= FLOOR:
                spared.append(slot)
                continue
            over -= self._drop(slot, dropped)
        for slot in spared:
            if over <= 0:
                break
            over -= self._drop(slot, dropped)
        return dropped

    def _drop(self, slot: int, dropped: list[tuple[int, int]]) -> int:
        layer, expert = divmod(slot, self._experts)
        self._held[slot] = self._new[slot] = False
        self._in_layer[layer] -= 1
        self.held_bytes -= self._bytes[layer]
        dropped.append((layer, expert))
        return self._bytes[layer]
