"""Operands for tests of the operators: seeded tensors, matrices of every kind, experts. Needs torch."""

from typing import Any

import numpy as np
import torch

from kernels import formats
from kernels.matrices import ExpertMatrices, Kind, Matrix

KINDS: tuple[Kind, ...] = ("f32", "bf16", "f16", "q8_0", "mxfp4", "fp4", "fp8")


class Seeded:
    """A generator of operands; the same seed gives the same."""

    def __init__(self, seed: int = 0) -> None:
        self._torch = torch.Generator().manual_seed(seed)
        self._numpy = np.random.default_rng(seed)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Of the standard normal distribution."""
        return torch.randn(*shape, generator=self._torch, dtype=dtype)

    def double(self, *shape: int) -> torch.Tensor:
        """Normal, F64, with a gradient wanted: what `gradcheck` takes."""
        return self.normal(*shape, dtype=torch.float64).requires_grad_()

    def whole(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """int64, low … high-1."""
        return torch.randint(low, high, shape, generator=self._torch)

    def matrix(self, kind: Kind, rows: int, columns: int) -> tuple[Matrix, Any]:
        """A matrix of numbers of about size one, and those numbers as float32 by `kernels.formats`."""
        plain = self.normal(rows, columns)
        if kind == "f32":
            return Matrix(kind, rows, columns, plain), plain.numpy()
        if kind in ("bf16", "f16"):
            short = plain.to(torch.bfloat16 if kind == "bf16" else torch.float16)
            return Matrix(kind, rows, columns, short), short.float().numpy()
        if kind == "q8_0":
            blocks = formats.encode_q8_0(plain.numpy())
            return Matrix(kind, rows, columns, torch.from_numpy(blocks)), formats.decode_q8_0(blocks)
        if kind == "fp8":
            code, scale = (
                self._bytes(0, 256, rows, columns),
                self._bytes(119, 124, -(-rows // 128), -(-columns // 128)),
            )
            code[(code & 127) == 127] = 0x38
            data = torch.from_numpy(code), torch.from_numpy(scale)
            return Matrix(kind, rows, columns, *data), formats.decode_fp8_blocks(code, scale)
        code, scale = self._bytes(0, 256, rows, columns // 2), self._bytes(124, 128, rows, columns // 32)
        numbers = formats.decode_fp4(code, scale)
        if kind == "fp4":
            return Matrix(kind, rows, columns, torch.from_numpy(code), torch.from_numpy(scale)), numbers
        return Matrix(kind, rows, columns, torch.from_numpy(formats.fp4_to_mxfp4(code, scale))), numbers

    def bank(self, count: int, hidden: int, inner: int, kind: Kind = "f32") -> "Bank":
        """So many experts."""
        pairs = [
            [self.matrix(kind, *shape) for shape in ((inner, hidden), (inner, hidden), (hidden, inner))]
            for _ in range(count)
        ]
        return Bank(
            [ExpertMatrices(*(matrix for matrix, _ in three)) for three in pairs],
            [[numbers for _, numbers in three] for three in pairs],
        )

    def _bytes(self, low: int, high: int, *shape: int) -> Any:
        return self._numpy.integers(low, high, shape, dtype=np.uint8)


class Bank:
    """Experts in memory; `numbers[e]` are the three matrices of one as float32 arrays."""

    def __init__(self, experts: list[ExpertMatrices], numbers: list[list[Any]]) -> None:
        self._experts, self.numbers = experts, numbers
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self._experts)

    def matrices(self, expert: int) -> ExpertMatrices:
        """One of them; noted in `asked`."""
        self.asked.append(expert)
        return self._experts[expert]
