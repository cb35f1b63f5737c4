import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed: it comes with torch's CUDA builds")

from kernels.hyper_connections import reference, triton_streams  # noqa: E402
from tests.kernels.gpu_tensors import DEVICE, alone_and_together, error, gpu, needed  # noqa: E402

pytestmark = [gpu, needed]
EPS = {"norm_eps": 1e-6, "eps": 1e-6}


def operands(tokens: int, n: int, d: int, head: bool = False) -> tuple["torch.Tensor", ...]:
    torch.manual_seed(tokens)
    mixes, scales = (n, 1) if head else ((2 + n) * n, 3)
    return torch.randn(tokens, n, d), torch.randn(mixes, n * d) * 0.1, torch.randn(mixes), torch.rand(scales)


@pytest.mark.parametrize("tokens", [0, 1, 5, 20])
@pytest.mark.parametrize(("n", "d"), [(4, 1056), (2, 96)])
def test_streams_are_mixed_as_the_reference_mixes_them(tokens: int, n: int, d: int) -> None:
    parts = operands(tokens, n, d)
    wanted = reference.mix_streams(*(part.double() for part in parts), **EPS, iterations=20)
    found = triton_streams.mix_streams(*(part.to(DEVICE) for part in parts), **EPS, iterations=20)
    for one, other in zip(found, wanted, strict=True):
        # F32 sums of n d products before a sigmoid or an exponential.
        assert error(one, other) < 5e-6


@pytest.mark.parametrize("tokens", [1, 20])
def test_the_last_streams_become_one(tokens: int) -> None:
    parts = operands(tokens, 4, 96, head=True)
    wanted = reference.collapse_streams(*(part.double() for part in parts), **EPS)
    found = triton_streams.collapse_streams(*(part.to(DEVICE) for part in parts), **EPS)
    assert error(found, wanted) < 5e-6


@pytest.mark.parametrize("tokens", [0, 1, 20])
def test_streams_are_merged_as_the_reference_merges_them(tokens: int) -> None:
    torch.manual_seed(tokens)
    y, streams = torch.randn(tokens, 1056), torch.randn(tokens, 4, 1056)
    post, comb = torch.rand(tokens, 4), torch.rand(tokens, 4, 4)
    wanted = reference.merge_streams(y.double(), streams.double(), post.double(), comb.double())
    found = triton_streams.merge_streams(*(part.to(DEVICE) for part in (y, streams, post, comb)))
    assert error(found, wanted) < 1e-6


def test_a_few_tokens_have_the_bits_of_each_alone() -> None:
    streams, fn, base, scale = (part.to(DEVICE) for part in operands(5, 4, 1056))
    for result in range(3):
        alone_and_together(
            lambda x: triton_streams.mix_streams(x, fn, base, scale, **EPS, iterations=20)[result],  # noqa: B023
            streams,
        )
