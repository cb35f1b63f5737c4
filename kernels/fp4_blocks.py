"""FP4 weights: the checkpoint's layout, GGUF's MXFP4, and the way between them.

Owns: both layouts of the same numbers, E2M1 codes with one E8M0 scale for each 32 along a row:

    checkpoint   weight [..., k/2]   byte j of a block: value 2j in the low nibble, 2j+1 in the high
                 scale  [..., k/32]  one E8M0 byte
    MXFP4        [..., k/32 * 17]    for each block the scale's byte, then 16: value j low, j+16 high

The codes and the scale's byte are the same on both sides, so going from one to the other moves bits and
rounds nothing. ggml keeps the doubled values (0, 1, 2, 3, 4, 6, 8, 12) and half the scale: the same products.
Knows nothing of files or of which tensors are experts.

Sources: llama.cpp's ggml-common.h (block_mxfp4), ggml-impl.h (ggml_e8m0_to_fp32_half), conversion/base.py
(repack_mxfp4_blocks); DeepSeek-V4's inference/convert.py.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.float_codes import E2M1_VALUES, decode_e8m0
from kernels.operands import (
    Bytes,
    Float32,
    destination,
    last_axis,
    refuse,
    refuse_nan_scales,
    require_dtype,
    require_shape,
)

FP4_BLOCK = 32
"""Values that share one scale."""
MXFP4_BLOCK_BYTES = 17

_CODE_BYTES = FP4_BLOCK // 2
_LAYOUT = np.dtype({"names": ["scale", "codes"], "formats": ["u1", "V16"], "offsets": [0, 1], "itemsize": 17})
_CHUNK_BLOCKS = 8192
"""Blocks repacked at a time: 128 KiB of codes and 450 KiB of scratch stay in a core's second-level cache."""
_LOW_NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
_LOW = np.array([E2M1_VALUES[byte & 15] for byte in range(256)], np.float32)
_HIGH = np.array([E2M1_VALUES[byte >> 4] for byte in range(256)], np.float32)
_PAIRS = np.stack((_LOW, _HIGH), axis=-1).reshape(-1).view(np.uint64)
"""The two values of each byte, as they lie in memory one after the other."""
_OVERFLOWING_SCALE = 253
"""6 * 2^(253 - 127) is beyond float32; with 252 every product fits."""


class _Scratch:
    """Room for `blocks` blocks between the layouts, as the views that the steps of a repacking use.

    `halves` [2, blocks]: a row's first 8 bytes and last 8 bytes of each block. `wide`: the same bytes, each in
    16 bits. Explicit little-endian types, since the order of bytes in a word is what the steps rest on.
    """

    def __init__(self, blocks: int) -> None:
        self.halves = np.empty((2, blocks), "<u8")
        self.first, self.last = self.halves
        self.half_bytes = self.halves.reshape(-1).view(np.uint8)
        self.exchange = np.empty(blocks, "<u8")
        self.wide = np.empty(2 * 8 * blocks, "<u2")
        self.wide_first = self.wide[: 8 * blocks].view("<u8")
        self.wide_last = self.wide[8 * blocks :].view("<u8")
        self.codes = self.wide[: 8 * blocks].view("V16")

    def swap_nibbles(self) -> None:
        """Exchange the high nibbles of `first` with the low nibbles of `last`; done twice it is undone.

        Values 0, 1, 2, … and 16, 17, 18, … become 0, 16, 2, 18, … and 1, 17, 3, 19, …: the even and the odd
        bytes of an MXFP4 block.
        """
        first, last, exchange = self.first, self.last, self.exchange
        np.right_shift(first, 4, out=exchange)
        np.bitwise_xor(exchange, last, out=exchange)
        np.bitwise_and(exchange, _LOW_NIBBLES, out=exchange)
        np.bitwise_xor(last, exchange, out=last)
        np.left_shift(exchange, 4, out=exchange)
        np.bitwise_xor(first, exchange, out=first)


def _chunks(blocks: int) -> Iterator[tuple[int, int, _Scratch]]:
    """(start, stop, scratch) for each run of at most `_CHUNK_BLOCKS` of so many blocks."""
    scratch = _Scratch(min(_CHUNK_BLOCKS, blocks))
    for start in range(0, blocks, _CHUNK_BLOCKS):
        stop = min(start + _CHUNK_BLOCKS, blocks)
        if stop - start < scratch.exchange.size:
            scratch = _Scratch(stop - start)
        yield start, stop, scratch


