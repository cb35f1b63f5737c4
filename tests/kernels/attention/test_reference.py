"""Attention: the formula of the paper, token by token, in slices, and the same bits for few tokens as for one."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import ops  # noqa: E402
from kernels.attention import reference  # noqa: E402
from tests.kernels.live_memory import LiveMemory  # noqa: E402
from tests.kernels.seeded_operands import Seeded  # noqa: E402

SCALE = 0.3


def attended(q: list[float], rows: list[list[float]], sink: float) -> np.ndarray:
    """One head of one token, in float64."""
    logits = [SCALE * sum(a * b for a, b in zip(q, row, strict=True)) for row in rows]
    largest = max([*logits, sink])
    sizes = [math.exp(logit - largest) for logit in logits]
    total = math.exp(sink - largest) + sum(sizes)
    return sum(
        (size / total * np.array(row) for size, row in zip(sizes, rows, strict=True)), np.zeros(len(q))
    )


@pytest.mark.parametrize("tokens", [0, 1, 3, 8, 9, 21])
@pytest.mark.parametrize("before", [0, 2, 9])
@pytest.mark.parametrize("far", ["none", "numbers", "limits"])
def test_the_formula(tokens: int, before: int, far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "SLICE_NUMBERS", 200)  # slices of a few tokens
    seeded = Seeded(1)
    q, window, sinks = seeded.normal(tokens, 3, 6), seeded.normal(before + tokens, 6), 2 * seeded.normal(3)
    compressed = None if far == "none" else seeded.normal(11, 6)
    limits = seeded.whole(0, 12, tokens)
    visible = {"none": None, "limits": limits}.get(
        far, ops.causal_top_k(seeded.normal(tokens, 11), limits, 4)
    )
    found = ops.attend(q, window, 5, compressed, visible, sinks, SCALE)
    assert found.shape == q.shape
    for t in range(tokens):
        rows = window[max(0, before + t - 4) : before + t + 1].tolist()
        if compressed is not None and far == "limits":
            rows += compressed[: int(limits[t])].tolist()
        elif compressed is not None and visible is not None:
            rows += [compressed[int(s)].tolist() for s in visible[t] if s >= 0]
        for h in range(3):
            wanted = attended(q[t, h].tolist(), rows, float(sinks[h]))
            np.testing.assert_allclose(found[t, h].numpy(), wanted, atol=2e-6)


def test_no_compressed_rows_yet() -> None:
    seeded = Seeded(2)
    for tokens in (1, 12):
        q, window, sinks = seeded.normal(tokens, 2, 4), seeded.normal(tokens, 4), seeded.normal(2)
        wanted = ops.attend(q, window, 5, None, None, sinks, SCALE)
        empty = seeded.normal(0, 4)
        numbers = torch.zeros(tokens, 0, dtype=torch.int64)
        limits = torch.zeros(tokens, dtype=torch.int64)
        for visible in (numbers, limits):
            assert torch.equal(ops.attend(q, window, 5, empty, visible, sinks, SCALE), wanted)


@pytest.mark.parametrize("far", ["none", "numbers", "limits"])
def test_few_tokens_see_what_single_steps_see_bit_for_bit(far: str) -> None:
    """Steps find another number of rows in the ring, and no compressed row that a later token completes."""
    seeded = Seeded(3)
    tokens, d = 8, 40
    q, text, sinks = seeded.normal(tokens, 3, d), seeded.normal(20 + tokens, d), seeded.normal(3)
    compressed = seeded.normal(13, d)
    limits = torch.tensor([9, 10, 10, 11, 11, 12, 12, 13])
    scores = seeded.normal(tokens, 13)
    numbers = ops.causal_top_k(scores, limits, 6)
    visible = {"none": None, "numbers": numbers, "limits": limits}[far]
    rows = None if far == "none" else compressed
    together = ops.attend(q, text, 7, rows, visible, sinks, SCALE)
    for t in range(tokens):
        ring = text[20 + t - 6 : 21 + t].clone()
        seen = int(limits[t])
        own = (
            limits[t : t + 1]
            if far == "limits"
            else ops.causal_top_k(scores[t : t + 1, :seen], limits[t : t + 1], 6)
        )
        alone = ops.attend(
            q[t : t + 1].clone(), ring, 7, None if rows is None else rows[:seen].clone(),
            None if far == "none" else own, sinks, SCALE,
        )  # fmt: skip
        assert torch.equal(together[t : t + 1], alone), t


def test_sinks_and_logits_beyond_every_exponential() -> None:
    q, window = torch.full((1, 1, 4), 1e3), torch.full((1, 4), 1e3)
    assert torch.equal(ops.attend(q, window, 4, None, None, torch.zeros(1), 1.0), window[None])
    sunk = ops.attend(q, window, 4, None, None, torch.full((1,), 1e9), 1.0)
    assert torch.equal(sunk, torch.zeros(1, 1, 4))


def test_half_types() -> None:
    seeded = Seeded(4)
    q, window, sinks = seeded.normal(12, 2, 8).bfloat16(), seeded.normal(12, 8).bfloat16(), seeded.normal(2)
    found = ops.attend(q, window, 5, None, None, sinks, SCALE)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, ops.attend(q.float(), window.float(), 5, None, None, sinks, SCALE).bfloat16())


@pytest.mark.parametrize("far", ["numbers", "limits"])
def test_memory_is_bounded_by_slices(far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "SLICE_NUMBERS", 1 << 16)
    seeded = Seeded(5)
    tokens, rows, heads, d, k = 256, 1024, 4, 64, 64
    q, window, sinks = seeded.normal(tokens, heads, d), seeded.normal(tokens, d), seeded.normal(heads)
    limits = torch.arange(tokens) * 4
    visible = limits if far == "limits" else ops.causal_top_k(seeded.normal(tokens, rows), limits, k)
    compressed = seeded.normal(rows, d)
    with LiveMemory() as memory, torch.no_grad():
        ops.attend(q, window, 16, compressed, visible, sinks, SCALE)
    result = 4 * tokens * heads * d
    whole = (
        4 * tokens * (heads * rows if far == "limits" else k * d)
    )  # logits, or gathered rows, of all tokens
    assert memory.peak_bytes < 2 * result + 8 * 4 * (1 << 16)
    assert 2 * result + 8 * 4 * (1 << 16) < 2 * result + whole


@pytest.mark.slow
def test_memory_does_not_grow_with_the_square_of_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrow window makes slices of many tokens, and each of them has logits to all rows of its slice."""
    monkeypatch.setattr(reference, "SLICE_NUMBERS", 1 << 16)
    seeded = Seeded(6)
    q, window, sinks = seeded.normal(4096, 2, 8), seeded.normal(4096, 8), seeded.normal(2)
    with LiveMemory() as memory, torch.no_grad():
        ops.attend(q, window, 2, None, None, sinks, SCALE)
    assert memory.peak_bytes < 2 * q.nbytes + 8 * 4 * (1 << 16)


