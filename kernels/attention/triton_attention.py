"""Attention on an NVIDIA GPU to the window's rows and the visible compressed ones, which are gathered as they are read.

Owns: one kernel that takes some heads of one token at a time, softmax as it goes. Few tokens (a step): the window and
each 128 of the compressed rows are taken by programs of their own and added up in order; the cuts depend on the token
alone. More (a prompt): one program goes through all that its token sees. Keys are values, so each row is read once.
"""

# Triton's language is no Python that a type checker knows, and no machine without a GPU has it.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: ARG001 - `accepts_…` has the parameters of its operator, whichever it looks at

import torch
import triton
import triton.language as tl

from kernels.few_rows import FEW_ROWS

_CUT = 128
"""Compressed rows that a program takes where the tokens are few."""
_ROWS = 32
"""Rows at a time."""


@triton.jit
def _taken(
    q, source, row, seen, top, norm, total, scale,
    d: tl.constexpr, width: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """The running softmax (largest logit, sum, weighted rows) after some more rows of `source`."""
    column = tl.arange(0, width)
    rows = tl.load(
        source + row[:, None].to(tl.int64) * d + column[None, :],
        mask=seen[:, None] & (column < d)[None, :], other=0.0,
    ).to(q.dtype)  # fmt: skip
    logits = tl.dot(q, tl.trans(rows), input_precision=precision) * scale
    logits = tl.where(seen[None, :], logits, float("-inf"))
    higher = tl.maximum(top, tl.max(logits, axis=1))
    # Where nothing was seen so far, -inf from -inf must not become NaN.
    base = tl.where(higher == float("-inf"), 0.0, higher)
    weights = tl.exp(logits - base[:, None])
    faded = tl.exp(top - base)
    norm = norm * faded + tl.sum(weights, axis=1)
    total = tl.dot(weights.to(q.dtype), rows, total * faded[:, None], input_precision=precision)
    return higher, norm, total


@triton.jit(do_not_specialize=["before", "places"])
def _attend(
    q, window, compressed, visible, sinks, out, tops, norms, before, window_size, places, scale,
    heads: tl.constexpr, d: tl.constexpr, width: tl.constexpr, some: tl.constexpr, rows: tl.constexpr,
    cut: tl.constexpr, mode: tl.constexpr, place_size: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """mode 0: the window alone; 1: numbers in visible [T, places], -1 for none; 2: limits in visible [T].

    cut 0: out [T, heads, d]. Else out F32 [T, parts, heads, d] of sums, with tops and norms [T, parts, heads].
    """
    token, part = tl.program_id(0), tl.program_id(2)
    head, column, step = tl.program_id(1) * some + tl.arange(0, some), tl.arange(0, width), tl.arange(0, rows)
    real = (head < heads)[:, None] & (column < d)[None, :]
    place = (token.to(tl.int64) * heads + head)[:, None] * d + column[None, :]
    query = tl.load(q + place, mask=real, other=0.0)
    top = tl.full((some,), float("-inf"), tl.float32)
    norm = tl.zeros((some,), tl.float32)
    total = tl.zeros((some, width), tl.float32)
    if part == 0:
        first = before + token + 1 - window_size
        for start in range(0, window_size, rows):
            row = first + start + step
            seen = (row >= 0) & (start + step < window_size)
            top, norm, total = _taken(query, window, row, seen, top, norm, total, scale, d, width, precision)
    if mode > 0:
        if mode == 1:
            choice = tl.arange(0, place_size)
            numbers = tl.load(visible + token * places + choice, mask=choice < places, other=-1)
            # Places before the first number that is one, and behind the last, differ between a token alone and with
            # others: they must not move the cuts.
            lead = tl.min(tl.where(numbers >= 0, choice, places), axis=0)
            end = tl.max(tl.where(numbers >= 0, choice + 1, 0), axis=0) - lead
            visible += token * places + lead
        else:
            end = tl.load(visible + token).to(tl.int32)
        start = 0
        if cut > 0:
            # The first program has the window, and none of these.
            start = tl.maximum(part - 1, 0) * cut
            end = tl.minimum(end, part * cut)
        for at in range(start, end, rows):
            index = at + step
            seen = index < end
            row = index
            if mode == 1:
                row = tl.load(visible + index, mask=seen, other=-1).to(tl.int32)
                seen &= row >= 0
            top, norm, total = _taken(
                query, compressed, row, seen, top, norm, total, scale, d, width, precision
            )
    if cut > 0:
        line = (token.to(tl.int64) * tl.num_programs(2) + part) * heads + head
        tl.store(tops + line, top, mask=head < heads)
        tl.store(norms + line, norm, mask=head < heads)
        tl.store(out + line[:, None] * d + column[None, :], total, mask=real)
    else:
        sink = tl.load(sinks + head, mask=head < heads, other=0.0)
        higher = tl.maximum(top, sink)
        norm = norm * tl.exp(top - higher) + tl.exp(sink - higher)
        result = total * (tl.exp(top - higher) / norm)[:, None]
        tl.store(out + place, result.to(out.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["parts"])
def _joined(sums, tops, norms, sinks, out, parts, heads: tl.constexpr, d: tl.constexpr, width: tl.constexpr):
    """Parts of a token's softmax, in order, and the sink → out [T, heads, d]."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, width)
    line = token * parts * heads + head
    top = tl.load(sinks + head)
    norm = tl.full((), 1.0, tl.float32)
    total = tl.zeros((width,), tl.float32)
    for _ in range(parts):
        other = tl.load(tops + line)
        higher = tl.maximum(top, other)
        old, new = tl.exp(top - higher), tl.exp(other - higher)
        norm = norm * old + tl.load(norms + line) * new
        total = total * old + tl.load(sums + line * d + column, mask=column < d, other=0.0) * new
        top = higher
        line += heads
    place = (token * heads + head) * d + column
    tl.store(out + place, (total / norm).to(out.dtype.element_ty), mask=column < d)


def accepts_attend(
    q: torch.Tensor,
    window: torch.Tensor,
    window_size: int,
    compressed: torch.Tensor | None,
    visible: torch.Tensor | None,
    sinks: torch.Tensor,
    scale: float,
) -> bool:
    """Whether `attend` here takes these."""
    types = {q.dtype, window.dtype} | ({compressed.dtype} if compressed is not None else set())
    return types <= {torch.float32, torch.bfloat16} and q.shape[2] <= 512


def attend(
    q: torch.Tensor,
    window: torch.Tensor,
    window_size: int,
    compressed: torch.Tensor | None,
    visible: torch.Tensor | None,
    sinks: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """q [T, H, d], window [W0 + T, d], compressed [S, d] → [T, H, d]."""
    tokens, heads, d = q.shape
    q, window, sinks = q.contiguous(), window.contiguous(), sinks.float().contiguous()
    out = torch.empty_like(q)
    if not tokens:
        return out
    if compressed is None or visible is None or len(compressed) == 0 or visible.numel() == 0:
        mode, places, compressed, visible = 0, 0, window, sinks
        most = 0
    else:
        mode, places = (2, 0) if visible.dim() == 1 else (1, visible.shape[1])
        compressed, visible, most = compressed.contiguous(), visible.contiguous(), places or len(compressed)
    exact = q.dtype == torch.float32
    width = max(16, triton.next_power_of_2(d))
    shape = {
        "heads": heads, "d": d, "width": width, "mode": mode, "place_size": triton.next_power_of_2(max(1, places)),
        # F32 stays F32 to its last bit; its rows take twice the room.
        "rows": 16 if exact else _ROWS, "precision": "ieee" if exact else "tf32",
    }  # fmt: skip
    before = len(window) - tokens
    if tokens > FEW_ROWS:
        some = 16 if exact or heads <= 16 else 32 if heads <= 32 else 64
        _attend[(tokens, triton.cdiv(heads, some), 1)](
            q, window, compressed, visible, sinks, out, out, out, before, window_size, places, scale,
            some=some, cut=0, num_warps=4 if some == 16 else 8, **shape,
        )  # fmt: skip
        return out
    parts = 1 + triton.cdiv(most, _CUT)
    sums = torch.empty(tokens, parts, heads, d, dtype=torch.float32, device=q.device)
    tops, norms = torch.empty(2, tokens, parts, heads, dtype=torch.float32, device=q.device)
    _attend[(tokens, triton.cdiv(heads, 16), parts)](
        q, window, compressed, visible, sinks, sums, tops, norms, before, window_size, places, scale,
        some=16, cut=_CUT, **shape,
    )  # fmt: skip
    _joined[(tokens, heads)](sums, tops, norms, sinks, out, parts, heads=heads, d=d, width=width, num_warps=1)
    return out
