"""What a compressor remembers between tokens: raw rows of a group that is not whole yet, and the rows it has made.

Owns: `CompressorState`: which tokens' raw rows (F32, before pooling) are still needed, and how a pass stages more of
them. Ratio 4 pools each group together with the one before it (DeepSeek-V4 report §2.3.1, eq. 11), so the last whole
group's raw rows stay; ratio 128 (§2.3.2) keeps none. Knows no weights.
"""

from dataclasses import dataclass

import torch

from engine.model.compressed_rows import CompressedRows
from engine.model.row_formats import RowFormat

OVERLAPPING = 4
"""The ratio whose groups are pooled with the one before."""


def first_needed(ratio: int, position: int) -> int:
    """The first token whose raw row is still needed when `position` tokens have been read."""
    return max(0, position // ratio - (1 if ratio == OVERLAPPING else 0)) * ratio


@dataclass(frozen=True)
class Groups:
    """Whole groups that a pass completes. kv, gate [n * ratio, width]; previous: the same of the group before them;
    `first`: the number of the first one."""

    first: int
    kv: torch.Tensor
    gate: torch.Tensor
    previous: tuple[torch.Tensor, torch.Tensor] | None


class CompressorState:
    """Of one compressor: `raw_width` numbers for each token, rows of `form` for each group."""

    def __init__(self, ratio: int, raw_width: int, form: RowFormat, device: torch.device) -> None:
        self.ratio, self.form = ratio, form
        self.position = 0
        self.first = 0
        self.kv = torch.zeros(0, raw_width, dtype=torch.float32, device=device)
        self.gate = torch.zeros(0, raw_width, dtype=torch.float32, device=device)
        self.rows = CompressedRows(form.width, form.dtype, device)
        self._staged: tuple[int, torch.Tensor, torch.Tensor] | None = None
        self._prepared: tuple[int, torch.Tensor, torch.Tensor] | None = None

    @property
    def size_bytes(self) -> int:
        """Of raw rows and rows."""
        return self.kv.nbytes + self.gate.nbytes + self.rows.length * self.form.row_bytes

    def stage(self, kv: torch.Tensor, gate: torch.Tensor, *, all_kept: bool) -> Groups:
        """Raw rows [n, raw_width] of the next tokens; gives the groups that are whole with them. The rows made of these
        are staged by `self.rows.stage`. Unless `all_kept` only all of the tokens can be committed."""
        kv, gate = torch.cat([self.kv, kv]), torch.cat([self.gate, gate])
        end = self.first + len(kv)
        begin = self.position // self.ratio * self.ratio - self.first
        whole = end // self.ratio * self.ratio - self.first
        overlap = self.ratio == OVERLAPPING and self.position >= self.ratio
        before = slice(begin - self.ratio, begin)
        kept = self.first if all_kept else first_needed(self.ratio, end)
        tail = kept - self.first
        self._staged = (kept, kv[tail:].clone(), gate[tail:].clone())
        return Groups(
            self.position // self.ratio,
            kv[begin:whole],
            gate[begin:whole],
            (kv[before], gate[before]) if overlap else None,
        )

    def prepare(self, end: int) -> None:
        """Take the memory that `commit` needs, which then cannot fail. What is staged stays, for another end."""
        if self._staged is None:
            return
        kept, kv, gate = self._staged
        first = first_needed(self.ratio, end)
        tail = slice(first - kept, end - kept)
        self._prepared = (first, kv[tail].clone(), gate[tail].clone())

    def commit(self, end: int) -> None:
        """The staged tokens before `end`, as prepared, have been read; the rows of their whole groups are there."""
        if self._prepared is None:
            return
        self.first, self.kv, self.gate = self._prepared
        self.position, self._staged, self._prepared = end, None, None
        self.rows.settle(end // self.ratio)

    def drop(self) -> None:
        """Nothing is staged any more."""
        self._staged = self._prepared = None
        self.rows.settle(self.rows.length)

    def can_end(self, end: int) -> bool:
        """Whether it can be cut back to `end`: the raw rows that are needed there must be among those kept."""
        return first_needed(self.ratio, end) >= self.first

    def cut(self, end: int) -> None:
        """As after `end` tokens. It must be that `can_end`."""
        first = first_needed(self.ratio, end)
        tail = slice(first - self.first, end - self.first)
        self.kv, self.gate = self.kv[tail].clone(), self.gate[tail].clone()
        self.first, self.position = first, end
        self.rows.settle(end // self.ratio)

    def restore(self, position: int, kv: torch.Tensor, gate: torch.Tensor) -> None:
        """As after `position` tokens, with the raw rows that are needed there; the rows made are restored apart."""
        self.first, self.position = first_needed(self.ratio, position), position
        self.kv, self.gate = kv, gate

    def fork(self) -> "CompressorState":
        """Shares the rows, and the raw ones, which are never written over."""
        twin = CompressorState.__new__(CompressorState)
        twin.ratio, twin.form, twin.position, twin.first = self.ratio, self.form, self.position, self.first
        twin.kv, twin.gate, twin.rows = self.kv, self.gate, self.rows.fork()
        twin._staged = twin._prepared = None
        return twin
