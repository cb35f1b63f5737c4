"""What a context remembers of its tokens: the state of the network at a position.

Owns: `SequenceCache`: for each layer the window's ring, the compressors' raw rows and the compressed rows, and the
draft block's ring where there is one; staging and committing, forks, marks, cutting back, sizes. The state is a
function of the tokens alone. Layers read and stage it (`attention`, `draft`); bytes on a disk are `saved_cache`'s.

**A pass** begins with `begin(tokens)`; each layer then stages what it computed, and nothing that was committed changes
until `commit(count)`. So a pass that is cancelled or fails changes nothing, and of tokens that were guessed the first
ones can be kept. One pass may be open at a time; `begin` and `drop` forget an open one.

**Cutting back.** The state is not a list that can be cut anywhere. From position s it can be cut back to t where

- the ring still has the window - 1 rows before t: any t while s ≤ window, t ≥ s - 1 after;
- every compressor still has the raw rows of t's unfinished group: for ratio 128 t and s lie in one group (t ≥
  128 floor(s / 128)); for ratio 4 too (t ≥ 4 floor(s / 4)), or s < 8, when no group before the kept one matters;
- t = 0: always.

All layers together: any t while s < 8; t ≥ 4 floor(s / 4) while s ≤ window; else t = s - 1, unless s is a multiple
of 4. Any other place is reached by a mark, or from the beginning.
"""

from dataclasses import dataclass

import torch

from engine.model.compressor_state import OVERLAPPING, CompressorState
from engine.model.config import NetworkConfig
from engine.model.ring import Ring
from engine.model.row_formats import CacheFormat, RowFormat


class LayerCache:
    """One layer: `ring`, and where it compresses `main`, and where it chooses `index`."""

    def __init__(self, config: NetworkConfig, ratio: int, cache_format: CacheFormat, device: torch.device):
        row = RowFormat(cache_format, config.head_dim, config.qk_rope_head_dim)
        self.ratio = ratio
        self.ring = Ring(config.sliding_window, row, device)
        self.main: CompressorState | None = None
        self.index: CompressorState | None = None
        if ratio:
            series = 2 if ratio == OVERLAPPING else 1
            self.main = CompressorState(ratio, series * config.head_dim, row, device)
        if ratio == OVERLAPPING:
            key = RowFormat(cache_format, config.index_head_dim, None)
            self.index = CompressorState(ratio, 2 * config.index_head_dim, key, device)

    @property
    def compressors(self) -> list[CompressorState]:
        """Those that there are."""
        return [each for each in (self.main, self.index) if each is not None]

    def fork(self) -> "LayerCache":
        """Compressed rows shared, the rest its own."""
        twin = LayerCache.__new__(LayerCache)
        twin.ratio, twin.ring = self.ratio, self.ring.fork()
        twin.main = None if self.main is None else self.main.fork()
        twin.index = None if self.index is None else self.index.fork()
        return twin


