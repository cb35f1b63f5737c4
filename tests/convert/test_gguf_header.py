"""GGUF headers, whole ones and every kind of broken one, from a small writer of our own."""

import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert import gguf_header
from convert.gguf_header import ArrayShape, GgufError, GgufHeader, TensorInfo, read_gguf_header

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?"} | {
    U64: "Q",
    I64: "q",
    F64: "d",
}
TYPE_F32, TYPE_Q4_0, TYPE_Q8_0 = 0, 2, 8


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, content: Any) -> bytes:
    if kind == STRING:
        return text(content)
    if kind == ARRAY:
        element, items = content
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, item) for item in items)
    return struct.pack("<" + CODES[kind], content)


def entry(key: str | bytes, kind: int, content: Any) -> bytes:
    return text(key) + struct.pack("<I", kind) + value(kind, content)


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf(
    entries: list[bytes],
    tensors: list[bytes],
    data: bytes = b"",
    *,
    version: int = 3,
    alignment: int = 32,
    tensor_count: int | None = None,
    key_count: int | None = None,
) -> bytes:
    head = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(tensors) if tensor_count is None else tensor_count,
        len(entries) if key_count is None else key_count,
    )
    head += b"".join(entries) + b"".join(tensors)
    if not data:
        return head
    return head + b"\0" * (-len(head) % alignment) + data


ARCHITECTURE = entry("general.architecture", STRING, "llama")
TINY = gguf(
    [
        ARCHITECTURE,
        entry("general.name", STRING, "Tiny"),
        entry("llama.context_length", U32, 64),
        entry("tokenizer.chat_template", STRING, "{{ messages }}"),
        entry("tokenizer.ggml.tokens", ARRAY, (STRING, [f"t{index}" for index in range(100)])),
        entry("general.languages", ARRAY, (STRING, ["en", "de"])),
    ],
    [tensor("a", (32, 2), TYPE_Q4_0, 0), tensor("b", (3,), TYPE_F32, 64)],
    b"\1" * (64 + 12),
)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], GgufHeader]:
    def from_bytes(content: bytes) -> GgufHeader:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return read_gguf_header(path)

    return from_bytes


Read = Callable[[bytes], GgufHeader]


def refusal(read: Read, content: bytes) -> GgufError:
    with pytest.raises(GgufError) as caught:
        read(content)
    assert caught.value.what == "model.gguf cannot be used as a model"
    assert len(caught.value.why) < 400
    return caught.value


@pytest.mark.parametrize("version", [2, 3])
def test_a_whole_file(read: Read, version: int) -> None:
    header = read(TINY[:4] + struct.pack("<I", version) + TINY[8:])
    assert header.version == version
    assert (header.architecture, header.name, header.context_length) == ("llama", "Tiny", 64)
    assert header.chat_template == "{{ messages }}"
    assert header.metadata["general.languages"] == ["en", "de"]
    assert "tokenizer.ggml.tokens" not in header.metadata
    assert header.arrays == {
        "tokenizer.ggml.tokens": ArrayShape("string", 100),
        "general.languages": ArrayShape("string", 2),
    }
    assert header.tensors == (
        TensorInfo("a", (32, 2), "Q4_0", 0, 36),
        TensorInfo("b", (3,), "F32", 64, 12),
    )
    assert header.data_offset % 32 == 0
    assert header.expected_size_bytes == header.size_bytes == len(TINY)


def test_every_type_of_value(read: Read) -> None:
    values: dict[int, Any] = {
        U8: 255,
        I8: -128,
        U16: 65535,
        I16: -32768,
        U32: 2**32 - 1,
        I32: -(2**31),
        F32: 0.5,
        BOOL: True,
        STRING: "ä\0海",
        U64: 2**64 - 1,
        I64: -(2**63),
        F64: 1e300,
    }
    entries = [entry(f"one.{kind}", kind, content) for kind, content in values.items()]
    entries += [entry(f"few.{kind}", ARRAY, (kind, [content] * 3)) for kind, content in values.items()]
    entries += [entry(f"many.{kind}", ARRAY, (kind, [content] * 65)) for kind, content in values.items()]
    entries.append(entry("nested", ARRAY, (ARRAY, [(U8, [1, 2]), (STRING, ["x"]), (ARRAY, [(U8, [])])])))
    entries.append(entry("empty", ARRAY, (F64, [])))
    entries.append(entry("last", STRING, "still in step"))
    header = read(gguf(entries, []))
    for kind, content in values.items():
        assert header.metadata[f"one.{kind}"] == content
        assert header.metadata[f"few.{kind}"] == [content] * 3
        assert header.arrays[f"many.{kind}"].length == 65
        assert f"many.{kind}" not in header.metadata
    assert header.arrays["nested"] == ArrayShape("array", 3)
    assert header.metadata["empty"] == []
    assert header.metadata["last"] == "still in step"


