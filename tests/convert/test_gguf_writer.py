"""The writer of GGUF headers, read back by our own reader and by the gguf package."""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest

from convert.gguf_header import read_gguf_header
from convert.gguf_writer import Metadata, header


@dataclass(frozen=True)
class Placed:
    name: str
    type_name: str
    shape: tuple[int, ...]
    size_bytes: int


TENSORS = (
    Placed("a", "F32", (3,), 12),
    Placed("b.weight", "MXFP4", (64, 2, 5), 340),
    Placed("c", "Q8_0", (32, 3), 102),
    Placed("d", "I32", (2, 2), 16),
)


def example() -> Metadata:
    metadata = Metadata()
    metadata.text("general.architecture", "test")
    metadata.count("test.count", 7)
    metadata.real("test.real", 0.5)
    metadata.flag("test.flag", True)
    metadata.size("test.size", 1 << 40)
    metadata.texts("test.texts", ["a", "ö｜", ""])
    metadata.counts("test.counts", [0, 4, 128])
    metadata.integers("test.integers", [-1, 3])
    metadata.reals("test.reals", [10.0] * 3)
    return metadata


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = header(example(), TENSORS)
    path = tmp_path / "x.gguf"
    path.write_bytes(made.content + bytes(made.file_bytes - len(made.content)))
    read = read_gguf_header(path)
    assert read.data_offset == len(made.content)
    assert [tensor.offset + read.data_offset for tensor in read.tensors] == list(made.offsets)
    assert all(offset % 32 == 0 for offset in made.offsets)
    assert [(t.name, t.type_name, t.shape, t.size_bytes) for t in read.tensors] == [
        (t.name, t.type_name, t.shape, t.size_bytes) for t in TENSORS
    ]
    assert read.metadata["test.texts"] == ["a", "ö｜", ""]
    assert read.metadata["test.flag"] is True
    assert read.metadata["test.integers"] == [-1, 3]
    assert read.number("test.size") == 1 << 40


def test_the_gguf_package_reads_it(tmp_path: Path) -> None:
    made = header(example(), TENSORS)
    path = tmp_path / "x.gguf"
    path.write_bytes(made.content + bytes(made.file_bytes - len(made.content)))
    reader = gguf.GGUFReader(path)
    assert [tensor.data_offset for tensor in reader.tensors] == list(made.offsets)
    assert reader.fields["test.counts"].contents() == [0, 4, 128]
    assert np.isclose(reader.fields["test.real"].contents(), 0.5)


def test_a_key_stands_once() -> None:
    metadata = example()
    with pytest.raises(ValueError, match=r"test\.count"):
        metadata.count("test.count", 8)
