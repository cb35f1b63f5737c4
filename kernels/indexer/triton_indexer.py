"""The indexer on an NVIDIA GPU: scores without the [tokens, heads, rows] in between, and the Hadamard turn.

A token's score for a row is summed over the heads in one program, in F32, in an order that depends on no other token.
"""

# Triton's language is no Python that a type checker knows, and no machine without a GPU has it.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: ARG001 - `accepts_…` has the parameters of its operator, whichever it looks at

import torch
import triton
import triton.language as tl

_ROWS = 64


@triton.jit(do_not_specialize=["count"])
def _scores(
    q, keys, weights, limits, out, count,
    heads: tl.constexpr, d: tl.constexpr, padded: tl.constexpr, width: tl.constexpr, rows: tl.constexpr,
    limited: tl.constexpr, kind: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * rows + tl.arange(0, rows)
    inside = row < count
    head, column = tl.arange(0, padded), tl.arange(0, width)
    query = tl.load(
        q + (token * heads + head)[:, None] * d + column[None, :],
        mask=(head < heads)[:, None] & (column < d)[None, :], other=0.0,
    ).to(kind)  # fmt: skip
    key = tl.load(
        keys + row[:, None].to(tl.int64) * d + column[None, :],
        mask=inside[:, None] & (column < d)[None, :], other=0.0,
    ).to(kind)  # fmt: skip
    w = tl.load(weights + token * heads + head, mask=head < heads, other=0.0).to(tl.float32)
    products = tl.maximum(tl.dot(query, tl.trans(key), input_precision="ieee"), 0.0)
    score = tl.sum(products * w[:, None], axis=0)
    if limited:
        score = tl.where(row < tl.load(limits + token), score, float("-inf"))
    tl.store(out + token * count + row, score, mask=inside)


@triton.jit
def _hadamard(x, out, factor, d: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, d)
    both = i[:, None] & i[None, :]
    both ^= both >> 8
    both ^= both >> 4
    both ^= both >> 2
    both ^= both >> 1
    numbers = tl.load(x + row * d + i).to(tl.float32)
    total = tl.sum(tl.where((both & 1) == 1, -numbers[None, :], numbers[None, :]), axis=1)
    tl.store(out + row * d + i, (total * factor).to(out.dtype.element_ty))


def accepts_index_scores(
    q: torch.Tensor, keys: torch.Tensor, weights: torch.Tensor, limits: torch.Tensor | None = None
) -> bool:
    """Whether `index_scores` here takes these."""
    types = {q.dtype, keys.dtype, weights.dtype}
    return types <= {torch.float32, torch.bfloat16} and q.shape[2] <= 256 and q.shape[1] <= 128


def index_scores(
    q: torch.Tensor, keys: torch.Tensor, weights: torch.Tensor, limits: torch.Tensor | None = None
) -> torch.Tensor:
    """q [T, H, d], keys [S, d], weights [T, H] → F32 [T, S]; -∞ from `limits` [T] on, where given."""
    tokens, heads, d = q.shape
    out = torch.empty(tokens, len(keys), dtype=torch.float32, device=q.device)
    both_bf16 = q.dtype == keys.dtype == torch.bfloat16
    if out.numel():
        _scores[(tokens, triton.cdiv(len(keys), _ROWS))](
            q.contiguous(), keys.contiguous(), weights.contiguous(), q if limits is None else limits.contiguous(),
            out, len(keys), heads=heads, d=d, padded=max(16, triton.next_power_of_2(heads)),
            width=max(16, triton.next_power_of_2(d)), rows=_ROWS, limited=limits is not None,
            kind=tl.bfloat16 if both_bf16 else tl.float32,
        )  # fmt: skip
    return out


def accepts_hadamard(x: torch.Tensor) -> bool:
    """Whether `hadamard` here takes these."""
    d = x.shape[-1]
    return x.dtype in (torch.float32, torch.bfloat16) and 16 <= d <= 256 and d & (d - 1) == 0


def hadamard(x: torch.Tensor) -> torch.Tensor:
    """x [..., d] by the Hadamard matrix of Sylvester's order, times d^-0.5."""
    x = x.contiguous()
    out, d = torch.empty_like(x), x.shape[-1]
    if x.numel():
        _hadamard[(x.numel() // d,)](x, out, d**-0.5, d=d)
    return out
