"""The compressors of keys and values: some tokens become one row, a weighted mean of each channel.

Source: DeepSeek-V4 report §2.3.1 (CSA, eqs. 9 to 12) and §2.3.2 (HCA, eqs. 20 to 23). With C the values, Z the
gates, B the biases of places (`ape`), and the softmax over the tokens of a group, channel by channel:

    HCA   row_i = Σ_j softmax(Z + B)_j ⊙ C_j                      over the 128 tokens of group i
    CSA   row_i = Σ_j softmax([Zᵃ + Bᵃ; Zᵇ + Bᵇ])_j ⊙ [Cᵃ; Cᵇ]_j   Cᵃ of group i - 1, Cᵇ of group i: 8 in all
"""

import torch

from kernels.few_rows import few_rows_alone
from kernels.precision import at_least_f32


def compress_csa(
    kv: torch.Tensor,
    gate: torch.Tensor,
    ape: torch.Tensor,
    previous: tuple[torch.Tensor, torch.Tensor] | None,
) -> torch.Tensor:
    """[T, 2d] → [T // 4, d]. Of the first row of all there is no group before: its gates are -∞ there."""
    m, d = ape.shape[0], kv.shape[-1] // 2
    c, z = groups(kv, m), groups(gate, m) + ape
    if previous is None:
        before_c, before_z = torch.zeros_like(c[:1]), torch.full_like(z[:1], -torch.inf)
        if len(c) == 0:
            before_c, before_z = c.new_zeros(1, m, 2 * d), z.new_zeros(1, m, 2 * d)
    else:
        before_c, before_z = at_least_f32(previous[0])[None], at_least_f32(previous[1])[None] + ape
    a_c, a_z = torch.cat((before_c, c))[:-1, :, :d], torch.cat((before_z, z))[:-1, :, :d]
    return pooled(torch.cat((a_c, c[..., d:]), dim=1), torch.cat((a_z, z[..., d:]), dim=1))


def compress_hca(kv: torch.Tensor, gate: torch.Tensor, ape: torch.Tensor) -> torch.Tensor:
    """[T, d] → [T // 128, d]."""
    m = ape.shape[0]
    return pooled(groups(kv, m), groups(gate, m) + ape)


def groups(x: torch.Tensor, m: int) -> torch.Tensor:
    """[T, w] → [T // m, m, w] in F32, without the tokens left over."""
    return at_least_f32(x[: len(x) // m * m]).view(-1, m, x.shape[-1])


@few_rows_alone("c", "z")
def pooled(c: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """[G, m, d] → [G, d]: the mean over m, weighted by the softmax of z."""
    return (z.softmax(dim=1) * c).sum(dim=1)
