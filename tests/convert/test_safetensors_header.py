"""Safetensors headers, whole ones and every kind of broken one, from a small writer of our own."""

import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convert import safetensors_header
from convert.checkpoint_error import CheckpointError
from convert.safetensors_header import (
    DTYPE_BITS,
    SafetensorsHeader,
    SafetensorsTensor,
    read_safetensors_header,
    tensor_bytes,
)
from tests.convert import header_fuzz


def safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


TINY = safetensors(
    {
        "__metadata__": {"format": "pt", "about": "a {brace} and 海"},
        "b": entry("BF16", [2, 3], 16, 28),
        "a": entry("F32", [4], 0, 16),
        "scale": entry("F8_E8M0", [1, 1], 28, 29),
        "nothing": entry("I64", [0, 7], 29, 29),
        "one": entry("BOOL", [], 29, 30),
    },
    bytes(range(30)),
)

Read = Callable[[bytes], SafetensorsHeader]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def from_bytes(content: bytes) -> SafetensorsHeader:
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        return read_safetensors_header(path)

    return from_bytes


def refusal(read: Read, content: bytes) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read(content)
    assert caught.value.what == "“model.safetensors” cannot be used as part of a checkpoint"
    assert len(caught.value.why) < 400 and caught.value.why.isprintable()
    return caught.value


def test_a_whole_file(read: Read) -> None:
    header = read(TINY)
    start = header.data_offset
    assert list(header.tensors.values()) == [
        SafetensorsTensor("b", "BF16", (2, 3), start + 16, 12),
        SafetensorsTensor("a", "F32", (4,), start, 16),
        SafetensorsTensor("scale", "F8_E8M0", (1, 1), start + 28, 1),
        SafetensorsTensor("nothing", "I64", (0, 7), start + 29, 0),
        SafetensorsTensor("one", "BOOL", (), start + 29, 1),
    ]
    assert list(header.tensors) == ["b", "a", "scale", "nothing", "one"]
    assert header.metadata == {"format": "pt", "about": "a {brace} and 海"}
    assert header.size_bytes == len(TINY) == start + 30


@pytest.mark.parametrize("buffer_bytes", [1, 7, 64, 4096])
def test_it_is_read_across_buffers(read: Read, monkeypatch: Any, buffer_bytes: int) -> None:
    whole = read(TINY)
    monkeypatch.setattr("convert.json_cursor._BUFFER_BYTES", buffer_bytes)
    assert read(TINY) == whole


def test_the_header_may_be_padded_and_may_be_empty(read: Read) -> None:
    assert read(safetensors(b"{}")).tensors == {}
    assert read(safetensors(b'{"__metadata__":{}}     ')).metadata == {}


def test_another_header_has_another_digest(read: Read) -> None:
    assert read(safetensors(b"{}")).sha256 != read(safetensors(b"{} ")).sha256


@pytest.mark.parametrize("dtype", DTYPE_BITS)
def test_every_format(read: Read, dtype: str) -> None:
    size = tensor_bytes(dtype, (6, 4))
    assert size == 24 * DTYPE_BITS[dtype] // 8
    assert read(safetensors({"t": entry(dtype, [6, 4], 0, size)}, bytes(size))).tensors["t"].dtype == dtype


