"""Which snapshots go when there is no more room: a pure rule.

Owns: what a snapshot is worth, and the order in which they go. Does not know files, or how a snapshot is told to be
in use (`snapshots`).

The worth of a snapshot is what would have to be read anew without it, times the chance that it is wanted, divided by
its size. What would have to be read is what lies between it and the longest other snapshot that can be put in its
place: so of the states at the ends of a conversation's turns, of which the longer ones have marks at the places of
the shorter, the shorter ones are worth little, and what only one snapshot has is worth most. The chance halves within
a day without use, is an eighth after a week, and so on. The cheapest goes first; then the others are weighed again,
since the one that went may have been what spared them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

HALF_CHANCE_S = 24 * 3600.0
"""After so long without use a snapshot is half as likely to be wanted."""
LEAST_SHARE = 0.02
"""What a snapshot is still worth, of reading all of it, when another can stand in its place for every token."""


@dataclass(frozen=True)
class Weighed:
    """A snapshot as the rule sees it."""

    id: str
    size_bytes: int
    cost_s: float
    """What reading all its tokens would take."""
    tokens: int
    unused_s: float
    """Since it was last written or read."""
    protected: bool = False
    beginnings: frozenset[str] = frozenset()
    """Names of beginnings of its tokens. Equal names: equal beginnings."""
    places: tuple[tuple[str, int], ...] = ()
    """Lengths that it can be brought back to, in tokens, each with the name of the longest beginning in it."""


def worth_of(each: Weighed, spared_tokens: int) -> float:
    """Seconds of reading that a byte of it is expected to save, when other snapshots have `spared_tokens` of its."""
    share = max(LEAST_SHARE, 1 - min(spared_tokens, each.tokens) / max(1, each.tokens))
    chance = 1 / (1 + max(0.0, each.unused_s) / HALF_CHANCE_S)
    return each.cost_s * share * chance / max(1, each.size_bytes)


def to_evict(kept: Sequence[Weighed], room_bytes: int) -> list[str]:
    """The ids of those that have to go so that the rest takes at most `room_bytes`, the cheapest first.

    Never a protected one, so the rest may take more.
    """
    size = sum(each.size_bytes for each in kept)
    if size <= room_bytes:
        return []
    left = {each.id: each for each in kept}
    offers = _offers(kept)
    spared = {each.id: _spared(each, offers, left) for each in kept}
    gone: list[str] = []
    while size > room_bytes:
        open_to_it = [each for each in left.values() if not each.protected]
        if not open_to_it:
            break
        # Of equals the one that was not used for longest.
        cheapest = min(open_to_it, key=lambda each: (worth_of(each, spared[each.id][0]), -each.unused_s))
        del left[cheapest.id]
        gone.append(cheapest.id)
        size -= cheapest.size_bytes
        for each in left.values():
            if spared[each.id][1] == cheapest.id:
                spared[each.id] = _spared(each, offers, left)
    return gone


_Offers = dict[str, list[tuple[int, str]]]


def _offers(kept: Sequence[Weighed]) -> _Offers:
    """For each beginning who can be brought back to a place just behind it: the longest place first."""
    offers: _Offers = defaultdict(list)
    for each in kept:
        for beginning, tokens in each.places:
            offers[beginning].append((tokens, each.id))
    for found in offers.values():
        found.sort(reverse=True)
    return dict(offers)


def _spared(each: Weighed, offers: _Offers, left: dict[str, Weighed]) -> tuple[int, str]:
    """How many of its tokens another one that is left has, and which."""
    best, best_id = 0, ""
    for beginning in each.beginnings:
        for tokens, holder in offers.get(beginning, ()):
            if tokens <= best:
                break
            if tokens <= each.tokens and holder != each.id and holder in left:
                best, best_id = tokens, holder
                break
    return best, best_id
