import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed: it comes with torch's CUDA builds")

from kernels.attention import reference, triton_attention  # noqa: E402
from tests.kernels.gpu_tensors import DEVICE, error, gpu, needed  # noqa: E402

pytestmark = [gpu, needed]
WINDOW = 40


def choices(tokens: int, rows: int, k: int) -> "torch.Tensor":
    """Rising numbers, -1 in front."""
    k = min(k, rows)
    lines = []
    for t in range(tokens):
        count = max(0, k - t % 3)
        numbers = torch.randperm(rows)[:count].sort().values
        lines.append(torch.cat((torch.full((k - count,), -1), numbers)))
    return torch.stack(lines)


def operands(tokens: int, before: int, rows: int, heads: int, d: int) -> tuple["torch.Tensor", ...]:
    torch.manual_seed(tokens + before + rows)
    q, window = torch.randn(tokens, heads, d) * 2, torch.randn(before + tokens, d)
    return q, window, torch.randn(rows, d), torch.randn(heads)


@pytest.mark.parametrize("kind", ["window", "chosen", "all"])
@pytest.mark.parametrize(
    ("tokens", "before", "rows", "heads", "d"),
    [(1, 0, 3, 4, 48), (1, 60, 300, 4, 64), (7, 39, 300, 20, 48), (20, 10, 70, 8, 64), (50, 0, 0, 4, 16)],
)
def test_attention_is_the_reference_s(
    kind: str, tokens: int, before: int, rows: int, heads: int, d: int
) -> None:
    q, window, compressed, sinks = operands(tokens, before, rows, heads, d)
    visible = choices(tokens, rows, 150) if kind == "chosen" else torch.randint(0, rows + 1, (tokens,))
    far, seen = (None, None) if kind == "window" else (compressed, visible)

    def computed(module: object, dtype: "torch.dtype", device: str) -> "torch.Tensor":
        rows_ = None if far is None else far.to(dtype).to(device)
        numbers = None if seen is None else seen.to(device)
        attend = module.attend  # pyright: ignore[reportAttributeAccessIssue]
        return attend(
            q.to(dtype).to(device),
            window.to(dtype).to(device),
            WINDOW,
            rows_,
            numbers,
            sinks.to(device),
            d**-0.5,
        )

    wanted = computed(reference, torch.float64, "cpu")
    assert error(computed(triton_attention, torch.float32, DEVICE), wanted) < 2e-6
    if DEVICE == "cuda":  # Triton's interpreter multiplies BF16 wrongly
        # Operands, weights and result are rounded to 8 bits.
        assert error(computed(triton_attention, torch.bfloat16, DEVICE), wanted) < 1.5e-2


@pytest.mark.parametrize("tokens", [1, 3, 20])
def test_places_without_a_number_may_stand_anywhere(tokens: int) -> None:
    q, window, compressed, sinks = operands(tokens, 5, 70, 4, 32)
    numbers = torch.arange(60)
    behind = torch.where(numbers < torch.arange(tokens)[:, None] * 3, numbers, -1)
    between = behind.clone()
    between[:, ::5] = -1
    for visible in (behind, between, torch.full_like(behind, -1)):
        wanted = reference.attend(
            q.double(), window.double(), WINDOW, compressed.double(), visible, sinks, 0.2
        )
        on = (part.to(DEVICE) for part in (compressed, visible, sinks))
        found = triton_attention.attend(q.to(DEVICE), window.to(DEVICE), WINDOW, *on, 0.2)
        assert error(found, wanted) < 2e-6


@pytest.mark.parametrize("kind", ["chosen", "all"])
def test_a_few_tokens_have_the_bits_of_single_steps(kind: str) -> None:
    q, window, compressed, sinks = (part.to(DEVICE) for part in operands(3, 39, 300, 4, 64))
    if kind == "all":
        visible = torch.tensor([298, 299, 300], device=DEVICE)
    else:
        # The first token chose among fewer rows: alone it has no -1 in front.
        visible = torch.stack(
            [torch.cat((torch.full((2 - t,), -1), torch.arange(148 + t) * 2)) for t in range(3)]
        )
        visible = visible.to(DEVICE)
    together = triton_attention.attend(q, window, WINDOW, compressed, visible, sinks, 0.125)
    for t in range(3):
        own = visible[t : t + 1]
        own = own[:, own[0] >= 0] if kind == "chosen" else own
        alone = triton_attention.attend(
            q[t : t + 1].clone(), window[: 39 + t + 1], WINDOW, compressed[: 298 + t], own, sinks, 0.125
        )
        assert torch.equal(alone[0], together[t]), t
