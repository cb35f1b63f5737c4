import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed: it comes with torch's CUDA builds")

from kernels.device_layout import laid_out  # noqa: E402
from kernels.experts.triton_slots import unpack  # noqa: E402
from tests.kernels.gpu_tensors import DEVICE, gpu, needed, random_matrix  # noqa: E402

pytestmark = [gpu, needed]


@pytest.mark.parametrize("rows", [1, 37])
def test_the_planes_are_those_of_the_layout(rows: int) -> None:
    m = random_matrix("mxfp4", rows, 288)
    wanted = laid_out(m, "cpu")
    assert wanted.scale is not None
    codes, scale = torch.zeros_like(wanted.data, device=DEVICE), torch.zeros_like(wanted.scale, device=DEVICE)
    unpack(m.data.to(DEVICE), codes, scale)
    assert torch.equal(codes.cpu(), wanted.data)
    assert torch.equal(scale.cpu(), wanted.scale)
