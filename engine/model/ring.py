"""The last tokens' rows of one layer: the sliding window.

Owns: `Ring`: which tokens' rows are there, and in which of its slots. Token p lies in slot p modulo the window. What a
pass computes is staged and overwrites nothing before it is committed. Knows no attention.
"""

import torch

from engine.model.row_formats import RowFormat


class Ring:
    """Rows of tokens `first` … `end` - 1, at most `window` of them."""

    def __init__(self, window: int, form: RowFormat, device: torch.device) -> None:
        self.window, self.form = window, form
        self.first = self.end = 0
        self._slots = torch.zeros(window, form.width, dtype=form.dtype, device=device)
        self._staged: torch.Tensor | None = None
        self._staged_first = 0

    @property
    def size_bytes(self) -> int:
        """Of the rows that are there."""
        return (self.end - self.first) * self.form.row_bytes

    def last(self, count: int) -> torch.Tensor:
        """What is stored for the last `count` tokens, or for as many as there are: [≤ count, width], oldest first."""
        first = max(self.first, self.end - count)
        return self._slots[self._places(first, self.end)]

    def stage(self, stored: torch.Tensor, *, all_kept: bool, first: int | None = None) -> None:
        """Rows [n, width] of the next tokens, as they are stored. Unless `all_kept` only all of them can be committed.
        `first`: of which token the first one is, where rows were left out that no window will reach."""
        skipped = 0 if all_kept else max(0, len(stored) - self.window)
        self._staged = stored[skipped:].clone() if skipped else stored
        self._staged_first = (self.end if first is None else first) + skipped

    def commit(self, end: int) -> None:
        """The staged rows of tokens before `end` are there now, and none is staged. Takes no memory."""
        if self._staged is None:
            return
        first = max(self._staged_first, end - self.window)
        rows = self._staged[first - self._staged_first : end - self._staged_first]
        slot = first % self.window
        straight = min(len(rows), self.window - slot)
        self._slots[slot : slot + straight] = rows[:straight]
        self._slots[: len(rows) - straight] = rows[straight:]
        self.first, self.end = max(self.first, end - self.window), end
        self._staged = None

    def drop(self) -> None:
        """Nothing is staged any more."""
        self._staged = None

    def can_end(self, end: int) -> bool:
        """Whether it can be cut back to `end`: the next token looks at itself and `window` - 1 before it."""
        return max(0, end - self.window + 1) >= self.first

    def cut(self, end: int) -> None:
        """Only the rows of tokens before `end`. It must be that `can_end`."""
        self.first, self.end = min(self.first, end), end

    def begin(self, first: int) -> None:
        """No rows; the next one is that of token `first`."""
        self.first = self.end = first
        self._staged = None

    def fill(self, first: int, stored: torch.Tensor) -> None:
        """Exactly the rows [n, width] of tokens from `first` on."""
        self.first, self.end = first, first + len(stored)
        self._slots[self._places(self.first, self.end)] = stored

    def fork(self) -> "Ring":
        """A copy of what is committed."""
        twin = Ring.__new__(Ring)
        twin.window, twin.form, twin.first, twin.end = self.window, self.form, self.first, self.end
        twin._slots, twin._staged, twin._staged_first = self._slots.clone(), None, 0
        return twin

    def _places(self, first: int, end: int) -> torch.Tensor:
        return torch.arange(first, end, device=self._slots.device) % self.window
