import ctypes

import pytest

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed")

from engine.backends import ggml_tensor
from engine.backends.ggml_tensor import data_of, elements_of, first_source, name_of


def made() -> "ggml_tensor._Tensor":
    """A tensor of 3 x 2 numbers, computed from what lies at 4096."""
    tensor = ggml_tensor._Tensor()
    tensor.name = b"ffn_moe_up-3"
    tensor.data = 8192
    tensor.extents[:] = [3, 2, 1, 1]
    tensor.sources[0] = 4096
    return tensor


def test_a_tensor_is_laid_out_as_ggml_reads_it() -> None:
    tensor = made()
    address = ctypes.addressof(tensor)
    assert (name_of(address), data_of(address), elements_of(address)) == (b"ffn_moe_up-3", 8192, 6)
    assert first_source(address) == 4096
    tensor.sources[0] = None
    assert first_source(address) is None


@pytest.mark.parametrize(
    ("function", "told"),
    [("name_of", b"else"), ("data_of", 8193), ("elements_of", 7), ("_header_bytes", 100)],
)
def test_in_another_ggml_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch, function: str, told: object
) -> None:
    tensor = made()
    monkeypatch.setattr(ggml_tensor, function, lambda *_: told)
    assert first_source(ctypes.addressof(tensor)) is None
