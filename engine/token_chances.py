"""How likely the model held a token to be.

Owns: log probabilities from logits, as the model gave them: at temperature 1, before any filter, mask or bias. Does not
know which token is drawn (`sampling`) or in what shape a client is told.
"""

from dataclasses import dataclass

import numpy as np

from engine.backends.base import Logits

MOST_TOP = 20
"""So many tokens are told beside the one that was written, at most."""


@dataclass(frozen=True)
class TokenChances:
    """A token's natural log probability, and the likeliest tokens with theirs, the likeliest first."""

    token_id: int
    log_probability: float
    top: tuple[tuple[int, float], ...] = ()


def chances_of(logits: Logits, token_id: int, top: int) -> TokenChances:
    """Those of `token_id` and of the `top` likeliest (at most MOST_TOP; the lowest id first where two are equal).

    `logits`: float32 [vocabulary], finite; not changed.
    """
    shifted = logits - logits.max()
    total = float(np.log(np.exp(shifted).sum(dtype=np.float64)))
    count = min(top, MOST_TOP, logits.size)
    likeliest: list[int] = []
    if count > 0:
        # The smallest of the `count` largest, and all that equal it: ties are then settled by id.
        bound = np.partition(shifted, shifted.size - count)[shifted.size - count]
        ids = np.flatnonzero(shifted >= bound)
        likeliest = [int(each) for each in ids[np.argsort(-shifted[ids], kind="stable")][:count]]
    return TokenChances(
        token_id,
        float(shifted[token_id]) - total,
        tuple((each, float(shifted[each]) - total) for each in likeliest),
    )