def fp4_to_mxfp4(weight: Bytes, scale: Bytes, out: Bytes | None = None) -> Bytes:
    """Repack FP4 of the checkpoint as MXFP4 (ggml type 39). Exact: only moves bits.

    `weight` uint8 [..., k/2], `scale` uint8 [..., k/32] → uint8 [..., k/32 * 17], written to `out` where it is
    given. FormatError for a NaN scale and for shapes that do not belong together. numpy lets go of the GIL
    meanwhile, so threads can each take some rows.
    """
    shape = _check_fp4(weight, scale)
    result = destination(out, (*shape[:-1], shape[-1] // FP4_BLOCK * MXFP4_BLOCK_BYTES), weight, scale)
    blocks = scale.size
    if blocks == 0:
        return result
    source = np.ascontiguousarray(weight).reshape(-1).view("<u8").reshape(blocks, 2).T
    target = result.reshape(-1).view(_LAYOUT)
    scales: npt.NDArray[Any] = np.ascontiguousarray(scale).reshape(-1)
    target_scales: npt.NDArray[Any] = target["scale"]
    codes: npt.NDArray[Any] = target["codes"]
    for start, stop, scratch in _chunks(blocks):
        np.copyto(target_scales[start:stop], scales[start:stop])
        np.copyto(scratch.halves, source[:, start:stop])
        scratch.swap_nibbles()
        np.copyto(scratch.wide, scratch.half_bytes)
        # Now interleave: even bytes from the one half, odd bytes from the other.
        np.left_shift(scratch.wide_last, 8, out=scratch.wide_last)
        np.bitwise_or(scratch.wide_first, scratch.wide_last, out=scratch.wide_first)
        np.copyto(codes[start:stop], scratch.codes)
    return result


def mxfp4_to_fp4(blocks: Bytes) -> tuple[Bytes, Bytes]:
    """The exact inverse of `fp4_to_mxfp4`: uint8 [..., k/32 * 17] → (weight [..., k/2], scale [..., k/32])."""
    count = _check_mxfp4(blocks)
    weight = np.empty((*blocks.shape[:-1], count * _CODE_BYTES), np.uint8)
    source = np.ascontiguousarray(blocks).reshape(-1).view(_LAYOUT)
    scale = source["scale"].reshape(*blocks.shape[:-1], count).copy()
    refuse_nan_scales(scale)
    if scale.size == 0:
        return weight, scale
    target = weight.reshape(-1).view("<u8").reshape(scale.size, 2).T
    codes: npt.NDArray[Any] = source["codes"]
    for start, stop, scratch in _chunks(scale.size):
        np.copyto(scratch.codes, codes[start:stop])
        np.right_shift(scratch.wide_first, 8, out=scratch.wide_last)
        np.copyto(scratch.half_bytes, scratch.wide, casting="unsafe")  # keeps the low byte of each
        scratch.swap_nibbles()
        np.copyto(target[:, start:stop], scratch.halves)
    return weight, scale


def decode_fp4(weight: Bytes, scale: Bytes) -> Float32:
    """The numbers of FP4 in the checkpoint's layout: [..., k/2] and [..., k/32] → float32 [..., k].

    Exact, or refused: FormatError for a NaN scale, and for a product beyond float32 (a scale ≥ 2^126).
    """
    shape = _check_fp4(weight, scale)
    values = _PAIRS[weight].view(np.float32).reshape(*scale.shape, FP4_BLOCK)
    return _scaled(values, scale).reshape(shape)


def decode_mxfp4(blocks: Bytes) -> Float32:
    """The numbers of MXFP4: uint8 [..., k/32 * 17] → float32 [..., k]. Exact, or refused as in `decode_fp4`.

    Written apart from the repacking, so that each can be checked by the other. Code 8 is -0; ggml, which keeps
    these values as integers, reads it as 0.
    """
    count = _check_mxfp4(blocks)
    block = blocks.reshape(*blocks.shape[:-1], count, MXFP4_BLOCK_BYTES)
    scale, codes = block[..., 0], block[..., 1:]
    refuse_nan_scales(scale)
    values = np.concatenate((_LOW[codes], _HIGH[codes]), axis=-1)
    return _scaled(values, scale).reshape(*blocks.shape[:-1], count * FP4_BLOCK)


def _check_fp4(weight: Bytes, scale: Bytes) -> tuple[int, ...]:
    """The shape of the values [..., k]. FormatError where the two arrays are not FP4."""
    require_dtype("weight", weight, np.uint8)
    require_dtype("scale", scale, np.uint8)
    packed = last_axis("weight", weight, _CODE_BYTES)
    require_shape("scale", scale, (*weight.shape[:-1], packed // _CODE_BYTES))
    refuse_nan_scales(scale)
    return (*weight.shape[:-1], 2 * packed)


def _check_mxfp4(blocks: Bytes) -> int:
    """Blocks in a row. FormatError where the array is not MXFP4."""
    require_dtype("blocks", blocks, np.uint8)
    return last_axis("blocks", blocks, MXFP4_BLOCK_BYTES) // MXFP4_BLOCK_BYTES


def _scaled(values: Float32, scale: Bytes) -> Float32:
    """`values` [..., 32] times their scales [...], in place."""
    with np.errstate(over="ignore"):
        values *= decode_e8m0(scale)[..., None]
    if scale.size and scale.max() >= _OVERFLOWING_SCALE:
        refuse(
            "scale", np.asarray(np.isinf(values).any(axis=-1)), "times one of its codes it is beyond float32"
        )
    return values
