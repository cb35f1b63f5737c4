"""One layer's attention: the window's rows and compressed ones, read from a context and staged there.

Owns: `Attention`: queries, the row of each token, compressors, the indexer's choice and the output projection, in the
order of the DeepSeek-V4 report §2.3.1 (compressed by 4, with a choice), §2.3.2 (by 128) and §2.3.3 (window, RoPE turned
back, sinks). Dense products are taken over all sequences' tokens together, everything else sequence by sequence.
Arithmetic is `kernels.ops`; what is remembered is `cache`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.model.cache import LayerCache
from engine.model.compressor_state import OVERLAPPING, CompressorState
from engine.model.config import NetworkConfig
from engine.model.row_formats import RowFormat
from engine.model.watch import Watch
from engine.model.weights import AttentionWeights, CompressorWeights, IndexerWeights
from kernels import ops

SCORES_AT_ONCE = 1 << 22
"""Scores of the indexer held at once, 16 MiB; choosing from them takes a few times as much."""
GATHERED_TOKENS = 64
"""Tokens whose chosen rows are unpacked together, where rows are packed."""
QUERIES_AT_ONCE = 512
"""Tokens whose queries are there at once: 64 MiB of F32 at Flash's shape, however long a pass is."""


@dataclass(frozen=True)
class Span:
    """One sequence's tokens of a pass: rows `begin` … `end` - 1 of its activations, from `position` on in the
    sequence. `all_kept`: as in `SequenceCache.begin`."""

    begin: int
    end: int
    position: int
    all_kept: bool

    @property
    def rows(self) -> slice:
        """Its rows of the activations."""
        return slice(self.begin, self.end)

    @property
    def tokens(self) -> int:
        """How many."""
        return self.end - self.begin


def frequencies(config: NetworkConfig, ratio: int, device: torch.device) -> torch.Tensor:
    """Of RoPE in layers of `ratio`: those that compress have another base, and stretched positions."""
    rotated, yarn = config.qk_rope_head_dim, config.yarn
    if ratio == 0:
        return ops.rotary_frequencies(config.rope_theta, rotated, None, device)
    stretched = None
    if yarn is not None:
        stretched = (yarn.factor, yarn.original_max_position_embeddings, yarn.beta_fast, yarn.beta_slow)
    return ops.rotary_frequencies(config.compress_rope_theta, rotated, stretched, device)


