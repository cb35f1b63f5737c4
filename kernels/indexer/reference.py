"""The indexer: which compressed rows a token attends to.

Source: DeepSeek-V4 report §2.3.1, eqs. 13 to 17: I_{t,s} = Σ_h w_{t,h} ReLU(q_{t,h} · k_s), the k largest among the
rows that lie before t. Queries and keys are turned by a Hadamard matrix before they are rounded to FP4, which
changes no exact product.
"""

import torch

from kernels.few_rows import FEW_ROWS, own_row
from kernels.precision import at_least_f32

SLICE_NUMBERS = 1 << 24
"""Scores of all heads at once: 64 MiB of F32."""


def hadamard(x: torch.Tensor) -> torch.Tensor:
    """x [..., d] by the Hadamard matrix of Sylvester's order, times d^-0.5: its own inverse. d is a power of two."""
    d = x.shape[-1]
    if d & (d - 1) or d == 0:
        raise ValueError(f"a Hadamard matrix of {d} rows: only powers of two are known")
    y, half = at_least_f32(x), 1
    while half < d:
        pairs = y.reshape(*x.shape[:-1], d // (2 * half), 2, half)
        a, b = pairs.unbind(-2)
        y, half = torch.stack((a + b, a - b), dim=-2).reshape(x.shape), 2 * half
    return (y * d**-0.5).to(x.dtype)


def index_scores(
    q: torch.Tensor, keys: torch.Tensor, weights: torch.Tensor, limits: torch.Tensor | None = None
) -> torch.Tensor:
    """q [T, H, d], keys [S, d], weights [T, H] → [T, S]; -∞ from `limits` [T] on, where given."""
    q, keys, weights = at_least_f32(q), at_least_f32(keys), at_least_f32(weights)
    (tokens, heads, _), rows = q.shape, len(keys)
    parts = [q.new_zeros(0, rows)]
    if tokens <= FEW_ROWS:
        for t in range(tokens):
            seen = rows if limits is None else min(int(limits[t]), rows)
            found = scores_of(own_row(q, t), keys[:seen], own_row(weights, t))
            parts.append(torch.cat((found, found.new_full((1, rows - seen), -torch.inf)), dim=1))
        return torch.cat(parts)
    step = max(1, SLICE_NUMBERS // max(1, heads * rows))
    for t in range(0, tokens, step):
        found = scores_of(q[t : t + step], keys, weights[t : t + step])
        if limits is not None:
            beyond = torch.arange(rows, device=q.device) >= limits[t : t + step, None]
            found = found.masked_fill(beyond, -torch.inf)
        parts.append(found)
    return torch.cat(parts)


def scores_of(q: torch.Tensor, keys: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum over heads, all of it at once."""
    return torch.einsum("th,ths->ts", weights, torch.einsum("thd,sd->ths", q, keys).relu())


def causal_top_k(scores: torch.Tensor, limits: torch.Tensor, k: int) -> torch.Tensor:
    """scores [T, S] → int64 [T, min(k, S)]: the k largest of the first limits[t], rising; -1 in front of fewer."""
    rows = scores.shape[1]
    k = min(k, rows)
    beyond = torch.arange(rows, device=scores.device) >= limits[:, None]
    order = scores.masked_fill(beyond, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :k]
    return order.masked_fill(order >= limits[:, None], -1).sort(dim=1).values
