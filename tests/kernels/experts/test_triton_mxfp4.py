import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed: it comes with torch's CUDA builds")

from kernels.experts import reference, triton_mxfp4  # noqa: E402
from kernels.experts.expert_slots import ExpertSlots  # noqa: E402
from kernels.matrices import ExpertMatrices, Kind  # noqa: E402
from tests.kernels.gpu_tensors import (  # noqa: E402
    DEVICE,
    alone_and_together,
    error,
    gpu,
    needed,
    random_matrix,
)

pytestmark = [gpu, needed]
HIDDEN, INTERMEDIATE, COUNT, USED = 96, 160, 5, 3


class Bank(list[ExpertMatrices]):
    def matrices(self, expert: int) -> ExpertMatrices:
        return self[expert]


def made(kind: Kind) -> tuple[Bank, ExpertSlots]:
    def one(expert: int) -> ExpertMatrices:
        return ExpertMatrices(
            random_matrix(kind, INTERMEDIATE, HIDDEN, 3 * expert),
            random_matrix(kind, INTERMEDIATE, HIDDEN, 3 * expert + 1),
            random_matrix(kind, HIDDEN, INTERMEDIATE, 3 * expert + 2),
        )

    bank, slots = (
        Bank(one(expert) for expert in range(COUNT)),
        ExpertSlots(COUNT, HIDDEN, INTERMEDIATE, DEVICE),
    )
    for number, expert in enumerate(bank):
        slots.write(number, expert)
    return bank, slots


def operands(tokens: int) -> tuple["torch.Tensor", ...]:
    torch.manual_seed(tokens)
    chosen = [torch.randperm(COUNT)[:USED] for _ in range(tokens)]
    table = torch.stack(chosen) if chosen else torch.zeros(0, USED, dtype=torch.int64)
    return torch.randn(tokens, HIDDEN) * 2, table, torch.rand(tokens, USED)


@pytest.mark.parametrize("kind", ["mxfp4", "fp4"])
@pytest.mark.parametrize("limit", [0.0, 1.0])
@pytest.mark.parametrize("tokens", [0, 1, 3, 8, 9, 150])
def test_experts_are_the_reference_s(kind: Kind, tokens: int, limit: float) -> None:
    bank, slots = made(kind)
    x, chosen, weights = operands(tokens)
    wanted = reference.experts(x.double(), chosen, weights.double(), bank, limit)
    on = (chosen.to(DEVICE), weights.to(DEVICE), slots, limit)
    assert error(triton_mxfp4.experts(x.to(DEVICE), *on), wanted) < 1e-6
    if DEVICE == "cuda":  # Triton's interpreter multiplies BF16 wrongly
        # What enters and leaves each of the two products has 8 bits.
        assert error(triton_mxfp4.experts(x.bfloat16().to(DEVICE), *on), wanted) < 1e-2


def test_the_smallest_and_the_largest_scale_are_decoded() -> None:
    for power in (0, 1, 240):
        bank, slots = made("mxfp4")
        down = bank[0].down.data.clone()
        down.view(HIDDEN, -1, 17)[..., 0] = power
        bank[0] = ExpertMatrices(
            bank[0].gate, bank[0].up, type(bank[0].down)("mxfp4", HIDDEN, INTERMEDIATE, down)
        )
        slots.write(0, bank[0])
        x, chosen, weights = torch.randn(1, HIDDEN), torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1)
        wanted = reference.experts(x.double(), chosen, weights.double(), bank, 0.0)
        found = triton_mxfp4.experts(x.to(DEVICE), chosen.to(DEVICE), weights.to(DEVICE), slots, 0.0)
        torch.testing.assert_close(
            found.cpu().double(), wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()) + 2e-38
        )


def test_a_few_tokens_have_the_bits_of_each_alone() -> None:
    _, slots = made("mxfp4")
    alone_and_together(
        lambda x, chosen, weights: triton_mxfp4.experts(x, chosen, weights, slots, 1.0),
        *(part.to(DEVICE) for part in operands(5)),
    )


def test_two_runs_have_the_same_bits() -> None:
    _, slots = made("mxfp4")
    x, chosen, weights = (part.to(DEVICE) for part in operands(100))
    first = triton_mxfp4.experts(x, chosen, weights, slots, 1.0)
    assert torch.equal(first, triton_mxfp4.experts(x, chosen, weights, slots, 1.0))