def test_a_text_that_is_not_utf8_is_shown_with_replacements(read: Read) -> None:
    assert read(gguf([entry("general.name", STRING, b"a\xffb")], [])).name == "a�b"


def test_values_of_the_wrong_type_count_as_missing(read: Read) -> None:
    header = read(
        gguf([entry("general.name", U32, 7), ARCHITECTURE, entry("llama.context_length", STRING, "x")], [])
    )
    assert header.name is None and header.context_length is None and header.chat_template is None


def test_the_alignment_of_the_file_is_followed(read: Read) -> None:
    entries = [entry("general.alignment", U32, 4096)]
    content = gguf(entries, [tensor("a", (1,), TYPE_F32, 0)], b"1234", alignment=4096)
    assert read(content).data_offset == 4096
    for wrong in (0, 3, 2**31):
        assert "alignment" in refusal(read, gguf([entry("general.alignment", U32, wrong)], [])).why


def test_a_long_vocabulary_across_buffers_is_stepped_over(read: Read, monkeypatch: Any) -> None:
    words = ["x" * (index % 50) for index in range(3000)] + ["y" * 5000, "", "z"]
    content = gguf([entry("v", ARRAY, (STRING, words)), entry("after", STRING, "here")], [])
    for buffer_bytes in (1, 7, 8, 64, 4096, 1 << 20):
        monkeypatch.setattr(gguf_header, "_BUFFER_BYTES", buffer_bytes)
        header = read(content)
        assert header.arrays["v"].length == 3003
        assert header.metadata["after"] == "here"


def test_cut_at_every_byte_is_truncated_and_says_how_much_is_there(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(TINY)
    for length in range(len(TINY) - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(GgufError) as caught:
            read_gguf_header(path)
        assert caught.value.problem == ("truncated" if length else "not_gguf"), length
        if length:
            assert f"{length:,} " in caught.value.why
    missing = refusal(read, TINY[:-5])
    assert f"it holds {len(TINY) - 5:,} of {len(TINY):,} bytes" in missing.why


HUGE = [2**63, 2**63 - 1, 2**64 - 1, 2**32, 2**40]


@pytest.mark.parametrize("count", HUGE)
def test_counts_beyond_the_file_are_refused_at_once(read: Read, count: int) -> None:
    tracemalloc.start()
    try:
        for content in (
            gguf([], [], tensor_count=count),
            gguf([], [], key_count=count),
            gguf([text("k") + struct.pack("<IIQ", ARRAY, U8, count)], []),
            gguf([text("k") + struct.pack("<IIQ", ARRAY, U64, count)], []),
            gguf([text("k") + struct.pack("<IIQ", ARRAY, STRING, count)], []),
            gguf([text("k") + struct.pack("<IIQ", ARRAY, ARRAY, count)], []),
            gguf([text("k") + struct.pack("<IQ", STRING, count)], []),
            gguf([struct.pack("<Q", count)], []),
            gguf([], [struct.pack("<Q", count)], tensor_count=1),
            gguf([entry("v", ARRAY, (STRING, ["x"] * 70))[:-9] + struct.pack("<Qx", count)], []),
        ):
            assert refusal(read, content).problem in ("damaged", "truncated")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("extent", HUGE)
def test_tensors_beyond_all_bounds_are_refused(read: Read, extent: int) -> None:
    for shape in ((extent,), (extent, 32), (32, extent), (2**20, 2**20, 2**20, extent)):
        content = gguf([], [tensor("t", shape, TYPE_F32, 0)], b"x" * 64)
        assert refusal(read, content).problem in ("damaged", "truncated")
    content = gguf([], [tensor("t", (4,), TYPE_F32, extent)], b"x" * 64)
    assert refusal(read, content).problem in ("damaged", "truncated")


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ([tensor("t", (1, 1, 1, 1, 1), TYPE_F32, 0)], "5 dimensions"),
        ([tensor("t", (33,), TYPE_Q8_0, 0)], "rows of 33"),
        ([tensor("t", (1,), TYPE_F32, 1)], "misplaced"),
        ([tensor("t", (1,), TYPE_F32, 0), tensor("t", (1,), TYPE_F32, 32)], "same name"),
        ([tensor("a", (16,), TYPE_F32, 0), tensor("b", (1,), TYPE_F32, 32)], "overlaps"),
        ([tensor("a\x1b\n", (1,), 31, 0)], "number format 31"),
    ],
)
def test_impossible_tensors_are_refused(read: Read, tensors: list[bytes], why: str) -> None:
    error = refusal(read, gguf([], tensors, b"x" * 128))
    assert why in error.why
    assert error.why.isprintable()


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([ARCHITECTURE, ARCHITECTURE], "twice"),
        ([entry("k", ARRAY, (U8, [0] * 65))] * 2, "twice"),
        ([entry(b"\xff", U8, 1)], "not UTF-8"),
        ([text("k") + struct.pack("<I", 13) + b"x" * 16], "unknown type 13"),
        ([text("k") + struct.pack("<IIQ", ARRAY, 13, 0)], "unknown type 13"),
        ([entry("k", ARRAY, (ARRAY, [(ARRAY, [(ARRAY, [(U8, [])])])]))], "too deep"),
        ([entry("x" * 70_000, U8, 1)], "a key of"),
    ],
)
def test_impossible_metadata_is_refused(read: Read, entries: list[bytes], why: str) -> None:
    error = refusal(read, gguf(entries, []))
    assert error.problem == "damaged" and why in error.why


