"""Products with FP4 and FP8 matrices on a processor: as the reference, but decoded with few, wide operations.

Owns: how a band of a matrix becomes F32 numbers in memory that is used again for the next band. The numbers are the
reference's, bit for bit; a band's columns may stand in another order (`arranged` puts x into the same), so sums differ
from the reference's in their last bits. Few rows are multiplied one by one, as in the reference.

An E2M1 code s eem becomes the half-precision number s 000ee m0…: 2^-14 times its value, subnormals included; an E4M3
code s eeee mmm the one s 0eeee mmm 0…: 2^-8 times it. Of two bytes in a word of 16 bits the four E2M1 codes come out in
four runs, first through E5M2 (a half-precision number's upper byte) in all bytes at once. No step looks at single
numbers, and each is exact: processors convert half precision to F32 by one instruction for many.
Other kinds are as quick by the reference, which decodes them by one conversion.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.dequantisation.reference import decoded_rows
from kernels.few_rows import FEW_ROWS, own_row
from kernels.matrices import BLOCK, TILE, Kind, Matrix

BAND_NUMBERS = 1 << 19
"""Decoded at once: 2 MiB of F32, 1 MiB of half precision, which stay in a core's cache or close to it."""
_LANES = BLOCK // 4
"""Words of 16 bits that a block's codes take."""
_MXFP4 = np.dtype({"names": ["scale", "codes"], "formats": ["u1", "V16"], "offsets": [0, 1], "itemsize": 17})
_E2M1_FACTOR_BITS, _E4M3_FACTOR_BITS = 14, 8
_LARGEST_SCALE = 240
"""Times 2^14 the next one is beyond F32, as 255 (NaN) is; such a band is decoded by the reference."""
_E4M3_NAN = 0x7F
_POWERS = np.ldexp(
    np.ones(256, np.float32), np.minimum(np.arange(256), _LARGEST_SCALE) - 127 + _E2M1_FACTOR_BITS
)
_POWER_RUNS = np.repeat(_POWERS.astype(np.float32), _LANES).view("V32")
"""Each scale as often as a run of a block has numbers, to be copied at once."""


def accepts_product(x: torch.Tensor, m: Matrix) -> bool:
    """Whether `product` here takes these: a kind that it decodes, contiguous, on a little-endian machine."""
    packed = m.kind in _DECODERS and m.data.device.type == "cpu" and m.data.is_contiguous()
    return packed and sys.byteorder == "little" and x.dtype in (torch.float32, torch.bfloat16, torch.float16)


