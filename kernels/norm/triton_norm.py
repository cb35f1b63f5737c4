"""RMSNorm on an NVIDIA GPU: one program for each row, computed in F32. Rows know nothing of each other."""

# Triton's language is no Python that a type checker knows, and no machine without a GPU has it.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: ARG001 - `accepts_…` has the parameters of its operator, whichever it looks at

import torch
import triton
import triton.language as tl

LONGEST_ROW = 16_384


@triton.jit
def _norm(x, weight, out, eps, d: tl.constexpr, size: tl.constexpr, weighted: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * d
    column = tl.arange(0, size)
    inside = column < d
    row = tl.load(x + at + column, mask=inside, other=0.0).to(tl.float32)
    row = row * tl.rsqrt(tl.sum(row * row, axis=0) / d + eps)
    if weighted:
        row *= tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at + column, row.to(out.dtype.element_ty), mask=inside)


def accepts_rms_norm(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> bool:
    """Whether `rms_norm` here takes these."""
    return x.dtype in (torch.float32, torch.bfloat16) and 0 < x.shape[-1] <= LONGEST_ROW


def rms_norm(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """x [T, ..., d], over its last axis."""
    x = x.contiguous()
    out = torch.empty_like(x)
    d = x.shape[-1]
    if x.numel():
        _norm[(x.numel() // d,)](
            x, x if weight is None else weight.contiguous(), out, eps,
            d=d, size=triton.next_power_of_2(d), weighted=weight is not None,
        )  # fmt: skip
    return out
