"""What the native network computes on its way, held against what `transformers` computed, part by part.

Owns: `Reference` (the files that tests/convert/reference/intermediates.py writes), `Trace` (a `Watch` of the
network that compares as it goes), and the bounds. A bound is a share of the reference part's own standard
deviation. What differs is told in the order in which the network computes, so the first one told is the
operator that is wrong, whatever it does to those after it.

A tie: where the two choose other experts, or other rows, and the scores of everything that only one of them chose
lie within `TIE` of each other, both by ours and by theirs, then either choice is right and rounding made it. Such a
tie is recorded with its scores, the reference's choice is put in ours' place, and the comparison goes on. Anything
else that differs in a choice is a difference.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]

PARTS = (
    "attention_input",
    "compressed",
    "index_keys",
    "index_scores",
    "index_choice",
    "attention",
    "attention_streams",
    "moe_input",
    "router_scores",
    "router_choice",
    "router_weights",
    "moe",
    "streams",
)
"""In the order in which a layer computes them; what each is, tests/convert/reference/intermediates.py says."""
WHOLE = ("compressed", "index_keys")
"""Rows made in a pass, not one for each of its tokens."""
BAND = 1024
"""Rows compared at once: 16,384 tokens have 67 million scores."""
TIE = 1e-5
"""Scores nearer to each other than this are a tie; see above."""
LOGITS_BOUND = 2e-4
PART_BOUND = 1e-4
"""F32 sums of a few hundred products in another order differ by some 1e-6 of their size, and each layer adds to
what comes in; a wrong number anywhere is a hundredth or more."""


class Reference:
    """What the reference process wrote for one sequence of tokens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[tuple[int, str], Array | None] = {}
        self._deviations: dict[tuple[int, str], float] = {}
        self.logits: Array = np.load(folder / "logits.npy", mmap_mode="r")
        self.logits_deviation = float(self.logits.std())

    @property
    def told(self) -> set[tuple[int, str]]:
        """(layer, part) of everything that can be compared."""
        pairs = (path.stem.split(".") for path in self._folder.glob("*.*.npy"))
        return {(int(layer), name) for layer, name in pairs if name in PARTS}

    def part(self, layer: int, name: str) -> Array | None:
        """[rows, …] of all the tokens, mapped; None where this layer has no such part or it was not wanted."""
        if (layer, name) not in self._parts:
            path = self._folder / f"{layer}.{name}.npy"
            self._parts[layer, name] = np.load(path, mmap_mode="r") if path.exists() else None
        return self._parts[layer, name]

    def deviation(self, layer: int, name: str) -> float:
        """The standard deviation of a part's numbers (1 where all are the same), of a large one's every 16th row."""
        if (layer, name) not in self._deviations:
            whole = self.part(layer, name)
            assert whole is not None
            some = np.asarray(whole[:: 16 if whole.size > 1 << 24 else 1])
            self._deviations[layer, name] = float(np.nanstd(some.astype(np.float64))) or 1.0
        return self._deviations[layer, name]


@dataclass(frozen=True)
class Difference:
    """A part that is not what the reference computed."""

    layer: int
    name: str
    position: int
    """Of the first token, or compressed row, at which it is so."""
    found: str

    def __str__(self) -> str:
        where = "row" if self.name in ("compressed", "index_keys") else "position"
        return f"layer {self.layer} {self.name} at {where} {self.position}: {self.found}"


@dataclass(frozen=True)
class Tie:
    """A choice that rounding made otherwise, with each candidate's score by ours and by theirs."""

    layer: int
    name: str
    position: int
    ours: tuple[int, ...]
    theirs: tuple[int, ...]
    """What only one of them chose."""
    scores: tuple[tuple[float, float], ...]
    """(by ours, by theirs) of `ours`, then of `theirs`."""

    def __str__(self) -> str:
        each = ", ".join(
            f"{candidate}: {mine:.7g} ({their:.7g})"
            for candidate, (mine, their) in zip((*self.ours, *self.theirs), self.scores, strict=True)
        )
        return (
            f"tie in layer {self.layer} {self.name} at position {self.position}: "
            f"ours {list(self.ours)}, theirs {list(self.theirs)}, taken theirs; scores by ours (by theirs) {each}"
        )


