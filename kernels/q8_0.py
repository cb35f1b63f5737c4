"""Q8_0, ggml's blocks of 32 numbers in 8 bits (ggml type 8).

Owns: their layout, [..., n/32 * 34]: for each block a float16 d, then 32 int8 q; value = d * q, d = max|x|/127;
and the measure of what is lost. Rounds; everything else here is exact. Knows nothing of files.

Source: llama.cpp's ggml-common.h (block_q8_0) and quantize_row_q8_0_ref in ggml-quants.c, whose bytes
`encode_q8_0` gives.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.fp8_blocks import decoded_bands
from kernels.operands import (
    Bytes,
    Float32,
    FormatError,
    destination,
    last_axis,
    refuse,
    require_dtype,
    require_shape,
)

Q8_0_BLOCK = 32
Q8_0_BLOCK_BYTES = 34

_LAYOUT = np.dtype({"names": ["d", "q"], "formats": ["<f2", "V32"], "offsets": [0, 2], "itemsize": 34})
_CHUNK_BLOCKS = 2048
"""Blocks at a time: 256 KiB of float32 and as much scratch stay in a core's second-level cache."""
_SIZE_BITS = np.int32(0x7FFFFFFF)
_INFINITY_BITS = 0x7F800000
_SIGN_BIT = np.uint32(0x80000000)
_BELOW_HALF_BITS = np.nextafter(np.float32(0.5), np.float32(0)).view(np.uint32)
"""Added before cutting off: with 0.5 itself, the sum for 0.49999997 would round up to 1."""


@dataclass(frozen=True)
class Q8Error:
    """What Q8_0 lost: the largest absolute error, and the sums that the relative error is made of.

    Errors of parts of one tensor add up with `+` to that of the whole. `Q8Error()` is that of nothing.
    """

    max_abs: float = 0.0
    squared_error: float = 0.0
    squared_source: float = 0.0

    @property
    def relative_rms(self) -> float:
        """Root mean square of the error over that of the source; 0 where nothing was lost."""
        return (self.squared_error / self.squared_source) ** 0.5 if self.squared_error else 0.0

    def __add__(self, other: "Q8Error") -> "Q8Error":
        return Q8Error(
            max(self.max_abs, other.max_abs),
            self.squared_error + other.squared_error,
            self.squared_source + other.squared_source,
        )


class Q8Result(NamedTuple):
    """Q8_0 blocks, and what they lost."""

    blocks: Bytes
    error: Q8Error