def test_of_rows_in_half_the_bits_only_those_that_are_seen_are_widened() -> None:
    seeded = Seeded(7)
    rows, sinks = seeded.normal(1 << 14, 64).bfloat16(), seeded.normal(2)
    for tokens in (1, 9):
        q, window = seeded.normal(tokens, 2, 64).bfloat16(), seeded.normal(tokens, 64).bfloat16()
        visible = torch.arange(4).expand(tokens, 4)
        with LiveMemory() as memory, torch.no_grad():
            ops.attend(q, window, 4, rows, visible, sinks, SCALE)
        assert memory.peak_bytes < rows.nbytes / 4


def test_a_long_pass_through_a_window_takes_no_more_than_a_short_one() -> None:
    """Beside its result: pairs of tokens that lie farther apart are masked, and most of them are not even there."""
    tokens, heads, d, window_size = 1024, 4, 16, 16
    seeded = Seeded(6)
    q, window, sinks = seeded.normal(tokens, heads, d), seeded.normal(tokens, d), seeded.normal(heads)
    with LiveMemory() as memory, torch.no_grad():
        ops.attend(q, window, window_size, None, None, sinks, SCALE)
    assert memory.peak_bytes < 2 * 4 * q.numel() + 8 * 4 * heads * window_size * 2 * window_size + (64 << 10)
    assert 4 * heads * tokens * tokens > 10 * 2 * 4 * q.numel()  # the logits of all pairs


@pytest.mark.parametrize("tokens", [3, 10])
@pytest.mark.parametrize("far", ["none", "numbers", "limits"])
def test_gradients(tokens: int, far: str) -> None:
    seeded = Seeded(6)
    q, window, compressed = seeded.double(tokens, 2, 3), seeded.double(tokens + 2, 3), seeded.double(4, 3)
    sinks = seeded.double(2)
    limits = torch.arange(tokens).clamp(max=4)
    numbers = ops.causal_top_k(seeded.normal(tokens, 4), limits, 2)
    visible = {"none": None, "numbers": numbers, "limits": limits}[far]
    if far == "none":
        operator = lambda q, w, s: ops.attend(q, w, 4, None, None, s, SCALE)  # noqa: E731
        assert torch.autograd.gradcheck(operator, (q, window, sinks))
    else:
        full = lambda q, w, c, s: ops.attend(q, w, 4, c, visible, s, SCALE)  # noqa: E731
        assert torch.autograd.gradcheck(full, (q, window, compressed, sinks))
