"""Layers of small random experts in the forms of files, for tests of stores."""

import numpy as np
import torch

from kernels.formats import encode_q8_0
from kernels.matrices import ExpertMatrices, Matrix, stored_columns

HIDDEN, WIDTH = 64, 32


def matrix(kind: str, rows: int, columns: int, random: np.random.Generator) -> Matrix:
    """A random matrix of "mxfp4" or "q8_0"."""
    if kind == "q8_0":
        values = random.standard_normal((rows, columns), np.float32) * columns**-0.5
        return Matrix("q8_0", rows, columns, torch.from_numpy(encode_q8_0(values)))
    stored = random.integers(0, 256, (rows, stored_columns("mxfp4", columns)), np.uint8)
    stored.reshape(rows, -1, 17)[..., 0] = random.integers(120, 126, (rows, columns // 32))
    return Matrix("mxfp4", rows, columns, torch.from_numpy(stored))


class SmallBank:
    """One layer's."""

    def __init__(self, experts: int, seed: int = 0, *, kind: str = "mxfp4") -> None:
        random = np.random.default_rng(seed)
        shapes = ((WIDTH, HIDDEN), (WIDTH, HIDDEN), (HIDDEN, WIDTH))
        self._experts = [
            ExpertMatrices(*(matrix(kind, *shape, random) for shape in shapes)) for _ in range(experts)
        ]

    def __len__(self) -> int:
        return len(self._experts)

    def matrices(self, expert: int) -> ExpertMatrices:
        """See `ExpertBank`."""
        return self._experts[expert]