def test_more_text_than_any_model_has_is_refused(read: Read, monkeypatch: Any) -> None:
    monkeypatch.setattr(gguf_header, "MAX_STRING_BYTES", 1000)
    assert "a text for" in refusal(read, gguf([entry("k", STRING, "x" * 1001)], [])).why
    monkeypatch.setattr(gguf_header, "MAX_KEPT_BYTES", 2000)
    many = [entry(f"k{index}", STRING, "x" * 900) for index in range(3)]
    assert "of metadata" in refusal(read, gguf(many, [])).why
    monkeypatch.setattr(gguf_header, "MAX_WALKED_ELEMENTS", 100)
    assert "elements" in refusal(read, gguf([entry("k", ARRAY, (STRING, [""] * 101))], [])).why


@pytest.mark.parametrize(
    ("content", "problem", "why"),
    [
        (b"", "not_gguf", "empty"),
        (b"hello", "not_gguf", "not a GGUF"),
        (b"<!doctype html><title>404</title>", "not_gguf", "web page"),
        (struct.pack("<Q", 20) + b'{"a":{"dtype":"F32"}', "not_gguf", "safetensors"),
        (b"GGUF\1\0\0\0" + bytes(64), "unsupported", "version 1"),
        (b"GGUF\4\0\0\0" + bytes(64), "unsupported", "version 4"),
        (b"GGUF\0\0\0\3" + bytes(64), "unsupported", "big-endian"),
        (b"GG", "truncated", "2 bytes"),
    ],
)
def test_what_is_no_gguf_is_named(read: Read, content: bytes, problem: str, why: str) -> None:
    error = refusal(read, content)
    assert error.problem == problem and why in error.why


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path, "ordinary file"),
        (tmp_path / "missing.gguf", "no such file"),
        (Path("nul\0.gguf"), "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(GgufError, match=why):
            read_gguf_header(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this platform")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(GgufError, match="ordinary file"):
        read_gguf_header(tmp_path / "pipe.gguf")


@settings(max_examples=400, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, len(TINY) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 40),
)
def test_flipped_bytes_are_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(TINY)
    for place, byte in flips:
        content[place] = byte
    path = tmp_path_factory.getbasetemp() / "flipped.gguf"
    path.write_bytes(content[: len(content) - cut])
    tracemalloc.start()
    try:
        header = read_gguf_header(path)
        assert header.expected_size_bytes <= header.size_bytes
    except GgufError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20


def test_the_starter_model(starter_path: Path) -> None:
    path = starter_path
    header = read_gguf_header(path)
    assert (header.version, header.architecture, header.context_length) == (3, "llama", 8192)
    assert header.name == "Smollm2 135M 8k Lc100K Mix1 Ep2"
    assert "<|im_start|>" in (header.chat_template or "")
    assert header.arrays["tokenizer.ggml.tokens"] == ArrayShape("string", 49152)
    assert len(header.tensors) == 272
    assert header.expected_size_bytes == header.size_bytes == path.stat().st_size == 98_362_432
