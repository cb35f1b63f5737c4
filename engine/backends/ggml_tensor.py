"""A tensor of ggml as the evaluation callback is given it: its name, its numbers, and what it is computed from.

Owns: ggml's functions for these, and the one thing that no function tells: a tensor's first source. That is read from
where `struct ggml_tensor` has it (ggml.h), and only where the structure is laid out as written here, which is
checked against what ggml's functions say of the same tensor. Importing this module needs ggml's libraries.
"""

import ctypes
from typing import Any

from engine.backends.ggml_library import ggml_function

_DIMENSIONS, _SOURCES, _PARAMETER_BYTES, _NAME_BYTES = 4, 10, 64, 64


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("extents", ctypes.c_int64 * _DIMENSIONS),
        ("strides", ctypes.c_size_t * _DIMENSIONS),
        ("operation", ctypes.c_int),
        ("parameters", ctypes.c_char * _PARAMETER_BYTES),
        ("flags", ctypes.c_int32),
        ("sources", ctypes.c_void_p * _SOURCES),
        ("viewed", ctypes.c_void_p),
        ("view_offset", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * _NAME_BYTES),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )


name_of = ggml_function("ggml_get_name", ctypes.c_char_p, ctypes.c_void_p)
rows_of = ggml_function("ggml_nrows", ctypes.c_int64, ctypes.c_void_p)
elements_of = ggml_function("ggml_nelements", ctypes.c_int64, ctypes.c_void_p)
bytes_of = ggml_function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)
data_of = ggml_function("ggml_get_data", ctypes.c_void_p, ctypes.c_void_p)
"""The address of its numbers, in whatever memory they lie; None for none."""
copy_numbers = ggml_function(
    "ggml_backend_tensor_get", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
)
"""To an address, from a byte on, so many bytes."""
_header_bytes = ggml_function("ggml_tensor_overhead", ctypes.c_size_t)


def first_source(tensor: int) -> int | None:
    """The address of the tensor that this one is first computed from; None for none, or in another ggml than this
    layout is of."""
    seen: Any = _Tensor.from_address(tensor)
    elements = 1
    for extent in seen.extents:
        elements *= extent
    if (
        _header_bytes() < ctypes.sizeof(_Tensor)
        or seen.name != name_of(tensor)
        or seen.data != data_of(tensor)
        or elements != elements_of(tensor)
    ):
        return None
    return seen.sources[0]
