"""The indexer: its scores, which rows they choose, and the Hadamard matrix."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import ops  # noqa: E402
from kernels.indexer import reference  # noqa: E402
from tests.kernels.live_memory import LiveMemory  # noqa: E402
from tests.kernels.seeded_operands import Seeded  # noqa: E402


@pytest.mark.parametrize("d", [1, 2, 8, 128])
def test_the_hadamard_matrix_of_kronecker_products(d: int) -> None:
    matrix = np.ones((1, 1))
    while len(matrix) < d:
        matrix = np.kron(np.array([[1, 1], [1, -1]]), matrix)
    x = Seeded(1).normal(3, 2, d)
    found = ops.hadamard(x)
    np.testing.assert_allclose(found.numpy(), x.double().numpy() @ matrix / np.sqrt(d), atol=2e-6)
    np.testing.assert_allclose(ops.hadamard(found).numpy(), x.numpy(), atol=2e-6)
    assert ops.hadamard(x.bfloat16()).dtype == torch.bfloat16
    assert ops.hadamard(x[:0]).shape == (0, 2, d)


@pytest.mark.parametrize("d", [0, 3, 96])
def test_other_hadamard_matrices_are_refused(d: int) -> None:
    with pytest.raises(ValueError, match=f"a Hadamard matrix of {d} rows"):
        ops.hadamard(torch.zeros(2, d))


@pytest.mark.parametrize(("tokens", "rows"), [(0, 5), (1, 0), (1, 9), (7, 9), (20, 0), (20, 33)])
def test_scores(tokens: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "SLICE_NUMBERS", 3 * 33 * 7)  # several slices
    seeded = Seeded(2)
    q, keys, weights = seeded.normal(tokens, 3, 8), seeded.normal(rows, 8), seeded.normal(tokens, 3)
    limits = seeded.whole(0, rows + 1, tokens)
    wanted = np.zeros((tokens, rows))
    for t in range(tokens):
        for s in range(rows):
            for h in range(3):
                dot = float(q[t, h].double() @ keys[s].double())
                wanted[t, s] += float(weights[t, h]) * max(dot, 0.0)
    found = ops.index_scores(q, keys, weights)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)
    limited = ops.index_scores(q, keys, weights, limits).numpy()
    beyond = np.arange(rows) >= limits.numpy()[:, None]
    assert (limited[beyond] == -np.inf).all()
    np.testing.assert_allclose(limited[~beyond], wanted[~beyond], atol=1e-5)


def test_few_tokens_score_what_single_steps_score_bit_for_bit() -> None:
    """In a single step, the rows that later tokens complete are not there yet."""
    seeded = Seeded(3)
    q, keys, weights = seeded.normal(8, 5, 24), seeded.normal(103, 24), seeded.normal(8, 5)
    limits = torch.tensor([100, 100, 101, 101, 101, 102, 103, 103])
    together = ops.index_scores(q, keys, weights, limits)
    for t in range(8):
        seen = int(limits[t])
        alone = ops.index_scores(q[t : t + 1].clone(), keys[:seen].clone(), weights[t : t + 1].clone())
        assert torch.equal(together[t : t + 1, :seen], alone)
        own = ops.causal_top_k(alone, limits[t : t + 1], 7)
        assert torch.equal(ops.causal_top_k(together, limits, 7)[t : t + 1], own)


@pytest.mark.parametrize("k", [0, 1, 4, 50])
def test_the_best_of_what_lies_before_in_rising_order_and_ties_to_the_lower(k: int) -> None:
    seeded = Seeded(4)
    scores = seeded.whole(0, 4, 30, 17).float()  # many ties
    limits = seeded.whole(0, 18, 30)
    limits[:3] = torch.tensor([0, 1, 17])
    found = ops.causal_top_k(scores, limits, k)
    assert found.dtype == torch.int64
    assert found.shape == (30, min(k, 17))
    for t in range(30):
        order = sorted(range(int(limits[t])), key=lambda s, t=t: (-scores[t, s].item(), s))[:k]
        wanted = [-1] * (min(k, 17) - len(order)) + sorted(order)
        assert found[t].tolist() == wanted


def test_nothing_to_choose_from() -> None:
    assert ops.causal_top_k(torch.zeros(3, 0), torch.zeros(3, dtype=torch.int64), 5).shape == (3, 0)
    assert ops.causal_top_k(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 5).shape == (0, 4)


def test_memory_beside_the_scores_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "SLICE_NUMBERS", 1 << 16)
    seeded = Seeded(5)
    q, keys, weights = seeded.normal(512, 16, 8), seeded.normal(1024, 8), seeded.normal(512, 16)
    with LiveMemory() as memory, torch.no_grad():
        ops.index_scores(q, keys, weights)
    result = 4 * 512 * 1024
    assert (
        result <= memory.peak_bytes < 2 * result + 4 * 4 * (1 << 16)
    )  # all heads at once: 16 times the result


@pytest.mark.parametrize("tokens", [2, 10])
def test_gradients(tokens: int) -> None:
    seeded = Seeded(6)
    q, keys, weights = seeded.double(tokens, 2, 4), seeded.double(5, 4), seeded.double(tokens, 2)
    assert torch.autograd.gradcheck(ops.index_scores, (q, keys, weights))
    assert torch.autograd.gradcheck(ops.hadamard, (seeded.double(tokens, 8),))
