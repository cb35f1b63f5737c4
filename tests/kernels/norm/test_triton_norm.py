import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed: it comes with torch's CUDA builds")

from kernels.norm import reference, triton_norm  # noqa: E402
from tests.kernels.gpu_tensors import DEVICE, alone_and_together, error, gpu, needed  # noqa: E402

pytestmark = [gpu, needed]


@pytest.mark.parametrize("shape", [(0, 40), (1, 40), (9, 4, 512), (3, 1000)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_norm_is_the_reference_s(shape: tuple[int, ...], weighted: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(shape) * 3, torch.rand(shape[-1]) if weighted else None
    found = triton_norm.rms_norm(x.to(DEVICE), None if weight is None else weight.to(DEVICE), 1e-6)
    assert error(found, reference.rms_norm(x.double(), weight, 1e-6)) < 1e-6
    rounded = triton_norm.rms_norm(
        x.bfloat16().to(DEVICE), None if weight is None else weight.to(DEVICE), 1e-6
    )
    assert rounded.dtype == torch.bfloat16
    assert (
        error(rounded, reference.rms_norm(x.bfloat16().double(), weight, 1e-6)) < 4e-3
    )  # 2^-9 at most; 2^-8 by the interpreter


def test_a_few_rows_have_the_bits_of_each_alone() -> None:
    alone_and_together(lambda x: triton_norm.rms_norm(x, None, 1e-6), torch.randn(5, 2, 96, device=DEVICE))
