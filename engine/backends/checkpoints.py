"""States of a context kept at known lengths: which are kept, and which go when there is no more room.

Owns: the rule by which they go, and that only those are left which still belong to what the context holds.
Does not know what a state is, how it is taken or brought back (`llama_memory`).

The rule: a state is worth what coming back to just behind it would cost without it, which is how many tokens
lie between it and the one before it. The cheapest goes first, the older of equals. So states stand densely
where a conversation ends, where people retry and edit, and ever more widely and evenly before; those of the
last few places are never weighed.

When memory is short some go by the same rule, and the room for them shrinks by as much, until it is given back.
`relieve` and `allow` may be called from any thread, also while states are taken and brought back in another one: who
brings one back holds it.
"""

import threading
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
        self.whole_budget_bytes = budget_bytes
        """What they may take when memory is not short."""
        self._kept: list[Checkpoint] = []
        self._size_bytes = 0
        self._lock = threading.Lock()

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
        with self._lock:
            return size_bytes <= self.budget_bytes and tokens > (self._kept[-1].tokens if self._kept else 0)

    def add(self, tokens: int, state: State) -> None:
        """Keep a state that `wants` was true for; others may have to go for it, and itself if the room has shrunk."""
        with self._lock:
            self._kept.append(Checkpoint(tokens, state))
            self._size_bytes += state.nbytes
            self._keep_to(self.budget_bytes)

    def last_within(self, tokens: int) -> Checkpoint | None:
        """The longest of at most `tokens` tokens."""
        with self._lock:
            return next((each for each in reversed(self._kept) if each.tokens <= tokens), None)

    def within(self, tokens: int) -> list[Checkpoint]:
        """Those of at most `tokens` tokens, by rising length."""
        with self._lock:
            return [each for each in self._kept if each.tokens <= tokens]

    def forget_beyond(self, tokens: int) -> None:
        """Drop those longer than `tokens`: what the context holds there will be something else."""
        with self._lock:
            while self._kept and self._kept[-1].tokens > tokens:
                self._drop(len(self._kept) - 1)

    def relieve(self, wanted_bytes: int) -> int:
        """Drop states of `wanted_bytes` together, or all; returns how many bytes went. What is left may not grow."""
        if wanted_bytes <= 0:
            return 0
        with self._lock:
            before = self._size_bytes
            self._keep_to(max(0, before - wanted_bytes))
            self.budget_bytes = min(self.budget_bytes, self._size_bytes)
            return before - self._size_bytes

    def allow(self, more_bytes: int) -> int:
        """Let them grow by `more_bytes` again, to the first budget at most; returns by how many they may."""
        with self._lock:
            more = min(max(0, more_bytes), self.whole_budget_bytes - self.budget_bytes)
            self.budget_bytes += more
            return more

    def _keep_to(self, budget_bytes: int) -> None:
        while self._size_bytes > budget_bytes:
            self._drop(self._cheapest())

    def _cheapest(self) -> int:
        """Index of the state that is missed least; the newest are spared as long as there are others."""
        weighed = max(len(self._kept) - NEWEST_KEPT, 1)
        before = [0, *(each.tokens for each in self._kept)]
        return min(range(weighed), key=lambda index: before[index + 1] - before[index])

    def _drop(self, index: int) -> None:
        self._size_bytes -= self._kept.pop(index).state.nbytes
