"""Hyper-connections: the equations of the paper, one number at a time."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import ops  # noqa: E402
from tests.kernels.seeded_operands import Seeded  # noqa: E402

EPS = {"norm_eps": 1e-6, "eps": 1e-6}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mixes_of(streams: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """W (vec X / rms) of one token, in float64."""
    flat = streams.reshape(-1)
    return fn @ flat / math.sqrt(float((flat**2).mean()) + 1e-6)


def balanced(matrix: list[list[float]], iterations: int) -> list[list[float]]:
    """Sinkhorn and Knopp: rows, then columns, divided by their sums."""
    n = len(matrix)
    for step in range(iterations):
        if step:
            matrix = [[v / (sum(row) + 1e-6) for v in row] for row in matrix]
        sums = [sum(matrix[j][k] for j in range(n)) + 1e-6 for k in range(n)]
        matrix = [[matrix[j][k] / sums[k] for k in range(n)] for j in range(n)]
    return matrix


@pytest.mark.parametrize("tokens", [0, 1, 5, 8, 9, 20])
@pytest.mark.parametrize(("n", "iterations"), [(4, 20), (4, 1), (2, 3), (1, 2)])
def test_what_a_layer_reads_and_what_comes_after(tokens: int, n: int, iterations: int) -> None:
    seeded = Seeded(1)
    d, wide = 7, (2 + n) * n
    streams, y = seeded.normal(tokens, n, d), seeded.normal(tokens, d)
    fn, base, scale = seeded.normal(wide, n * d), seeded.normal(wide), seeded.normal(3)
    x, post, comb = ops.mix_streams(streams, fn, base, scale, **EPS, iterations=iterations)
    assert (x.shape, post.shape, comb.shape) == ((tokens, d), (tokens, n), (tokens, n, n))
    merged = ops.merge_streams(y, streams, post, comb)
    head, head_base, head_scale = seeded.normal(n, n * d), seeded.normal(n), seeded.normal(1)
    collapsed = ops.collapse_streams(streams, head, head_base, head_scale, **EPS)
    for t in range(tokens):
        own = streams[t].double().numpy()
        b = base.double().tolist()
        s = scale.double().tolist()
        mixes = mixes_of(own, fn.double().numpy())
        pre = [sigmoid(mixes[j] * s[0] + b[j]) + 1e-6 for j in range(n)]
        np.testing.assert_allclose(x[t].numpy(), sum(pre[j] * own[j] for j in range(n)), atol=1e-5)
        wanted_post = [2 * sigmoid(mixes[n + j] * s[1] + b[n + j]) for j in range(n)]
        np.testing.assert_allclose(post[t].numpy(), wanted_post, atol=1e-5)
        logits = [
            [mixes[2 * n + n * j + k] * s[2] + b[2 * n + n * j + k] for k in range(n)] for j in range(n)
        ]
        rows = [[math.exp(v - max(row)) for v in row] for row in logits]
        start = [[v / sum(row) + 1e-6 for v in row] for row in rows]
        wanted_comb = balanced(start, iterations)
        np.testing.assert_allclose(comb[t].numpy(), wanted_comb, atol=1e-5)
        for k in range(n):
            kept = sum(wanted_comb[j][k] * own[j] for j in range(n))
            wanted = kept + wanted_post[k] * y[t].double().numpy()
            np.testing.assert_allclose(merged[t, k].numpy(), wanted, atol=2e-5)
        last = mixes_of(own, head.double().numpy())
        weights = [sigmoid(last[j] * head_scale.item() + head_base[j].item()) + 1e-6 for j in range(n)]
        np.testing.assert_allclose(
            collapsed[t].numpy(), sum(weights[j] * own[j] for j in range(n)), atol=1e-5
        )


def test_the_mixing_matrix_is_doubly_stochastic() -> None:
    seeded = Seeded(2)
    streams, fn, base = seeded.normal(30, 4, 16), seeded.normal(24, 64) / 8, seeded.normal(24)
    _, _, comb = ops.mix_streams(streams, fn, base, torch.full((3,), 0.3), **EPS, iterations=20)
    assert (comb > 0).all()
    # Columns come last, so their sums are off by the eps in the divisor alone; rows by what 20 rounds leave of
    # logits of about size one.
    torch.testing.assert_close(comb.sum(dim=1), torch.ones(30, 4), atol=3e-6, rtol=0)
    torch.testing.assert_close(comb.sum(dim=2), torch.ones(30, 4), atol=1e-3, rtol=0)


def test_half_types_in_and_out_and_f32_between() -> None:
    seeded = Seeded(3)
    streams, fn, base, scale = (
        seeded.normal(10, 4, 8).bfloat16(),
        seeded.normal(24, 32),
        seeded.normal(24),
        seeded.normal(3),
    )
    x, post, comb = ops.mix_streams(streams, fn, base, scale, **EPS, iterations=20)
    assert (x.dtype, post.dtype, comb.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    same, _, _ = ops.mix_streams(streams.float(), fn, base, scale, **EPS, iterations=20)
    assert torch.equal(x, same.bfloat16())
    merged = ops.merge_streams(x, streams, post, comb)
    assert torch.equal(merged, ops.merge_streams(x.float(), streams.float(), post, comb).bfloat16())
    head = ops.collapse_streams(streams, fn[:4], base[:4], scale[:1], **EPS)
    assert head.dtype == torch.bfloat16


@pytest.mark.parametrize("tokens", [2, 9])
def test_gradients(tokens: int) -> None:
    seeded = Seeded(4)
    streams, fn, base, scale = (
        seeded.double(tokens, 3, 2),
        seeded.double(15, 6),
        seeded.double(15),
        seeded.double(3),
    )
    mix = lambda *o: ops.mix_streams(*o, **EPS, iterations=4)  # noqa: E731
    assert torch.autograd.gradcheck(mix, (streams, fn, base, scale))
    rest = seeded.double(tokens, 2), streams, seeded.double(tokens, 3), seeded.double(tokens, 3, 3)
    assert torch.autograd.gradcheck(ops.merge_streams, rest)
    head = lambda *o: ops.collapse_streams(*o, **EPS)  # noqa: E731
    assert torch.autograd.gradcheck(head, (streams, seeded.double(3, 6), seeded.double(3), seeded.double(1)))
