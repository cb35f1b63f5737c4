"""Which experts of a model have a copy, and where, in bytes.

Owns: the budgets of the device's slots and of memory, what each expert takes, and the certainty that no budget is
exceeded. Pure: copies nothing. Does not know why an expert is kept (`expert_policies`) nor what it is made of.

An expert is a slot number: its layer times the experts of a layer, plus its own number. It has one copy at most,
since what lies in the file can always be read again.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Tier = Literal["gpu", "ram"]
TIERS: tuple[Tier, Tier] = ("gpu", "ram")


class Move(NamedTuple):
    """An expert's copy goes to a tier, or away."""

    layer: int
    expert: int
    to: Tier | None


class ExpertLedger:
    """Budgets in bytes and what is in them.

    expert_bytes: of one expert of each layer. barred: layers whose experts a tier cannot take.
    """

    def __init__(
        self,
        expert_bytes: Sequence[int],
        experts: int,
        budgets: Mapping[Tier, int],
        *,
        barred: Mapping[Tier, Sequence[int]] | None = None,
    ) -> None:
        if experts < 1 or min(expert_bytes, default=0) < 1 or min(budgets.values(), default=0) < 0:
            raise ValueError("experts have sizes, and budgets are not negative")
        self.layers, self.experts = len(expert_bytes), experts
        self.expert_bytes: NDArray[np.int64] = np.asarray(expert_bytes, np.int64)
        self.budget_bytes: dict[Tier, int] = {tier: budgets.get(tier, 0) for tier in TIERS}
        self.held_bytes: dict[Tier, int] = dict.fromkeys(TIERS, 0)
        self._held: dict[Tier, NDArray[np.bool_]] = {
            tier: np.zeros(self.layers * experts, bool) for tier in TIERS
        }
        self._barred = {tier: frozenset((barred or {}).get(tier, ())) for tier in TIERS}

    def slot(self, layer: int, expert: int) -> int:
        """An expert's number among all. IndexError for one that is none."""
        if not (0 <= layer < self.layers and 0 <= expert < self.experts):
            raise IndexError(f"expert {expert} of layer {layer}")
        return layer * self.experts + expert

    def held(self, tier: Tier) -> NDArray[np.bool_]:
        """By slot number, whether a copy lies there. To be read only."""
        return self._held[tier]

    def tier_of(self, layer: int, expert: int) -> Tier | None:
        """Where the copy lies; None: there is none."""
        slot = self.slot(layer, expert)
        return next((tier for tier in TIERS if self._held[tier][slot]), None)

    def takes(self, tier: Tier, layer: int) -> bool:
        """Whether a tier may ever hold an expert of a layer."""
        size_bytes = int(self.expert_bytes[layer])
        return layer not in self._barred[tier] and size_bytes <= self.budget_bytes[tier]

    def over_bytes(self, tier: Tier, wanted_bytes: int = 0) -> int:
        """By how much it would exceed its budget with `wanted_bytes` more; not above 0: it would not."""
        return self.held_bytes[tier] + wanted_bytes - self.budget_bytes[tier]

    def apply(self, move: Move) -> None:
        """Note a move. ValueError where the budget has no room for it, or the tier does not take it."""
        slot = self.slot(move.layer, move.expert)
        size_bytes = int(self.expert_bytes[move.layer])
        before = self.tier_of(move.layer, move.expert)
        if move.to == before:
            return
        if move.to is not None:
            if not self.takes(move.to, move.layer) or self.over_bytes(move.to, size_bytes) > 0:
                raise ValueError(f"no room for {size_bytes} bytes in {move.to}")
            self._held[move.to][slot] = True
            self.held_bytes[move.to] += size_bytes
        if before is not None:
            self._held[before][slot] = False
            self.held_bytes[before] -= size_bytes
