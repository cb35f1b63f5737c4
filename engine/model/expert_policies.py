"""Which experts have a copy on the device or in memory: the rules.

Owns: two of them. `StaticByLayer` places whole layers and never changes its mind. `DecayedFrequency` keeps what was
asked for most, older questions counting less. Pure: a rule is told what was chosen and says, between two passes,
which copies go and come; the same questions in the same order give the same moves. Does not know tensors or files.

Of `engine.placement.resident_set`, which reads experts the moment that they are missing, it shares the measure of
worth. Here nothing moves during a pass: what is missing is computed from the file, and copied after if it is worth it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.model.expert_ledger import TIERS, ExpertLedger, Move, Tier

HALF_LIFE_TOKENS = 256.0
ADVANTAGE = 0.5
"""What is to take another's place must have been asked for so many times more, counted as of now."""
FLOOR = 1
_LARGEST_GAIN = 1e12


class ExpertPolicy(Protocol):
    """A rule. `note` is told of every product of a pass, `moves` asked after it."""

    @property
    def looks(self) -> bool:
        """Whether it depends on what is chosen. If not, it need not be told: looking makes a device be waited for."""
        ...

    def note(self, layer: int, choices: Iterable[tuple[int, int]], tokens: int) -> None:
        """Of one layer: (expert, by how many of the `tokens` it was chosen)."""
        ...

    def moves(self, ledger: ExpertLedger, most_bytes: int) -> Iterator[Move]:
        """What is to be done now. Each is carried out, and noted in the ledger, before the next is asked for.

        First what a tier holds beyond its budget goes; then copies are made, of `most_bytes` together at most. Who
        carries them out may stop at any time.
        """
        ...


class StaticByLayer:
    """Layers whose experts lie on the device, layers whose experts lie in memory; the others stay in the file.

    A layer is named in one of the two. Where a budget does not suffice, later layers are left in the file.
    """

    looks = False

    def __init__(self, gpu: Sequence[int] = (), ram: Sequence[int] = ()) -> None:
        if set(gpu) & set(ram):
            raise ValueError(f"layers {sorted(set(gpu) & set(ram))} are in both places")
        self._layers: dict[Tier, list[int]] = {"gpu": sorted(set(gpu)), "ram": sorted(set(ram))}

    def note(self, layer: int, choices: Iterable[tuple[int, int]], tokens: int) -> None:
        """See `ExpertPolicy`: nothing depends on it."""

    def moves(self, ledger: ExpertLedger, most_bytes: int) -> Iterator[Move]:
        """See `ExpertPolicy`. Goes from the last expert on, comes from the first on."""
        for tier in TIERS:
            held = np.flatnonzero(ledger.held(tier)).tolist()
            while held and ledger.over_bytes(tier) > 0:
                yield Move(*divmod(held.pop(), ledger.experts), None)
        for tier in TIERS:
            for layer in self._layers[tier]:
                size_bytes = int(ledger.expert_bytes[layer])
                if not ledger.takes(tier, layer):
                    continue
                for expert in range(ledger.experts):
                    if ledger.tier_of(layer, expert) == tier:
                        continue
                    if size_bytes > most_bytes or ledger.over_bytes(tier, size_bytes) > 0:
                        return
                    most_bytes -= size_bytes
                    yield Move(layer, expert, tier)


