"""The draft block (MTP): from a token and the streams before it, logits for the token after it.

Owns: `DraftBlock`. Its input for token p is e_proj(enorm(embedding of p)) + h_proj(hnorm(streams after p - 1)), stream
by stream; then comes a window-only layer, a collapse of its own, its norm, and the model's head (DeepSeek-V3 report
§2.2, eqs. 21 to 23, with streams in the place of the one residual; the pairing of tokens and streams as in llama.cpp's
`deepseek4` draft graph). Only the rows of its window are remembered. Does not decide what becomes of a draft.
"""

import torch

from engine.model.attention import Span
from engine.model.block import Block
from engine.model.cache import DraftCache
from engine.model.config import NetworkConfig
from engine.model.expert_store import ExpertStore
from engine.model.weights import DraftWeights, NetworkWeights
from kernels import ops


class DraftBlock:
    """Embedding and head are the model's."""

    def __init__(
        self,
        config: NetworkConfig,
        weights: NetworkWeights,
        draft: DraftWeights,
        turns: torch.Tensor,
        experts: ExpertStore,
        activations: torch.dtype,
    ) -> None:
        self.config, self.weights, self.draft, self.activations = config, weights, draft, activations
        self.block = Block(config, config.num_hidden_layers, 0, draft.block, turns, experts, weights.checks)

    def read(
        self,
        cache: DraftCache,
        span: Span,
        embedded: torch.Tensor,
        positions: torch.Tensor,
        streams: torch.Tensor,
    ) -> None:
        """Stage the rows of a span's tokens, embedded [t, D] and with streams [t, n, D] after them."""
        c = self.config
        hidden = streams.float()
        skipped = 0 if cache.hidden is not None else 1
        if not span.all_kept:
            skipped = max(skipped, span.tokens - c.sliding_window)
        known = [] if cache.hidden is None else [cache.hidden[None]]
        before = (
            torch.cat([*known, hidden[:-1]])[-(span.tokens - skipped) :]
            if skipped < span.tokens
            else hidden[:0]
        )
        x = self._input(embedded[skipped:], before)
        x, _, _ = self.block.mixed(x, self.draft.block.hc_attn)
        x = ops.rms_norm(x, self.draft.block.attn_norm, c.rms_norm_eps)
        rows = self.block.attention.own_rows(x, positions[skipped:])
        stored = cache.ring.form.stored(rows)
        cache.stage(span.position + skipped, stored, hidden, all_kept=span.all_kept)

    def logits(self, cache: DraftCache, hidden: torch.Tensor, position: int, token: int) -> torch.Tensor:
        """F32 [vocabulary] for the token after `token`, which would be the one at `position`; `hidden` F32 [n, D] are
        the streams before it. Leaves nothing staged."""
        c, device = self.config, hidden.device
        ids = torch.tensor([token], device=device)
        embedded = ops.rows_of(self.weights.embed, ids).to(self.activations)
        streams = self._input(embedded, hidden[None])
        span = Span(0, 1, position, all_kept=True)
        at = torch.tensor([position], device=device)
        try:
            streams = self.block(streams, ids, at, [span], [cache.layer], None)
        finally:
            cache.drop()
        w = self.draft.hc_head
        x = ops.collapse_streams(streams, w.fn, w.base, w.scale, norm_eps=c.rms_norm_eps, eps=c.hc_eps)
        x = ops.rms_norm(x, self.draft.norm, c.rms_norm_eps)
        return ops.product(x.float(), self.weights.head)[0]

    def _input(self, embedded: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """embedded [t, D], hidden F32 [t, n, D] → streams [t, n, D]. Stream by stream, so few tokens are few rows."""
        eps, w = self.config.rms_norm_eps, self.draft
        token = ops.product(ops.rms_norm(embedded, w.enorm, eps), w.e_proj)
        each = [
            token + ops.product(ops.rms_norm(stream.to(self.activations), w.hnorm, eps), w.h_proj)
            for stream in hidden.unbind(1)
        ]
        return torch.stack(each, dim=1)
