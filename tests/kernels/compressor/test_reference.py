"""Compressed rows: the weighted means of the paper, for whole groups only, however the tokens come."""

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import ops  # noqa: E402
from tests.kernels.seeded_operands import Seeded  # noqa: E402

LENGTHS = [0, 1, 3, 4, 5, 8, 27, 40, 45]


def mean_of(pairs: list[tuple[float, float]]) -> float:
    """Of (value, gate): the mean weighted by e^gate."""
    largest = max(gate for _, gate in pairs)
    weights = [math.exp(gate - largest) for _, gate in pairs]
    return sum(w * value for w, (value, _) in zip(weights, pairs, strict=True)) / sum(weights)


def csa_of(kv: Any, gate: Any, ape: Any, d: int) -> np.ndarray:
    """Row i, channel c: over tokens 4i-4 … 4i-1 by the first d channels, 4i … 4i+3 by the last d."""
    rows = [
        [
            mean_of(
                [(kv[t, c], gate[t, c] + ape[t % 4, c]) for t in range(max(4 * i - 4, 0), 4 * i)]
                + [(kv[t, d + c], gate[t, d + c] + ape[t % 4, d + c]) for t in range(4 * i, 4 * i + 4)]
            )
            for c in range(d)
        ]
        for i in range(len(kv) // 4)
    ]
    return np.array(rows).reshape(-1, d)


@pytest.mark.parametrize("tokens", LENGTHS)
def test_rows_of_overlapping_groups(tokens: int) -> None:
    seeded = Seeded(1)
    kv, gate, ape = seeded.normal(tokens, 10), 3 * seeded.normal(tokens, 10), seeded.normal(4, 10)
    found = ops.compress_csa(kv, gate, ape, None)
    assert found.dtype == torch.float32
    wanted = csa_of(kv.double().numpy(), gate.double().numpy(), ape.double().numpy(), 5)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-6)


@pytest.mark.parametrize("cut", [4, 8, 20, 40])
def test_rows_go_on_from_the_group_before(cut: int) -> None:
    seeded = Seeded(2)
    kv, gate, ape = seeded.normal(45, 10), 3 * seeded.normal(45, 10), seeded.normal(4, 10)
    whole = ops.compress_csa(kv, gate, ape, None)
    before = kv[cut - 4 : cut], gate[cut - 4 : cut]
    rest = ops.compress_csa(kv[cut:], gate[cut:], ape, before)
    # More than eight groups are pooled at once, few one by one: the last bits may differ.
    np.testing.assert_allclose(rest.numpy(), whole[cut // 4 :].numpy(), atol=1e-6)


def test_few_rows_are_those_of_single_tokens_bit_for_bit() -> None:
    seeded = Seeded(3)
    kv, gate, ape = seeded.normal(40, 14), 3 * seeded.normal(40, 14), seeded.normal(4, 14)
    singly = [
        ops.compress_csa(kv[i : i + 4], gate[i : i + 4], ape, (kv[i - 4 : i], gate[i - 4 : i]) if i else None)
        for i in range(0, 40, 4)
    ]
    for first, last in ((0, 32), (8, 40), (4, 8), (12, 19)):
        before = (kv[first - 4 : first], gate[first - 4 : first]) if first else None
        found = ops.compress_csa(kv[first:last], gate[first:last], ape, before)
        assert torch.equal(found, torch.cat(singly[first // 4 : last // 4])), (first, last)
    ape = seeded.normal(4, 14)
    lone = [ops.compress_hca(kv[i : i + 4], gate[i : i + 4], ape) for i in range(0, 32, 4)]
    assert torch.equal(ops.compress_hca(kv[:35], gate[:35], ape), torch.cat(lone))


@pytest.mark.parametrize("tokens", [0, 1, 127, 128, 129, 300])
def test_rows_of_128_tokens(tokens: int) -> None:
    seeded = Seeded(4)
    kv, gate, ape = seeded.normal(tokens, 3), 3 * seeded.normal(tokens, 3), seeded.normal(128, 3)
    found = ops.compress_hca(kv, gate, ape)
    assert found.shape == (tokens // 128, 3)
    for i in range(tokens // 128):
        for c in range(3):
            places = range(128 * i, 128 * i + 128)
            wanted = mean_of([(kv[t, c].item(), (gate[t, c] + ape[t % 128, c]).item()) for t in places])
            assert found[i, c].item() == pytest.approx(wanted, abs=2e-6)


def test_gates_beyond_every_exponential() -> None:
    kv = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    gate = torch.tensor([[1e30], [-1e30], [0.0], [3e38]])
    assert ops.compress_hca(kv, gate, torch.zeros(4, 1)).tolist() == [[4.0]]
    half = ops.compress_hca(kv.bfloat16(), gate.bfloat16(), torch.zeros(4, 1))
    assert half.dtype == torch.float32


@pytest.mark.parametrize("tokens", [4, 9, 40])
def test_gradients(tokens: int) -> None:
    seeded = Seeded(5)
    kv, gate, ape = seeded.double(tokens, 4), seeded.double(tokens, 4), seeded.double(4, 4)
    before = seeded.double(4, 4), seeded.double(4, 4)
    csa = lambda kv, gate, ape, *before: ops.compress_csa(kv, gate, ape, before or None)  # noqa: E731
    assert torch.autograd.gradcheck(csa, (kv, gate, ape))
    assert torch.autograd.gradcheck(csa, (kv, gate, ape, *before))
    assert torch.autograd.gradcheck(ops.compress_hca, (kv, gate, ape))
