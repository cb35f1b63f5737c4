import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed: it comes with torch's CUDA builds")

from kernels.indexer import reference, triton_indexer  # noqa: E402
from tests.kernels.gpu_tensors import DEVICE, error, gpu, needed  # noqa: E402

pytestmark = [gpu, needed]


@pytest.mark.parametrize(("tokens", "rows"), [(0, 5), (1, 0), (1, 7), (3, 130), (12, 200)])
def test_scores_are_the_reference_s(tokens: int, rows: int) -> None:
    torch.manual_seed(rows)
    q, keys, weights = torch.randn(tokens, 8, 32), torch.randn(rows, 32), torch.randn(tokens, 8)
    limits = torch.randint(0, rows + 1, (tokens,))
    for each in (None, limits):
        wanted = reference.index_scores(q.double(), keys.double(), weights.double(), each)
        on = None if each is None else each.to(DEVICE)
        found = triton_indexer.index_scores(q.to(DEVICE), keys.to(DEVICE), weights.to(DEVICE), on).cpu()
        assert torch.equal(found.isinf(), wanted.isinf())
        assert error(found[~found.isinf()], wanted[~wanted.isinf()]) < 1e-6


def test_later_rows_change_no_bit() -> None:
    q, keys, weights = (torch.randn(*s, device=DEVICE) for s in ((2, 8, 32), (150, 32), (2, 8)))
    both = triton_indexer.index_scores(q, keys, weights)
    alone = triton_indexer.index_scores(q[1:], keys[:90], weights[1:])
    assert torch.equal(alone[0], both[1, :90])


@pytest.mark.parametrize("shape", [(0, 16), (3, 128), (2, 5, 32)])
def test_the_hadamard_turn_is_the_reference_s(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert error(triton_indexer.hadamard(x.to(DEVICE)), reference.hadamard(x.double())) < 1e-6
