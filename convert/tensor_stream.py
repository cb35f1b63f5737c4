"""The bytes of one target, made piece by piece from the checkpoint, with what is lost on the way.

Owns: how each kind of target (`tensor_map.How`) is made of its sources, in pieces of bounded size, and the
error of what is not exact. The arithmetic is `kernels.formats`. Does not know files: reading is handed in.
Numbers that are none (an E8M0 scale of 255, an FP8 NaN) are refused with the tensor's name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convert.conversion_error import ConversionError
from convert.tensor_map import Matrix, Target
from kernels.formats import (
    FormatError,
    Q8Error,
    decode_fp8_blocks,
    encode_q8_0,
    fp4_to_mxfp4,
    fp8_to_bf16,
    q8_0_error,
)

Bytes: TypeAlias = NDArray[np.uint8]
Read: TypeAlias = Callable[[str, int, int], Bytes]
"""`read(tensor, offset, count)`: bytes of a tensor of the checkpoint, in memory of their own."""

COPY_BYTES = 16 << 20
BAND_ELEMENTS = 2 << 20
"""Numbers of a dense matrix that are converted at once; about 40 MB with everything in between."""
TILE = 128
"""Rows and columns that share a scale of FP8."""


@dataclass(frozen=True)
class Piece:
    """Consecutive bytes of a target, and the bytes of the checkpoint that were read for them."""

    sources: tuple[Bytes, ...]
    output: Bytes


@dataclass
class Loss:
    """What Q8_0 lost of one tensor so far."""

    error: Q8Error = field(default_factory=Q8Error)


def pieces(target: Target, extents: Callable[[str], Matrix], read: Read, loss: Loss) -> Iterator[Piece]:
    """The pieces of `target` in order; together their outputs are its `size_bytes`.

    `extents` gives rows and columns of a weight as stored (a vector has one row). The sources of all pieces,
    one after the other, are those of the target in their order. Raises ConversionError.
    """
    try:
        match target.how:
            case "copy":
                yield from _copied(target, read)
            case "widen" | "narrow":
                yield from _recoded(target, read)
            case "dense":
                yield from _dense(target, extents, read, loss)
            case "join":
                yield from _joined(target, extents, read, loss)
            case "experts":
                yield from _experts(target, extents, read)
    except FormatError as error:
        raise _broken(target.sources[0], f"what its format cannot ({error})") from error


def _copied(target: Target, read: Read) -> Iterator[Piece]:
    name, size = target.sources[0], target.size_bytes
    for at in range(0, size, COPY_BYTES):
        data = read(name, at, min(COPY_BYTES, size - at))
        yield Piece((data,), data)


def _recoded(target: Target, read: Read) -> Iterator[Piece]:
    """BF16 to F32, or I64 to I32: both take four bytes in the target."""
    name, count = target.sources[0], target.size_bytes // 4
    stored: Any = np.dtype("<u2") if target.how == "widen" else np.dtype("<i8")
    step = COPY_BYTES // 8
    for at in range(0, count, step):
        data = read(name, at * stored.itemsize, min(step, count - at) * stored.itemsize)
        values = data.view(stored)
        if target.how == "widen":
            output = values.astype("<u4") << 16
        else:
            output = values.astype("<i4")
            if not np.array_equal(output, values):
                raise _broken(name, "a number that does not fit into 32 bits")
        yield Piece((data,), output.view(np.uint8))


def _dense(target: Target, extents: Callable[[str], Matrix], read: Read, loss: Loss) -> Iterator[Piece]:
    weight, scale = target.sources
    matrix = extents(weight)
    scales = _scales(scale, extents(scale), read)
    step = max(TILE, BAND_ELEMENTS // matrix.columns // TILE * TILE)
    for row in range(0, matrix.rows, step):
        rows = min(step, matrix.rows - row)
        data = read(weight, row * matrix.columns, rows * matrix.columns)
        band = scales[row // TILE : -(-(row + rows) // TILE)]
        output = _encoded(target, [(data.reshape(rows, matrix.columns), band)], loss)
        last = row + rows == matrix.rows
        yield Piece((data, scales.ravel()) if last else (data,), output)


def _joined(target: Target, extents: Callable[[str], Matrix], read: Read, loss: Loss) -> Iterator[Piece]:
    """Two matrices beside each other, read whole: at most 103 MB for V4-Pro."""
    parts: list[tuple[Bytes, Bytes]] = []
    sources: list[Bytes] = []
    for weight, scale in zip(target.sources[::2], target.sources[1::2], strict=True):
        matrix = extents(weight)
        data = read(weight, 0, matrix.rows * matrix.columns)
        scales = _scales(scale, extents(scale), read)
        parts.append((data.reshape(matrix.rows, matrix.columns), scales))
        sources += (data, scales.ravel())
    rows = parts[0][0].shape[0]
    step = max(TILE, BAND_ELEMENTS // target.shape[0] // TILE * TILE)
    for row in range(0, rows, step):
        end = min(row + step, rows)
        bands = [(data[row:end], scales[row // TILE : -(-end // TILE)]) for data, scales in parts]
        yield Piece(tuple(sources) if end == rows else (), _encoded(target, bands, loss))


def _encoded(target: Target, bands: list[tuple[Bytes, Bytes]], loss: Loss) -> Bytes:
    """Rows of FP8 in the target's format."""
    if target.type_name == "BF16":
        results = [fp8_to_bf16(*band) for band in bands]
        if not all(result.exact for result in results):
            raise _broken(target.sources[0], "numbers too small for BF16", "choose --dense q8_0")
        return _beside([result.codes for result in results]).view(np.uint8).ravel()
    numbers = _beside([decode_fp8_blocks(*band) for band in bands])
    output = encode_q8_0(numbers)
    loss.error += q8_0_error(numbers, output)
    return output.ravel()


def _beside(matrices: list[NDArray[Any]]) -> NDArray[Any]:
    return matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=1)


def _experts(target: Target, extents: Callable[[str], Matrix], read: Read) -> Iterator[Piece]:
    for weight, scale in zip(target.sources[::2], target.sources[1::2], strict=True):
        matrix = extents(weight)
        data = read(weight, 0, matrix.rows * matrix.columns)
        scales = _scales(scale, extents(scale), read)
        output = fp4_to_mxfp4(data.reshape(matrix.rows, matrix.columns), scales)
        yield Piece((data, scales.ravel()), output.ravel())


def _scales(name: str, extent: Matrix, read: Read) -> Bytes:
    return read(name, 0, extent.rows * extent.columns).reshape(extent.rows, extent.columns)


def _broken(name: str, why: str, remedy: str = "fetch the checkpoint again") -> ConversionError:
    return ConversionError(
        "checkpoint", "This checkpoint cannot be converted", f"its tensor {name[:120]} holds {why}", remedy
    )
