"""Routed experts on an NVIDIA GPU: FP4 decoded in registers, gate, up, SwiGLU and down in two kernels.

Owns: both ways to multiply by experts that lie in `ExpertSlots`. A few tokens (a step): each row of weights is
read once for each token that chose it, and summed in F32 in an order that depends on the shapes alone, so that a
token gets the same bits alone or with others. Many tokens (a prompt): they are sorted by expert and multiplied in
tiles, BF16 by BF16 into F32 (or F32 by F32 where the activations are F32). No step waits for the host.

A code c of E2M1 is the half-precision number with the bits c << 9 times 2^14, subnormals included. The scales'
E8M0 byte is F32's exponent. Nothing is rounded by decoding: E2M1 times a power of two is exact in BF16.

Source: OCP Microscaling Formats (MX) 1.0, section 5.3; DeepSeek-V4 report, section 4.2.3 (the clamp).
"""

# Triton's language is no Python that a type checker knows, and no machine without a GPU has it.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: ARG001 - `accepts_…` has the parameters of its operator, whichever it looks at

from typing import Any

import torch
import triton
import triton.language as tl

from kernels.experts.expert_slots import ExpertSlots
from kernels.few_rows import FEW_ROWS

_BLOCKS = 128
"""Of a row, that a program takes at a time at most where the tokens are few."""
_AT_ONCE = 512
"""Blocks that such a program has under way: 64 bytes for each of 128 threads."""
_TOKENS = 64
_CHANNELS = 64
_CODES = 64
"""Bytes of codes along a row that a tile takes at a time: 128 numbers."""


@triton.jit
def _scales(codes):
    """E8M0 to F32. 0 is 2^-127, which F32 has as a subnormal number."""
    bits = codes.to(tl.int32)
    return tl.where(bits == 0, 0x00400000, bits << 23).to(tl.float32, bitcast=True)


@triton.jit
def _small(codes):
    """E2M1 codes to F32, 2^-14 times too small."""
    bits = codes.to(tl.uint16)
    return (((bits & 8) << 12) | ((bits & 7) << 9)).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def _swiglu(gate, up, limit):
    """silu(min(gate, limit)) * clamp(up, -limit, limit); limit 0: no clamp."""
    if limit > 0:
        gate = tl.minimum(gate, limit)
        up = tl.minimum(tl.maximum(up, -limit), limit)
    return gate / (1 + tl.exp(-gate)) * up


@triton.jit
def _partial(codes, scale, x_even, x_odd):
    """Σ over each block's 32 numbers, [rows, blocks]: codes [rows, blocks, 16], x [1, blocks, 16]."""
    sums = tl.sum(_small(codes & 15) * x_even + _small(codes >> 4) * x_odd, axis=2)
    return sums * (_scales(scale) * 16384.0)


