"""Every code of every format of one or two bytes, and the rounding between them."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.float_codes import (
    decode_bf16,
    decode_e2m1,
    decode_e4m3,
    decode_e8m0,
    encode_bf16,
    encode_e4m3,
    encode_e8m0,
    pack_nibbles,
    unpack_nibbles,
)
from kernels.operands import FormatError

ALL = np.arange(256, dtype=np.uint8)
E4M3 = [
    math.nan if code & 127 == 127
    else (-1) ** (code >> 7) * (2.0**-6 * (code & 7) / 8 if code >> 3 & 15 == 0
                                else 2.0 ** ((code >> 3 & 15) - 7) * (1 + (code & 7) / 8))
    for code in range(256)
]  # fmt: skip


def same_bits(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_e2m1_is_the_table_of_the_specification() -> None:
    wanted = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    assert same_bits(decode_e2m1(ALL[:16]), np.concatenate((wanted, -wanted)))
    for code in ALL[16:]:
        with pytest.raises(FormatError, match=r"codes at \[1\]"):
            decode_e2m1(np.array([0, code], np.uint8))


def test_every_byte_is_two_nibbles_low_one_first() -> None:
    codes = unpack_nibbles(ALL)
    assert codes.tolist() == [half for byte in range(256) for half in (byte & 15, byte >> 4)]
    assert same_bits(pack_nibbles(codes), ALL)


@given(st.lists(st.integers(0, 5), max_size=3), st.integers(0, 9))
def test_nibbles_of_any_shape_come_back(leading: list[int], pairs: int) -> None:
    packed = np.random.default_rng(pairs).integers(0, 256, (*leading, pairs), dtype=np.uint8)
    codes = unpack_nibbles(packed)
    assert codes.shape == (*leading, 2 * pairs)
    assert same_bits(pack_nibbles(codes), packed)
    assert same_bits(unpack_nibbles(packed[..., ::-1]), np.ascontiguousarray(
        codes.reshape(*leading, pairs, 2)[..., ::-1, :]).reshape(codes.shape))  # fmt: skip


def test_what_is_no_pair_of_nibbles() -> None:
    with pytest.raises(FormatError, match="multiple of 2"):
        pack_nibbles(ALL[:3])
    with pytest.raises(FormatError, match=r"codes at \[0\]"):
        pack_nibbles(ALL[16:18])


def test_e8m0_every_code() -> None:
    values = decode_e8m0(ALL)
    assert [float(v) for v in values[:255]] == [2.0 ** (code - 127) for code in range(255)]
    assert math.isnan(values[255])
    assert same_bits(encode_e8m0(values[:255]), ALL[:255])
    assert same_bits(encode_e8m0(values[:255].astype(np.float64)), ALL[:255])
    assert encode_e8m0(values[:0]).shape == (0,)


@pytest.mark.parametrize(
    "value", [0.0, -0.0, -1.0, 3.0, 1.0000000000000002, math.inf, math.nan, 2.0**128, 2.0**-128]
)
def test_e8m0_holds_powers_of_two_alone(value: float) -> None:
    with pytest.raises(FormatError, match=r"values at \[1\]: it is not a power of two"):
        encode_e8m0(np.array([1.0, value]))


def test_e4m3_every_code() -> None:
    values = decode_e4m3(ALL)
    assert same_bits(values[~np.isnan(values)], np.array([v for v in E4M3 if not math.isnan(v)], np.float32))
    assert np.flatnonzero(np.isnan(values)).tolist() == [0x7F, 0xFF]
    assert same_bits(encode_e4m3(values), ALL)


def test_e4m3_rounds_to_nearest_even_between_every_pair_of_codes() -> None:
    positive = np.array(E4M3[:127], np.float32)
    middle = (positive[:-1] + positive[1:]) / np.float32(2)  # exact: one bit more
    even = np.array([code + (code & 1) for code in range(126)], np.uint8)
    for sign, bit in ((np.float32(1), 0), (np.float32(-1), 128)):
        assert same_bits(encode_e4m3(sign * middle), even | np.uint8(bit))
        below, above = np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))
        assert same_bits(encode_e4m3(sign * below), ALL[:126] | np.uint8(bit))
        assert same_bits(encode_e4m3(sign * above), ALL[1:127] | np.uint8(bit))


def test_e4m3_beyond_its_range() -> None:
    huge = np.array([448, 449, 464, 465, 1e30, 3.4028235e38, np.inf], np.float32)
    assert encode_e4m3(huge).tolist() == [0x7E] * 7
    assert encode_e4m3(-huge).tolist() == [0xFE] * 7
    tiny = np.array([1e-45, 2.0**-10, np.nextafter(np.float32(2.0**-10), np.float32(1))], np.float32)
    assert encode_e4m3(tiny).tolist() == [0, 0, 1]
    nan = np.array([0x7F800001, 0x7FC00000, 0xFF800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert encode_e4m3(nan).tolist() == [0x7F, 0x7F, 0xFF, 0xFF]


def test_e4m3_is_the_nearest_for_random_bits() -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 20_000, dtype=np.uint32)
    bits[::2] = bits[::2] % np.uint32(0x44000000 - 0x39000000) + np.uint32(0x39000000)  # around E4M3's range
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    finite = np.array(E4M3[:127])
    error = np.abs(decode_e4m3(encode_e4m3(values)).astype(np.float64) - values)
    nearest = np.abs(finite[None] - np.minimum(np.abs(values.astype(np.float64)), 448)[:, None]).min(axis=1)
    inside = np.abs(values) <= 448
    assert (error[inside] == nearest[inside]).all()
    assert (np.signbit(values) == (encode_e4m3(values) >= 128)).all()


def test_bf16_every_code() -> None:
    codes = np.arange(65536, dtype=np.uint16)
    values = decode_bf16(codes)
    assert (values.view(np.uint32) >> 16 == codes).all()
    assert not (values.view(np.uint32) & 0xFFFF).any()
    quiet = np.where((codes & 0x7FFF) > 0x7F80, codes | 0x40, codes)
    assert same_bits(encode_bf16(values), quiet)


def test_bf16_rounds_as_ggml_does(ggml: Any) -> None:
    codes = np.arange(65536, dtype=np.uint32) << 16
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    bits = (codes[:, None] | low).reshape(-1)  # every code and what lies around each middle, NaN included
    assert same_bits(encode_bf16(bits.view(np.float32)), ggml.encode_bf16(bits.view(np.float32)))


@pytest.mark.parametrize(
    "function", [decode_e2m1, decode_e8m0, decode_e4m3, decode_bf16, encode_e4m3, encode_bf16]
)
def test_shapes_are_kept_and_types_checked(function: Any) -> None:
    dtype = {decode_bf16: np.uint16, encode_e4m3: np.float32, encode_bf16: np.float32}.get(function, np.uint8)
    for shape in ((), (0,), (3, 0, 2), (2, 3)):
        result = function(np.ones(shape, dtype))
        assert isinstance(result, np.ndarray)
        assert result.shape == shape
    with pytest.raises(FormatError, match="int64"):
        function(np.ones(3, np.int64))
    column = np.arange(12).reshape(4, 3).astype(dtype)[:, 1]
    assert same_bits(function(column), function(column.copy()))