class Attention:
    """Of one layer, numbered `layer` for who watches."""

    def __init__(
        self, config: NetworkConfig, layer: int, ratio: int, weights: AttentionWeights, turns: torch.Tensor
    ) -> None:
        self.config, self.layer, self.ratio = config, layer, ratio
        self.weights, self.turns = weights, turns

    def __call__(
        self,
        x: torch.Tensor,
        positions: torch.Tensor,
        spans: Sequence[Span],
        caches: Sequence[LayerCache],
        watch: Watch | None,
    ) -> torch.Tensor:
        """x [T, D], positions int64 [T] → [T, D]; stages the tokens' rows in each span's cache."""
        near = self._staged_rows(x, positions, spans, caches, watch)
        step = len(x) if watch is not None else QUERIES_AT_ONCE
        parts = [
            self._queried(x[t : t + step], positions[t : t + step], t, spans, caches, near, watch)
            for t in range(0, len(x), step)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _staged_rows(
        self,
        x: torch.Tensor,
        positions: torch.Tensor,
        spans: Sequence[Span],
        caches: Sequence[LayerCache],
        watch: Watch | None,
    ) -> list[torch.Tensor]:
        """Stage what is remembered of the tokens. Gives for each span the rows that its windows lie in: those before
        it, at most window - 1, and its own."""
        c, w = self.config, self.weights
        own = self.own_rows(x, positions)
        main = None if w.compressor is None else _raw(x, w.compressor)
        index = None if w.indexer is None else _raw(x, w.indexer.compressor)
        near: list[torch.Tensor] = []
        for span, cache in zip(spans, caches, strict=True):
            if main is not None and w.compressor is not None and cache.main is not None:
                self._compress(cache.main, main, w.compressor, span, c.head_dim, "compressed", watch)
            if index is not None and w.indexer is not None and cache.index is not None:
                of_index = w.indexer.compressor
                self._compress(cache.index, index, of_index, span, c.index_head_dim, "index_keys", watch)
            stored = cache.ring.form.stored(own[span.rows])
            rows = torch.cat([cache.ring.last(c.sliding_window - 1), stored])
            cache.ring.stage(stored, all_kept=span.all_kept)
            near.append(cache.ring.form.read(rows, x.dtype))
        return near

    def _queried(
        self,
        x: torch.Tensor,
        positions: torch.Tensor,
        begin: int,
        spans: Sequence[Span],
        caches: Sequence[LayerCache],
        near: Sequence[torch.Tensor],
        watch: Watch | None,
    ) -> torch.Tensor:
        """The output of tokens `begin` … of the pass, x [t, D] → [t, D], once all of its rows are staged."""
        c, w = self.config, self.weights
        latent = ops.rms_norm(ops.product(x, w.wq_a), w.q_norm, c.rms_norm_eps)
        q = ops.product(latent, w.wq_b).view(len(x), c.num_attention_heads, c.head_dim)
        q = ops.rotate(ops.rms_norm(q, None, c.rms_norm_eps), positions, self.turns)
        out: list[torch.Tensor] = []
        for span, cache, rows in zip(spans, caches, near, strict=True):
            first, end = max(span.begin - begin, 0), min(span.end - begin, len(x))
            if first >= end:
                continue
            some = slice(first, end)
            visible = (positions[some] + 1) // self.ratio if self.ratio else None
            if visible is not None and w.indexer is not None and cache.index is not None:
                visible = self._choice(
                    cache.index, w.indexer, x[some], latent[some], positions[some], visible, watch
                )
            after = span.end - begin - end
            own = rows[: len(rows) - after]
            out.append(self._attended(q[some], own, cache, visible))
        attended = ops.rotate(
            out[0] if len(out) == 1 else torch.cat(out), positions, self.turns, inverse=True
        )
        grouped = ops.grouped_projection(attended.flatten(1), w.wo_a, c.o_groups)
        return ops.product(grouped, w.wo_b)

    def own_rows(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """x [T, D] → [T, d]: each token's own row, key and value in one, before it is stored."""
        c, w = self.config, self.weights
        rows = ops.rms_norm(ops.product(x, w.wkv), w.kv_norm, c.rms_norm_eps)
        return ops.rotate(rows, positions, self.turns)

    def _compress(
        self,
        state: CompressorState,
        raw: tuple[torch.Tensor, torch.Tensor],
        weights: CompressorWeights,
        span: Span,
        columns: int,
        name: str,
        watch: Watch | None,
    ) -> None:
        """Stage the span's raw rows, and the rows of the groups that are whole with them. A row has the position of
        its group's first token."""
        groups = state.stage(raw[0][span.rows], raw[1][span.rows], all_kept=span.all_kept)
        count = len(groups.kv) // self.ratio
        if count == 0:
            state.rows.stage(state.rows.kept[:0])
            made = groups.kv.new_zeros(0, columns)
        else:
            if self.ratio == OVERLAPPING:
                pooled = ops.compress_csa(groups.kv, groups.gate, weights.ape, groups.previous)
            else:
                pooled = ops.compress_hca(groups.kv, groups.gate, weights.ape)
            numbers = torch.arange(groups.first, groups.first + count, device=pooled.device)
            made = ops.rms_norm(pooled, weights.norm, self.config.rms_norm_eps)
            made = ops.rotate(made, numbers * self.ratio, self.turns)
            if state.form.packed_key:
                made = ops.hadamard(made)
            state.rows.stage(state.form.stored(made))
        if watch is not None:
            made = state.form.read(state.rows.rows[state.rows.length :], torch.float32)
            watch.note(name, self.layer, ops.hadamard(made) if state.form.packed_key else made)

    def _choice(
        self,
        state: CompressorState,
        weights: IndexerWeights,
        x: torch.Tensor,
        latent: torch.Tensor,
        positions: torch.Tensor,
        limits: torch.Tensor,
        watch: Watch | None,
    ) -> torch.Tensor:
        """int64 [T, k]: the compressed rows that each token attends to. None is scored where none is left out."""
        c, rows = self.config, state.rows.reach
        numbers = torch.arange(rows, device=x.device)
        if rows <= c.index_topk and watch is None:
            return torch.where(numbers < limits[:, None], numbers, -1)
        q = ops.product(latent, weights.wq_b).view(len(x), c.index_n_heads, c.index_head_dim)
        q = ops.rotate(q, positions, self.turns)
        if state.form.packed_key:
            q = ops.fake_fp4(ops.hadamard(q))
        scale = (c.index_head_dim * c.index_n_heads) ** -0.5
        heads = ops.product(x.float(), weights.weights_proj) * scale
        keys = state.form.read(state.rows.rows, q.dtype)
        choices: list[torch.Tensor] = []
        scores: list[torch.Tensor] = []
        step = max(1, SCORES_AT_ONCE // max(1, rows))
        for t in range(0, len(x), step):
            some = slice(t, t + step)
            found = ops.index_scores(q[some], keys, heads[some], limits[some])
            choices.append(ops.causal_top_k(found, limits[some], c.index_topk))
            if watch is not None:
                scores.append(found)
        choice = torch.cat(choices)
        if watch is None:
            return choice
        watch.note("index_scores", self.layer, torch.cat(scores))
        forced = watch.choose("index_choice", self.layer, choice)
        choice = choice if forced is None else forced
        watch.note("index_choice", self.layer, choice)
        return choice

    def _attended(
        self, q: torch.Tensor, near: torch.Tensor, cache: LayerCache, visible: torch.Tensor | None
    ) -> torch.Tensor:
        """q [T, H, d] of consecutive tokens; `near` ends with the row of the last of them → [T, H, d]."""
        window = self.config.sliding_window
        sinks, scale = self.weights.sinks, self.config.head_dim**-0.5
        near = near[max(0, len(near) - len(q) - window + 1) :]
        if visible is None or cache.main is None or cache.main.rows.reach == 0:
            return ops.attend(q, near, window, None, None, sinks, scale)
        form, held = cache.main.form, cache.main.rows.rows
        if visible.dim() == 1 or form.dtype == q.dtype:
            return ops.attend(q, near, window, form.read(held, q.dtype), visible, sinks, scale)
        parts: list[torch.Tensor] = []
        before = len(near) - len(q)
        for t in range(0, len(q), GATHERED_TOKENS):
            end = min(t + GATHERED_TOKENS, len(q))
            far, seen = _gathered(form, held, visible[t:end], q.dtype)
            some = near[max(0, before + t - window + 1) : before + end]
            parts.append(ops.attend(q[t:end], some, window, far, seen, sinks, scale))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _raw(x: torch.Tensor, weights: CompressorWeights) -> tuple[torch.Tensor, torch.Tensor]:
    """What a compressor pools of each token, in F32: values and gates [T, w]."""
    wide = x.float()
    return ops.product(wide, weights.wkv), ops.product(wide, weights.wgate)


def _gathered(
    form: RowFormat, held: torch.Tensor, visible: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows that any of these tokens sees, read, and `visible` in their numbers: the order stays."""
    wanted = torch.zeros(len(held), dtype=torch.bool, device=held.device)
    wanted[visible.clamp(min=0)] = True
    places = (wanted.cumsum(0) - 1)[visible.clamp(min=0)]
    return form.read(held[wanted], dtype), torch.where(visible >= 0, places, -1)
