"""Rotary positions: interleaved pairs of the last dimensions, turned by position * frequency; YaRN's frequencies.

Sources: Su et al., "RoFormer" (rotation of pairs); Peng et al., "YaRN" §3.2 (NTK-by-parts), without the factor on
attention of its §3.4, which V4 leaves at 1; DeepSeek-V4 report §2.3.3 (partial, and turned back on the output).
"""

import math

import torch

from kernels.few_rows import few_rows_alone
from kernels.precision import at_least_f32


def rotary_frequencies(
    theta: float,
    r: int,
    yarn: tuple[float, int, float, float] | None,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """theta^(-2i/r); with YaRN, pairs that turn seldom within the original length turn `factor` times slower."""
    exponents = torch.arange(0, r, 2, dtype=torch.float32, device=device) / r
    periods = theta**exponents
    if yarn is None:
        return 1.0 / periods
    factor, original, beta_fast, beta_slow = yarn

    def pair_that_turns(times: float) -> float:
        return r * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair_that_turns(beta_fast)), 0)
    high = min(math.ceil(pair_that_turns(beta_slow)), r - 1)
    pairs = torch.arange(r // 2, dtype=torch.float32, device=device)
    slowed = ((pairs - low) / max(high - low, 0.001)).clamp(0, 1)
    return 1.0 / (factor * periods) * slowed + 1.0 / periods * (1 - slowed)


@few_rows_alone("x", "positions")
def rotate(
    x: torch.Tensor, positions: torch.Tensor, frequencies: torch.Tensor, *, inverse: bool = False
) -> torch.Tensor:
    """x [T, ..., d]: the last 2 * len(frequencies) dimensions turned; backwards where `inverse`."""
    r = 2 * len(frequencies)
    angles = positions.to(frequencies.dtype)[:, None] * frequencies
    angles = angles.view(len(positions), *[1] * (x.dim() - 2), r // 2)
    wide = at_least_f32(x)
    cos, sin = angles.cos().to(wide.dtype), angles.sin().to(wide.dtype)
    if inverse:
        sin = -sin
    a, b = wide[..., x.shape[-1] - r :: 2], wide[..., x.shape[-1] - r + 1 :: 2]
    turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
    return torch.cat((x[..., : x.shape[-1] - r], turned.to(x.dtype)), dim=-1)
