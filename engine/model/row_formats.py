"""How a row of the context's memory is kept: plain in F32 or BF16, or packed as the release serves it.

Owns: `RowFormat`: the width and type of what is stored for one row, and both directions. A row is rounded when it is
stored and only what was stored is read, in the pass that makes it too, so a context is a function of its tokens and
not of how they were cut into passes. Knows no layer and no cache.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from kernels import ops

CacheFormat = Literal["f32", "bf16", "mixed"]
"""f32, bf16: plain. mixed: FP8 in blocks of 64 beside BF16 for the rotated dimensions, and FP4 for the indexer's keys
(DeepSeek-V4 report §2.3.4: 584 and 68 bytes for a row of 512 and a key of 128)."""

PLAIN: dict[str, torch.dtype] = {"f32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class RowFormat:
    """One kind of row of `columns` numbers. `rotated`: how many of them, the last ones, carry positions; None: a key of
    the indexer."""

    format: CacheFormat
    columns: int
    rotated: int | None

    @property
    def dtype(self) -> torch.dtype:
        """Of what is stored."""
        return PLAIN.get(self.format, torch.uint8)

    @property
    def width(self) -> int:
        """Elements of `dtype` that a row takes."""
        if self.format != "mixed":
            return self.columns
        if self.rotated is None:
            return ops.index_row_bytes(self.columns)
        return ops.row_bytes(self.columns, self.rotated)

    @property
    def packed_key(self) -> bool:
        """Whether it is a key in FP4, which is turned by a Hadamard matrix first (§2.3.1)."""
        return self.format == "mixed" and self.rotated is None

    @property
    def row_bytes(self) -> int:
        """Bytes that a row takes."""
        return self.width * self.dtype.itemsize

    def stored(self, rows: torch.Tensor) -> torch.Tensor:
        """rows [n, columns] as they are kept: [n, width]."""
        if self.format != "mixed":
            return rows.to(self.dtype)
        if self.rotated is None:
            return ops.pack_index_row(rows)
        return ops.pack_row(rows, self.rotated)

    def read(self, stored: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """stored [n, width] as numbers of `dtype`, [n, columns]; itself where it is that already."""
        if self.format != "mixed":
            return stored.to(dtype)
        if self.rotated is None:
            return ops.unpack_index_row(stored).to(dtype)
        return ops.unpack_row(stored, self.columns, self.rotated).to(dtype)