def test_cut_at_every_byte_is_truncated(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(TINY)
    for length in range(len(TINY) - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(CheckpointError) as caught:
            read_safetensors_header(path)
        assert caught.value.problem == ("truncated" if length else "not_safetensors"), length
    assert f"it holds {len(TINY) - 5:,} of {len(TINY):,} bytes" in refusal(read, TINY[:-5]).why


HUGE = [2**63, 2**63 - 1, 2**64 - 1, 2**40, 2**32, 100_000_001]


@pytest.mark.parametrize("length", [*HUGE, 0, 1])
def test_a_length_beyond_all_bounds_is_refused_at_once(read: Read, length: int) -> None:
    tracemalloc.start()
    try:
        error = refusal(read, safetensors(b'{"a":', length=length))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.problem == "damaged" and f"a header of {length:,} bytes" in error.why
    assert peak < 1 << 20


@pytest.mark.parametrize("number", HUGE)
def test_sizes_and_places_beyond_all_bounds_are_refused(read: Read, number: int) -> None:
    for tensor in (
        entry("F32", [number], 0, 16),
        entry("F32", [number, number, number], 0, 16),
        entry("F32", [4], number, number + 16),
        entry("F32", [4], 0, number),
        entry("U8", [number], 0, number),
        entry("I64", [number, 0], 0, number),
    ):
        assert refusal(read, safetensors({"t": tensor}, bytes(16))).problem in ("damaged", "truncated")


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (entry("F32", [4], 0, 15), "takes 16 bytes by its shape and 15 by its place"),
        (entry("F32", [5], 0, 16), "takes 20 bytes"),
        (entry("F32", [4], 16, 0), "by its place"),
        (entry("F32", [4], -16, 0), "not a type"),
        (entry("F32", [-4], 0, 16), "not a type"),
        (entry("F32", [4.0], 0, 16), "not a type"),
        (entry("F32", [True], 0, 4), "not a type"),
        (entry("F32", "4", 0, 16), "not a type"),
        (entry("F32", [4], None, 16), "not a type"),
        (entry(4, [4], 0, 16), "not a type"),
        (entry("F32", [1] * 9, 0, 4), "9 dimensions"),
        (entry("F4", [3], 0, 2), "no whole number of bytes"),
        ({"dtype": "F32", "shape": [4]}, "not a type"),
        (entry("F32", [4], 0, 16) | {"more": 1}, "not a type"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 8, 16]}, "not a type"),
        ([], "not a type"),
        (None, "not a type"),
        ("F32", "not a type"),
        ({"x": "y" * 5000}, "longer than 4,096 bytes"),
    ],
)
def test_impossible_tensors_are_refused(read: Read, tensor: Any, why: str) -> None:
    error = refusal(read, safetensors({"t\x1b": tensor}, bytes(16)))
    assert error.problem == "damaged" and why in error.why


def test_an_unknown_format_is_named(read: Read) -> None:
    error = refusal(read, safetensors({"t": entry("F6_E2M3", [4], 0, 3)}, bytes(3)))
    assert error.problem == "unsupported" and "“F6_E2M3”" in error.why


@pytest.mark.parametrize(
    ("header", "size", "problem", "why"),
    [
        ({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 3, 7)}, 7, "damaged", "overlaps"),
        ({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 0, 4)}, 4, "damaged", "overlaps"),
        ({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 5, 9)}, 9, "damaged", "a hole of 1 bytes"),
        ({"a": entry("U8", [4], 1, 5)}, 5, "damaged", "a hole"),
        ({"a": entry("U8", [4], 0, 4)}, 5, "damaged", "1 bytes that belong to no tensor"),
        ({}, 3, "damaged", "belong to no tensor"),
        ({"a": entry("U8", [4], 0, 4)}, 3, "truncated", "it holds"),
        (b'{"a":{},"a":{}}', 0, "damaged", "not a type"),
        (b'{"__metadata__":{},"__metadata__":{}}', 0, "damaged", "twice"),
        (b'{"__metadata__":{"a":"1","a":"2"}}', 0, "damaged", "twice"),
        (b'{"__metadata__":{"a":1}}', 0, "damaged", "a text is missing"),
        (b'{"__metadata__":[]}', 0, "damaged", "is missing"),
        (b'{"\\ud800":{}}', 0, "damaged", "not Unicode"),
        (b'{"a\xff":{}}', 0, "damaged", "not Unicode"),
        (b'{"' + b"n" * 5000 + b'":{}}', 0, "damaged", "longer than 4,096 bytes"),
        (b"{]", 0, "damaged", "a text is missing"),
        (b"{}{}", 0, "damaged", "behind its end"),
    ],
)
def test_impossible_layouts_are_refused(read: Read, header: Any, size: int, problem: str, why: str) -> None:
    error = refusal(read, safetensors(header, bytes(size)))
    assert error.problem == problem and why in error.why


