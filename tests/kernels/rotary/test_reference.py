"""Rotary positions: products of complex numbers, YaRN's two ends, and back again."""

import cmath
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import ops  # noqa: E402
from tests.kernels.seeded_operands import Seeded  # noqa: E402

FLASH_YARN = (16.0, 65536, 32.0, 1.0)


def test_plain_frequencies() -> None:
    found = ops.rotary_frequencies(10000.0, 64, None)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.double().numpy(), [10000.0 ** (-i / 32) for i in range(32)], rtol=3e-7)


def test_yarn_leaves_what_turns_often_and_slows_what_turns_seldom() -> None:
    plain = [160000.0 ** (-i / 32) for i in range(32)]
    turns = [65536 * f / (2 * math.pi) for f in plain]
    found = ops.rotary_frequencies(160000.0, 64, FLASH_YARN).double().tolist()
    # Between the pair that turns 32 times (rounded down) and the one that turns once (rounded up), a straight ramp.
    last_often = max(i for i in range(32) if turns[i] >= 32)
    first_seldom = min(i for i in range(32) if turns[i] <= 1)
    assert 0 < last_often < first_seldom < 32
    for i, (f, was) in enumerate(zip(found, plain, strict=True)):
        slowed = min(max((i - last_often) / (first_seldom - last_often), 0), 1)
        assert f == pytest.approx(was * (1 - slowed) + was / 16 * slowed, rel=3e-7), i


def test_yarn_where_both_ends_are_one_pair() -> None:
    found = ops.rotary_frequencies(1e12, 2, FLASH_YARN)
    assert found.tolist() == [1.0]


@pytest.mark.parametrize("tokens", [0, 1, 5, 8, 9, 20])
@pytest.mark.parametrize("inverse", [False, True])
def test_the_last_dimensions_are_complex_numbers_that_turn(tokens: int, inverse: bool) -> None:
    seeded = Seeded(1)
    x, frequencies = seeded.normal(tokens, 2, 11), ops.rotary_frequencies(50.0, 6, None)
    positions = seeded.whole(0, 1000, tokens)
    found = ops.rotate(x, positions, frequencies, inverse=inverse)
    assert torch.equal(found[..., :5], x[..., :5])
    for t in range(tokens):
        for h in range(2):
            for i in range(3):
                angle = float(positions[t].float() * frequencies[i])  # F32, as the contract says
                number = complex(*x[t, h, 5 + 2 * i : 7 + 2 * i].tolist())
                turned = number * cmath.exp((-1j if inverse else 1j) * angle)
                assert found[t, h, 5 + 2 * i].item() == pytest.approx(turned.real, abs=1e-6)
                assert found[t, h, 6 + 2 * i].item() == pytest.approx(turned.imag, abs=1e-6)


def test_products_depend_on_the_distance_alone_and_the_inverse_undoes() -> None:
    seeded = Seeded(2)
    q, k = seeded.normal(1, 16, dtype=torch.float64), seeded.normal(1, 16, dtype=torch.float64)
    frequencies = ops.rotary_frequencies(10000.0, 16, None)
    at = [
        (
            ops.rotate(q, torch.tensor([p + 7]), frequencies) * ops.rotate(k, torch.tensor([p]), frequencies)
        ).sum()
        for p in (0, 1, 1000)
    ]
    # Angles are F32: at position 1000, the first is known to 2^-15.
    assert torch.allclose(at[0], at[1], atol=1e-5)
    assert torch.allclose(at[0], at[2], atol=1e-3)
    there = ops.rotate(q, torch.tensor([12345]), frequencies)
    assert torch.allclose(ops.rotate(there, torch.tensor([12345]), frequencies, inverse=True), q, atol=1e-12)


def test_half_types_keep_the_dimensions_that_do_not_turn() -> None:
    x = Seeded(3).normal(3, 2, 16).bfloat16()
    frequencies = ops.rotary_frequencies(10000.0, 8, None)
    found = ops.rotate(x, torch.arange(3), frequencies)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found[..., :8], x[..., :8])
    assert torch.equal(found, ops.rotate(x.float(), torch.arange(3), frequencies).bfloat16())


@pytest.mark.parametrize("tokens", [2, 10])
@pytest.mark.parametrize("inverse", [False, True])
def test_gradients(tokens: int, inverse: bool) -> None:
    positions, frequencies = torch.arange(tokens) * 3, ops.rotary_frequencies(100.0, 4, None)
    x = Seeded(4).double(tokens, 2, 6)
    assert torch.autograd.gradcheck(lambda x: ops.rotate(x, positions, frequencies, inverse=inverse), x)
