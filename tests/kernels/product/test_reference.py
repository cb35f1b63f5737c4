"""Products with matrices: the sums of the definition, in bounded memory, with gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import ops  # noqa: E402
from kernels.matrices import Matrix  # noqa: E402
from kernels.product import reference  # noqa: E402
from tests.kernels.live_memory import LiveMemory  # noqa: E402
from tests.kernels.seeded_operands import KINDS, Seeded  # noqa: E402

F32_NOISE = 2e-6
"""Of the sum of sizes: at most some hundred roundings of 2^-24 in a row, most of which cancel."""


@pytest.fixture(autouse=True)
def _by_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fast paths there are."""
    monkeypatch.setenv("SEAMOUNT_KERNELS", "reference")


def close(found: torch.Tensor, x: np.ndarray, w: np.ndarray, noise: float = F32_NOISE) -> bool:
    wide, weights = x.astype(np.float64), w.astype(np.float64)
    lost = np.abs(found.double().numpy() - wide @ weights.T)
    return bool((lost <= noise * (np.abs(wide) @ np.abs(weights).T) + 1e-30).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [0, 1, 2, 8, 9, 33])
def test_the_sums_of_the_definition(kind: str, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "BAND_NUMBERS", 96 * 41)  # four bands, none of them a number of tiles
    seeded = Seeded(5)
    matrix, numbers = seeded.matrix(kind, 150, 96)
    x = seeded.normal(tokens, 96)
    found = ops.product(x, matrix)
    assert found.shape == (tokens, 150)
    assert found.dtype == torch.float32
    assert close(found, x.numpy(), numbers)


def test_any_leading_axes_and_types() -> None:
    seeded = Seeded(6)
    matrix, numbers = seeded.matrix("fp8", 40, 64)
    x = seeded.normal(2, 3, 4, 64)
    assert ops.product(x, matrix).shape == (2, 3, 4, 40)
    assert ops.product(x[0, 0, 0], matrix).shape == (40,)
    half = ops.product(x.bfloat16(), matrix)
    assert half.dtype == torch.bfloat16
    # Summed in F32 and rounded once: half a unit in BF16's last place, 2^-8, beside F32's noise.
    whole = x.bfloat16().float().reshape(-1, 64).numpy() @ numbers.T
    lost = np.abs(half.float().reshape(-1, 40).numpy() - whole)
    assert (lost <= 2.0**-8 * np.abs(whole) + 1e-5).all()
    assert ops.product(x.double(), matrix).dtype == torch.float64


@pytest.mark.parametrize("tokens", [2, 9])
def test_gradients(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "BAND_NUMBERS", 64)
    seeded = Seeded(7)
    for kind in KINDS:
        matrix, _ = seeded.matrix(kind, 4, 32)
        assert torch.autograd.gradcheck(lambda x, m=matrix: ops.product(x, m), seeded.double(tokens, 32))
    x, w = seeded.double(tokens, 5), seeded.double(3, 5)
    assert torch.autograd.gradcheck(ops.linear, (x, w))
    wo_a, _ = seeded.matrix("f32", 6, 10)
    heads = seeded.double(tokens, 20)
    assert torch.autograd.gradcheck(lambda x: ops.grouped_projection(x, wo_a, 2), heads)


def test_the_gradient_of_a_plain_matrix() -> None:
    seeded = Seeded(8)
    x, w, back = seeded.normal(12, 5), seeded.normal(3, 5).requires_grad_(), seeded.normal(12, 3)
    (ops.product(x, Matrix("f32", 3, 5, w)) * back).sum().backward()
    assert torch.allclose(w.grad, back.T @ x, atol=1e-5)
    table = seeded.normal(4, 5).requires_grad_()
    ops.rows_of(Matrix("f32", 4, 5, table), torch.tensor([2, 2, 0])).sum().backward()
    assert torch.equal(table.grad, torch.tensor([1.0, 0, 2, 0])[:, None].expand(4, 5))


def test_linear_is_f32_whatever_it_is_given() -> None:
    seeded = Seeded(9)
    x, w = seeded.normal(11, 96), seeded.normal(7, 96)
    assert close(ops.linear(x, w), x.numpy(), w.numpy())
    assert ops.linear(x.bfloat16(), w).dtype == torch.float32
    assert ops.linear(x[:0], w).shape == (0, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_by_number(kind: str) -> None:
    matrix, numbers = Seeded(10).matrix(kind, 200, 64)
    ids = torch.tensor([199, 0, 128, 128, 5])
    assert np.array_equal(ops.rows_of(matrix, ids).numpy(), numbers[ids.numpy()])
    assert ops.rows_of(matrix, ids[:0]).shape == (0, 64)
    with pytest.raises(IndexError):
        ops.rows_of(matrix, torch.tensor([200]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [0, 1, 5, 20])
def test_each_group_by_its_own_rows(kind: str, tokens: int) -> None:
    seeded = Seeded(11)
    wo_a, numbers = seeded.matrix(kind, 3 * 50, 64)  # groups that do not begin with a tile
    x = seeded.normal(tokens, 3 * 64)
    found = ops.grouped_projection(x, wo_a, 3)
    assert found.shape == (tokens, 150)
    for g in range(3):
        part = slice(g * 50, (g + 1) * 50)
        assert close(found[:, part], x[:, g * 64 : (g + 1) * 64].numpy(), numbers[part])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "f32"])
@pytest.mark.parametrize("tokens", [1, 16])
def test_a_few_mebibytes_are_decoded_at_a_time(kind: str, tokens: int) -> None:
    seeded = Seeded(12)
    matrix, _ = seeded.matrix(kind, 4096, 1024)  # 16 MiB of F32
    x = seeded.normal(tokens, 1024)
    with LiveMemory() as memory, torch.no_grad():
        ops.product(x, matrix)
    band = 4 * reference.BAND_NUMBERS
    assert band // 2 < memory.peak_bytes < 3 * band + 1024 * tokens * 32
    with LiveMemory() as memory, torch.no_grad():
        ops.dequantised(matrix)
    assert memory.peak_bytes >= 16 << 20  # so the measure measures
