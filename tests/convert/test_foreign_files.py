"""What people have in place of a model is named."""

import pytest

from convert.foreign_files import what_it_is


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "empty"),
        (b"\0" * 512, "never arrived"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\xef\xbb\xbf\n <HTML lang='en'>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS pointer"),
        (b'\x40\x10\0\0\0\0\0\0{"__metadata__"', "safetensors"),
        (b"PK\x03\x04rest", "PyTorch"),
        (b"lmgg\x01\0\0\0", "before GGUF"),
        (b"FUGG\0\0\0\x03", "big-endian"),
        (b"just text", "it is not a GGUF"),
        (b"{", "it is not a GGUF"),
    ],
)
def test_it_is_named(head: bytes, said: str) -> None:
    assert said in what_it_is(head)
