"""Weight matrices as they lie in a file: what the operators multiply by.

Owns: `Matrix` and `ExpertMatrices`, the shapes of their bytes in each number format, and moving them between
devices. Nothing is decoded here; a matrix may be a view of a mapped file. Knows no file and no model.
"""

from dataclasses import dataclass
from typing import Literal

import torch

Kind = Literal["f32", "bf16", "f16", "q8_0", "q8", "mxfp4", "fp4", "fp8"]
"""f32, bf16, f16: plain. q8_0, mxfp4: GGUF's blocks of 32 along a row (34 and 17 bytes). fp4: the checkpoint's
(low nibble = even index) with one E8M0 scale for 32 along a row. fp8: E4M3 with one E8M0 scale for 128 x 128. q8:
q8_0's numbers with the scales apart (`device_layout`)."""

PLAIN: dict[Kind, torch.dtype] = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
BLOCK = 32
TILE = 128
_BLOCK_BYTES: dict[Kind, int] = {"q8_0": 34, "q8": 32, "mxfp4": 17, "fp4": 16}


def stored_columns(kind: Kind, columns: int) -> int:
    """How many elements of `Matrix.data` a row of so many numbers takes. Raises ValueError where it does not divide."""
    if kind in _BLOCK_BYTES:
        if columns % BLOCK:
            raise ValueError(f"a row of {columns} numbers cannot be stored as {kind}, which groups {BLOCK}")
        return columns // BLOCK * _BLOCK_BYTES[kind]
    return columns


@dataclass(frozen=True)
class Matrix:
    """A weight [rows, columns]; y = x @ matrix.T as in torch's Linear."""

    kind: Kind
    rows: int
    columns: int
    data: torch.Tensor
    """f32, bf16, f16: [rows, columns] of that type. Else uint8 [rows, stored_columns]."""
    scale: torch.Tensor | None = None
    """uint8. fp4: [rows, columns / 32]. q8: [rows, columns / 16], F16 in two bytes each. fp8: [ceil(rows / 128),
    ceil(columns / 128)]. Else None."""

    def __post_init__(self) -> None:
        wanted = (self.rows, stored_columns(self.kind, self.columns))
        dtype = PLAIN.get(self.kind, torch.uint8)
        if tuple(self.data.shape) != wanted or self.data.dtype != dtype:
            raise ValueError(
                f"{self.kind} {self.rows} x {self.columns}: data is {self.data.dtype} {self.data.shape}"
            )
        scales = {
            "fp4": (self.rows, self.columns // BLOCK),
            "q8": (self.rows, self.columns // BLOCK * 2),
            "fp8": (-(-self.rows // TILE), -(-self.columns // TILE)),
        }.get(self.kind)
        if (None if self.scale is None else tuple(self.scale.shape)) != scales:
            raise ValueError(
                f"{self.kind} {self.rows} x {self.columns}: scale does not have the shape {scales}"
            )

    @property
    def size_bytes(self) -> int:
        """What it takes, scales included."""
        return self.data.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def rows_of(self, start: int, end: int) -> "Matrix":
        """Rows start … end-1, a view. For fp8 `start` must be a multiple of 128."""
        if self.scale is None:
            scale = None
        elif self.kind == "fp8":
            if start % TILE:
                raise ValueError(f"row {start} of an fp8 matrix does not begin a tile of {TILE}")
            scale = self.scale[start // TILE : -(-end // TILE)]
        else:
            scale = self.scale[start:end]
        return Matrix(self.kind, end - start, self.columns, self.data[start:end], scale)

    def to(self, device: torch.device | str) -> "Matrix":
        """The same bytes on another device; itself where it is there already."""
        scale = None if self.scale is None else self.scale.to(device)
        return Matrix(self.kind, self.rows, self.columns, self.data.to(device), scale)


@dataclass(frozen=True)
class ExpertMatrices:
    """One routed expert: w1, w3 [intermediate, hidden] and w2 [hidden, intermediate]."""

    gate: Matrix
    up: Matrix
    down: Matrix

    @property
    def size_bytes(self) -> int:
        """What its three matrices take."""
        return self.gate.size_bytes + self.up.size_bytes + self.down.size_bytes

    def to(self, device: torch.device | str) -> "ExpertMatrices":
        """The same bytes on another device."""
        return ExpertMatrices(self.gate.to(device), self.up.to(device), self.down.to(device))
