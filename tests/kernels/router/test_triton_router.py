import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed: it comes with torch's CUDA builds")

from kernels.router import reference, triton_router  # noqa: E402
from tests.kernels.gpu_tensors import DEVICE, error, gpu, needed, on_gpu, random_matrix  # noqa: E402

pytestmark = [gpu, needed]


@pytest.mark.parametrize("tokens", [0, 1, 7, 40])
@pytest.mark.parametrize("biased", [False, True])
def test_choices_and_weights_are_the_reference_s(tokens: int, biased: bool) -> None:
    torch.manual_seed(tokens)
    gate, x = random_matrix("f32", 41, 96), torch.randn(tokens, 96) * 4
    bias = torch.randn(41) * 0.1 if biased else None
    experts, weights = reference.route(x, gate, bias=bias, chosen=None, used=6, scaling=1.5)
    on = None if bias is None else bias.to(DEVICE)
    found, given = triton_router.route(x.to(DEVICE), on_gpu(gate), bias=on, chosen=None, used=6, scaling=1.5)
    assert torch.equal(found.cpu(), experts)
    assert error(given, weights) < 2e-6


def test_of_equal_scores_the_lower_number_wins() -> None:
    gate = on_gpu(random_matrix("f32", 16, 32))
    gate.data.zero_()
    found, weights = triton_router.route(
        torch.randn(2, 32, device=DEVICE), gate, bias=None, chosen=None, used=3, scaling=1.0
    )
    assert found.tolist() == [[0, 1, 2]] * 2
    torch.testing.assert_close(weights.cpu(), torch.full((2, 3), 1 / 3))


def test_experts_of_a_table_get_the_weights_of_their_scores() -> None:
    gate, x = random_matrix("f32", 16, 32), torch.randn(5, 32)
    table = torch.stack([torch.randperm(16)[:3] for _ in range(5)])
    experts, weights = reference.route(x, gate, bias=None, chosen=table, used=3, scaling=2.5)
    found, given = triton_router.route(
        x.to(DEVICE), on_gpu(gate), bias=None, chosen=table.to(DEVICE), used=3, scaling=2.5
    )
    assert torch.equal(found.cpu(), experts)
    assert error(given, weights) < 2e-6
