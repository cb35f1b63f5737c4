"""The processor's fast products: the reference's numbers bit for bit, its sums but for their last bits."""

import pytest

torch = pytest.importorskip("torch", reason="the operators need torch")

from kernels import ops  # noqa: E402
from kernels.dequantisation.reference import decoded_rows  # noqa: E402
from kernels.dispatch import fast_path  # noqa: E402
from kernels.matrices import Kind, Matrix  # noqa: E402
from kernels.product import cpu, reference  # noqa: E402
from tests.kernels.seeded_operands import Seeded  # noqa: E402

KINDS: tuple[Kind, ...] = ("mxfp4", "fp4", "fp8")
torch.set_num_threads(1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_the_references_at_every_scale(kind: Kind) -> None:
    m, _ = Seeded(1).matrix(kind, 300, 160)
    for start, end in ((0, 300), (128, 300), (0, 0)):
        band = cpu.decoded_band(m, start, end)
        assert torch.equal(band, cpu.arranged(decoded_rows(m, slice(start, end)), kind))
    every = torch.arange(256, dtype=torch.uint8)
    if kind == "fp8":
        for code in range(255):
            one = Matrix(kind, 1, 255, every[None, :255], torch.tensor([[code, 127]], dtype=torch.uint8))
            _same(cpu.decoded_band(one, 0, 1), decoded_rows(one, slice(0, 1)))
    else:
        for low in range(0, 256, 16):  # 16 different bytes of codes with each scale
            bytes_ = (torch.arange(16, dtype=torch.uint8) + low).expand(256, 16).contiguous()
            if kind == "fp4":
                m = Matrix(kind, 256, 32, bytes_, every[:, None].contiguous())
            else:
                m = Matrix(kind, 256, 32, torch.cat((every[:, None], bytes_), dim=1))
            # By rows: one whose scale the fast way does not take would send all of them the reference's.
            for start, end in ((0, 241), (241, 255), (255, 256)):
                expected = cpu.arranged(decoded_rows(m, slice(start, end)), kind)
                _same(cpu.decoded_band(m, start, end), expected)


def _same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Bits, the sign of zero included; any NaN is as good as another."""
    nan = expected.isnan()
    assert torch.equal(found.isnan(), nan)
    assert torch.equal(found[~nan].view(torch.int32), expected[~nan].view(torch.int32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [0, 1, 3, 8, 9, 40])
def test_sums_are_the_references_but_for_their_last_bits(
    kind: Kind, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "BAND_NUMBERS", 256 * 130)  # several bands, of which the last is shorter
    seeded = Seeded(2)
    m, _ = seeded.matrix(kind, 300, 256)
    x = seeded.normal(tokens, 256)
    found, expected = cpu.product(x, m), reference.product(x, m)
    assert found.shape == expected.shape
    # Each of 256 products and sums is rounded once: |error| ≤ 256 * 2^-24 * Σ |x w|, mostly far less.
    bound = 256 * 2.0**-24 * (x.abs() @ decoded_rows(m, slice(0, 300)).abs().T)
    assert bool(((found - expected).abs() <= bound).all())


@pytest.mark.parametrize("kind", KINDS)
def test_few_rows_have_the_bits_that_each_has_alone(kind: Kind) -> None:
    seeded = Seeded(3)
    m, _ = seeded.matrix(kind, 384, 512)
    x = seeded.normal(8, 512)
    for tokens in range(2, 9):
        together = ops.product(x[:tokens], m)
        assert torch.equal(together, torch.cat([ops.product(x[t : t + 1], m) for t in range(tokens)]))
    wide = seeded.normal(5, 1024)
    together = ops.grouped_projection(wide, m, 2)
    alone = [ops.grouped_projection(wide[t : t + 1], m, 2) for t in range(5)]
    assert torch.equal(together, torch.cat(alone))


def test_groups_are_the_references_and_the_type_stays() -> None:
    seeded = Seeded(4)
    for kind in KINDS:
        m, _ = seeded.matrix(kind, 512, 128)
        x = seeded.normal(3, 4 * 128)
        found, expected = cpu.grouped_projection(x, m, 4), reference.grouped_projection(x, m, 4)
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-4)
        short = cpu.product(x[:, :128].bfloat16(), m)
        assert short.dtype == torch.bfloat16
        assert torch.equal(short, cpu.product(x[:, :128].bfloat16().float(), m).bfloat16())


def test_it_is_taken_for_what_it_is_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = Seeded(5)
    monkeypatch.delenv("SEAMOUNT_KERNELS", raising=False)
    x = seeded.normal(2, 64)
    for kind in KINDS:
        m, _ = seeded.matrix(kind, 6, 64)
        assert fast_path("product", x, m) is cpu.product
        assert fast_path("product", x.double(), m) is None
        assert fast_path("product", x.clone().requires_grad_(), m) is None
    assert fast_path("product", x, seeded.matrix("q8_0", 6, 64)[0]) is None
    odd, _ = seeded.matrix("fp8", 300, 64)
    assert fast_path("grouped_projection", x.repeat(1, 3), odd, 3) is None  # 100 rows begin no tile
    monkeypatch.setenv("SEAMOUNT_KERNELS", "reference")
    assert fast_path("product", x, m) is None
