"""Rows that only ever grow, shared by a context and its forks until they differ.

Owns: the memory behind them and who may write where. A holder (a context, a fork, a mark) knows how many rows are its
own. It writes after them in place as long as nobody else's rows reach further, and takes a copy of its own rows first
where somebody's do. Rows are staged by a pass, and become the holder's when the pass is committed. Knows no format.
"""

import weakref

import torch

GROWTH = 1.5
"""Memory grows by this factor at least: copying stays linear in what is written, at most a third lies idle."""


class _Memory:
    """[capacity, width], and who holds rows in it."""

    def __init__(self, width: int, dtype: torch.dtype, device: torch.device, capacity: int = 0) -> None:
        self.rows = torch.empty(capacity, width, dtype=dtype, device=device)
        self.holders: weakref.WeakSet[CompressedRows] = weakref.WeakSet()

    def make_room(self, rows: int, *, exactly: bool = False) -> None:
        """Have room for so many rows. What somebody holds is kept."""
        capacity, width = self.rows.shape
        if rows <= capacity:
            return
        size = rows if exactly else max(rows, int(capacity * GROWTH), 8)
        grown = torch.empty(size, width, dtype=self.rows.dtype, device=self.rows.device)
        kept = max((holder.reach for holder in self.holders), default=0)
        grown[:kept] = self.rows[:kept]
        self.rows = grown


class CompressedRows:
    """One holder. `length`: rows that are its own; `staged`: rows after them that an open pass has written."""

    def __init__(self, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self._memory = _Memory(width, dtype, device)
        self._memory.holders.add(self)
        self.length = 0
        self.staged = 0

    @property
    def reach(self) -> int:
        """Up to where this holder's rows lie, staged ones too."""
        return self.length + self.staged

    @property
    def rows(self) -> torch.Tensor:
        """A view of all of them, staged ones too, [reach, width]. Valid until rows are staged again."""
        return self._memory.rows[: self.reach]

    @property
    def kept(self) -> torch.Tensor:
        """A view of its own, [length, width]."""
        return self._memory.rows[: self.length]

    @property
    def allocated_bytes(self) -> int:
        """What the memory behind it takes, which other holders may share."""
        return self._memory.rows.nbytes

    def reserve(self, rows: int) -> None:
        """Have room for so many rows, so that none of them is copied to make room."""
        self._memory.make_room(rows, exactly=True)

    def stage(self, rows: torch.Tensor) -> None:
        """Write rows [n, width] after its own; what was staged before is forgotten."""
        self.staged = 0
        if not len(rows):
            return  # nothing is written, so nobody's rows are in the way
        memory = self._memory
        if any(other is not self and other.reach > self.length for other in memory.holders):
            own = _Memory(memory.rows.shape[1], memory.rows.dtype, memory.rows.device)
            own.make_room(int((self.length + len(rows)) * GROWTH))
            own.rows[: self.length] = self.kept
            memory.holders.discard(self)
            own.holders.add(self)
            self._memory = memory = own
        memory.make_room(self.length + len(rows))
        memory.rows[self.length : self.length + len(rows)] = rows
        self.staged = len(rows)

    def prepare(self, count: int) -> torch.Tensor:
        """Room for exactly the first `count` rows, to be written and settled: [count, width]. Only for an empty holder
        that nobody shares."""
        self.reserve(count)
        self.staged = count
        return self.rows

    def settle(self, length: int) -> None:
        """The first `length` rows are its own now, none is staged. Raises ValueError where there are fewer."""
        if not 0 <= length <= self.reach:
            raise ValueError(f"{length} rows of {self.reach} cannot be kept")
        self.length, self.staged = length, 0

    def fork(self) -> "CompressedRows":
        """Another holder of its own rows."""
        twin = CompressedRows.__new__(CompressedRows)
        twin._memory, twin.length, twin.staged = self._memory, self.length, 0
        self._memory.holders.add(twin)
        return twin
