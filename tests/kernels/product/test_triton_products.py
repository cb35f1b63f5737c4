import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed: it comes with torch's CUDA builds")

from kernels.dequantisation import reference as dequantisation  # noqa: E402
from kernels.matrices import Matrix  # noqa: E402
from kernels.product import triton_products  # noqa: E402
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
KINDS = ("f32", "bf16", "f16", "q8_0", "fp8", "fp4", "mxfp4")
# F32: sums of at most 4096 terms, in another order. BF16: 2^-9 for each operand and the result.
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 6e-3}


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_is_decoded_to_the_last_bit(kind: str) -> None:
    m = random_matrix(kind, 131, 288)
    found = triton_products.dequantised(on_gpu(m))
    assert torch.equal(found.cpu(), dequantisation.dequantised(m))


def test_every_code_of_fp8_is_decoded(kind: str = "fp8") -> None:
    codes = torch.arange(256, dtype=torch.uint8).repeat(2, 1)
    for power in (0, 1, 127, 200, 255):
        m = Matrix("fp8", 2, 256, codes, torch.full((1, 2), power, dtype=torch.uint8))
        found = triton_products.dequantised(on_gpu(m)).cpu()
        torch.testing.assert_close(found, dequantisation.dequantised(m), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("tokens", [0, 1, 3, 8, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_a_product_is_the_reference_s(kind: str, tokens: int, dtype: "torch.dtype") -> None:
    torch.manual_seed(tokens)
    m, x = random_matrix(kind, 131, 1056), torch.randn(tokens, 1056).to(dtype)
    wanted = x.double() @ dequantisation.dequantised(m).double().T
    found = triton_products.product(x.to(DEVICE), on_gpu(m))
    assert found.dtype == dtype
    assert error(found, wanted) < BOUNDS[dtype]


@pytest.mark.parametrize("kind", ("bf16", "q8_0", "fp8"))
def test_a_few_rows_have_the_bits_of_each_alone(kind: str) -> None:
    m, x = on_gpu(random_matrix(kind, 131, 1056)), torch.randn(5, 1056, device=DEVICE)
    alone_and_together(lambda rows: triton_products.product(rows, m), x)


@pytest.mark.parametrize("tokens", [1, 8, 20])
def test_a_grouped_projection_is_the_reference_s(tokens: int) -> None:
    torch.manual_seed(tokens)
    groups, rank, columns = 3, 64, 96
    m, x = random_matrix("q8_0", groups * rank, columns), torch.randn(tokens, groups * columns)
    w = dequantisation.dequantised(m).double().view(groups, rank, columns)
    wanted = torch.einsum("tgc,grc->tgr", x.double().view(tokens, groups, columns), w).flatten(1)
    assert triton_products.accepts_grouped_projection(x.to(DEVICE), on_gpu(m), groups) or DEVICE == "cpu"
    assert error(triton_products.grouped_projection(x.to(DEVICE), on_gpu(m), groups), wanted) < 2e-6


def test_an_f32_matrix_is_multiplied_in_f32() -> None:
    x, w = torch.randn(2, 256), torch.randn(24, 256)
    found = triton_products.linear(x.bfloat16().to(DEVICE), w.to(DEVICE))
    assert found.dtype == torch.float32
    assert error(found, x.bfloat16().double() @ w.double().T) < 2e-6
