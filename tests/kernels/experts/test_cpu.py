"""Experts on the processor: the reference's sums but for their last bits, each token's bits whoever is with it."""

import pytest

torch = pytest.importorskip("torch", reason="the operators need torch")

from kernels import ops  # noqa: E402
from kernels.dispatch import fast_path  # noqa: E402
from kernels.experts import cpu, reference  # noqa: E402
from kernels.matrices import Kind  # noqa: E402
from tests.kernels.seeded_operands import Seeded  # noqa: E402

torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["mxfp4", "fp4", "fp8", "q8_0"])
@pytest.mark.parametrize("tokens", [0, 1, 5, 8, 30])
def test_sums_are_the_references_but_for_their_last_bits(kind: Kind, tokens: int) -> None:
    seeded = Seeded(1)
    bank = seeded.bank(5, 96, 64, kind)
    x, weights = seeded.normal(tokens, 96) * 0.1, seeded.normal(tokens, 3).abs()
    chosen = (
        torch.stack([torch.randperm(5)[:3] for _ in range(tokens)]) if tokens else seeded.whole(0, 5, 0, 3)
    )
    found = cpu.experts(x, chosen, weights, bank, 10.0)
    expected = reference.experts(x, chosen, weights, bank, 10.0)
    # Three matrices of at most 96 terms, each sum within 96 * 2^-24 of its terms: about 1e-5 of the whole.
    assert found.shape == (tokens, 96)
    assert tokens == 0 or float((found - expected).abs().max()) <= 2e-5 * float(expected.abs().max())


def test_few_tokens_have_the_bits_that_each_has_alone_and_short_types_stay() -> None:
    seeded = Seeded(2)
    bank = seeded.bank(4, 64, 96, "mxfp4")
    x, weights = seeded.normal(8, 64), seeded.normal(8, 2)
    chosen = torch.stack([torch.randperm(4)[:2] for _ in range(8)])
    together = ops.experts(x, chosen, weights, bank, 1.0)
    alone = [ops.experts(x[t : t + 1], chosen[t : t + 1], weights[t : t + 1], bank, 1.0) for t in range(8)]
    assert torch.equal(together, torch.cat(alone))
    assert ops.experts(x.bfloat16(), chosen, weights, bank, 1.0).dtype == torch.bfloat16
    one = ops.expert(x[:1], bank.matrices(1), 1.0)
    assert torch.equal(one, ops.expert(x[:5], bank.matrices(1), 1.0)[:1])


def test_long_prompts_are_cut_into_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = Seeded(3)
    bank = seeded.bank(3, 64, 32, "mxfp4")
    x, weights, chosen = seeded.normal(20, 64) * 0.1, seeded.normal(20, 2).abs(), seeded.whole(0, 3, 20, 2)
    whole = cpu.experts(x, chosen, weights, bank, 0.0)
    monkeypatch.setattr(cpu, "SLICE_NUMBERS", 7 * 2 * 64)
    cut = cpu.experts(x, chosen, weights, bank, 0.0)
    assert float((cut - whole).abs().max()) <= 2e-5 * float(whole.abs().max())


def test_it_is_taken_unless_a_gradient_or_more_than_f32_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEAMOUNT_KERNELS", raising=False)
    seeded = Seeded(4)
    bank = seeded.bank(3, 64, 32, "mxfp4")
    x, weights, chosen = seeded.normal(2, 64), seeded.normal(2, 2), seeded.whole(0, 3, 2, 2)
    assert fast_path("experts", x, chosen, weights, bank, 0.0) is cpu.experts
    assert fast_path("expert", x, bank.matrices(0), 0.0) is cpu.expert
    assert fast_path("experts", x.double(), chosen, weights, bank, 0.0) is None
    assert fast_path("expert", x.clone().requires_grad_(), bank.matrices(0), 0.0) is None
