"""One tensor of a GGUF against the tensors of the checkpoint that it was made of: both sides decoded anew.

Owns: what must be the same to the bit, and the stated bound of what may differ. Written apart from the conversion
(`tensor_stream`): experts are compared by the FP4 codes and scales that both sides hold, not by repacking again.
Does not know files: reading is handed in, in pieces of bounded size.

Bound of Q8_0, for each block of 32 with largest size a: half a step of a/127, and 127 times the rounding of the
step to float16 (relative 2^-11, absolute 2^-25 where it is subnormal): a * (1/254 + 2^-11) + 127 * 2^-25.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convert.tensor_map import Matrix, Target
from convert.tensor_stream import BAND_ELEMENTS, COPY_BYTES, TILE
from kernels.formats import MXFP4_BLOCK_BYTES, Q8Error, decode_fp8_blocks, decode_q8_0, q8_0_error

Bytes: TypeAlias = NDArray[np.uint8]
ReadSource: TypeAlias = Callable[[str, int, int], Bytes]
ReadTarget: TypeAlias = Callable[[int, int], Bytes]
"""`read(offset, count)`: bytes of the tensor in the GGUF."""

RELATIVE_BOUND = 1 / 254 + 2.0**-11
ABSOLUTE_BOUND = 127 * 2.0**-25
_FP4_CODES = 32
_ROW_BYTES = {"BF16": (1, 2), "Q8_0": (32, 34)}
"""(numbers, bytes) of what a row is made of."""


def compare_tensor(
    target: Target, extents: Callable[[str], Matrix], read_source: ReadSource, read_target: ReadTarget
) -> tuple[str, Q8Error]:
    """Why the tensor is not what it should be ("" if it is), and what Q8_0 lost.

    `target.type_name` is that of the file. Raises FormatError for numbers that are none, on either side.
    """
    match target.how:
        case "copy":
            return _same_bytes(target, read_source, read_target), Q8Error()
        case "widen" | "narrow":
            return _same_numbers(target, read_source, read_target), Q8Error()
        case "experts":
            return _same_experts(target, extents, read_source, read_target), Q8Error()
        case "dense" | "join":
            return _close_enough(target, extents, read_source, read_target)


def _same_bytes(target: Target, read_source: ReadSource, read_target: ReadTarget) -> str:
    for at in range(0, target.size_bytes, COPY_BYTES):
        count = min(COPY_BYTES, target.size_bytes - at)
        if not np.array_equal(read_source(target.sources[0], at, count), read_target(at, count)):
            return "its bytes differ"
    return ""


def _same_numbers(target: Target, read_source: ReadSource, read_target: ReadTarget) -> str:
    count = target.size_bytes // 4
    step = COPY_BYTES // 8
    for at in range(0, count, step):
        size = min(step, count - at)
        stored = read_target(4 * at, 4 * size)
        if target.how == "widen":
            source = read_source(target.sources[0], 2 * at, 2 * size).view("<u2")
            halves = stored.view("<u2").reshape(-1, 2)
            same = not halves[:, 0].any() and np.array_equal(halves[:, 1], source)
        else:
            source = read_source(target.sources[0], 8 * at, 8 * size).view("<i8")
            same = np.array_equal(stored.view("<i4").astype(np.int64), source)
        if not same:
            return "its numbers differ"
    return ""


def _same_experts(
    target: Target, extents: Callable[[str], Matrix], read_source: ReadSource, read_target: ReadTarget
) -> str:
    size = target.size_bytes // target.shape[2]
    for expert in range(target.shape[2]):
        weight, scale = target.sources[2 * expert : 2 * expert + 2]
        matrix, spread = extents(weight), extents(scale)
        packed = read_source(weight, 0, matrix.rows * matrix.columns).reshape(-1, _FP4_CODES // 2)
        scales = read_source(scale, 0, spread.rows * spread.columns)
        blocks = read_target(expert * size, size).reshape(-1, MXFP4_BLOCK_BYTES)
        if not np.array_equal(blocks[:, 0], scales):
            return f"the scales of expert {expert} differ"
        # In the checkpoint number 2i is the low half of byte i; here number i is, and i + 16 the high half.
        codes = np.empty((len(packed), _FP4_CODES), np.uint8)
        codes[:, 0::2], codes[:, 1::2] = packed & 15, packed >> 4
        stored = blocks[:, 1:]
        if not (np.array_equal(codes[:, :16], stored & 15) and np.array_equal(codes[:, 16:], stored >> 4)):
            return f"the numbers of expert {expert} differ"
    return ""


def _close_enough(
    target: Target, extents: Callable[[str], Matrix], read_source: ReadSource, read_target: ReadTarget
) -> tuple[str, Q8Error]:
    numbers_of, bytes_of = _ROW_BYTES[target.type_name]
    columns, rows = target.shape
    row_bytes = columns // numbers_of * bytes_of
    step = max(TILE, BAND_ELEMENTS // columns // TILE * TILE)
    lost = Q8Error()
    for row in range(0, rows, step):
        count = min(step, rows - row)
        parts = [
            _decoded(weight, scale, row, count, extents, read_source)
            for weight, scale in zip(target.sources[::2], target.sources[1::2], strict=True)
        ]
        wanted = np.concatenate(parts, axis=1)
        stored = read_target(row * row_bytes, count * row_bytes).reshape(count, row_bytes)
        if target.type_name == "BF16":
            bits: NDArray[Any] = wanted.view("<u4")
            if (bits & 0xFFFF).any() or not np.array_equal(bits >> 16, stored.view("<u2")):
                return "its numbers differ", lost
            continue
        largest = np.abs(wanted).reshape(-1, 32).max(axis=1)
        error = np.abs(decode_q8_0(stored) - wanted).reshape(-1, 32).max(axis=1)
        if (error > largest * RELATIVE_BOUND + ABSOLUTE_BOUND).any():
            return f"a number is off by {error.max():.3g}, more than Q8_0's rounding explains", lost
        lost += q8_0_error(wanted, stored)
    return "", lost


def _decoded(
    weight: str, scale: str, row: int, rows: int, extents: Callable[[str], Matrix], read: ReadSource
) -> NDArray[np.float32]:
    """Rows of an FP8 matrix; `row` is a multiple of a tile."""
    columns, spread = extents(weight).columns, extents(scale)
    first, last = row // TILE, -(-(row + rows) // TILE)
    scales = read(scale, first * spread.columns, (last - first) * spread.columns)
    codes = read(weight, row * columns, rows * columns)
    return decode_fp8_blocks(codes.reshape(rows, columns), scales.reshape(-1, spread.columns))
