"""What a turn costs before it is paid for, in words: "instant", "2,100 tokens, about 38 s".

Owns: these words, so that an edit, a retry, another version and another mode say the same thing in the same way. Pure;
does not ask what anything costs (`turn_costs.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.quantities import rough_duration, token_count, whole_duration

if TYPE_CHECKING:
    from engine.protocol import Reuse

INSTANT_S = 1.0
"""What takes less is not waited for."""
FEW_TOKENS = 8
"""Nor are so many where nobody knows how long they take: the last token before a question is always read again."""
COUNTED_S = 5400
"""Up to here seconds are told."""


def cost_words(cost: Reuse) -> str:
    """How long until an answer begins, and what is read for it: "reads 2,100 of 9,400 tokens again, about 38 s"."""
    if cost.reread <= FEW_TOKENS if cost.seconds is None else cost.seconds < INSTANT_S:
        return "instant"
    if cost.reread <= FEW_TOKENS and cost.from_disk:
        what = f"{token_count(cost.from_disk)} from the disk"
    elif cost.kept <= 0:
        what = token_count(cost.reread)
    else:
        what = f"reads {cost.reread:,} of {cost.total:,} tokens again"
    return what if cost.seconds is None else f"{what}, about {_time(cost.seconds)}"


def is_instant(cost: Reuse) -> bool:
    """There is nothing to wait for, and so nothing to say where only news is told."""
    return cost_words(cost) == "instant"


def _time(seconds: float) -> str:
    return whole_duration(round(seconds)) if seconds < COUNTED_S else rough_duration(seconds)
