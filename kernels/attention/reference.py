"""Attention of many query heads to one row of keys, which are the values too: the window's rows and compressed ones.

Source: DeepSeek-V4 report §2.3.1 (shared keys and values), §2.3.3 (window; sink, eq. 27):

    o_{t,h} = Σ_s e^{l_{t,h,s}} row_s / (e^{sink_h} + Σ_s e^{l_{t,h,s}}),    l_{t,h,s} = scale q_{t,h} · row_s
"""

import math

import torch

from kernels.few_rows import FEW_ROWS, own_row
from kernels.precision import at_least_f32

SLICE_NUMBERS = 1 << 24
"""Logits to the window, logits to compressed rows and gathered rows at once, each: 64 MiB of F32."""


def attend(
    q: torch.Tensor,
    window: torch.Tensor,
    window_size: int,
    compressed: torch.Tensor | None,
    visible: torch.Tensor | None,
    sinks: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """q [T, H, d], window [W0 + T, d], compressed [S, d] → [T, H, d]; token t's own row is window[W0 + t]."""
    tokens, heads, d = q.shape
    wide, window, sinks = at_least_f32(q), at_least_f32(window), sinks.to(at_least_f32(q).dtype)
    if compressed is None or visible is None:
        compressed, visible = window[:0], torch.zeros(tokens, dtype=torch.int64, device=q.device)
    before = len(window) - tokens
    parts: list[torch.Tensor] = []
    if tokens <= FEW_ROWS:
        for t in range(tokens):
            own = before + t + 1
            near = window[max(0, own - window_size) : own]
            far = at_least_f32(compressed[chosen(visible[t])])
            parts.append(attend_all(own_row(wide, t), torch.cat((near, far)), sinks, scale))
    else:
        gathered = 0 if visible.dim() == 1 else visible.shape[1]
        seen = window_size + (gathered or len(compressed))
        # Every token meets all rows of its slice: slices longer than a window would be mostly of pairs that are masked,
        # and those of a wide window are no longer than makes a square of that many numbers.
        longest = min(window_size, math.isqrt(SLICE_NUMBERS // heads))
        step = max(1, min(longest, SLICE_NUMBERS // (heads * seen + d * gathered)))
        for t in range(0, tokens, step):
            end = min(t + step, tokens)
            near = window[max(0, before + t + 1 - window_size) : before + end]
            parts.append(
                attend_some(wide[t:end], near, window_size, compressed, visible[t:end], sinks, scale)
            )
    return torch.cat(parts).to(q.dtype) if parts else torch.zeros_like(q)


def chosen(visible: torch.Tensor) -> torch.Tensor | slice:
    """What one token sees of the compressed rows: the first so many, or those numbers that are not -1."""
    return slice(int(visible)) if visible.dim() == 0 else visible[visible >= 0]


def attend_all(q: torch.Tensor, rows: torch.Tensor, sinks: torch.Tensor, scale: float) -> torch.Tensor:
    """One token, [1, H, d], to all of `rows` [n, d]."""
    logits = torch.cat((q[0] @ rows.T * scale, sinks[:, None]), dim=1)
    return (logits.softmax(dim=1)[:, :-1] @ rows)[None]


def attend_some(
    q: torch.Tensor,
    near: torch.Tensor,
    window_size: int,
    compressed: torch.Tensor,
    visible: torch.Tensor,
    sinks: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Consecutive tokens; `near` ends with the row of the last of them. What a token does not see is masked."""
    tokens, heads, _ = q.shape
    at = torch.arange(len(near), device=q.device)
    own = at[len(near) - tokens :, None]
    near_seen = (at <= own) & (at > own - window_size)
    near_logits = torch.einsum("thd,sd->ths", q, near)
    if visible.dim() == 1:
        far = at_least_f32(compressed[: int(visible.max())])
        far_seen = torch.arange(len(far), device=q.device) < visible[:, None]
        far_logits, weighted = torch.einsum("thd,sd->ths", q, far), "ths,sd->thd"
    else:
        far = at_least_f32(compressed[visible.clamp(min=0)])
        far_seen = visible >= 0
        far_logits, weighted = torch.einsum("thd,tsd->ths", q, far), "ths,tsd->thd"
    seen = torch.cat((near_seen, far_seen), dim=1)[:, None]
    logits = (torch.cat((near_logits, far_logits), dim=2) * scale).masked_fill(~seen, -torch.inf)
    logits = torch.cat((logits, sinks[:, None].expand(tokens, heads, 1)), dim=2)
    near_weights, far_weights, _ = logits.softmax(dim=2).split_with_sizes(
        (len(near), far.shape[-2], 1), dim=2
    )
    return torch.einsum("ths,sd->thd", near_weights, near) + torch.einsum(weighted, far_weights, far)
