"""What the arithmetic asks of an array before it computes with it, and how it refuses.

Owns: `FormatError`, and the checks of element type, shape and destination that the number formats share.
Knows no format.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Float32: TypeAlias = npt.NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]


class FormatError(ValueError):
    """Numbers that a format cannot hold, or arrays that are not laid out as it asks.

    `what` is the operand ("scale", "weight", …), `why` a clause without a full stop, `where` the index of the
    first element at fault, None where the whole operand is.
    """

    def __init__(self, what: str, why: str, where: Shape | None = None) -> None:
        self.what, self.why, self.where = what, why, where
        super().__init__(what, why, where)

    def __str__(self) -> str:
        place = "" if self.where is None else f" at [{', '.join(map(str, self.where))}]"
        return f"{self.what}{place}: {self.why}"


def require_dtype(what: str, array: npt.NDArray[Any], dtype: npt.DTypeLike) -> None:
    """FormatError unless the elements are of exactly this type."""
    if array.dtype != np.dtype(dtype):
        raise FormatError(what, f"its elements are {array.dtype}, not {np.dtype(dtype)}")


def require_shape(what: str, array: npt.NDArray[Any], shape: Shape) -> None:
    """FormatError unless the array has exactly this shape."""
    if array.shape != shape:
        raise FormatError(what, f"its shape is {array.shape}, not {shape}")


def last_axis(what: str, array: npt.NDArray[Any], multiple: int) -> int:
    """Length of the last axis. FormatError for a single number, or where it is no multiple of `multiple`."""
    if array.ndim == 0:
        raise FormatError(what, "it is a single number, not an array")
    length = array.shape[-1]
    if length % multiple:
        raise FormatError(what, f"its last axis has {length} elements, not a multiple of {multiple}")
    return length


def refuse(what: str, faulty: npt.NDArray[np.bool_], why: str) -> None:
    """FormatError that names the first element where `faulty` is true; nothing where none is."""
    if faulty.any():
        raise FormatError(what, why, tuple(int(i) for i in np.argwhere(faulty)[0]))


def refuse_nan_scales(scale: Bytes) -> None:
    """FormatError that names the first E8M0 scale that is NaN (255)."""
    if scale.size and scale.max() == 255:
        refuse("scale", scale == 255, "it is NaN (E8M0 code 255)")


def destination(out: Bytes | None, shape: Shape, *sources: npt.NDArray[Any]) -> Bytes:
    """`out`, checked, or a new array of this shape.

    FormatError unless `out` holds uint8 of exactly this shape, C-contiguous, writeable, and apart from the
    memory of every source.
    """
    if out is None:
        return np.empty(shape, np.uint8)
    require_dtype("out", out, np.uint8)
    require_shape("out", out, shape)
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise FormatError("out", "it is not contiguous and writeable")
    if any(np.may_share_memory(out, source) for source in sources):
        raise FormatError("out", "it overlaps what is read")
    return out
