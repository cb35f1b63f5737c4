"""Single steps with one drafted token read ahead in the same pass.

Owns: `ReadAhead`: a pass reads the token that was asked for and the draft block's guess of the next one; if the guess
is asked for next, its logits are there already. Tokens, logits and state are the same bits as without, because the
network computes two rows as if each were alone; so it makes no difference how tokens are chosen, and the next one may
be any. Does not sample.
"""

from dataclasses import dataclass

import torch

from engine.model.cache import SequenceCache
from engine.model.network import Network


@dataclass(frozen=True)
class DraftCounts:
    """Tokens that were read ahead, and how many of them were asked for."""

    guessed: int = 0
    accepted: int = 0


class ReadAhead:
    """Of one context. Between `step` and `settle` the context has an open pass: whoever else would look at it or change
    it calls `settle` first."""

    def __init__(self, network: Network, cache: SequenceCache) -> None:
        self._network, self._cache = network, cache
        self._guess: int | None = None
        self._ahead: torch.Tensor | None = None
        self._counts = DraftCounts()

    @property
    def counts(self) -> DraftCounts:
        """Since it was made. Any thread."""
        return self._counts

    def step(self, token: int) -> torch.Tensor:
        """Append `token`; logits F32 [vocabulary] after it. Raises what `Network.forward` raises, and the context then
        holds what was asked for before."""
        if self._ahead is not None and token == self._guess:
            found = self._ahead
            self._close(2)
            self._counts = DraftCounts(self._counts.guessed, self._counts.accepted + 1)
            return found
        self.settle()
        room = self._cache.position + 2 <= self._network.config.max_position_embeddings
        draft = self._network.propose(self._cache, token) if room else None
        if draft is None:
            return self._network.forward([(self._cache, torch.tensor([token]))])[0]
        guess = int(draft.argmax())
        both = torch.tensor([token, guess])
        logits = self._network.forward([(self._cache, both)], logits="all", commit=False)
        self._guess, self._ahead = guess, logits[1]
        self._counts = DraftCounts(self._counts.guessed + 1, self._counts.accepted)
        return logits[0]

    def settle(self) -> None:
        """Close the pass: the context holds what was asked for, and nothing that was only guessed."""
        if self._ahead is not None:
            self._close(1)

    def _close(self, count: int) -> None:
        self._cache.commit(count)  # where it fails the pass is still open, and can be closed later
        self._guess = self._ahead = None
