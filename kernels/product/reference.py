"""Products with matrices as they lie in the file: y = x Wᵀ, a band of W decoded at a time.

Sums are taken in F32 whatever x is, as DeepSeek's kernels accumulate. Up to `FEW_ROWS` rows of x, each is multiplied
by itself (a matrix-vector product within a decoded band), so that it has the bits that it has alone.
"""

import torch

from kernels.dequantisation.reference import decoded_rows
from kernels.few_rows import FEW_ROWS, own_row
from kernels.matrices import Matrix
from kernels.precision import at_least_f32

BAND_NUMBERS = 1 << 20
"""Of W decoded at once: 4 MiB of F32, and about as much again for what decoding needs."""


def product(x: torch.Tensor, m: Matrix) -> torch.Tensor:
    """x [..., columns] → [..., rows]."""
    return product_with_rows(x, m, 0, m.rows)


def product_with_rows(x: torch.Tensor, m: Matrix, start: int, end: int) -> torch.Tensor:
    """`product` with rows start … end-1 of `m`: [..., columns] → [..., end - start]."""
    rows = at_least_f32(x).reshape(-1, m.columns)
    step = max(1, BAND_NUMBERS // max(1, m.columns))
    bands = [
        times(rows, decoded_rows(m, slice(first, min(first + step, end))).to(rows.dtype))
        for first in range(start, end, step)
    ]
    y = bands[0] if len(bands) == 1 else torch.cat(bands, dim=-1)
    return y.view(*x.shape[:-1], end - start).to(x.dtype)


def linear(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x [..., columns] by an F32 matrix [rows, columns], in F32."""
    x = at_least_f32(x)
    return times(x.reshape(-1, w.shape[1]), w.to(x.dtype)).view(*x.shape[:-1], w.shape[0])


def rows_of(m: Matrix, ids: torch.Tensor) -> torch.Tensor:
    """Rows of `m` by number, decoded: int64 [T] → F32 [T, columns]."""
    return decoded_rows(m, ids)


def grouped_projection(x: torch.Tensor, wo_a: Matrix, groups: int) -> torch.Tensor:
    """[T, groups * columns] → [T, groups * rank]: group g of the heads by rows g * rank … of W."""
    rank = wo_a.rows // groups
    parts = x.view(x.shape[0], groups, wo_a.columns).unbind(1)
    return torch.cat(
        [product_with_rows(part, wo_a, g * rank, (g + 1) * rank) for g, part in enumerate(parts)], dim=-1
    )


def times(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x [T, columns] by w [rows, columns]: [T, rows]; few rows one by one."""
    if 0 < x.shape[0] <= FEW_ROWS:
        return torch.stack([torch.mv(w, own_row(x, t)[0]) for t in range(x.shape[0])])
    return x @ w.T
