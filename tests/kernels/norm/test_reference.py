"""RMSNorm: the definition, in the types of its operands, with gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import ops  # noqa: E402
from tests.kernels.seeded_operands import Seeded  # noqa: E402


@pytest.mark.parametrize("shape", [(0, 5), (1, 64), (3, 2, 7), (12, 33), (10, 3, 64)])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_definition(shape: tuple[int, ...], weighted: bool) -> None:
    seeded = Seeded(1)
    x, weight = seeded.normal(*shape) * 3, seeded.normal(shape[-1]) if weighted else None
    found = ops.rms_norm(x, weight, 1e-3)
    wide = x.double().numpy()
    wanted = wide / np.sqrt((wide**2).mean(axis=-1, keepdims=True) + 1e-3)
    wanted = wanted if weight is None else wanted * weight.double().numpy()
    assert found.dtype == torch.float32
    # A sum of some dozens of squares, a root, two products: fewer than 16 roundings of 2^-24.
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)


def test_half_types_are_computed_in_f32_and_rounded_once() -> None:
    seeded = Seeded(2)
    x, weight = seeded.normal(9, 64), seeded.normal(64)
    for dtype in (torch.bfloat16, torch.float16):
        found = ops.rms_norm(x.to(dtype), weight, 1e-6)
        assert torch.equal(found, ops.rms_norm(x.to(dtype).float(), weight, 1e-6).to(dtype))


def test_zeros_stay_zeros() -> None:
    assert torch.equal(ops.rms_norm(torch.zeros(2, 8), None, 1e-6), torch.zeros(2, 8))


@pytest.mark.parametrize("tokens", [2, 10])
def test_gradients(tokens: int) -> None:
    seeded = Seeded(3)
    x, weight = seeded.double(tokens, 2, 5), seeded.double(5)
    assert torch.autograd.gradcheck(lambda x, w: ops.rms_norm(x, w, 1e-3), (x, weight))
    assert torch.autograd.gradcheck(lambda x: ops.rms_norm(x, None, 1e-3), x)
