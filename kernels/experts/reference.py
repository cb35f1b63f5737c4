"""Experts: SwiGLU with clamped inputs, and the weighted sum of those that a token goes to.

Source: DeepSeek-V4 report §4.2.3 (the clamp: gate ≤ limit, up within ± limit); Shazeer, "GLU Variants" (SwiGLU).
A token's weight for an expert is multiplied in before the last matrix, as in DeepSeek's inference code.
"""

# pyright: reportUnknownMemberType=false

from typing import Protocol, cast

import torch
from torch.nn import functional

from kernels.few_rows import few_rows_alone
from kernels.matrices import ExpertMatrices
from kernels.precision import at_least_f32
from kernels.product.reference import product

SLICE_NUMBERS = 1 << 25
"""Outputs of single experts held at once: 128 MiB of F32."""


class Bank(Protocol):
    """Experts by number."""

    def matrices(self, expert: int) -> ExpertMatrices:
        """Its three matrices."""
        ...


@few_rows_alone("gate", "up")
def swiglu(gate: torch.Tensor, up: torch.Tensor, limit: float) -> torch.Tensor:
    """silu(min(gate, limit)) * clamp(up, ± limit); no clamp where `limit` is 0."""
    g, u = at_least_f32(gate), at_least_f32(up)
    if limit:
        g, u = g.clamp(max=limit), u.clamp(-limit, limit)
    return (functional.silu(g) * u).to(gate.dtype)


def expert(
    x: torch.Tensor, m: ExpertMatrices, limit: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """x [T, D] → [T, D] by one expert; times `weights` [T] where given."""
    wide = at_least_f32(x)
    hidden = swiglu(product(wide, m.gate), product(wide, m.up), limit)
    if weights is not None:
        hidden = hidden * weights[:, None]
    return product(hidden, m.down).to(x.dtype)


def experts(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, bank: Bank, limit: float
) -> torch.Tensor:
    """x [T, D], chosen and weights [T, K] → [T, D]: the sum over a token's experts, in the order of `chosen`."""
    tokens, used = chosen.shape
    step = max(1, SLICE_NUMBERS // max(1, used * x.shape[1]))
    slices = [
        experts_at_once(x[t : t + step], chosen[t : t + step], weights[t : t + step], bank, limit)
        for t in range(0, tokens, step)
    ]
    return torch.cat(slices) if slices else torch.zeros_like(x)


def experts_at_once(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, bank: Bank, limit: float
) -> torch.Tensor:
    """Each expert once, with all tokens that go to it; then the sums."""
    wide = at_least_f32(x)
    outputs = wide.new_zeros(*chosen.shape, x.shape[1])
    for number in sorted(set(cast(list[int], chosen.flatten().tolist()))):
        t, k = torch.where(chosen == number)
        found = expert(wide[t], bank.matrices(number), limit, weights[t, k].to(wide.dtype))
        outputs.index_put_((t, k), found)
    total = outputs[:, 0] if chosen.shape[1] else torch.zeros_like(wide)
    for k in range(1, chosen.shape[1]):
        total = total + outputs[:, k]
    return total.to(x.dtype)
