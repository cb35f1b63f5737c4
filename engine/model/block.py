"""One layer of the network: attention and experts, each between a mixing and a merging of the streams.

Owns: `Block`, the layer (DeepSeek-V4 report §2.2: X' = B X + C F(A X), for both sub-layers), and its mixture of experts
(§2.1): the router's choice, by score or by token id, the routed experts' sum and the shared one. Where experts lie is
the store's business; arithmetic is `kernels.ops`.
"""

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch

from engine.model.attention import Attention, Span
from engine.model.cache import LayerCache
from engine.model.config import NetworkConfig
from engine.model.expert_store import ExpertStore
from engine.model.watch import Watch
from engine.model.weights import BlockWeights, HyperConnectionWeights, WeightChecks
from kernels import ops


class Block:
    """Layer `layer` of ratio `ratio`; the draft block is the one after the last."""

    def __init__(
        self,
        config: NetworkConfig,
        layer: int,
        ratio: int,
        weights: BlockWeights,
        turns: torch.Tensor,
        experts: ExpertStore,
        checks: WeightChecks | None,
    ) -> None:
        self.config, self.layer, self.weights = config, layer, weights
        self.experts, self.checks = experts, checks
        self.attention = Attention(config, layer, ratio, weights.attention, turns)

    def __call__(
        self,
        streams: torch.Tensor,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        spans: Sequence[Span],
        caches: Sequence[LayerCache],
        watch: Watch | None,
    ) -> torch.Tensor:
        """streams [T, n, D], tokens and positions int64 [T] → streams after the layer."""
        w = self.weights
        x, post, comb = self.mixed(streams, w.hc_attn)
        x = ops.rms_norm(x, w.attn_norm, self.config.rms_norm_eps)
        if watch is not None:
            watch.note("attention_input", self.layer, x)
        y = self.attention(x, positions, spans, caches, watch)
        streams = ops.merge_streams(y, streams, post, comb)
        if watch is not None:
            watch.note("attention", self.layer, y)
            watch.note("attention_streams", self.layer, streams)
        x, post, comb = self.mixed(streams, w.hc_ffn)
        x = ops.rms_norm(x, w.ffn_norm, self.config.rms_norm_eps)
        if watch is not None:
            watch.note("moe_input", self.layer, x)
        y = self._experts(x, tokens, watch)
        if watch is not None:
            watch.note("moe", self.layer, y)
        streams = ops.merge_streams(y, streams, post, comb)
        if watch is not None:
            watch.note("streams", self.layer, streams)
        return streams

    def mixed(
        self, streams: torch.Tensor, weights: HyperConnectionWeights
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A sub-layer's input [T, D], and how its output and the streams become streams again."""
        c = self.config
        return ops.mix_streams(
            streams,
            weights.fn,
            weights.base,
            weights.scale,
            norm_eps=c.rms_norm_eps,
            eps=c.hc_eps,
            iterations=c.hc_sinkhorn_iters,
        )

    def _experts(self, x: torch.Tensor, tokens: torch.Tensor, watch: Watch | None) -> torch.Tensor:
        """x [T, D] → [T, D]: the routed experts' weighted sum and the shared expert."""
        c, w = self.config, self.weights.moe
        fixed = None if w.table is None else w.table[tokens].long()
        chosen, weights = self._routed(x, fixed)
        if watch is not None:
            watch.note("router_scores", self.layer, ops.router_scores(x, w.gate))
            forced = watch.choose("router_choice", self.layer, chosen)
            if forced is not None:
                chosen, weights = self._routed(x, forced)
            watch.note("router_choice", self.layer, chosen)
            watch.note("router_weights", self.layer, weights)
        look = None if self.checks is None else partial(self._look, self.checks, chosen)
        routed = self.experts.product(self.layer, x, chosen, weights, c.expert_clamp[self.layer], look)
        return routed + ops.expert(x, w.shared, c.shared_clamp[self.layer])

    def _look(self, checks: WeightChecks, chosen: torch.Tensor) -> None:
        """A first look at the numbers of those that have not been used yet; it reads them from the file."""
        wanted = cast(list[int], chosen.flatten().tolist())  # pyright: ignore[reportUnknownMemberType]
        checks.experts(self.layer, set(wanted))

    def _routed(self, x: torch.Tensor, chosen: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        c, w = self.config, self.weights.moe
        return ops.route(
            x,
            w.gate,
            bias=w.bias,
            chosen=chosen,
            used=c.num_experts_per_tok,
            scaling=c.routed_scaling_factor,
        )
