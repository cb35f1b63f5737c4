"""Operators compute in F32, or in F64 where they are given it."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels.precision import at_least_f32  # noqa: E402


def test_half_types_become_f32_and_f64_stays() -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert at_least_f32(torch.ones(2, dtype=dtype)).dtype == torch.float32
    assert at_least_f32(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
