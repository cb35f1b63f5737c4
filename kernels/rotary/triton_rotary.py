"""Rotary positions on an NVIDIA GPU: one program for each row; angles in F32, sines as exact as torch's."""

# Triton's language is no Python that a type checker knows, and no machine without a GPU has it.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: ARG001 - `accepts_…` has the parameters of its operator, whichever it looks at

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def _rotate(
    x, positions, frequencies, out, per_token, sign,
    d: tl.constexpr, r: tl.constexpr, size: tl.constexpr, half: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, size)
    plain = column < d - r
    tl.store(out + row * d + column, tl.load(x + row * d + column, mask=plain), mask=plain)
    pair = tl.arange(0, half)
    inside = pair < r // 2
    angle = tl.load(positions + row // per_token).to(tl.float32) * tl.load(
        frequencies + pair, mask=inside, other=0.0
    )
    cos, sin = libdevice.cos(angle), libdevice.sin(angle) * sign
    at = row * d + d - r + 2 * pair
    a = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x + at + 1, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (a * cos - b * sin).to(out.dtype.element_ty), mask=inside)
    tl.store(out + at + 1, (a * sin + b * cos).to(out.dtype.element_ty), mask=inside)


def accepts_rotate(
    x: torch.Tensor, positions: torch.Tensor, frequencies: torch.Tensor, *, inverse: bool = False
) -> bool:
    """Whether `rotate` here takes these."""
    return x.dtype in (torch.float32, torch.bfloat16) and frequencies.dtype == torch.float32


def rotate(
    x: torch.Tensor, positions: torch.Tensor, frequencies: torch.Tensor, *, inverse: bool = False
) -> torch.Tensor:
    """x [T, ..., d]: the last 2 * len(frequencies) dimensions turned; backwards where `inverse`."""
    x = x.contiguous()
    out = torch.empty_like(x)
    d, r = x.shape[-1], 2 * len(frequencies)
    if x.numel():
        rows = x.numel() // d
        _rotate[(rows,)](
            x, positions.contiguous(), frequencies, out, rows // len(positions), -1.0 if inverse else 1.0,
            d=d, r=r, size=triton.next_power_of_2(max(1, d - r)), half=triton.next_power_of_2(r // 2),
            num_warps=1,
        )  # fmt: skip
    return out
