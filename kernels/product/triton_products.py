"""Products with weight matrices on an NVIDIA GPU.

Owns: few rows (a step), each of them summed in F32 in an order that depends on the matrix alone, the weights decoded
in registers; and more rows (a prompt), for which a matrix is decoded to the type of the activations by one pass and
multiplied by cuBLAS. Takes matrices in planes (`kernels.device_layout`) and plain ones. In BF16 the second way
rounds what it decodes from Q8_0 to BF16, as it rounds everything else; FP8 and FP4 are exact in BF16.

E4M3's bits moved to half precision's places are its number times 2^-8, E2M1's times 2^-14, subnormals included.
"""

# Triton's language is no Python that a type checker knows, and no machine without a GPU has it.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: ARG001 - `accepts_…` has the parameters of its operator, whichever it looks at

import torch
import triton
import triton.language as tl

from kernels.few_rows import FEW_ROWS
from kernels.matrices import PLAIN, Matrix

_NUMBERS = 16
"""Neighbouring numbers that one thread decodes."""
_PIECES = 256
"""Of so many numbers, that a program takes of a row at a time at most."""
_AT_ONCE = 1024
"""Pieces that a program has under way: 128 bytes of Q8_0 for each of 128 threads hide the way to memory."""
_PROCESSORS = 132
_KINDS = {"f32": 0, "bf16": 0, "f16": 0, "q8": 1, "fp8": 2, "fp4": 3}


@triton.jit
def _powers(codes):
    """E8M0 to F32. 0 is 2^-127, which F32 has as a subnormal number; 255 is NaN."""
    bits = codes.to(tl.int32)
    bits = tl.where(bits == 0, 0x00400000, bits << 23)
    return tl.where(bits == 0x7F800000, 0x7FC00000, bits).to(tl.float32, bitcast=True)


