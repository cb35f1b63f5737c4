"""The router's choice on an NVIDIA GPU: scores, the largest of them, their weights, one program for each token.

The product with the gate is `kernels.product`'s; what comes after it is some twenty operations of torch otherwise.
"""

# Triton's language is no Python that a type checker knows, and no machine without a GPU has it.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: ARG001 - `accepts_…` has the parameters of its operator, whichever it looks at

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from kernels.matrices import Matrix
from kernels.product.triton_products import accepts_product, product
from kernels.router.reference import SMALLEST_SUM


@triton.jit
def _route(
    logits, bias, table, chosen, weights, scaling, smallest,
    experts: tl.constexpr, size: tl.constexpr, used: tl.constexpr, places: tl.constexpr,
    biased: tl.constexpr, given: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    expert, place = tl.arange(0, size), tl.arange(0, places)
    inside = expert < experts
    logit = tl.load(logits + token * experts + expert, mask=inside, other=0.0)
    # As torch's softplus: above 20 it is its operand.
    score = tl.sqrt_rn(tl.where(logit > 20.0, logit, libdevice.log1p(libdevice.exp(logit))))
    taken = tl.zeros((places,), tl.float32)
    if given:
        numbers = tl.load(table + token * used + place, mask=place < used, other=0)
        taken = tl.sum(tl.where(numbers[:, None] == expert[None, :], score[None, :], 0.0), axis=1)
        taken = tl.where(place < used, taken, 0.0)
    else:
        numbers = tl.zeros((places,), tl.int64)
        wanted = score
        if biased:
            wanted += tl.load(bias + expert, mask=inside, other=0.0)
        wanted = tl.where(inside & (wanted == wanted), wanted, float("-inf"))
        left = inside
        for k in range(used):
            best = tl.max(tl.where(left, wanted, float("-inf")), axis=0)
            # Of equal ones the first.
            first = tl.min(tl.where(left & (wanted == best), expert, size), axis=0)
            left = left & (expert != first)
            numbers = tl.where(place == k, first.to(tl.int64), numbers)
            taken = tl.where(place == k, tl.sum(tl.where(expert == first, score, 0.0), axis=0), taken)
    result = tl.div_rn(taken, tl.sum(taken, axis=0) + smallest) * scaling
    tl.store(chosen + token * used + place, numbers, mask=place < used)
    tl.store(weights + token * used + place, result, mask=place < used)


def accepts_route(
    x: torch.Tensor,
    gate: Matrix,
    *,
    bias: torch.Tensor | None,
    chosen: torch.Tensor | None,
    used: int,
    scaling: float,
) -> bool:
    """Whether `route` here takes these."""
    return accepts_product(x.float(), gate) and 0 < used <= gate.rows


def route(
    x: torch.Tensor,
    gate: Matrix,
    *,
    bias: torch.Tensor | None,
    chosen: torch.Tensor | None,
    used: int,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [T, D] → experts int64 [T, K], weights F32 [T, K]. A NaN score is chosen never; its weights are NaN."""
    tokens = x.shape[0]
    logits = product(x.float(), gate)
    numbers = torch.empty(tokens, used, dtype=torch.int64, device=x.device)
    weights = torch.empty(tokens, used, dtype=torch.float32, device=x.device)
    if tokens:
        _route[(tokens,)](
            logits, logits if bias is None else bias.contiguous(),
            numbers if chosen is None else chosen.to(torch.int64).contiguous(), numbers, weights,
            scaling, SMALLEST_SUM, experts=gate.rows, size=triton.next_power_of_2(gate.rows), used=used,
            places=triton.next_power_of_2(used), biased=bias is not None, given=chosen is not None,
        )  # fmt: skip
    return numbers, weights
