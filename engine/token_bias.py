"""What a client wants more or less of: single tokens, and tokens that were written before.

Owns: what is added to logits before a token is drawn, in the public dialects' sense: for token t, `bias[t]`, less
`frequency` times how often t was written in this answer, less `presence` if it was at all. What the prompt says does
not count. Does not know how a token is drawn (`sampling`).
"""

from collections.abc import Mapping

import numpy as np

from engine.backends.base import Logits


class TokenBias:
    """For one answer. `bias`: by token id, each below the vocabulary's size."""

    def __init__(self, bias: Mapping[int, float], *, frequency: float = 0.0, presence: float = 0.0) -> None:
        self._bias = dict(bias)
        self._frequency = frequency
        self._presence = presence
        self._changes = dict(bias)
        """What is added to each token's logit now."""
        self._counts: dict[int, int] = {}

    def applied(self, logits: Logits) -> Logits:
        """float32 [vocabulary]: `logits` with what is to be added; they themselves are not changed."""
        if not self._changes:
            return logits
        changed = logits.copy()
        ids = np.fromiter(self._changes.keys(), np.intp, len(self._changes))
        changed[ids] += np.fromiter(self._changes.values(), np.float32, len(self._changes))
        return changed

    def saw(self, token_id: int) -> None:
        """A token was written."""
        if not (self._frequency or self._presence):
            return
        count = self._counts[token_id] = self._counts.get(token_id, 0) + 1
        self._changes[token_id] = self._bias.get(token_id, 0.0) - self._presence - self._frequency * count
