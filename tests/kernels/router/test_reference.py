"""The router: scores, the choice with its bias and its ties, weights without it."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import ops  # noqa: E402
from kernels.matrices import Matrix  # noqa: E402
from tests.kernels.seeded_operands import KINDS, Seeded  # noqa: E402


def score(x: np.ndarray, row: np.ndarray) -> float:
    """sqrt(ln(1 + e^(x · row))), in float64."""
    logit = float(x.astype(np.float64) @ row.astype(np.float64))
    return math.sqrt(max(logit, 0.0) + math.log1p(math.exp(-abs(logit))))


@pytest.mark.parametrize("tokens", [0, 1, 7, 8, 9, 25])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_best_by_score_and_bias_weighed_by_score_alone(tokens: int, biased: bool, kind: str) -> None:
    seeded = Seeded(1)
    gate, numbers = seeded.matrix(kind, 13, 32)
    x, bias = seeded.normal(tokens, 32) / 8, seeded.normal(13) if biased else None
    chosen, weights = ops.route(x, gate, bias=bias, chosen=None, used=4, scaling=1.5)
    assert (chosen.dtype, weights.dtype) == (torch.int64, torch.float32)
    assert chosen.shape == weights.shape == (tokens, 4)
    scores = ops.router_scores(x, gate)
    for t in range(tokens):
        own = [score(x[t].numpy(), row) for row in numbers]
        np.testing.assert_allclose(scores[t].numpy(), own, atol=1e-5)
        wanted = [s + (0.0 if bias is None else float(bias[e])) for e, s in enumerate(own)]
        assert chosen[t].tolist() == sorted(range(13), key=lambda e, w=wanted: -w[e])[:4]
        total = sum(own[e] for e in chosen[t].tolist())
        np.testing.assert_allclose(
            weights[t].numpy(), [1.5 * own[e] / total for e in chosen[t].tolist()], atol=1e-5
        )


@pytest.mark.parametrize("tokens", [1, 20])
def test_a_choice_that_is_given_stays_as_it_is(tokens: int) -> None:
    seeded = Seeded(2)
    gate, numbers = seeded.matrix("f32", 6, 8)
    x, given = seeded.normal(tokens, 8), torch.tensor([[5, 0, 3]]).repeat(tokens, 1)
    chosen, weights = ops.route(x, gate, bias=None, chosen=given, used=3, scaling=2.0)
    assert torch.equal(chosen, given)
    for t in range(tokens):
        own = [score(x[t].numpy(), numbers[e]) for e in (5, 0, 3)]
        np.testing.assert_allclose(weights[t].numpy(), [2 * s / sum(own) for s in own], atol=1e-5)


@pytest.mark.parametrize("tokens", [2, 10])
def test_of_equals_the_lower_number(tokens: int) -> None:
    gate = Matrix("f32", 6, 2, torch.zeros(6, 2))
    x = torch.ones(tokens, 2)
    chosen, _ = ops.route(x, gate, bias=None, chosen=None, used=3, scaling=1.0)
    assert chosen.tolist() == [[0, 1, 2]] * tokens
    bias = torch.tensor([0.0, 1, 0, 1, 0, 1])
    chosen, weights = ops.route(x, gate, bias=bias, chosen=None, used=4, scaling=1.0)
    assert chosen.tolist() == [[1, 3, 5, 0]] * tokens
    assert torch.equal(weights, torch.full((tokens, 4), 0.25))


def test_scores_far_out() -> None:
    gate = Matrix("f32", 3, 1, torch.tensor([[1.0], [-1.0], [30.0]]))
    found = ops.router_scores(torch.tensor([[60.0]]), gate)
    assert found[0].tolist() == pytest.approx([math.sqrt(60), math.exp(-30), math.sqrt(1800)], rel=1e-6)


@pytest.mark.parametrize("tokens", [2, 9])
def test_gradients(tokens: int) -> None:
    seeded = Seeded(3)
    gate, _ = seeded.matrix("f32", 5, 4)
    x = seeded.double(tokens, 4)
    weights = lambda x: ops.route(x, gate, bias=None, chosen=None, used=2, scaling=1.5)[1]  # noqa: E731
    assert torch.autograd.gradcheck(weights, x)
    assert torch.autograd.gradcheck(lambda x: ops.router_scores(x, gate), x)