def encode_q8_0(values: Float32, out: Bytes | None = None) -> Bytes:
    """Quantise float32 [..., n] to uint8 [..., n/32 * 34], written to `out` where it is given.

    Byte for byte what quantize_row_q8_0_ref gives: id = 1/d in float32 of the d before it is rounded to
    float16, q = x * id rounded half away from zero. Where 1/d is beyond float32 (max|x| below about 2^-121)
    C leaves q undefined; here it is 0, as on x86, and d is 0 either way. FormatError for NaN and infinities,
    and for max|x| so large (about 8.3 million) that d is beyond float16, where ggml would write an infinity.
    """
    require_dtype("values", values, np.float32)
    n = last_axis("values", values, Q8_0_BLOCK)
    result = destination(out, (*values.shape[:-1], n // Q8_0_BLOCK * Q8_0_BLOCK_BYTES), values)
    source = np.ascontiguousarray(values).reshape(-1)
    target = result.reshape(-1).view(_LAYOUT) if result.size else np.empty(0, _LAYOUT)
    room = np.empty((2, min(source.size, _CHUNK_BLOCKS * Q8_0_BLOCK)), np.float32)
    for start in range(0, target.size, _CHUNK_BLOCKS):
        stop = min(start + _CHUNK_BLOCKS, target.size)
        chunk = source[start * Q8_0_BLOCK : stop * Q8_0_BLOCK]
        largest = _largest_sizes(chunk, room[0, : chunk.size], room[1, : chunk.size])
        with np.errstate(all="ignore"):
            d = largest / np.float32(127)
            half = d.astype(np.float16)
            _refuse_large(values.shape, start, largest, half)
            inverse = np.float32(1) / d
            inverse[np.isinf(inverse)] = 0  # also where d is 0
        scaled = room[0, : chunk.size]
        np.multiply(chunk.reshape(-1, Q8_0_BLOCK), inverse[:, None], scaled.reshape(-1, Q8_0_BLOCK))
        _round_half_away(scaled, room[1, : chunk.size])
        target["d"][start:stop] = half
        target["q"][start:stop] = scaled.astype(np.int8).view("V32")
    return result


def fp8_to_q8_0(weight: Bytes, scale: Bytes, out: Bytes | None = None) -> Q8Result:
    """FP8 in 128 x 128 tiles as Q8_0, and what that loses: uint8 [o, i] and its scales → uint8 [o, i/32 * 34].

    The bytes of `encode_q8_0(decode_fp8_blocks(weight, scale))`, but no array of all its float32 numbers is
    made on the way. FormatError as these two, and where 32 does not divide i.
    """
    require_dtype("weight", weight, np.uint8)
    i = last_axis("weight", weight, Q8_0_BLOCK)
    blocks = destination(out, (*weight.shape[:-1], i // Q8_0_BLOCK * Q8_0_BLOCK_BYTES), weight, scale)
    error = Q8Error()
    for first, last, values in decoded_bands(weight, scale):
        try:
            encode_q8_0(values, out=blocks[first:last])
        except FormatError as error_in_band:
            row, block = error_in_band.where or (0, 0)
            raise FormatError("weight", error_in_band.why, (first + row, block)) from None
        error += q8_0_error(values, blocks[first:last])
    return Q8Result(blocks, error)


def decode_q8_0(blocks: Bytes) -> Float32:
    """The numbers of Q8_0: uint8 [..., n/32 * 34] → float32 [..., n], d * q in float32, as ggml computes it.

    FormatError for a d that is NaN or infinite.
    """
    require_dtype("blocks", blocks, np.uint8)
    count = last_axis("blocks", blocks, Q8_0_BLOCK_BYTES) // Q8_0_BLOCK_BYTES
    block = np.ascontiguousarray(blocks).reshape(*blocks.shape[:-1], count, Q8_0_BLOCK_BYTES)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        d = np.ascontiguousarray(block[..., :2]).view("<f2")[..., 0].astype(np.float32)
    refuse("blocks", ~np.isfinite(d), "its scale is not finite")
    values = block[..., 2:].view(np.int8).astype(np.float32)
    values *= d[..., None]
    return values.reshape(*blocks.shape[:-1], count * Q8_0_BLOCK)


def q8_0_error(source: Float32, blocks: Bytes) -> Q8Error:
    """What `blocks` lost of `source`: float32 [..., n] and uint8 [..., n/32 * 34], compared in float64."""
    require_dtype("source", source, np.float32)
    n = last_axis("source", source, Q8_0_BLOCK)
    require_dtype("blocks", blocks, np.uint8)
    require_shape("blocks", blocks, (*source.shape[:-1], n // Q8_0_BLOCK * Q8_0_BLOCK_BYTES))
    flat = np.ascontiguousarray(source).reshape(-1)
    packed = np.ascontiguousarray(blocks).reshape(-1)
    total = Q8Error()
    room = np.empty((2, min(flat.size, _CHUNK_BLOCKS * Q8_0_BLOCK)), np.float64)
    for start in range(0, flat.size, _CHUNK_BLOCKS * Q8_0_BLOCK):
        chunk = flat[start : start + _CHUNK_BLOCKS * Q8_0_BLOCK]
        wanted, lost = room[:, : chunk.size]
        first = start // Q8_0_BLOCK * Q8_0_BLOCK_BYTES
        np.copyto(wanted, chunk)
        np.copyto(lost, decode_q8_0(packed[first : first + chunk.size // Q8_0_BLOCK * Q8_0_BLOCK_BYTES]))
        np.subtract(wanted, lost, out=lost)
        largest = max(float(lost.max()), -float(lost.min()))
        if not np.isfinite(largest):
            raise FormatError("source", "it holds NaN or an infinity")
        # numpy's own sums: a BLAS would add in an order that depends on how many threads it finds.
        np.multiply(lost, lost, out=lost)
        np.multiply(wanted, wanted, out=wanted)
        total += Q8Error(largest, float(lost.sum()), float(wanted.sum()))
    return total


def _largest_sizes(chunk: Float32, sizes: Float32, spare: Float32) -> Float32:
    """max|x| of each 32 numbers; both scratch arrays are as long as the chunk.

    As integers, since sizes of floats are ordered as their bits are (NaN above all), and by halving: comparing
    long arrays with each other is several times faster than 32 numbers among themselves.
    """
    low, high = sizes.view(np.int32), spare.view(np.int32)
    np.bitwise_and(chunk.view(np.int32), _SIZE_BITS, out=low)
    blocks, width = chunk.size // Q8_0_BLOCK, Q8_0_BLOCK
    while width > 1:
        width //= 2
        halves = low[: 2 * width * blocks].view(f"V{4 * width}").reshape(blocks, 2).T
        np.copyto(high[: 2 * width * blocks].view(f"V{4 * width}").reshape(2, blocks), halves)
        first, last = high[: 2 * width * blocks].reshape(2, -1)
        np.maximum(first, last, out=low[: width * blocks])
    return sizes[:blocks].copy()


def _round_half_away(values: Float32, spare: Float32) -> None:
    """In place: move each number away from zero by a half, so that cutting its fraction off is C's roundf."""
    moves = spare.view(np.uint32)
    np.bitwise_and(values.view(np.uint32), _SIGN_BIT, out=moves)
    np.bitwise_or(moves, _BELOW_HALF_BITS, out=moves)
    np.add(values, spare, out=values)


def _refuse_large(shape: tuple[int, ...], start: int, largest: Float32, half: npt.NDArray[Any]) -> None:
    """FormatError for the first block whose d is beyond float16, or which holds NaN or an infinity."""
    if np.isfinite(half).all():
        return
    block = int(np.argmin(np.isfinite(half)))
    where = np.unravel_index(start + block, (*shape[:-1], shape[-1] // Q8_0_BLOCK))
    infinite = largest.view(np.int32)[block] >= _INFINITY_BITS
    why = "there is NaN or an infinity" if infinite else "numbers are too large for a float16 scale"
    raise FormatError("values", f"in this block of {Q8_0_BLOCK}, {why}", tuple(int(i) for i in where))
