"""The table of number formats against the library that computes with them."""

import ctypes
import importlib.util
from pathlib import Path

import pytest

from convert.ggml_types import GGML_TYPES


def test_the_sizes_that_the_formats_documentation_states() -> None:
    sizes = {kind.name: (kind.block_elements, kind.block_bytes) for kind in GGML_TYPES.values()}
    # Spelled out from the layout of a block: scales, then packed numbers.
    assert sizes["F16"] == (1, 2)
    assert sizes["Q4_0"] == (32, 2 + 16)
    assert sizes["Q8_0"] == (32, 2 + 32)
    assert sizes["Q6_K"] == (256, 128 + 64 + 16 + 2)
    assert sizes["MXFP4"] == (32, 1 + 16)
    assert len(sizes) == len(GGML_TYPES)


def test_the_table_is_that_of_the_installed_llama_cpp() -> None:
    spec = importlib.util.find_spec("llama_cpp")
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    found = sorted(folder.glob("lib/*ggml-base.*")) if folder else []
    if not found:
        pytest.fail("llama-cpp-python's ggml library was not found; `make test` installs it")
    ggml = ctypes.CDLL(str(found[0]))
    ggml.ggml_type_size.restype = ctypes.c_size_t
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_name.restype = ctypes.c_char_p
    for number, kind in GGML_TYPES.items():
        assert ggml.ggml_blck_size(number) == kind.block_elements, kind
        assert ggml.ggml_type_size(number) == kind.block_bytes, kind
        assert ggml.ggml_type_name(number).decode().upper() == kind.name, kind
