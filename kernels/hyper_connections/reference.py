"""Manifold-constrained hyper-connections: n streams of the residual, mixed by a doubly stochastic matrix.

Source: DeepSeek-V4 report §2.2: X' = B X + C F(A X), X ∈ R^{n x D}; A = σ(Ã), C = 2σ(C̃), B the limit of Sinkhorn's
iteration from exp(B̃); Ã, B̃, C̃ = α · (RMSNorm(vec X) W) + S. Here A is `pre`, C `post`, and `comb` is B transposed:
comb[j, k] is what stream j gives to stream k. `fn` is W transposed, `base` S, `scale` the three α.
"""

import torch

from kernels.few_rows import few_rows_alone
from kernels.norm.reference import rms_norm
from kernels.precision import at_least_f32
from kernels.product.reference import linear


@few_rows_alone("streams")
def mix_streams(
    streams: torch.Tensor,
    fn: torch.Tensor,
    base: torch.Tensor,
    scale: torch.Tensor,
    *,
    norm_eps: float,
    eps: float,
    iterations: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """streams [T, n, D] → x [T, D] for the layer; post [T, n] and comb [T, n, n] for what comes after it."""
    tokens, n, _ = streams.shape
    mixes = linear(rms_norm(at_least_f32(streams).flatten(1), None, norm_eps), fn)
    a, c, b = mixes.split_with_sizes((n, n, n * n), dim=1)
    a_base, c_base, b_base = base.split_with_sizes((n, n, n * n))
    pre = torch.sigmoid(a * scale[0] + a_base) + eps
    post = 2 * torch.sigmoid(c * scale[1] + c_base)
    comb = doubly_stochastic((b * scale[2] + b_base).view(tokens, n, n), eps, iterations)
    return weighted_sum(streams, pre), post, comb


def doubly_stochastic(logits: torch.Tensor, eps: float, iterations: int) -> torch.Tensor:
    """exp(logits) [T, n, n] with rows, then columns, brought to a sum of 1, so many times."""
    comb = logits.softmax(dim=2) + eps
    comb = comb / (comb.sum(dim=1, keepdim=True) + eps)
    for _ in range(iterations - 1):
        comb = comb / (comb.sum(dim=2, keepdim=True) + eps)
        comb = comb / (comb.sum(dim=1, keepdim=True) + eps)
    return comb


@few_rows_alone("y", "streams", "post", "comb")
def merge_streams(
    y: torch.Tensor, streams: torch.Tensor, post: torch.Tensor, comb: torch.Tensor
) -> torch.Tensor:
    """The layer's y [T, D] and the streams before it → streams [T, n, D]: post_k y + Σ_j comb[j, k] x_j."""
    kept = torch.einsum("tjk,tjd->tkd", comb, at_least_f32(streams))
    return (kept + post[..., None] * at_least_f32(y)[:, None]).to(streams.dtype)


@few_rows_alone("streams")
def collapse_streams(
    streams: torch.Tensor,
    fn: torch.Tensor,
    base: torch.Tensor,
    scale: torch.Tensor,
    *,
    norm_eps: float,
    eps: float,
) -> torch.Tensor:
    """The last of all: [T, n, D] → [T, D], by A alone."""
    mixes = linear(rms_norm(at_least_f32(streams).flatten(1), None, norm_eps), fn)
    return weighted_sum(streams, torch.sigmoid(mixes * scale + base) + eps)


def weighted_sum(streams: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Σ_j weights_j x_j."""
    return (weights[..., None] * streams).sum(dim=1).to(streams.dtype)