@dataclass
class Trace:
    """A `Watch` that compares one sequence with its reference. `at` says which tokens the next pass reads."""

    reference: Reference
    bound: float = PART_BOUND
    logits_bound: float = LOGITS_BOUND
    ties: list[Tie] = field(default_factory=list)
    worst: dict[tuple[int, str], float] = field(default_factory=dict)
    """(layer, part) → the largest distance, in standard deviations."""
    logits_worst: float = 0.0
    compared: set[tuple[int, str]] = field(default_factory=set)
    _first: dict[tuple[int, str], Difference] = field(default_factory=dict)
    _scores: dict[tuple[int, str], Array] = field(default_factory=dict)
    _start: int = 0
    _count: int = 0
    _told: dict[tuple[int, str], int] = field(default_factory=dict)
    """How many of the pass's tokens a part was told of: a long pass tells some parts slice by slice."""

    def at(self, start: int, count: int) -> None:
        """The next pass reads tokens start … start + count - 1."""
        self._start, self._count = start, count
        self._told.clear()

    def note(self, name: str, layer: int, value: torch.Tensor) -> None:
        """Compare a part of what the running pass computed."""
        ours = value.detach().to(torch.float32 if value.is_floating_point() else torch.int64).cpu().numpy()
        if name in ("index_scores", "router_scores"):
            self._scores[layer, name] = ours
        theirs = self.reference.part(layer, name)
        if theirs is None:
            return
        if name in WHOLE:
            ratio = 4 if name == "index_keys" or self.reference.part(layer, "index_keys") is not None else 128
            first, last = self._start // ratio, (self._start + self._count) // ratio
            self._compare(name, layer, first, ours, np.asarray(theirs[first:last]))
            return
        first = self._first_of(name, layer, len(ours))
        if name == "index_scores":
            self._compare_scores(layer, first, ours, theirs)
        elif name == "router_weights":
            self._compare_weights(layer, first, ours)
        elif name in ("index_choice", "router_choice"):
            self._compare_choice(name, layer, first, ours)
        else:
            self._compare(name, layer, first, ours, np.asarray(theirs[first : first + len(ours)]))

    def choose(self, name: str, layer: int, values: torch.Tensor) -> torch.Tensor | None:
        """The choice with the reference's in the place of each one that a tie made otherwise; None: it stands."""
        theirs = self.reference.part(layer, name)
        if theirs is None:
            return None
        first = self._first_of(f"chosen {name}", layer, len(values))
        forced = values.clone()
        changed = False
        for row in range(len(values)):
            mine, their = _chosen(values[row]), _chosen(theirs[first + row])
            if mine == their:
                continue
            tie = self._tie(name, layer, row, first + row, mine, their)
            if tie is not None:
                self.ties.append(tie)
                forced[row] = self._in_order(name, layer, row, first + row, forced[row])
                changed = True
        return forced if changed else None

    def logits(self, values: torch.Tensor) -> None:
        """Compare the logits of the running pass."""
        theirs = np.asarray(self.reference.logits[self._start : self._start + self._count])
        distance = np.abs(values.float().cpu().numpy() - theirs) / self.reference.logits_deviation
        rows = distance.max(axis=1)
        self.logits_worst = max(self.logits_worst, float(np.nan_to_num(rows, nan=np.inf).max(initial=0)))
        self._found_wrong("logits", 1 << 30, self._start, rows, self.logits_bound)

    @property
    def differences(self) -> list[Difference]:
        """In the network's order: of each part the first place where it is beyond the bound."""
        return [self._first[key] for key in sorted(self._first, key=_order)]

    @property
    def misses(self) -> list[str]:
        """The same in words, and what the network never told of; empty: all is as it must be."""
        missing = sorted(self.reference.told - self.compared, key=_order)
        return [
            *(str(each) for each in self.differences),
            *(f"layer {layer} {name} was not compared" for layer, name in missing),
        ]

    @property
    def summary(self) -> str:
        """The largest distances."""
        parts = max((v for (_, name), v in self.worst.items() if name != "logits"), default=0.0)
        return f"logits {self.logits_worst:.1e}, parts {parts:.1e} of a standard deviation, {len(self.ties)} ties"

    # --- parts -------------------------------------------------------------------------------------

    def _first_of(self, name: str, layer: int, count: int) -> int:
        """The position of the first of the next `count` tokens that this part is told of."""
        done = self._told.get((layer, name), 0)
        self._told[layer, name] = done + count
        return self._start + done

    def _compare(self, name: str, layer: int, first: int, ours: Array, theirs: Array) -> None:
        self.compared.add((layer, name))
        assert ours.shape == theirs.shape, f"layer {layer} {name}: {ours.shape}, not {theirs.shape}"
        if ours.size:
            deviation = self.reference.deviation(layer, name)
            rows = [
                np.abs(ours[at : at + BAND] - theirs[at : at + BAND])
                .reshape(len(ours[at : at + BAND]), -1)
                .max(axis=1)
                for at in range(0, len(ours), BAND)
            ]
            self._found_wrong(name, layer, first, np.concatenate(rows) / deviation, self.bound)

    def _compare_scores(self, layer: int, first: int, ours: Array, theirs: Array) -> None:
        """Of the rows that each token sees; what is in the others is nothing to anybody."""
        seen = (np.arange(first, first + len(ours)) + 1) // 4
        width = int(seen.max(initial=0))
        unseen = np.arange(width) >= seen[:, None]
        mine, their = ours[:, :width].copy(), np.array(theirs[first : first + len(ours), :width])
        mine[unseen] = their[unseen] = 0
        self._compare("index_scores", layer, first, mine, their)

    def _compare_weights(self, layer: int, first: int, ours: Array) -> None:
        """By expert: the order in which a token's experts stand is nobody's business."""
        span = slice(first, first + len(ours))
        theirs, chosen = (
            self.reference.part(layer, "router_weights"),
            self.reference.part(layer, "router_choice"),
        )
        mine = self._scores.get((layer, "router_choice"))
        assert theirs is not None and chosen is not None and mine is not None
        experts = int(max(chosen.max(), mine.max(initial=0))) + 1
        spread = [np.zeros((len(ours), experts)) for _ in range(2)]
        for each, places, weights in ((spread[0], mine, ours), (spread[1], chosen[span], theirs[span])):
            np.put_along_axis(each, np.asarray(places), np.asarray(weights, dtype=np.float64), axis=1)
        self._compare("router_weights", layer, first, *spread)

    def _compare_choice(self, name: str, layer: int, first: int, ours: Array) -> None:
        self.compared.add((layer, name))
        self._scores[layer, name] = ours
        theirs = self.reference.part(layer, name)
        assert theirs is not None
        self.worst.setdefault((layer, name), 0.0)
        for row in range(len(ours)):
            mine, their = _chosen(ours[row]), _chosen(theirs[first + row])
            if mine != their:
                found = f"{sorted(mine - their)} in the place of {sorted(their - mine)}, and it is no tie"
                self.worst[layer, name] = np.inf
                self._first.setdefault((layer, name), Difference(layer, name, first + row, found))
                return

    def _tie(
        self, name: str, layer: int, row: int, position: int, mine: set[int], their: set[int]
    ) -> Tie | None:
        """The tie that made two choices of as many differ; None where it is none. `row`: within what was told last."""
        only = sorted(mine - their), sorted(their - mine)
        if len(mine) != len(their):
            return None
        candidates = [*only[0], *only[1]]
        ours, theirs = self._ranking(name, layer, row, position)
        if max(candidates) >= min(len(ours), len(theirs)):
            return None
        by_ours, by_theirs = ours[candidates], theirs[candidates]
        if not max(np.ptp(by_ours), np.ptp(by_theirs)) <= TIE:
            return None
        scores = tuple((float(a), float(b)) for a, b in zip(by_ours, by_theirs, strict=True))
        return Tie(layer, name, position, tuple(only[0]), tuple(only[1]), scores)

    def _ranking(self, name: str, layer: int, row: int, position: int) -> tuple[Array, Array]:
        """By what was chosen, ours and theirs: the scores, of routers with the bias that the reference has."""
        if name == "index_choice":
            theirs = self.reference.part(layer, "index_scores")
            assert theirs is not None
            return self._scores[layer, "index_scores"][row], np.asarray(theirs[position])
        scores, ranking = (self.reference.part(layer, each) for each in ("router_scores", "router_ranking"))
        assert scores is not None and ranking is not None
        ours = self._scores[layer, "router_scores"][row]
        return ours + (ranking[position] - scores[position]), np.asarray(ranking[position])

    def _in_order(self, name: str, layer: int, row: int, position: int, like: torch.Tensor) -> torch.Tensor:
        """The reference's choice as ours would stand, rows rising, experts by falling score; -1 stays where it is."""
        theirs = self.reference.part(layer, name)
        assert theirs is not None
        chosen = sorted(_chosen(theirs[position]))
        if name == "router_choice":
            ranking = self._ranking(name, layer, row, position)[0]
            chosen.sort(key=lambda expert: (-ranking[expert], expert))
        forced = like.clone()
        forced[like >= 0] = torch.tensor(chosen, dtype=like.dtype, device=like.device)
        return forced

    def _found_wrong(self, name: str, layer: int, first: int, rows: Array, bound: float) -> None:
        rows = np.nan_to_num(rows, nan=np.inf)
        self.worst[layer, name] = max(self.worst.get((layer, name), 0.0), float(rows.max(initial=0)))
        beyond = np.nonzero(rows > bound)[0]
        if len(beyond) and (layer, name) not in self._first:
            at = int(beyond[0])
            found = f"{rows[at]:.2e} standard deviations away, {bound:.0e} are allowed"
            self._first[layer, name] = Difference(layer, name, first + at, found)


def _chosen(row: Any) -> set[int]:
    return {int(each) for each in row if each >= 0}


def _order(key: tuple[int, str]) -> tuple[int, int]:
    layer, name = key
    return layer, PARTS.index(name) if name in PARTS else len(PARTS)
