"""ggml itself, for the formats that it defines: the library inside llama-cpp-python, called without it; and which
implementation of an operator its tests are about."""

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest


class Ggml:
    """Row functions of ggml on whole arrays: name, array in, bytes or floats out."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def row(
        self, function: str, source: np.ndarray[Any, Any], out: np.ndarray[Any, Any], numbers: int
    ) -> Any:
        call = self._library[function]
        call.restype, call.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        source = np.ascontiguousarray(source)
        call(source.ctypes.data, out.ctypes.data, numbers)
        return out

    def encode_q8_0(self, values: np.ndarray[Any, Any]) -> Any:
        out = np.zeros((*values.shape[:-1], values.shape[-1] // 32 * 34), np.uint8)
        return self.row("quantize_row_q8_0_ref", values, out, values.size)

    def decode_q8_0(self, blocks: np.ndarray[Any, Any]) -> Any:
        out = np.zeros((*blocks.shape[:-1], blocks.shape[-1] // 34 * 32), np.float32)
        return self.row("dequantize_row_q8_0", blocks, out, out.size)

    def decode_mxfp4(self, blocks: np.ndarray[Any, Any]) -> Any:
        out = np.zeros((*blocks.shape[:-1], blocks.shape[-1] // 17 * 32), np.float32)
        return self.row("dequantize_row_mxfp4", blocks, out, out.size)

    def encode_bf16(self, values: np.ndarray[Any, Any]) -> Any:
        return self.row("ggml_fp32_to_bf16_row_ref", values, np.zeros(values.shape, np.uint16), values.size)


@pytest.fixture(autouse=True)
def tested_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_reference.py` is about the reference, whatever fast paths there are; one thread, as others compute too."""
    if request.path.name == "test_reference.py":
        monkeypatch.setenv("SEAMOUNT_KERNELS", "reference")
        pytest.importorskip("torch").set_num_threads(1)


@pytest.fixture(scope="session")
def ggml() -> Ggml:
    """The installed ggml; `make test` installs it, so a machine without it is not ready."""
    spec = importlib.util.find_spec("llama_cpp")
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    found = sorted(folder.glob("lib/*ggml-base.*")) if folder else []
    if not found:
        pytest.fail("llama-cpp-python's ggml library was not found; `make test` installs it")
    return Ggml(ctypes.CDLL(str(found[0])))
