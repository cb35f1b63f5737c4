"""The router: which experts a token goes to, and with what weights.

Source: DeepSeek-V4 report §2.1 (square root of softplus; the first layers by token id); DeepSeek-V3 report §2.1.2
(a bias for balance that takes part in the choice only).
"""

import torch
from torch.nn import functional

from kernels.few_rows import few_rows_alone
from kernels.matrices import Matrix
from kernels.precision import at_least_f32
from kernels.product.reference import product

SMALLEST_SUM = 1e-20
"""Added to the sum that weights are divided by."""


def router_scores(x: torch.Tensor, gate: Matrix) -> torch.Tensor:
    """x [T, D] → F32 [T, experts]: sqrt(softplus(x Wᵀ))."""
    return root_of_softplus(product(at_least_f32(x), gate))


@few_rows_alone("logits")
def root_of_softplus(logits: torch.Tensor) -> torch.Tensor:
    """sqrt(ln(1 + e^x))."""
    return functional.softplus(logits).sqrt()


def route(
    x: torch.Tensor,
    gate: Matrix,
    *,
    bias: torch.Tensor | None,
    chosen: torch.Tensor | None,
    used: int,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [T, D] → experts int64 [T, K], weights F32 [T, K]."""
    scores = router_scores(x, gate)
    if chosen is None:
        wanted = scores.detach() if bias is None else scores.detach() + bias
        chosen = wanted.sort(dim=1, descending=True, stable=True).indices[:, :used]
    return chosen, normalised(scores.gather(1, chosen)) * scaling


@few_rows_alone("scores")
def normalised(scores: torch.Tensor) -> torch.Tensor:
    """Scores [T, K] of the chosen, over their sum."""
    return scores / (scores.sum(dim=1, keepdim=True) + SMALLEST_SUM)