@triton.jit
def _numbers(data, scale, row, piece, within, mask, mask_scale, columns: tl.constexpr, kind: tl.constexpr):
    """Numbers F32 [rows, pieces, 16] and what they are to be multiplied by, [rows, pieces]."""
    # One branch is compiled. Each assigns and none returns: what stands behind a return is compiled too.
    column = piece[:, None] * 16 + within[None, :]
    at = row[:, None, None] * columns + column[None, :, :]
    if kind == 0:
        numbers = tl.load(data + at, mask=mask, other=0.0).to(tl.float32)
        factor = mask_scale.to(tl.float32)
    elif kind == 1:
        half = row[:, None] * (columns // 32) + piece[None, :] // 2
        factor = tl.load(scale + half, mask=mask_scale, other=0.0).to(tl.float32)
        numbers = tl.load(data + at, mask=mask, other=0).to(tl.float32)
    elif kind == 2:
        tile = (row[:, None] // 128) * ((columns + 127) // 128) + piece[None, :] // 8
        factor = _powers(tl.load(scale + tile, mask=mask_scale, other=0)) * 256.0
        bits = tl.load(data + at, mask=mask, other=0).to(tl.uint16)
        numbers = (((bits & 128) << 8) | ((bits & 127) << 7)).to(tl.float16, bitcast=True).to(tl.float32)
        # Where E4M3 has NaN, half precision has 480, which no other code gives.
        numbers = tl.where((bits & 127) == 127, float("nan"), numbers)
    else:
        half = row[:, None] * (columns // 32) + piece[None, :] // 2
        factor = _powers(tl.load(scale + half, mask=mask_scale, other=0)) * 16384.0
        place = row[:, None, None] * (columns // 2) + column[None, :, :] // 2
        pairs = tl.load(data + place, mask=mask, other=0)
        bits = (pairs >> ((column % 2) * 4)[None, :, :].to(tl.uint8)).to(tl.uint16)
        numbers = (((bits & 8) << 12) | ((bits & 7) << 9)).to(tl.float16, bitcast=True).to(tl.float32)
    return numbers, factor


@triton.jit
def _few(
    x, data, scale, out, count, x_stride, group_rows,
    columns: tl.constexpr, kind: tl.constexpr, rows: tl.constexpr, pieces: tl.constexpr,
):  # fmt: skip
    """out [T, count]: some rows of the matrix by one row of x, that of the rows' group."""
    first = tl.program_id(1) * rows
    token = tl.program_id(0).to(tl.int64)
    row = (first + tl.arange(0, rows)).to(tl.int64)
    inside = row < count
    source = x + token * x_stride + (first // group_rows) * columns
    within = tl.arange(0, 16)
    total = tl.zeros((rows, pieces), tl.float32)
    for start in range(0, columns // 16, pieces):
        piece = start + tl.arange(0, pieces)
        there = piece < columns // 16
        mask_scale = inside[:, None] & there[None, :]
        mask = mask_scale[:, :, None] & (within >= 0)[None, None, :]
        w, factor = _numbers(data, scale, row, piece, within, mask, mask_scale, columns, kind)
        at = piece[:, None] * 16 + within[None, :]
        mask_x = there[:, None] & (within >= 0)[None, :]
        numbers = tl.load(source + at, mask=mask_x, other=0.0).to(tl.float32)[None, :, :]
        total += tl.sum(w * numbers, axis=2) * factor
    tl.store(out + token * count + row, tl.sum(total, axis=1).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _decode(
    data, scale, out, count, columns: tl.constexpr, kind: tl.constexpr, rows: tl.constexpr, pieces: tl.constexpr
):  # fmt: skip
    """out [count, columns]: the numbers of the matrix."""
    row = (tl.program_id(0) * rows + tl.arange(0, rows)).to(tl.int64)
    piece = tl.program_id(1) * pieces + tl.arange(0, pieces)
    within = tl.arange(0, 16)
    mask_scale = (row < count)[:, None] & (piece < columns // 16)[None, :]
    mask = mask_scale[:, :, None] & (within >= 0)[None, None, :]
    w, factor = _numbers(data, scale, row, piece, within, mask, mask_scale, columns, kind)
    at = row[:, None, None] * columns + (piece[:, None] * 16 + within[None, :])[None, :, :]
    tl.store(out + at, (w * factor[:, :, None]).to(out.dtype.element_ty), mask=mask)


def _operands(m: Matrix) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Codes and scales in the types that the kernels read, and the number of the kind."""
    if m.scale is None:
        return m.data, m.data, 0
    if m.kind == "q8":
        return m.data.view(torch.int8), m.scale.view(torch.float16), 1
    return m.data, m.scale, _KINDS[m.kind]


def _takes(x: torch.Tensor, m: Matrix) -> bool:
    there = m.data.is_cuda and m.data.is_contiguous() and (m.scale is None or m.scale.is_contiguous())
    return (
        there
        and m.kind in _KINDS
        and x.dtype in (torch.float32, torch.bfloat16)
        and m.columns % _NUMBERS == 0
    )


def accepts_product(x: torch.Tensor, m: Matrix) -> bool:
    """Whether `product` here takes these."""
    return _takes(x, m)


def product(x: torch.Tensor, m: Matrix) -> torch.Tensor:
    """x [..., columns] → [..., rows] in the type of x."""
    rows = x.reshape(-1, m.columns)
    few = rows.shape[0] <= FEW_ROWS
    y = _few_rows(rows.contiguous(), m, m.rows) if few else rows @ dequantised(m, x.dtype).T
    return y.view(*x.shape[:-1], m.rows)


def accepts_grouped_projection(x: torch.Tensor, wo_a: Matrix, groups: int) -> bool:
    """Whether `grouped_projection` here takes these."""
    return _takes(x, wo_a) and wo_a.rows // groups % _rows_at_once(wo_a) == 0


def grouped_projection(x: torch.Tensor, wo_a: Matrix, groups: int) -> torch.Tensor:
    """[T, groups * columns] → [T, groups * rank]: group g of the heads by rows g * rank … of the matrix."""
    tokens, rank = x.shape[0], wo_a.rows // groups
    if tokens <= FEW_ROWS:
        return _few_rows(x.contiguous(), wo_a, rank)
    w = dequantised(wo_a, x.dtype).view(groups, rank, wo_a.columns)
    parts = x.view(tokens, groups, wo_a.columns).transpose(0, 1)
    return torch.bmm(parts, w.transpose(1, 2)).transpose(0, 1).reshape(tokens, groups * rank)


def accepts_linear(x: torch.Tensor, w: torch.Tensor) -> bool:
    """Whether `linear` here takes these."""
    return x.dtype in (torch.float32, torch.bfloat16) and w.is_contiguous() and w.shape[1] % _NUMBERS == 0


def linear(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x [..., columns] by an F32 matrix, in F32."""
    return product(x.float(), Matrix("f32", w.shape[0], w.shape[1], w))


def accepts_dequantised(m: Matrix, dtype: torch.dtype = torch.float32) -> bool:
    """Whether `dequantised` here takes these."""
    there = m.data.is_cuda and m.data.is_contiguous() and (m.scale is None or m.scale.is_contiguous())
    return there and m.kind in _KINDS and m.columns % _NUMBERS == 0


def dequantised(m: Matrix, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """All of it, [rows, columns]."""
    if m.kind in PLAIN:
        return m.data.to(dtype)
    out = torch.empty(m.rows, m.columns, dtype=dtype, device=m.data.device)
    data, scale, kind = _operands(m)
    grid = (triton.cdiv(m.rows, 4), triton.cdiv(m.columns, _NUMBERS * 32))
    if m.rows:
        _decode[grid](data, scale, out, m.rows, columns=m.columns, kind=kind, rows=4, pieces=32)
    return out


def _few_rows(x: torch.Tensor, m: Matrix, group_rows: int) -> torch.Tensor:
    """x [T, groups * columns] → [T, rows]; group_rows: rows that belong to the same columns of x."""
    out = torch.empty(x.shape[0], m.rows, dtype=x.dtype, device=x.device)
    data, scale, kind = _operands(m)
    rows, pieces = _rows_at_once(m), _pieces(m)
    if x.shape[0] and m.rows:
        _few[(x.shape[0], triton.cdiv(m.rows, rows))](
            x, data, scale, out, m.rows, x.shape[1], group_rows,
            columns=m.columns, kind=kind, rows=rows, pieces=pieces,
        )  # fmt: skip
    return out


def _pieces(m: Matrix) -> int:
    return min(_PIECES, triton.next_power_of_2(m.columns // _NUMBERS))


def _rows_at_once(m: Matrix) -> int:
    """Of a matrix, so that there is work for each processor twice, where it has enough rows."""
    rows = max(1, _AT_ONCE // _pieces(m))
    while rows > 1 and m.rows // rows < 2 * _PROCESSORS:
        rows //= 2
    return min(rows, 32)