class DraftCache:
    """The draft block's window. Its row of token p is made of p's embedding and the streams after token p - 1, so there
    is none for token 0; `hidden` F32 [streams, hidden] are those after the last token, for the next one's row. None:
    not known (nothing was read yet, or the context was cut back)."""

    def __init__(self, config: NetworkConfig, cache_format: CacheFormat, device: torch.device) -> None:
        self.layer = LayerCache(config, 0, cache_format, device)
        self.hidden: torch.Tensor | None = None
        self._staged: torch.Tensor | None = None
        self._prepared: torch.Tensor | None = None
        self.begin(0)

    @property
    def ring(self) -> Ring:
        """Where the rows lie."""
        return self.layer.ring

    @property
    def size_bytes(self) -> int:
        """Of rows and streams."""
        return self.ring.size_bytes + (0 if self.hidden is None else self.hidden.nbytes)

    def stage(self, first: int, stored: torch.Tensor, hidden: torch.Tensor, *, all_kept: bool) -> None:
        """Rows [n, width] of the pass's tokens from `first` on, and F32 [t, streams, hidden] after each of them."""
        self.ring.stage(stored, all_kept=all_kept, first=first)
        self._staged = hidden if all_kept else hidden[-1:].clone()

    def prepare(self, count: int) -> None:
        """Take the memory that `commit` of the pass's first `count` tokens needs. What is staged stays."""
        if self._staged is not None:
            self._prepared = self._staged[min(count, len(self._staged)) - 1].clone()

    def commit(self, end: int) -> None:
        """The pass's tokens before `end`, as prepared, have been read."""
        if self._prepared is None:
            return
        self.hidden, self._staged, self._prepared = self._prepared, None, None
        self.ring.commit(end)

    def drop(self) -> None:
        """Nothing is staged any more."""
        self._staged = self._prepared = None
        self.ring.drop()

    def begin(self, position: int) -> None:
        """No rows: the streams before token `position` are not known, so the next token's is the first."""
        self.ring.begin(position + 1)
        self.hidden = self._staged = self._prepared = None

    def restore(self, first: int, stored: torch.Tensor, hidden: torch.Tensor | None) -> None:
        """Rows [n, width] of the tokens from `first` on, and the streams after the last token where they are known."""
        self.ring.fill(first, stored)
        self.hidden, self._staged, self._prepared = hidden, None, None

    def fork(self) -> "DraftCache":
        """A copy of what is committed."""
        twin = DraftCache.__new__(DraftCache)
        twin.layer, twin.hidden = self.layer.fork(), self.hidden
        twin._staged = twin._prepared = None
        return twin


@dataclass(frozen=True)
class CacheMark:
    """A place to which a context can be brought back: its rings and raw rows; the compressed rows are shared."""

    state: "SequenceCache"

    @property
    def position(self) -> int:
        """How many tokens were read there."""
        return self.state.position

    @property
    def size_bytes(self) -> int:
        """What it keeps beside the rows that it shares."""
        return self.state.own_bytes