@triton.jit(do_not_specialize=["plane", "pairs"])
def _few_gate_up(
    x, chosen, weights, codes, scale, out, plane, pairs,
    hidden: tl.constexpr, intermediate: tl.constexpr, limit: tl.constexpr,
    used: tl.constexpr, rows: tl.constexpr, blocks: tl.constexpr,
):  # fmt: skip
    """out F32 [2, tokens * used, intermediate / 2] = weight * swiglu(w1 x, w3 x), even channels, then odd.

    x [2, tokens, hidden / 2]: even columns, then odd. One program: some channels of one choice.
    """
    pair = tl.program_id(1)
    slot = tl.load(chosen + pair).to(tl.int64)
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    inside = row < intermediate
    count = hidden // 32
    within = tl.arange(0, 16)
    gates = tl.zeros((rows, blocks), tl.float32)
    ups = tl.zeros((rows, blocks), tl.float32)
    token = x + (pair // used).to(tl.int64) * (hidden // 2)
    first = (slot * 2 * intermediate + row)[:, None]
    second = first + intermediate
    for start in range(0, count, blocks):
        block = start + tl.arange(0, blocks)
        there = block < count
        at = (block[:, None] * 16 + within[None, :])[None, :, :]
        even = tl.load(token + at, mask=there[None, :, None], other=0.0).to(tl.float32)
        odd = tl.load(token + plane + at, mask=there[None, :, None], other=0.0).to(tl.float32)
        mask = inside[:, None] & there[None, :]
        gate = tl.load(codes + first[:, :, None] * (hidden // 2) + at, mask=mask[:, :, None], other=0)
        up = tl.load(codes + second[:, :, None] * (hidden // 2) + at, mask=mask[:, :, None], other=0)
        gates += _partial(
            gate, tl.load(scale + first * count + block[None, :], mask=mask, other=0), even, odd
        )
        ups += _partial(up, tl.load(scale + second * count + block[None, :], mask=mask, other=0), even, odd)
    result = _swiglu(tl.sum(gates, axis=1), tl.sum(ups, axis=1), limit) * tl.load(weights + pair)
    target = (
        out + (row % 2).to(tl.int64) * pairs * (intermediate // 2) + pair.to(tl.int64) * (intermediate // 2)
    )
    tl.store(target + row // 2, result, mask=inside)


@triton.jit(do_not_specialize=["plane"])
def _few_down(
    h, chosen, codes, scale, out, plane, hidden: tl.constexpr, intermediate: tl.constexpr,
    used: tl.constexpr, rows: tl.constexpr, blocks: tl.constexpr,
):  # fmt: skip
    """out [tokens, hidden] = Σ over a token's choices, in their order, of w2 h."""
    token = tl.program_id(1)
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    inside = row < hidden
    count = intermediate // 32
    within = tl.arange(0, 16)
    total = tl.zeros((rows, blocks), tl.float32)
    for choice in range(used):
        pair = token * used + choice
        slot = tl.load(chosen + pair).to(tl.int64)
        first = (slot * hidden + row)[:, None]
        one = h + pair.to(tl.int64) * (intermediate // 2)
        for start in range(0, count, blocks):
            block = start + tl.arange(0, blocks)
            there = block < count
            at = (block[:, None] * 16 + within[None, :])[None, :, :]
            even = tl.load(one + at, mask=there[None, :, None], other=0.0)
            odd = tl.load(one + plane + at, mask=there[None, :, None], other=0.0)
            mask = inside[:, None] & there[None, :]
            down = tl.load(
                codes + first[:, :, None] * (intermediate // 2) + at, mask=mask[:, :, None], other=0
            )
            total += _partial(
                down, tl.load(scale + first * count + block[None, :], mask=mask, other=0), even, odd
            )
    tl.store(
        out + token.to(tl.int64) * hidden + row, tl.sum(total, axis=1).to(out.dtype.element_ty), mask=inside
    )


@triton.jit
def _decoded(codes, scale, rows: tl.constexpr, bytes_: tl.constexpr, kind: tl.constexpr):
    """codes [rows, bytes_] → the numbers of the low and of the high nibbles in `kind`; scale [rows, bytes_ / 16]."""
    factor = (_scales(scale) * 16384.0)[:, :, None]
    factor = tl.reshape(tl.broadcast_to(factor, (rows, bytes_ // 16, 16)), (rows, bytes_))
    return (_small(codes & 15) * factor).to(kind), (_small(codes >> 4) * factor).to(kind)


@triton.jit
def _many_gate_up(
    x, order, tile_slot, tile_start, tile_end, weights, codes, scale, out,
    plane, pairs, hidden: tl.constexpr, intermediate: tl.constexpr, limit: tl.constexpr,
    used: tl.constexpr, tokens: tl.constexpr, channels: tl.constexpr, bytes_: tl.constexpr,
    precision: tl.constexpr,
):  # fmt: skip
    """out [2, pairs, intermediate / 2] = weight * swiglu(w1 x, w3 x), even channels, then odd; pairs by expert.

    x [2, tokens, hidden / 2]: even columns, then odd. One program: some channels of the pairs of one tile.
    """
    tile = tl.program_id(1)
    slot = tl.load(tile_slot + tile).to(tl.int64)
    if slot < 0:
        return
    at = tl.load(tile_start + tile) + tl.arange(0, tokens)
    inside = at < tl.load(tile_end + tile)
    pair = tl.load(order + at, mask=inside, other=0)
    token = (pair // used).to(tl.int64)
    row = tl.program_id(0) * channels + tl.arange(0, channels)
    real = row < intermediate
    gates = tl.zeros((channels, tokens), tl.float32)
    ups = tl.zeros((channels, tokens), tl.float32)
    first = (slot * 2 * intermediate + row)[:, None]
    half = hidden // 2
    kind: tl.constexpr = x.dtype.element_ty
    for start in range(0, half, bytes_):
        column = start + tl.arange(0, bytes_)
        block = start // 16 + tl.arange(0, bytes_ // 16)
        there, there_block = column < half, block < half // 16
        mask = real[:, None] & there[None, :]
        mask_block = real[:, None] & there_block[None, :]
        source = x + token[None, :] * half + column[:, None]
        even = tl.load(source, mask=there[:, None] & inside[None, :], other=0.0)
        odd = tl.load(source + plane, mask=there[:, None] & inside[None, :], other=0.0)
        code = tl.load(codes + first * half + column[None, :], mask=mask, other=0)
        factor = tl.load(scale + first * (half // 16) + block[None, :], mask=mask_block, other=0)
        low, high = _decoded(code, factor, channels, bytes_, kind)
        gates = tl.dot(
            high, odd, tl.dot(low, even, gates, input_precision=precision), input_precision=precision
        )
        code = tl.load(codes + (first + intermediate) * half + column[None, :], mask=mask, other=0)
        factor = tl.load(
            scale + (first + intermediate) * (half // 16) + block[None, :], mask=mask_block, other=0
        )
        low, high = _decoded(code, factor, channels, bytes_, kind)
        ups = tl.dot(high, odd, tl.dot(low, even, ups, input_precision=precision), input_precision=precision)
    weight = tl.load(weights + pair, mask=inside, other=0.0)
    result = (_swiglu(gates, ups, limit) * weight[None, :]).to(kind)
    target = out + (row % 2)[:, None].to(tl.int64) * pairs * (intermediate // 2)
    target += at[None, :].to(tl.int64) * (intermediate // 2) + (row // 2)[:, None]
    tl.store(target, result, mask=real[:, None] & inside[None, :])


@triton.jit
def _many_down(
    h, order, tile_slot, tile_start, tile_end, codes, scale, out,
    plane, hidden: tl.constexpr, intermediate: tl.constexpr,
    tokens: tl.constexpr, channels: tl.constexpr, bytes_: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """out [pairs, hidden], pairs in the order of `chosen`, = w2 h."""
    tile = tl.program_id(1)
    slot = tl.load(tile_slot + tile).to(tl.int64)
    if slot < 0:
        return
    at = tl.load(tile_start + tile) + tl.arange(0, tokens)
    inside = at < tl.load(tile_end + tile)
    pair = tl.load(order + at, mask=inside, other=0).to(tl.int64)
    row = tl.program_id(0) * channels + tl.arange(0, channels)
    real = row < hidden
    total = tl.zeros((channels, tokens), tl.float32)
    first = (slot * hidden + row)[:, None]
    half = intermediate // 2
    kind: tl.constexpr = h.dtype.element_ty
    for start in range(0, half, bytes_):
        column = start + tl.arange(0, bytes_)
        block = start // 16 + tl.arange(0, bytes_ // 16)
        there, there_block = column < half, block < half // 16
        source = h + at[None, :].to(tl.int64) * half + column[:, None]
        even = tl.load(source, mask=there[:, None] & inside[None, :], other=0.0)
        odd = tl.load(source + plane, mask=there[:, None] & inside[None, :], other=0.0)
        code = tl.load(codes + first * half + column[None, :], mask=real[:, None] & there[None, :], other=0)
        factor = tl.load(
            scale + first * (half // 16) + block[None, :], mask=real[:, None] & there_block[None, :], other=0
        )
        low, high = _decoded(code, factor, channels, bytes_, kind)
        total = tl.dot(
            high, odd, tl.dot(low, even, total, input_precision=precision), input_precision=precision
        )
    target = out + pair[None, :] * hidden + row[:, None]
    tl.store(target, total.to(out.dtype.element_ty), mask=real[:, None] & inside[None, :])


def accepts_experts(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, bank: object, limit: float
) -> bool:
    """Whether `experts` here takes these: the bank is a set of slots on the GPU."""
    there = isinstance(bank, ExpertSlots) and bank.codes1.is_cuda
    return there and x.dtype in (torch.float32, torch.bfloat16) and weights.dtype == torch.float32


def experts(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, bank: ExpertSlots, limit: float
) -> torch.Tensor:
    """x [T, hidden] BF16 or F32 → the same shape and type; chosen int [T, K] are slots, weights F32 [T, K]."""
    slots = bank
    tokens, used = chosen.shape
    if not tokens or not used:
        return torch.zeros_like(x)
    x, weights = x.contiguous(), weights.contiguous()
    chosen = chosen.to(torch.int32).contiguous()
    return (_few if tokens <= FEW_ROWS else _many)(x, chosen, weights, slots, limit)


def _few(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, slots: ExpertSlots, limit: float
) -> torch.Tensor:
    tokens, used = chosen.shape
    hidden, intermediate = slots.hidden, slots.intermediate
    split, pairs = _split(x), tokens * used
    h = torch.empty(2, pairs, intermediate // 2, dtype=torch.float32, device=x.device)
    rows, blocks = _few_shape(hidden, _AT_ONCE // 2)
    _few_gate_up[(triton.cdiv(intermediate, rows), pairs)](
        split, chosen, weights, slots.codes1, slots.scale1, h, split.stride(0), pairs,
        hidden, intermediate, float(limit), used=used, rows=rows, blocks=blocks,
    )  # fmt: skip
    out = torch.empty_like(x)
    rows, blocks = _few_shape(intermediate, _AT_ONCE)
    _few_down[(triton.cdiv(hidden, rows), tokens)](
        h, chosen, slots.codes2, slots.scale2, out, h.stride(0), hidden, intermediate,
        used=used, rows=rows, blocks=blocks,
    )  # fmt: skip
    return out


def _split(x: torch.Tensor) -> torch.Tensor:
    """[T, d] → [2, T, d / 2]: even columns, then odd, as the two nibbles of a byte of codes meet them."""
    return x.reshape(len(x), -1, 2).permute(2, 0, 1).contiguous()


def _few_shape(columns: int, at_once: int) -> tuple[int, int]:
    """Rows, and blocks of each row, that a program takes at a time."""
    blocks = min(_BLOCKS, triton.next_power_of_2(columns // 32))
    return max(1, min(16, at_once // blocks)), blocks


def _many(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, slots: ExpertSlots, limit: float
) -> torch.Tensor:
    tokens, used = chosen.shape
    hidden, intermediate, pairs = slots.hidden, slots.intermediate, tokens * used
    by_slot, order = torch.sort(chosen.reshape(-1), stable=True)
    slot, start, end = _tiles(by_slot, slots.count)
    split = _split(x)
    h = torch.empty(2, pairs, intermediate // 2, dtype=x.dtype, device=x.device)
    out = torch.empty(pairs, hidden, dtype=x.dtype, device=x.device)
    shape: dict[str, Any] = {"tokens": _TOKENS, "channels": _CHANNELS, "bytes_": _CODES}
    # F32 stays F32 to its last bit: TF32 would keep 10 of its 23.
    shape["precision"] = "ieee" if x.dtype == torch.float32 else "tf32"
    _many_gate_up[(triton.cdiv(intermediate, _CHANNELS), slot.numel())](
        split, order, slot, start, end, weights, slots.codes1, slots.scale1, h,
        split.stride(0), pairs, hidden, intermediate, float(limit), used=used, **shape,
    )  # fmt: skip
    _many_down[(triton.cdiv(hidden, _CHANNELS), slot.numel())](
        h,
        order,
        slot,
        start,
        end,
        slots.codes2,
        slots.scale2,
        out,
        h.stride(0),
        hidden,
        intermediate,
        **shape,
    )
    return out.reshape(tokens, used, hidden).sum(1, dtype=torch.float32).to(x.dtype)


def _tiles(by_slot: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which rows of the sorted choices make a tile: slot (-1: none), first row, end, each int32 [tiles].

    As many tiles as there can be at most, so that the host need not know how many there are.
    """
    device, pairs = by_slot.device, by_slot.numel()
    ends = torch.searchsorted(by_slot, torch.arange(count, dtype=by_slot.dtype, device=device), right=True)
    starts = torch.cat((ends.new_zeros(1), ends[:-1]))
    tiles = torch.cumsum((ends - starts + _TOKENS - 1) // _TOKENS, 0)
    number = torch.arange(pairs // _TOKENS + min(count, pairs), device=device)
    slot = torch.searchsorted(tiles, number, right=True)
    real = slot < count
    known = slot.clamp(max=count - 1)
    before = torch.where(known > 0, tiles[(known - 1).clamp(min=0)], 0)
    start = starts[known] + (number - before) * _TOKENS
    return (
        torch.where(real, slot, -1).to(torch.int32),
        start.to(torch.int32),
        torch.where(real, ends[known], 0).to(torch.int32),
    )
