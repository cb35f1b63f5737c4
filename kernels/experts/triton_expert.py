"""One expert for all tokens (the shared one) on an NVIDIA GPU: `kernels.product`'s products, SwiGLU between them.

Few tokens go through it in F32 whatever comes in; more are multiplied in their own type, as everything dense is.
"""

# ruff: noqa: ARG001 - `accepts_…` has the parameters of its operator, whichever it looks at

import torch

from kernels.experts.reference import swiglu
from kernels.few_rows import FEW_ROWS
from kernels.matrices import ExpertMatrices
from kernels.product.triton_products import accepts_product, product


def accepts_expert(
    x: torch.Tensor, m: ExpertMatrices, limit: float, weights: torch.Tensor | None = None
) -> bool:
    """Whether `expert` here takes these."""
    return x.is_cuda and all(accepts_product(x, each) for each in (m.gate, m.up, m.down))


def expert(
    x: torch.Tensor, m: ExpertMatrices, limit: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """x [T, D] → [T, D] by one expert; times `weights` [T] where given."""
    rows = x.float() if x.shape[0] <= FEW_ROWS else x
    hidden = swiglu(product(rows, m.gate), product(rows, m.up), limit)
    if weights is not None:
        hidden = (hidden * weights[:, None]).to(rows.dtype)
    return product(hidden, m.down).to(x.dtype)
