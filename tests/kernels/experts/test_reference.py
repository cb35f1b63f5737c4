"""Experts: clamped SwiGLU, a token's weighted sum, each expert asked for once."""

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import ops  # noqa: E402
from kernels.experts import reference  # noqa: E402
from tests.kernels.live_memory import LiveMemory  # noqa: E402
from tests.kernels.seeded_operands import KINDS, Bank, Seeded  # noqa: E402


@pytest.fixture(autouse=True)
def _by_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fast paths there are."""
    monkeypatch.setenv("SEAMOUNT_KERNELS", "reference")


def silu_product(gate: float, up: float, limit: float) -> float:
    if limit:
        gate, up = min(gate, limit), max(-limit, min(up, limit))
    return gate / (1 + math.exp(-gate)) * up


def expert_of(x: Any, numbers: list[Any], limit: float) -> Any:
    """One token by one expert, in float64."""
    w1, w3, w2 = (part.astype(np.float64) for part in numbers)
    hidden = [silu_product(g, u, limit) for g, u in zip(w1 @ x, w3 @ x, strict=True)]
    return w2 @ np.array(hidden)


@pytest.mark.parametrize("limit", [0.0, 1.5, 10.0])
def test_the_clamp_is_one_sided_for_the_gate(limit: float) -> None:
    values = torch.tensor([-30.0, -11, -2, -1.5, 0, 1, 1.6, 9, 10.5, 40])
    gate, up = (part.reshape(-1, 10) for part in torch.meshgrid(values, values, indexing="ij"))
    found = ops.swiglu(gate, up, limit)
    for g, u, y in zip(gate.flatten().tolist(), up.flatten().tolist(), found.flatten().tolist(), strict=True):
        assert y == pytest.approx(silu_product(g, u, limit), rel=1e-5, abs=1e-9)
    assert ops.swiglu(gate[:0], up[:0], limit).shape == (0, 10)
    half = ops.swiglu(gate.bfloat16(), up.bfloat16(), limit)
    assert torch.equal(half, ops.swiglu(gate.bfloat16().float(), up.bfloat16().float(), limit).bfloat16())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [0, 1, 8, 9, 30])
@pytest.mark.parametrize("limit", [0.0, 0.7])
def test_weighted_sums(kind: str, tokens: int, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "SLICE_NUMBERS", 3 * 32 * 12)  # slices of 12 tokens
    seeded = Seeded(1)
    bank = seeded.bank(5, 32, 64, kind)
    x = seeded.normal(tokens, 32) / 6
    chosen = torch.stack(
        [torch.randperm(5, generator=torch.Generator().manual_seed(t))[:3] for t in range(tokens + 1)]
    )[:tokens]
    weights = seeded.normal(tokens, 3).abs()
    found = ops.experts(x, chosen, weights, bank, limit)
    assert found.shape == (tokens, 32)
    for t in range(tokens):
        own = x[t].double().numpy()
        parts = [expert_of(own, bank.numbers[e], limit) for e in chosen[t].tolist()]
        wanted = sum(w * part for w, part in zip(weights[t].double().tolist(), parts, strict=True))
        np.testing.assert_allclose(found[t].numpy(), wanted, atol=2e-5 * max(1, np.abs(wanted).max()))


def test_an_expert_is_asked_for_once_and_only_where_it_is_chosen() -> None:
    seeded = Seeded(2)
    bank = seeded.bank(6, 32, 32)
    chosen = torch.tensor([[4, 1], [1, 4], [5, 1]])
    ops.experts(seeded.normal(3, 32), chosen, torch.ones(3, 2), bank, 10.0)
    assert bank.asked == [1, 4, 5]


def test_sums_go_in_the_order_of_the_choice() -> None:
    """(a + b) + c is not a + (b + c): what the choice says first is added first."""
    seeded = Seeded(3)
    bank = seeded.bank(3, 32, 32)
    x = seeded.normal(12, 32)
    order = torch.tensor([[2, 0, 1]]).expand(12, 3)
    weights = seeded.normal(12, 3)
    single = [ops.expert(x, bank.matrices(e), 10.0, weights[:, k]) for k, e in enumerate((2, 0, 1))]
    assert torch.equal(ops.experts(x, order, weights, bank, 10.0), (single[0] + single[1]) + single[2])


@pytest.mark.parametrize("tokens", [1, 12])
def test_one_expert_with_and_without_weights(tokens: int) -> None:
    seeded = Seeded(4)
    bank = seeded.bank(1, 32, 64, "mxfp4")
    x, weights = seeded.normal(tokens, 32) / 6, seeded.normal(tokens)
    plain = ops.expert(x, bank.matrices(0), 1.0)
    for t in range(tokens):
        wanted = expert_of(x[t].double().numpy(), bank.numbers[0], 1.0)
        np.testing.assert_allclose(plain[t].numpy(), wanted, atol=2e-5 * max(1, np.abs(wanted).max()))
    weighed = ops.expert(x, bank.matrices(0), 1.0, weights)
    torch.testing.assert_close(weighed, plain * weights[:, None], atol=1e-5, rtol=1e-4)
    half = ops.expert(x.bfloat16(), bank.matrices(0), 1.0)
    assert torch.equal(half, ops.expert(x.bfloat16().float(), bank.matrices(0), 1.0).bfloat16())


@pytest.mark.parametrize("tokens", [2, 9])
def test_gradients(tokens: int) -> None:
    seeded = Seeded(5)
    bank: Bank = seeded.bank(3, 4, 3)
    x, weights = seeded.double(tokens, 4), seeded.double(tokens, 2)
    chosen = torch.tensor([[2, 0], [0, 1]]).repeat(5, 1)[:tokens]
    assert torch.autograd.gradcheck(lambda x, w: ops.experts(x, chosen, w, bank, 0.5), (x, weights))
    gate, up = seeded.double(tokens, 3), seeded.double(tokens, 3)
    assert torch.autograd.gradcheck(lambda g, u: ops.swiglu(g, u, 0.5), (gate, up))


def test_single_outputs_are_held_for_a_slice_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = Seeded(6)
    tokens, used, hidden = 512, 4, 32
    bank = seeded.bank(6, hidden, 32)
    x, chosen = seeded.normal(tokens, hidden), seeded.whole(0, 6, tokens, used)
    peaks: list[int] = []
    for numbers in (1 << 12, 1 << 30):
        monkeypatch.setattr(reference, "SLICE_NUMBERS", numbers)
        with LiveMemory() as memory, torch.no_grad():
            ops.experts(x, chosen, torch.ones(tokens, used), bank, 1.0)
        peaks.append(memory.peak_bytes)
    result = 4 * tokens * hidden
    assert peaks[0] < 3 * result
    assert peaks[1] > used * result
