"""FP8 weights in blocks of 128 x 128, and FP4 weights turned into them.

Owns: the checkpoint's dense layout, E4M3 codes [o, i] with one E8M0 scale for each 128 x 128 tile, the last
tile of a row or column shorter where 128 does not divide it:

    weight [o, i]   scale [ceil(o/128), ceil(i/128)]   value = weight * scale[row // 128, column // 128]

and the cast of FP4 to this layout that DeepSeek-V4 computes with. Knows nothing of files.

Sources: DeepSeek-V4 technical report (FP4 to FP8 without loss); inference/convert.py of its repository
(cast_e2m1fn_to_e4m3fn) and the checkpoint's config (weight_block_size [128, 128], scale_fmt ue8m0).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.float_codes import E2M1_VALUES, decode_e4m3, decode_e8m0, e4m3_is_nan, encode_bf16, encode_e4m3
from kernels.fp4_blocks import FP4_BLOCK
from kernels.operands import (
    Bytes,
    Float32,
    FormatError,
    last_axis,
    refuse_nan_scales,
    require_dtype,
    require_shape,
)

FP8_TILE = 128
"""Rows and columns that share one scale."""
FP4_HEADROOM_BITS = 6
"""6 * 2^6 = 384 is within E4M3's 448, 6 * 2^7 is not: a tile's largest FP4 scale is its FP8 scale times 2^6."""
MAX_EXACT_SPREAD_BITS = 14
"""FP4 scales of a tile within a factor of 2^14 are always exact: 0.5 * 2^(6 - 14) = 2^-9, E4M3's smallest."""

_CHUNK_VALUES = 65536
"""Values decoded at a time: 256 KiB of float32 stay in a core's second-level cache."""
_FITS_FLOAT32 = 246
"""448 * 2^(246 - 127) is within float32, twice that is not."""
_FITS_BF16 = 3
"""From 2^(3 - 127) up, every product is a multiple of 2^-133, BF16's smallest number, with at most 4 bits."""


_LOWEST_SHIFT = -14
"""6 * 2^-14 rounds to zero, so every code does, as with any smaller shift."""


def _shift_tables() -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    """For (shift - _LOWEST_SHIFT, byte of two E2M1 codes) as one index: two E4M3 codes, and if both are exact."""
    shifts = np.arange(_LOWEST_SHIFT, FP4_HEADROOM_BITS + 1)
    wanted = np.ldexp(np.array(E2M1_VALUES, np.float32), shifts[:, None]).astype(np.float32)
    codes = encode_e4m3(wanted)
    exact = decode_e4m3(codes) == wanted
    low, high = np.arange(256) & 15, np.arange(256) >> 4
    pairs = np.stack((codes[:, low], codes[:, high]), axis=-1).reshape(-1).view(np.uint16)
    return pairs, (exact[:, low] & exact[:, high]).reshape(-1)


_SHIFTED_PAIRS, _SHIFT_IS_EXACT = _shift_tables()


class Bf16Result(NamedTuple):
    """BF16 codes, and whether every one of them is exactly the number that was encoded."""

    codes: npt.NDArray[np.uint16]
    exact: bool


class Fp8Result(NamedTuple):
    """FP4 as FP8: `weight` [rows, k], `scale` and `exact` [ceil(rows/128), ceil(k/128)].

    `exact` says of each tile whether all its numbers are the same as before.
    """

    weight: Bytes
    scale: Bytes
    exact: npt.NDArray[np.bool_]


def decode_fp8_blocks(weight: Bytes, scale: Bytes) -> Float32:
    """The numbers of FP8 in 128 x 128 tiles: uint8 [o, i], uint8 [ceil(o/128), ceil(i/128)] → float32 [o, i].

    Exact, or refused: FormatError for a NaN scale, a NaN weight, and a product beyond float32.
    """
    _check_fp8(weight, scale)
    values = np.empty(weight.shape, np.float32)
    for first, last, factors in _bands(weight.shape, scale):
        _decode_rows(weight[first:last], factors, values[first:last], first)
    return values


def decoded_bands(weight: Bytes, scale: Bytes) -> Iterator[tuple[int, int, Float32]]:
    """(first row, row after the last, float32 [rows, i]): `decode_fp8_blocks` a few rows at a time, in order.

    For what turns the numbers into something smaller at once: they lie in one scratch array, which stays in
    the cache, is overwritten by the next step, and may be changed. FormatError as `decode_fp8_blocks`.
    """
    _check_fp8(weight, scale)
    room = np.empty((min(_rows_at_a_time(weight.shape[1]), weight.shape[0]), weight.shape[1]), np.float32)
    for first, last, factors in _bands(weight.shape, scale):
        values = room[: last - first]
        _decode_rows(weight[first:last], factors, values, first)
        yield first, last, values


def fp8_to_bf16(weight: Bytes, scale: Bytes) -> Bf16Result:
    """The same numbers in BF16: uint16 codes [o, i], and whether all of them are exact.

    BF16 has float32's range and more bits than E4M3, so they are, but for numbers below 2^-126 under scales
    below 2^-124: those are rounded to nearest even, and `exact` is False. FormatError as `decode_fp8_blocks`.
    """
    _check_fp8(weight, scale)
    codes = np.empty(weight.shape, np.uint16)
    exact = True
    may_round = bool(scale.size) and int(scale.min()) < _FITS_BF16
    for first, last, values in decoded_bands(weight, scale):
        bits = values.view(np.uint32)
        if may_round and (bits & 0xFFFF).any():
            exact = False
            codes[first:last] = encode_bf16(values)
        else:
            np.right_shift(bits, 16, out=bits)
            np.copyto(codes[first:last], bits, casting="unsafe")
    return Bf16Result(codes, exact)


