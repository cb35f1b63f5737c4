import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from kernels.dequantisation.reference import dequantised  # noqa: E402
from kernels.device_layout import laid_out  # noqa: E402
from tests.kernels.gpu_tensors import random_matrix  # noqa: E402


@pytest.mark.parametrize(("kind", "apart"), [("mxfp4", "fp4"), ("q8_0", "q8")])
def test_planes_hold_the_same_numbers(kind: str, apart: str) -> None:
    m = random_matrix(kind, 7, 96)
    found = laid_out(m, "cpu")
    assert found.kind == apart
    assert found.data.is_contiguous() and found.scale is not None and found.scale.is_contiguous()
    assert torch.equal(dequantised(found), dequantised(m))


@pytest.mark.parametrize("kind", ["f32", "bf16", "fp8", "fp4"])
def test_other_kinds_stay_what_they_are(kind: str) -> None:
    m = random_matrix(kind, 7, 96)
    found = laid_out(m, "cpu")
    assert found.kind == kind
    assert torch.equal(found.data, m.data)
