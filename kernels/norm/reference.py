"""RMSNorm: x / sqrt(mean(x²) + eps), times a weight where there is one (DeepSeek-V4 report §2.3.1: the norms of
queries and of keys; per head there is none)."""

import torch

from kernels.few_rows import few_rows_alone
from kernels.precision import at_least_f32


@few_rows_alone("x")
def rms_norm(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """x [T, ..., d], over its last axis; computed in F32."""
    wide = at_least_f32(x)
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (normed if weight is None else normed * weight).to(x.dtype)