def test_the_same_name_twice_is_refused(read: Read) -> None:
    one = json.dumps(entry("U8", [1], 0, 1))
    for name in ("a", "\\u0061"):
        error = refusal(read, safetensors(f'{{"a":{one},"{name}":{one}}}'.encode(), b"x"))
        assert "“a” stands in it twice" in error.why


def test_more_than_any_checkpoint_has_is_refused(read: Read, monkeypatch: Any) -> None:
    monkeypatch.setattr(safetensors_header, "MAX_TENSORS", 3)
    many = {f"t{index}": entry("U8", [0], 0, 0) for index in range(5)}
    assert "more than 4 entries" in refusal(read, safetensors(many)).why
    monkeypatch.setattr(safetensors_header, "MAX_METADATA_BYTES", 100)
    long = {"__metadata__": {"a": "x" * 60, "b": "x" * 60}}
    assert "of metadata" in refusal(read, safetensors(long)).why


@pytest.mark.parametrize(
    ("content", "problem", "why"),
    [
        (b"", "not_safetensors", "empty"),
        (b"hello, this is text", "not_safetensors", "not a safetensors file"),
        (b"<!doctype html><title>404</title>", "not_safetensors", "web page, not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "not_safetensors", "Git LFS pointer"),
        (b"GGUF\3\0\0\0" + bytes(64), "not_safetensors", "it is a GGUF, not a safetensors file"),
        (b"PK\x03\x04" + bytes(64), "not_safetensors", "PyTorch checkpoint"),
        (bytes(5000), "not_safetensors", "never arrived"),
        (b'{"a": 1}', "truncated", "8 bytes"),
    ],
)
def test_what_is_no_safetensors_file_is_named(read: Read, content: bytes, problem: str, why: str) -> None:
    error = refusal(read, content)
    assert error.problem == problem and why in error.why


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    for path, why in (
        (tmp_path, "ordinary file"),
        (tmp_path / "missing", "no such file"),
        (tmp_path / "loop", "cannot be read .*symbolic links"),
        (tmp_path / "broken", "a link to a file that is not there"),
        (Path("nul\0"), "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(CheckpointError, match=why) as caught:
            read_safetensors_header(path)
        assert caught.value.problem == "unreadable"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this platform")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="ordinary file"):
        read_safetensors_header(tmp_path / "pipe")


@pytest.mark.slow
def test_what_is_kept_is_bounded_by_the_length_of_the_header(read: Read) -> None:
    """The shortest entries there are: what the docstring promises holds for them."""
    count = 50_000
    text = ",".join(
        f'"{index:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for index in range(count)
    )
    content = safetensors(("{" + text + "}").encode())
    tracemalloc.start()
    try:
        header = read(content)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(header.tensors) == count
    assert kept < 12 * len(content) and peak < 12 * len(content) + (8 << 20)


@pytest.mark.parametrize("usual_s", [0, pytest.param(30, marks=pytest.mark.slow)])
def test_mutated_headers_are_read_or_refused_and_nothing_else(tmp_path: Path, usual_s: int) -> None:
    """A short run; half a minute in CI; `make campaign`, or `python -m tests.convert.header_fuzz`, is the long one."""
    seconds = float(os.environ.get("SEAMOUNT_FUZZ_SECONDS", usual_s if os.environ.get("CI") else 0))
    seed = int(os.environ.get("SEAMOUNT_FUZZ_SEED", "0"))
    result = header_fuzz.run(tmp_path, seconds=seconds, cases=300, seed=seed)
    assert 0 < result.refused < result.cases
    assert result.peak_bytes < header_fuzz.MEMORY_BOUND_BYTES
