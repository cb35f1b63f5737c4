"""Hyper-connections on an NVIDIA GPU: what is some 90 small operations of torch for each sub-layer, in three kernels.

Owns: the mixes' sums over the streams, cut into pieces that many processors take and added up in a fixed order
(more than a few tokens: one matrix product); Sinkhorn's iteration and the weighted sum of the streams behind it; the
merge. All in F32, each token by itself.
"""

# Triton's language is no Python that a type checker knows, and no machine without a GPU has it.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: ARG001 - `accepts_…` has the parameters of its operator, whichever it looks at

import torch
import triton
import triton.language as tl

from kernels.few_rows import FEW_ROWS

_SPLIT = 256
"""Numbers of all streams that one program takes."""
_WIDE = 1024
"""Of the hidden size that one program mixes."""


@triton.jit
def _sums(x, fn, out, total, mixes: tl.constexpr, padded: tl.constexpr, split: tl.constexpr):
    """out [T, pieces, padded + 1]: partial sums of fn · x, and of x² last."""
    token, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at = piece * split + tl.arange(0, split)
    inside = at < total
    numbers = tl.load(x + token * total + at, mask=inside, other=0.0).to(tl.float32)
    row = tl.arange(0, padded)
    w = tl.load(
        fn + row[:, None] * total + at[None, :], mask=(row < mixes)[:, None] & inside[None, :], other=0.0
    )
    target = out + (token * tl.num_programs(1) + piece) * (padded + 1)
    tl.store(target + row, tl.sum(w * numbers[None, :], axis=1))
    tl.store(target + padded, tl.sum(numbers * numbers, axis=0))


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _mixed(sums, pieces, first: tl.constexpr, count: tl.constexpr, padded: tl.constexpr, size: tl.constexpr):
    """Σ over pieces of the sums first … first + count - 1: [count]."""
    piece, at = tl.arange(0, size), first + tl.arange(0, count)
    parts = tl.load(
        sums + piece[:, None] * (padded + 1) + at[None, :],
        mask=(piece < pieces)[:, None] & (at >= 0)[None, :],
        other=0.0,
    )
    return tl.sum(parts, axis=0)


