"""Refusals name the operand, the place and the reason."""

import numpy as np
import pytest

from kernels.operands import FormatError, destination, last_axis, refuse, refuse_nan_scales, require_dtype


def test_what_is_said() -> None:
    assert str(FormatError("scale", "it is NaN", (3, 0))) == "scale at [3, 0]: it is NaN"
    assert str(FormatError("out", "it is too short")) == "out: it is too short"
    assert isinstance(FormatError("out", "it is too short"), ValueError)


def test_the_first_fault_is_named() -> None:
    scale = np.zeros((3, 5), np.uint8)
    refuse_nan_scales(scale)
    refuse_nan_scales(scale[:0])
    scale[1, 4] = scale[2, 0] = 255
    with pytest.raises(FormatError) as caught:
        refuse_nan_scales(scale)
    assert (caught.value.what, caught.value.where) == ("scale", (1, 4))


def test_element_types_and_axes() -> None:
    with pytest.raises(FormatError, match="int8, not uint8"):
        require_dtype("weight", np.zeros(3, np.int8), np.uint8)
    with pytest.raises(FormatError, match="not a multiple of 16"):
        last_axis("weight", np.zeros((2, 17), np.uint8), 16)
    with pytest.raises(FormatError, match="single number"):
        last_axis("weight", np.zeros((), np.uint8), 16)
    assert last_axis("weight", np.zeros((2, 0), np.uint8), 16) == 0
    refuse("values", np.zeros(0, np.bool_), "never said")


def test_a_destination_is_whole_apart_and_writeable() -> None:
    room = np.zeros((4, 6), np.uint8)
    assert destination(room, (4, 6)) is room
    assert destination(None, (2, 3)).shape == (2, 3)
    frozen = np.zeros((4, 6), np.uint8)
    frozen.flags.writeable = False
    for out, said in (
        (room.astype(np.int8), "int8"),
        (room[:2], "shape"),
        (np.zeros((4, 12), np.uint8)[:, ::2], "contiguous"),
        (frozen, "writeable"),
    ):
        with pytest.raises(FormatError, match=said):
            destination(out, (4, 6))  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="overlaps"):
        destination(room, (4, 6), room[1:])