class DecayedFrequency:
    """Keeps the experts that were asked for most, the worthiest on the device, the next in memory.

    half_life_tokens: after so many tokens a question counts half; those of a long prompt, all as old as each other,
    count together as those of one half-life. advantage: what comes in another's place must be worth so many
    questions more, so that two that are asked for equally often do not take turns. floor: so many experts of each
    layer stay in each tier if there is room for as many of every layer, so that a burst of one layer's does not
    sweep the others out: a layer that has none at hand makes every token wait.
    """

    looks = True

    def __init__(
        self,
        layers: int,
        experts: int,
        *,
        half_life_tokens: float = HALF_LIFE_TOKENS,
        advantage: float = ADVANTAGE,
        floor: int = FLOOR,
    ) -> None:
        if half_life_tokens <= 0 or advantage < 0 or floor < 0:
            raise ValueError("a half-life is above 0, an advantage and a floor not below")
        self._experts = experts
        self._half_life = half_life_tokens
        self._advantage = advantage
        self._floor = floor
        self._worth: NDArray[np.float64] = np.zeros(layers * experts)
        self._gain = 1.0  # what a question counts now: later ones more, which is the same as older ones less
        self._tokens = 0

    def worth(self, layer: int, expert: int) -> float:
        """How often it was asked for, counted as of now."""
        return float(self._worth[layer * self._experts + expert] / self._gain)

    def note(self, layer: int, choices: Iterable[tuple[int, int]], tokens: int) -> None:
        """See `ExpertPolicy`."""
        each = self._gain * min(1.0, self._half_life / max(tokens, 1))
        for expert, times in choices:
            self._worth[layer * self._experts + expert] += each * times
        self._tokens = max(self._tokens, tokens)

    def moves(self, ledger: ExpertLedger, most_bytes: int) -> Iterator[Move]:
        """See `ExpertPolicy`. Of equals the lower number comes, and goes, first."""
        self._age()
        advantage = self._advantage * self._gain
        standings = [_Standing(self._worth, ledger, tier, advantage, self._floor) for tier in TIERS]
        for standing in standings:
            while ledger.over_bytes(standing.tier) > 0:
                yield Move(*divmod(standing.least(), self._experts), None)
        for standing in standings:
            while (exchange := standing.exchange()) is not None:
                comer, goers = exchange
                size_bytes = int(ledger.expert_bytes[comer // self._experts])
                if size_bytes > most_bytes:
                    break
                most_bytes -= size_bytes
                for each in goers:
                    yield Move(*divmod(each, self._experts), None)
                yield Move(*divmod(comer, self._experts), standing.tier)

    def _age(self) -> None:
        self._gain *= 2.0 ** min(self._tokens / self._half_life, 1.0)
        self._tokens = 0
        if self._gain > _LARGEST_GAIN:
            self._worth /= self._gain
            self._gain = 1.0


class _Standing:
    """One tier's experts by their worth: who comes next, and who goes for it. Looks at the ledger anew each time."""

    def __init__(
        self, worth: NDArray[np.float64], ledger: ExpertLedger, tier: Tier, advantage: float, floor: int
    ) -> None:
        self._ledger, self._advantage = ledger, advantage
        self.tier: Tier = tier
        self._worth = worth.reshape(ledger.layers, ledger.experts)
        self._takes = np.array([ledger.takes(tier, layer) for layer in range(ledger.layers)])
        # A floor that the budget cannot keep for every layer is none.
        all_layers_bytes = int(ledger.expert_bytes[self._takes].sum())
        self._floor = min(floor, ledger.budget_bytes[tier] // all_layers_bytes) if all_layers_bytes else 0

    def least(self) -> int:
        """The slot to drop first: of the least worth, of layers above the floor while there are such."""
        held = self._held()
        above = held.sum(axis=1) > self._floor
        worth = np.where(held & (above[:, None] | ~above.any()), self._worth, np.inf)
        return int(worth.argmin())

    def exchange(self) -> tuple[int, list[int]] | None:
        """The slot that has most reason to come, and those that go for it; None: all stays as it is."""
        held = self._held()
        count = held.sum(axis=1)
        elsewhere = self._ledger.held("gpu").reshape(held.shape) if self.tier == "ram" else held
        comes = np.where(~held & ~elsewhere & (self._worth > 0) & self._takes[:, None], self._worth, -np.inf)
        best = comes.max(axis=1)
        below = count < self._floor
        full = self._ledger.over_bytes(self.tier, int(self._ledger.expert_bytes.min())) > 0
        least = np.where(held, self._worth, np.inf).min()
        if full and not below.any() and not best.max() > least + self._advantage:
            return None  # the usual case
        # Layers that lack their floor come first, then by worth.
        order = np.lexsort((-best, ~below))
        for layer in order[np.isfinite(best[order])].tolist():
            goers = self._goers(held, count, layer, np.inf if below[layer] else float(best[layer]))
            if goers is not None:
                return layer * self._ledger.experts + int(comes[layer].argmax()), goers
        return None

    def _goers(
        self, held: NDArray[np.bool_], count: NDArray[np.int64], layer: int, worth: float
    ) -> list[int] | None:
        """The fewest of least worth that make room for one of a layer; None where they are worth too much."""
        over_bytes = self._ledger.over_bytes(self.tier, int(self._ledger.expert_bytes[layer]))
        left, remain = held.copy(), count.copy()
        goers: list[int] = []
        while over_bytes > 0:
            may = remain > self._floor
            may[layer] = np.isfinite(worth)  # of its own layer, one comes for one that goes
            standing = np.where(left & may[:, None], self._worth, np.inf)
            slot = int(standing.argmin())
            at, expert = divmod(slot, self._ledger.experts)
            if not standing[at, expert] + self._advantage < worth:
                return None
            left[at, expert] = False
            remain[at] -= 1
            over_bytes -= int(self._ledger.expert_bytes[at])
            goers.append(slot)
        return goers

    def _held(self) -> NDArray[np.bool_]:
        return self._ledger.held(self.tier).reshape(self._worth.shape)