@triton.jit
def _finish(
    x, sums, base, scale, out, post, comb, pieces, hidden, norm_eps, eps,
    n: tl.constexpr, iterations: tl.constexpr, padded: tl.constexpr, size: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """out [T, hidden] = Σ_j pre_j x_j; post [T, n], comb [T, n, n]. iterations 0: pre alone (the last collapse)."""
    token = tl.program_id(0).to(tl.int64)
    sums += token * pieces * (padded + 1)
    piece = tl.arange(0, size)
    squares = tl.load(sums + piece * (padded + 1) + padded, mask=piece < pieces, other=0.0)
    norm = tl.rsqrt(tl.sum(squares, axis=0) / (n * hidden) + norm_eps)
    stream = tl.arange(0, n)
    pre = _mixed(sums, pieces, 0, n, padded, size) * norm * tl.load(scale) + tl.load(base + stream)
    pre = _sigmoid(pre) + eps
    column = tl.program_id(1) * wide + tl.arange(0, wide)
    inside = column < hidden
    rows = tl.load(
        x + token * n * hidden + stream[:, None] * hidden + column[None, :],
        mask=(stream >= 0)[:, None] & inside[None, :], other=0.0,
    ).to(tl.float32)  # fmt: skip
    result = tl.sum(rows * pre[:, None], axis=0)
    tl.store(out + token * hidden + column, result.to(out.dtype.element_ty), mask=inside)
    if iterations > 0 and tl.program_id(1) == 0:
        c = _mixed(sums, pieces, n, n, padded, size) * norm * tl.load(scale + 1) + tl.load(base + n + stream)
        tl.store(post + token * n + stream, 2 * _sigmoid(c))
        b = _mixed(sums, pieces, 2 * n, n * n, padded, size) * norm * tl.load(scale + 2)
        b += tl.load(base + 2 * n + tl.arange(0, n * n))
        b = tl.reshape(b, (n, n))
        b = tl.exp(b - tl.max(b, axis=1)[:, None])
        b = b / tl.sum(b, axis=1)[:, None] + eps
        b = b / (tl.sum(b, axis=0)[None, :] + eps)
        for _ in range(iterations - 1):
            b = b / (tl.sum(b, axis=1)[:, None] + eps)
            b = b / (tl.sum(b, axis=0)[None, :] + eps)
        place = token * n * n + stream[:, None] * n + stream[None, :]
        tl.store(comb + place, b)


@triton.jit
def _merge(y, x, post, comb, out, hidden, n: tl.constexpr, wide: tl.constexpr):
    """out [T, n, hidden]: post_k y + Σ_j comb[j, k] x_j."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * wide + tl.arange(0, wide)
    inside = column < hidden
    stream = tl.arange(0, n)
    own = tl.load(y + token * hidden + column, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((n, wide), tl.float32)
    for j in range(n):
        row = tl.load(x + (token * n + j) * hidden + column, mask=inside, other=0.0).to(tl.float32)
        total += tl.load(comb + (token * n + j) * n + stream)[:, None] * row[None, :]
    total += tl.load(post + token * n + stream)[:, None] * own[None, :]
    at = (token * n + stream)[:, None] * hidden + column[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=(stream >= 0)[:, None] & inside[None, :])


def _takes(streams: torch.Tensor) -> bool:
    n = streams.shape[1]
    return streams.dtype in (torch.float32, torch.bfloat16) and n > 1 and n & (n - 1) == 0


def accepts_mix_streams(
    streams: torch.Tensor, fn: torch.Tensor, base: torch.Tensor, scale: torch.Tensor, **_: float
) -> bool:
    """Whether `mix_streams` here takes these: a power of two of streams."""
    return _takes(streams)


def mix_streams(
    streams: torch.Tensor,
    fn: torch.Tensor,
    base: torch.Tensor,
    scale: torch.Tensor,
    *,
    norm_eps: float,
    eps: float,
    iterations: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """streams [T, n, D] → x [T, D]; post F32 [T, n] and comb F32 [T, n, n]."""
    return _mix(streams, fn, base, scale, norm_eps, eps, iterations)


def accepts_collapse_streams(
    streams: torch.Tensor, fn: torch.Tensor, base: torch.Tensor, scale: torch.Tensor, **_: float
) -> bool:
    """Whether `collapse_streams` here takes these: a power of two of streams."""
    return _takes(streams)


def collapse_streams(
    streams: torch.Tensor,
    fn: torch.Tensor,
    base: torch.Tensor,
    scale: torch.Tensor,
    *,
    norm_eps: float,
    eps: float,
) -> torch.Tensor:
    """The last of all: [T, n, D] → [T, D]."""
    return _mix(streams, fn, base, scale, norm_eps, eps, 0)[0]


def _mix(
    streams: torch.Tensor,
    fn: torch.Tensor,
    base: torch.Tensor,
    scale: torch.Tensor,
    norm_eps: float,
    eps: float,
    iterations: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens, n, hidden = streams.shape
    streams, device = streams.contiguous(), streams.device
    x = torch.empty(tokens, hidden, dtype=streams.dtype, device=device)
    post = torch.empty(tokens, n, dtype=torch.float32, device=device)
    comb = torch.empty(tokens, n, n, dtype=torch.float32, device=device)
    if not tokens:
        return x, post, comb
    mixes, padded = len(fn), triton.next_power_of_2(len(fn))
    if tokens <= FEW_ROWS:
        pieces = triton.cdiv(n * hidden, _SPLIT)
        sums = torch.empty(tokens, pieces, padded + 1, dtype=torch.float32, device=device)
        _sums[(tokens, pieces)](
            streams, fn.contiguous(), sums, n * hidden, mixes=mixes, padded=padded, split=_SPLIT
        )
    else:
        pieces, flat = 1, streams.view(tokens, n * hidden).float()
        sums = torch.zeros(tokens, 1, padded + 1, dtype=torch.float32, device=device)
        sums[:, 0, :mixes] = flat @ fn.T
        sums[:, 0, padded] = flat.square().sum(dim=1)
    _finish[(tokens, triton.cdiv(hidden, _WIDE))](
        streams, sums, base.contiguous(), scale.contiguous(), x, post, comb, pieces, hidden, norm_eps, eps,
        n=n, iterations=iterations, padded=padded, size=triton.next_power_of_2(pieces), wide=_WIDE,
    )  # fmt: skip
    return x, post, comb


def accepts_merge_streams(
    y: torch.Tensor, streams: torch.Tensor, post: torch.Tensor, comb: torch.Tensor
) -> bool:
    """Whether `merge_streams` here takes these."""
    return _takes(streams) and post.dtype == comb.dtype == torch.float32


def merge_streams(
    y: torch.Tensor, streams: torch.Tensor, post: torch.Tensor, comb: torch.Tensor
) -> torch.Tensor:
    """The layer's y [T, D] and the streams before it → streams [T, n, D]."""
    tokens, n, hidden = streams.shape
    streams = streams.contiguous()
    out = torch.empty_like(streams)
    if tokens:
        _merge[(tokens, triton.cdiv(hidden, _WIDE))](
            y.contiguous(), streams, post.contiguous(), comb.contiguous(), out, hidden, n=n, wide=_WIDE
        )
    return out