def product(x: torch.Tensor, m: Matrix) -> torch.Tensor:
    """x [..., columns] → [..., rows], in x's type."""
    rows = arranged(x.reshape(x.numel() // m.columns, m.columns).float(), m.kind)
    return _times(rows, m, 0, m.rows).view(*x.shape[:-1], m.rows).to(x.dtype)


def accepts_grouped_projection(x: torch.Tensor, wo_a: Matrix, groups: int) -> bool:
    """As `accepts_product`, with groups that begin where tiles do."""
    return accepts_product(x, wo_a) and (wo_a.kind != "fp8" or wo_a.rows // groups % TILE == 0)


def grouped_projection(x: torch.Tensor, wo_a: Matrix, groups: int) -> torch.Tensor:
    """[T, groups * columns] → [T, groups * rank]."""
    rank = wo_a.rows // groups
    parts = x.float().view(x.shape[0], groups, wo_a.columns).unbind(1)
    products = [
        _times(arranged(part, wo_a.kind), wo_a, g * rank, (g + 1) * rank) for g, part in enumerate(parts)
    ]
    return torch.cat(products, dim=-1).to(x.dtype)


def arranged(x: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Columns of x [T, columns] in the order in which a band of that kind is decoded."""
    if kind == "mxfp4":  # byte i of a block: number i low, i + 16 high; two bytes are a word
        runs = x.reshape(x.shape[0], x.shape[1] // BLOCK, 2, _LANES, 2).permute(0, 2, 4, 1, 3)
    elif kind == "fp4":  # byte i: numbers 2 i low, 2 i + 1 high
        runs = x.reshape(x.shape[0], x.shape[1] // BLOCK, _LANES, 2, 2).permute(0, 4, 3, 1, 2)
    else:
        return x.contiguous()
    return runs.reshape(x.shape)


def decoded_band(m: Matrix, start: int, end: int) -> torch.Tensor:
    """Rows start … end-1 in F32, columns `arranged`; valid until the next call in this thread.

    For "fp8", `start` must begin a tile.
    """
    return _DECODERS[m.kind](m, start, end)


def _times(x: torch.Tensor, m: Matrix, start: int, end: int) -> torch.Tensor:
    """x [T, columns], arranged, by rows start … end-1: [T, end - start]."""
    y = torch.empty(x.shape[0], end - start)
    if not len(x):
        return y
    few = [own_row(x, t)[0] for t in range(len(x))] if len(x) <= FEW_ROWS else []
    step = max(1, BAND_NUMBERS // max(1, m.columns))
    if m.kind == "fp8":
        step = max(TILE, step // TILE * TILE)
    for first in range(start, end, step):
        last = min(first + step, end)
        band = decoded_band(m, first, last)
        to = y[:, first - start : last - start]
        if few:
            for row, alone in zip(to, few, strict=True):
                torch.mv(band, alone, out=row)
        else:
            to.copy_(x @ band.T)
    return y


class _Scratch(threading.local):
    """Memory that a thread decodes into, kept from band to band."""

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def room(self, name: str, dtype: torch.dtype, *shape: int) -> torch.Tensor:
        """Contiguous; holds anything."""
        size = int(np.prod(shape))
        kept = self._kept.get(name)
        if kept is None or kept.numel() < size:
            kept = self._kept[name] = torch.empty(size, dtype=dtype)
        return kept[:size].view(shape)


_SCRATCH = _Scratch()


def _mxfp4(m: Matrix, start: int, end: int) -> torch.Tensor:
    blocks = m.data[start:end].numpy().view(_MXFP4)
    codes = _SCRATCH.room("codes", torch.int16, end - start, m.columns // 4)
    np.copyto(codes.numpy().view("V16"), blocks["codes"])
    return _fp4_runs(m, start, end, codes, blocks["scale"])


def _fp4(m: Matrix, start: int, end: int) -> torch.Tensor:
    codes = _SCRATCH.room("codes", torch.int16, end - start, m.columns // 4)
    codes.view(torch.uint8).copy_(m.data[start:end])
    assert m.scale is not None  # noqa: S101 - `Matrix` sees to it
    return _fp4_runs(m, start, end, codes, m.scale[start:end].numpy())


def _fp4_runs(m: Matrix, start: int, end: int, codes: torch.Tensor, scale: NDArray[np.uint8]) -> torch.Tensor:
    """Words of four codes [rows, columns / 4] and scales [rows, columns / 32] as runs [rows, 4 * columns / 4]."""
    rows, words = codes.shape
    if _largest(scale) > _LARGEST_SCALE:
        return arranged(decoded_rows(m, slice(start, end)), m.kind)
    low, high, part = (_SCRATCH.room(name, torch.int16, rows, words) for name in ("low", "high", "part"))
    # E5M2 from the low codes of all bytes, s eem → s 000 eem 0, and from the high ones.
    torch.bitwise_and(codes, 0x0808, out=low).bitwise_left_shift_(4)
    torch.bitwise_and(codes, 0x0707, out=part).bitwise_left_shift_(1)
    low.bitwise_or_(part)
    torch.bitwise_and(codes, 0x7070, out=high).bitwise_right_shift_(3)
    torch.bitwise_and(codes, -0x7F80, out=part)  # 0x8080
    high.bitwise_or_(part)
    # E5M2 is the upper byte of half precision.
    halves = _SCRATCH.room("halves", torch.int16, rows, 4, words)
    torch.bitwise_left_shift(low, 8, out=halves[:, 0])
    torch.bitwise_and(low, -0x100, out=halves[:, 1])
    torch.bitwise_left_shift(high, 8, out=halves[:, 2])
    torch.bitwise_and(high, -0x100, out=halves[:, 3])
    band = _SCRATCH.room("band", torch.float32, rows, 4, words)
    band.copy_(halves.view(torch.float16))
    factors = _SCRATCH.room("factors", torch.float32, rows, 1, words)
    np.take(_POWER_RUNS, scale.astype(np.intp), out=factors.numpy().view("V32")[:, 0], mode="clip")
    return band.mul_(factors).view(rows, 4 * words)


def _fp8(m: Matrix, start: int, end: int) -> torch.Tensor:
    assert m.scale is not None  # noqa: S101 - `Matrix` sees to it
    codes, scale = m.data[start:end], m.scale[start // TILE : -(-end // TILE)]
    sizes = _SCRATCH.room("sizes", torch.uint8, end - start, m.columns)
    torch.bitwise_and(codes, _E4M3_NAN, out=sizes)
    if _largest(sizes) == _E4M3_NAN or _largest(scale) > _LARGEST_SCALE:
        return decoded_rows(m, slice(start, end))
    halves = _SCRATCH.room("halves", torch.int16, end - start, m.columns)
    halves.copy_(codes.view(torch.int8))  # the sign goes on into the upper byte, and one bit too far
    halves.bitwise_left_shift_(7).bitwise_and_(-0x4001)  # 0xBFFF
    band = _SCRATCH.room("band", torch.float32, end - start, m.columns)
    band.copy_(halves.view(torch.float16))
    factors = torch.ldexp(torch.ones(scale.shape), scale.int() - 127 + _E4M3_FACTOR_BITS)
    for tile, wide in enumerate(factors.repeat_interleave(TILE, dim=1)[:, : m.columns]):
        band[tile * TILE : (tile + 1) * TILE].mul_(wide)
    return band


def _largest(codes: Any) -> int:
    """Of a tensor or array of bytes; 0 where it is empty."""
    return int(np.asarray(codes).max(initial=0))


_DECODERS: dict[Kind, Callable[[Matrix, int, int], torch.Tensor]] = {
    "mxfp4": _mxfp4,
    "fp4": _fp4,
    "fp8": _fp8,
}
