import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed: it comes with torch's CUDA builds")

from kernels.experts import reference, triton_expert  # noqa: E402
from kernels.matrices import ExpertMatrices  # noqa: E402
from tests.kernels.gpu_tensors import (  # noqa: E402
    DEVICE,
    alone_and_together,
    error,
    gpu,
    needed,
    on_gpu,
    random_matrix,
)

pytestmark = [gpu, needed]


def made() -> ExpertMatrices:
    shapes = ((160, 96), (160, 96), (96, 160))
    return ExpertMatrices(*(random_matrix("q8_0", *shape, seed) for seed, shape in enumerate(shapes)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("tokens", [0, 1, 8, 30])
def test_the_shared_expert_is_the_reference_s(tokens: int, weighted: bool) -> None:
    torch.manual_seed(tokens)
    m, x = made(), torch.randn(tokens, 96) * 2
    there = ExpertMatrices(*(on_gpu(each) for each in (m.gate, m.up, m.down)))
    weights = torch.rand(tokens) if weighted else None
    wanted = reference.expert(x.double(), m, 1.0, weights)
    on = None if weights is None else weights.to(DEVICE)
    assert error(triton_expert.expert(x.to(DEVICE), there, 1.0, on), wanted) < 2e-6
    # What enters and leaves each of the two products has 8 bits, and so has the decoded weight.
    assert error(triton_expert.expert(x.bfloat16().to(DEVICE), there, 1.0, on), wanted) < 1e-2


def test_a_few_tokens_have_the_bits_of_each_alone() -> None:
    m = made()
    there = ExpertMatrices(*(on_gpu(each) for each in (m.gate, m.up, m.down)))
    x = torch.randn(5, 96, device=DEVICE).bfloat16()
    alone_and_together(lambda rows: triton_expert.expert(rows, there, 1.0), x)