class SequenceCache:
    """Of one sequence. `position`: how many tokens are committed. `drafts`: with the draft block's part."""

    def __init__(
        self,
        config: NetworkConfig,
        cache_format: CacheFormat,
        device: torch.device | str = "cpu",
        *,
        drafts: bool = False,
    ) -> None:
        where = torch.device(device)
        self.config, self.device = config, where
        self.format: CacheFormat = cache_format
        self.position = 0
        self.layers = [
            LayerCache(config, ratio, cache_format, where)
            for ratio in config.compress_ratios[: config.num_hidden_layers]
        ]
        self.draft = DraftCache(config, cache_format, where) if drafts else None
        self.pass_tokens = 0
        """Of the open pass; 0: none is open."""
        self.all_kept = False
        """Whether fewer than all of the open pass's tokens can be committed."""
        self._prepared: int | None = None
        """For how many tokens of the open pass memory was taken."""

    @property
    def size_bytes(self) -> int:
        """What is in use, without the draft block's part: window, raw rows, compressed rows."""
        states = sum(each.size_bytes for layer in self.layers for each in layer.compressors)
        return states + sum(layer.ring.size_bytes for layer in self.layers)

    @property
    def draft_bytes(self) -> int:
        """What the draft block's part adds."""
        return 0 if self.draft is None else self.draft.size_bytes

    @property
    def own_bytes(self) -> int:
        """What a fork or a mark copies: all but the compressed rows."""
        shared = sum(
            each.rows.length * each.form.row_bytes for layer in self.layers for each in layer.compressors
        )
        return self.size_bytes - shared + self.draft_bytes

    def reserve(self, tokens: int) -> None:
        """Have room for the compressed rows of so many tokens, so that none is copied to make room."""
        for layer in self.layers:
            for each in layer.compressors:
                each.rows.reserve(tokens // each.ratio)

    def begin(self, tokens: int, *, all_kept: bool) -> None:
        """Open a pass over the next `tokens`. `all_kept`: any number of them may be committed, so all that they need is
        staged; else only all of them may, and no more is staged than that needs."""
        self.drop()
        self.pass_tokens, self.all_kept = tokens, all_kept

    def commit(self, count: int | None = None) -> None:
        """Close the pass: its first `count` tokens (None: all) have been read. Raises ValueError for other numbers.

        Where there is no memory for it the pass stays open, and nothing has changed."""
        count = self.pass_tokens if count is None else count
        if self._prepared != count:
            self.prepare(count)
        self._prepared = None
        if count == 0:
            self.drop()
            return
        end = self.position + count
        for layer in self.layers:  # from here on no memory is taken, so nothing fails half way
            layer.ring.commit(end)
            for each in layer.compressors:
                each.commit(end)
        if self.draft is not None:
            self.draft.commit(end)
        self.position, self.pass_tokens = end, 0

    def prepare(self, count: int) -> None:
        """Take the memory that `commit(count)` needs, which then cannot fail: for contexts that are to be committed all
        or none. Raises ValueError as it does."""
        tokens = self.pass_tokens
        if not 0 <= count <= tokens or (count < tokens and not self.all_kept):
            raise ValueError(f"{count} tokens of a pass over {tokens} cannot be kept")
        self._prepared = None
        if count:
            for layer in self.layers:
                for each in layer.compressors:
                    each.prepare(self.position + count)
            if self.draft is not None:
                self.draft.prepare(count)
        self._prepared = count

    def drop(self) -> None:
        """Close the pass as if it had never been."""
        for layer in self.layers:
            layer.ring.drop()
            for each in layer.compressors:
                each.drop()
        if self.draft is not None:
            self.draft.drop()
        self.pass_tokens, self._prepared = 0, None

    def fork(self) -> "SequenceCache":
        """Another context with the same tokens. Compressed rows are shared until the two differ; whichever adds rows
        while the other has some there takes a copy. An open pass is not part of it."""
        twin = SequenceCache.__new__(SequenceCache)
        twin.config, twin.format, twin.device = self.config, self.format, self.device
        twin.position = self.position
        twin.layers = [layer.fork() for layer in self.layers]
        twin.draft = None if self.draft is None else self.draft.fork()
        twin.pass_tokens, twin.all_kept, twin._prepared = 0, False, None
        return twin

    def mark(self) -> CacheMark:
        """This place, to come back to."""
        return CacheMark(self.fork())

    def rewind(self, mark: CacheMark) -> None:
        """Be what it was at `mark`, which stays valid. It must be a mark of this context or of one it was forked from;
        what was open is dropped."""
        then = mark.state.fork()
        self.layers, self.draft, self.position = then.layers, then.draft, then.position
        self.pass_tokens, self._prepared = 0, None

    def can_cut(self, position: int) -> bool:
        """Whether it can be cut back to `position` without a mark (the module's text says where)."""
        if position in (0, self.position):
            return True
        return 0 < position < self.position and all(
            layer.ring.can_end(position) and all(each.can_end(position) for each in layer.compressors)
            for layer in self.layers
        )

    def cut(self, position: int) -> None:
        """Only the first `position` tokens. Raises ValueError where that cannot be. Drafts begin anew there."""
        if not self.can_cut(position):
            raise ValueError(f"a context of {self.position} tokens cannot be cut back to {position}")
        self.drop()
        if position == self.position:
            return
        if position == 0:
            empty = SequenceCache(self.config, self.format, self.device, drafts=self.draft is not None)
            self.layers, self.draft, self.position = empty.layers, empty.draft, 0
            return
        for layer in self.layers:
            layer.ring.cut(position)
            for each in layer.compressors:
                each.cut(position)
        if self.draft is not None:
            self.draft.begin(position)
        self.position = position
