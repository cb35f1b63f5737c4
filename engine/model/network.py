"""The DeepSeek-V4 network: tokens of one or several sequences in, logits out.

Owns: `Network`: embedding, layers, the last collapse of the streams, norm and head, and the order in which a pass over
one or several contexts goes through them (DeepSeek-V4 report §2; where it is silent, transformers' `deepseek_v4`). A
pass that is cancelled or fails changes no context. Of the few rows that `kernels` computes as if alone, each has the
very bits of a single step. Knows no file, no text and no schedule.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from engine.model.attention import Span, frequencies
from engine.model.block import Block
from engine.model.cache import SequenceCache
from engine.model.config import NetworkConfig
from engine.model.devices import exhausted
from engine.model.draft import DraftBlock
from engine.model.expert_store import ExpertStore
from engine.model.model_error import ModelError
from engine.model.row_formats import CacheFormat
from engine.model.watch import Watch
from engine.model.weights import NetworkWeights
from kernels import ops

Part = tuple[SequenceCache, torch.Tensor]
"""A context and the tokens, int64 [t], that come next in it; at least one."""
Wanted = Literal["last", "all", "none"]


class PassCancelled(Exception):  # noqa: N818 - not an error: the person asked for it
    """`cancelled()` was true between two layers; every context is as it was."""


class Network:
    """Weights lie on `device` already. `experts` counts the draft block's as one more layer. `activations`: the type
    of the streams and of what goes into products; sums are F32 in any case. `drafts`: contexts also keep what the
    draft block needs, if the weights have one."""

    def __init__(
        self,
        config: NetworkConfig,
        weights: NetworkWeights,
        *,
        cache_format: CacheFormat,
        experts: ExpertStore,
        activations: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        drafts: bool = True,
    ) -> None:
        self.config, self.weights, self.experts = config, weights, experts
        self.cache_format: CacheFormat = cache_format
        self.activations, self.device = activations, torch.device(device)
        turns = {ratio: frequencies(config, ratio, self.device) for ratio in {0, *config.compress_ratios}}
        ratios = config.compress_ratios[: config.num_hidden_layers]
        self._blocks = [
            Block(config, layer, ratio, block, turns[ratio], experts, weights.checks)
            for layer, (ratio, block) in enumerate(zip(ratios, weights.blocks, strict=True))
        ]
        self.draft: DraftBlock | None = None
        if drafts and weights.draft is not None:
            self.draft = DraftBlock(config, weights, weights.draft, turns[0], experts, activations)

    def new_cache(self) -> SequenceCache:
        """An empty context."""
        return SequenceCache(self.config, self.cache_format, self.device, drafts=self.draft is not None)

    def forward(
        self,
        parts: Sequence[Part],
        *,
        logits: Wanted = "last",
        cancelled: Callable[[], bool] | None = None,
        watch: Watch | None = None,
        commit: bool = True,
    ) -> torch.Tensor:
        """Read the tokens of each part into its context.

        logits: F32 [n, vocabulary] after each part's last token, after all tokens part by part, or of none (n = 0).
        cancelled: is asked before each layer; PassCancelled when it is true. commit: whether all tokens are committed
        at the end; else each context's pass is left open, for `SequenceCache.commit` with as many as are to be kept.
        Raises ModelError for token ids that the model does not have and for a context that would become longer than
        it can be; then, as after any other error, nothing has changed.
        """
        self._check(parts)
        caches = [cache for cache, _ in parts]
        with torch.no_grad(), self.experts.passing():
            try:
                found = self._passed(parts, logits, cancelled, watch, all_kept=not commit)
                if commit:
                    for cache in caches:
                        cache.prepare(cache.pass_tokens)
                    for cache in caches:
                        cache.commit()
                return found
            except BaseException as error:
                for cache in caches:
                    cache.drop()
                if self.device.type != "cuda" or not isinstance(error, torch.OutOfMemoryError):
                    raise
        # Said only here: while the error is at hand, what the pass had taken is not free.
        tokens = sum(len(tokens) for _, tokens in parts)
        held = max(cache.position for cache in caches)
        raise exhausted(self.config, self.device, tokens, held, self.activations)

    def propose(self, cache: SequenceCache, token: int) -> torch.Tensor | None:
        """The draft block's logits F32 [vocabulary] for the token after `token`, which comes next in `cache`; None
        where there is no draft block, or the context does not know the streams that it begins with. Changes nothing."""
        hidden = None if cache.draft is None else cache.draft.hidden
        if self.draft is None or cache.draft is None or hidden is None:
            return None
        self._check_tokens(torch.tensor([token]))
        if cache.pass_tokens:
            raise ValueError("a pass over this context is open")
        if self.weights.checks is not None:
            self.weights.checks.begin_pass()
            self.weights.checks.embedding(torch.tensor([token]))
            self.weights.checks.output()
        with torch.no_grad(), self.experts.passing():
            return self.draft.logits(cache.draft, hidden, cache.position, token)

    def _passed(
        self,
        parts: Sequence[Part],
        wanted: Wanted,
        cancelled: Callable[[], bool] | None,
        watch: Watch | None,
        *,
        all_kept: bool,
    ) -> torch.Tensor:
        spans: list[Span] = []
        for cache, tokens in parts:
            begin = spans[-1].end if spans else 0
            spans.append(Span(begin, begin + len(tokens), cache.position, all_kept))
            cache.begin(len(tokens), all_kept=all_kept)
        tokens = torch.cat([tokens for _, tokens in parts])
        checks = self.weights.checks
        if checks is not None:
            checks.begin_pass()
            checks.embedding(tokens)
        tokens = tokens.to(self.device)
        positions = torch.cat(
            [torch.arange(s.position, s.position + s.tokens, device=self.device) for s in spans]
        )
        embedded = ops.rows_of(self.weights.embed, tokens).to(self.activations)
        streams = embedded[:, None].expand(-1, self.config.hc_mult, -1).contiguous()
        for layer, block in enumerate(self._blocks):
            if cancelled is not None and cancelled():
                raise PassCancelled
            if checks is not None:
                checks.block(layer)
            held = [cache.layers[layer] for cache, _ in parts]
            streams = block(streams, tokens, positions, spans, held, watch)
        if self.draft is not None:
            if checks is not None:
                checks.block(len(self._blocks))
            for span, (cache, _) in zip(spans, parts, strict=True):
                if cache.draft is not None:
                    rows = span.rows
                    self.draft.read(cache.draft, span, embedded[rows], positions[rows], streams[rows])
        if checks is not None:
            checks.output()
        if wanted == "none":
            return torch.zeros(0, self.config.vocab_size, device=self.device)
        if wanted == "last":
            streams = streams[torch.tensor([span.end - 1 for span in spans], device=self.device)]
        return self._logits(streams)

    def _logits(self, streams: torch.Tensor) -> torch.Tensor:
        """streams [n, streams, D] → F32 [n, vocabulary]."""
        c, w = self.config, self.weights
        x = ops.collapse_streams(
            streams, w.hc_head.fn, w.hc_head.base, w.hc_head.scale, norm_eps=c.rms_norm_eps, eps=c.hc_eps
        )
        return ops.product(ops.rms_norm(x, w.norm, c.rms_norm_eps).float(), w.head)

    def _check(self, parts: Sequence[Part]) -> None:
        longest = self.config.max_position_embeddings
        if not parts or len({id(cache) for cache, _ in parts}) < len(parts):
            raise ValueError("a pass needs parts, each of a context of its own")
        for cache, tokens in parts:
            if tokens.dim() != 1 or tokens.dtype != torch.int64 or len(tokens) == 0:
                raise ValueError(f"tokens are int64 [t], t ≥ 1, not {tokens.dtype} {tuple(tokens.shape)}")
            if cache.config != self.config or cache.format != self.cache_format:
                raise ValueError("this context is another network's")
            self._check_tokens(tokens)
            if cache.position + len(tokens) > longest:
                raise ModelError(
                    "This context cannot be continued",
                    f"it would be {cache.position + len(tokens):,} tokens long, and the model is made for {longest:,}",
                    "shorten the conversation or begin another",
                )

    def _check_tokens(self, tokens: torch.Tensor) -> None:
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.config.vocab_size:
            raise ModelError(
                "These tokens cannot be read",
                f"token id {low if low < 0 else high} is not among the model's {self.config.vocab_size:,}",
                "use the tokenizer that belongs to the model",
            )
