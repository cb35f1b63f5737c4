"""States of a context kept at known lengths: which are kept, and which go when there is no more room.

Owns: the rule by which they go, and that only those are left which still belong to what the context holds.
Does not know what a state is, how it is taken or brought back (`llama_memory`).

The rule: a state is worth what coming back to just behind it would cost without it, which is how many tokens
lie between it and the one before it. The cheapest goes first, the older of equals. So states stand densely
where a conversation ends, where people retry and edit, and ever more widely and evenly before; those of the
last few places are never weighed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

State = NDArray[np.uint8]
"""The bytes of a state."""

NEWEST_KEPT = 4
"""The end of the last prompt, of the answer before it, and two in what is being read."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a context that held `tokens` tokens."""

    tokens: int
    state: State


class Checkpoints:
    """The kept states, by rising length, together at most `budget_bytes`."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._kept: list[Checkpoint] = []
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What they take together."""
        return self._size_bytes

    @property
    def places(self) -> Sequence[int]:
        """Their lengths in tokens, rising."""
        return [each.tokens for each in self._kept]

    def wants(self, tokens: int, size_bytes: int) -> bool:
        """Whether a state of that size at that length would be new, and would find room."""
        return size_bytes <= self.budget_bytes and tokens > (self._kept[-1].tokens if self._kept else 0)

    def add(self, tokens: int, state: State) -> None:
        """Keep a state that `wants` was true for; others may have to go for it."""
        self._kept.append(Checkpoint(tokens, state))
        self._size_bytes += state.nbytes
        while self._size_bytes > self.budget_bytes:
            self._drop(self._cheapest())

    def last_within(self, tokens: int) -> Checkpoint | None:
        """The longest of at most `tokens` tokens."""
        return next((each for each in reversed(self._kept) if each.tokens <= tokens), None)

    def forget_beyond(self, tokens: int) -> None:
        """Drop those longer than `tokens`: what the context holds there will be something else."""
        while self._kept and self._kept[-1].tokens > tokens:
            self._drop(len(self._kept) - 1)

    def _cheapest(self) -> int:
        """Index of the state that is missed least; the newest are spared as long as there are others."""
        weighed = max(len(self._kept) - NEWEST_KEPT, 1)
        before = [0, *(each.tokens for each in self._kept)]
        return min(range(weighed), key=lambda index: before[index + 1] - before[index])

    def _drop(self, index: int) -> None:
        self._size_bytes -= self._kept.pop(index).state.nbytes