def fp4_to_fp8(weight: Bytes, scale: Bytes) -> Fp8Result:
    """FP4 of the checkpoint as FP8 in 128 x 128 tiles: uint8 [rows, k/2], uint8 [rows, k/32] → `Fp8Result`.

    A tile's scale S is its largest FP4 scale / 2^6 (at least 2^-127), each number is multiplied by its own
    scale / S and rounded to E4M3. E2M1's numbers are 2^e or 3 * 2^e, and E4M3 holds multiples of 2^-9, so
    every code is exact under scales within a factor of 2^14 of the tile's largest (`MAX_EXACT_SPREAD_BITS`).
    Below that it depends on the codes there: 2^15 for 1 and 3, 2^16 for 2 and 6, 2^17 for 4; 0 always.
    FormatError for a NaN scale, and for shapes that do not belong together.
    """
    require_dtype("weight", weight, np.uint8)
    require_dtype("scale", scale, np.uint8)
    if weight.ndim != 2:
        raise FormatError("weight", f"it has {weight.ndim} axes, not 2")
    packed = last_axis("weight", weight, FP4_BLOCK // 2)
    rows, k = weight.shape[0], 2 * packed
    require_shape("scale", scale, (rows, k // FP4_BLOCK))
    refuse_nan_scales(scale)
    tiles = (-(-rows // FP8_TILE), -(-k // FP8_TILE))
    result = Fp8Result(np.empty((rows, k), np.uint8), np.zeros(tiles, np.uint8), np.ones(tiles, np.bool_))
    if not scale.size:
        return result
    edges = np.arange(0, k // FP4_BLOCK, FP8_TILE // FP4_BLOCK)
    for tile in range(tiles[0]):
        band = slice(tile * FP8_TILE, min((tile + 1) * FP8_TILE, rows))
        largest = np.maximum.reduceat(scale[band].max(axis=0), edges).astype(np.int16)
        tile_scale = np.maximum(largest - FP4_HEADROOM_BITS, 0)
        result.scale[tile] = tile_scale
        shift = scale[band] - np.repeat(tile_scale, FP8_TILE // FP4_BLOCK)[: scale.shape[1]]
        row = np.maximum(shift, _LOWEST_SHIFT) - _LOWEST_SHIFT
        codes = np.repeat(row.astype(np.intp) << 8, FP4_BLOCK // 2, axis=1) | weight[band]
        result.weight[band] = _SHIFTED_PAIRS[codes].view(np.uint8)
        if (shift < FP4_HEADROOM_BITS - MAX_EXACT_SPREAD_BITS).any():
            kept = np.logical_and.reduceat(_SHIFT_IS_EXACT[codes].all(axis=0), edges * (FP4_BLOCK // 2))
            result.exact[tile] = kept
    return result


def _check_fp8(weight: Bytes, scale: Bytes) -> None:
    require_dtype("weight", weight, np.uint8)
    require_dtype("scale", scale, np.uint8)
    if weight.ndim != 2:
        raise FormatError("weight", f"it has {weight.ndim} axes, not 2")
    require_shape("scale", scale, (-(-weight.shape[0] // FP8_TILE), -(-weight.shape[1] // FP8_TILE)))
    refuse_nan_scales(scale)


def _rows_at_a_time(columns: int) -> int:
    return max(1, min(FP8_TILE, _CHUNK_VALUES // max(columns, 1)))


def _bands(shape: tuple[int, ...], scale: Bytes) -> Iterator[tuple[int, int, Float32]]:
    """(first row, row after the last, factors [i]) of runs of rows that share their scales and stay in the cache."""
    rows, columns = shape
    step = _rows_at_a_time(columns)
    for tile in range(scale.shape[0]):
        factors = np.repeat(decode_e8m0(scale[tile]), FP8_TILE)[:columns]
        bottom = min((tile + 1) * FP8_TILE, rows)
        for first in range(tile * FP8_TILE, bottom, step):
            yield first, min(first + step, bottom), factors


def _decode_rows(codes: Bytes, factors: Float32, values: Float32, first: int) -> None:
    """Write the numbers of `codes` [n, i] times `factors` [i] to `values`; `first` is the row for errors.

    A code's seven lower bits, put where float32 has the end of its exponent and the start of its mantissa, are
    its value times 2^-120, subnormals included: one multiplication sets the exponent right, exactly.
    """
    nan = e4m3_is_nan(codes)
    if nan.any():
        row, column = (int(i) for i in np.argwhere(nan)[0])
        raise FormatError("weight", "it is NaN (E4M3 code 0x7F or 0xFF)", (first + row, column))
    np.copyto(values.view(np.int32), codes.view(np.int8))  # bit 7 spreads up to the sign
    bits = values.view(np.uint32)
    np.left_shift(bits, 20, out=bits)
    np.bitwise_and(bits, np.uint32(0x87F00000), out=bits)
    np.multiply(values, np.float32(2.0**120), out=values)
    with np.errstate(over="ignore"):
        np.multiply(values, factors, out=values)
    if factors.size and factors.max() > decode_e8m0(np.array([_FITS_FLOAT32], np.uint8))[0]:
        beyond = np.isinf(values)
        if beyond.any():
            row, column = (int(i) for i in np.argwhere(beyond)[0])
            raise FormatError("weight", "times its scale it is beyond float32", (first + row, column))
