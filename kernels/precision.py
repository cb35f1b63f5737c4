"""In what precision the operators compute: F32, or more where they are given more.

Owns that rule. F64 is for checking gradients and for telling how far F32 is from it.
"""

import torch


def at_least_f32(x: torch.Tensor) -> torch.Tensor:
    """`x` in F32, or as it is where it is F64."""
    return x if x.dtype == torch.float64 else x.float()
