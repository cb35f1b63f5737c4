"""Where the tests of Triton kernels run, and random operands for them.

On an NVIDIA GPU; without one they skip. With TRITON_INTERPRET=1 and triton installed they run on the CPU, slowly:
for whoever changes a kernel and has no GPU at hand.
"""

import os
from collections.abc import Callable

import numpy as np
import pytest

from kernels.formats import encode_q8_0

torch = pytest.importorskip("torch", reason="torch is not installed")

from kernels.device_layout import laid_out  # noqa: E402
from kernels.matrices import BLOCK, TILE, Kind, Matrix  # noqa: E402

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
gpu = pytest.mark.gpu
needed = pytest.mark.skipif(
    not (INTERPRETED or torch.cuda.is_available()), reason="a Triton kernel needs an NVIDIA GPU"
)


def random_matrix(kind: Kind, rows: int, columns: int, seed: int = 0) -> Matrix:
    """Numbers of about 1 / sqrt(columns), on the CPU, as a file has them."""
    random = np.random.default_rng(seed)
    if kind in ("f32", "bf16", "f16"):
        numbers = torch.from_numpy(random.standard_normal((rows, columns), np.float32)) * columns**-0.5
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[kind]
        return Matrix(kind, rows, columns, numbers.to(dtype))
    if kind == "q8_0":
        numbers = random.standard_normal((rows, columns), np.float32) * columns**-0.5
        return Matrix(kind, rows, columns, torch.from_numpy(encode_q8_0(numbers)))
    middle = 127 - int(np.log2(columns) / 2)
    if kind == "fp8":
        codes = random.integers(0, 256, (rows, columns), dtype=np.uint8)
        codes[(codes & 127) == 127] = 0  # NaN
        shape = (-(-rows // TILE), -(-columns // TILE))
        scale = random.integers(middle - 8, middle - 6, shape, dtype=np.uint8)
        return Matrix(kind, rows, columns, torch.from_numpy(codes), torch.from_numpy(scale))
    scale = random.integers(middle - 3, middle, (rows, columns // BLOCK), dtype=np.uint8)
    codes = random.integers(0, 256, (rows, columns // BLOCK, 16), dtype=np.uint8)
    if kind == "fp4":
        return Matrix(kind, rows, columns, torch.from_numpy(codes.reshape(rows, -1)), torch.from_numpy(scale))
    assert kind == "mxfp4"
    blocks = np.concatenate((scale[..., None], codes), axis=-1).reshape(rows, -1)
    return Matrix(kind, rows, columns, torch.from_numpy(blocks))


def on_gpu(m: Matrix) -> Matrix:
    """As a GPU has it."""
    return laid_out(m, DEVICE)


def error(found: "torch.Tensor", wanted: "torch.Tensor") -> float:
    """‖found - wanted‖ / ‖wanted‖."""
    found, wanted = found.double().cpu(), wanted.double().cpu()
    assert found.shape == wanted.shape
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-30))


def alone_and_together(operator: "Callable[..., torch.Tensor]", *by_row: "torch.Tensor") -> None:
    """Up to 8 rows together have the bits of each alone."""
    together = operator(*by_row)
    for t in range(len(by_row[0])):
        alone = operator(*(rows[t : t + 1].clone() for rows in by_row))
        assert torch.equal(alone[0], together[t]), t
