"""FP8 tiles are read exactly or not at all; FP4 becomes FP8 exactly where its scales allow it, and says so."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.float_codes import (
    decode_bf16,
    decode_e2m1,
    decode_e4m3,
    decode_e8m0,
    encode_e4m3,
    unpack_nibbles,
)
from kernels.fp4_blocks import decode_fp4
from kernels.fp8_blocks import MAX_EXACT_SPREAD_BITS, decode_fp8_blocks, fp4_to_fp8, fp8_to_bf16
from kernels.operands import FormatError

CODES = np.array([code for code in range(256) if code & 127 != 127], np.uint8)
SIDES = st.one_of(st.integers(0, 5), st.sampled_from([127, 128, 129, 255, 256, 257, 300]))


def plain(weight: Any, scale: Any) -> Any:
    """In float64, which holds every product."""
    rows, columns = weight.shape
    factors = decode_e8m0(scale).astype(np.float64).repeat(128, 0).repeat(128, 1)[:rows, :columns]
    return decode_e4m3(weight).astype(np.float64) * factors


def same_numbers(values: Any, wanted: Any) -> bool:
    exact = values.astype(np.float64)
    return exact.shape == wanted.shape and bool(
        (exact == wanted).all() and (np.signbit(exact) == np.signbit(wanted)).all()
    )


def test_every_code_under_every_scale() -> None:
    for byte in range(255):
        scale = np.full((1, 2), byte, np.uint8)
        limit = math.inf if byte <= 246 else 2.0**128 / 2.0 ** (byte - 127)
        codes = np.where(np.abs(decode_e4m3(CODES)) < limit, CODES, 0).astype(np.uint8)[None]
        assert same_numbers(decode_fp8_blocks(codes, scale), plain(codes, scale))
        result = fp8_to_bf16(codes, scale)
        assert result.codes.dtype == np.uint16
        assert result.exact == same_numbers(decode_bf16(result.codes), plain(codes, scale))
        # BF16's smallest number is 2^-133, E4M3's smallest step 2^-9.
        assert result.exact == (byte - 127 - 9 >= -133)


@pytest.mark.parametrize("byte", range(247, 255))
def test_the_first_code_beyond_float32_is_refused(byte: int) -> None:
    scale = np.full((1, 1), byte, np.uint8)
    beyond = np.flatnonzero(decode_e4m3(CODES[:127]) >= 2.0**128 / 2.0 ** (byte - 127))
    assert decode_fp8_blocks(CODES[:127][: beyond[0]][None], scale).max() > 2.0**127
    for code in beyond:
        with pytest.raises(FormatError, match="beyond float32"):
            decode_fp8_blocks(np.array([[code]], np.uint8), scale)


def test_bf16_is_inexact_only_where_a_number_is_so() -> None:
    scale = np.zeros((1, 1), np.uint8)
    whole = np.array([[0x08, 0x80, 0x00, 0x7E, 0x38]], np.uint8)  # 2^-6, -0, 0, 448, 1: times 2^-127
    assert fp8_to_bf16(whole, scale).exact
    result = fp8_to_bf16(np.array([[0x01, 0x03, 0x38]], np.uint8), scale)  # 2^-136 and 3 * 2^-136
    assert not result.exact
    assert decode_bf16(result.codes).tolist() == [[0.0, 0.0, 2.0**-127]]  # nearest


def test_a_number_beyond_float32_is_refused() -> None:
    weight = np.full((130, 257), 0x38, np.uint8)
    scale = np.full((2, 3), 127, np.uint8)
    scale[1, 2] = 254
    assert decode_fp8_blocks(weight, scale)[129, 256] == 2.0**127
    weight[129, 256] = 0x40
    for function in (decode_fp8_blocks, fp8_to_bf16):
        with pytest.raises(
            FormatError, match=r"weight at \[129, 256\]: times its scale it is beyond float32"
        ):
            function(weight, scale)


def test_nan_and_wrong_shapes_are_refused() -> None:
    weight, scale = np.zeros((300, 200), np.uint8), np.full((3, 2), 127, np.uint8)
    for function in (decode_fp8_blocks, fp8_to_bf16):
        for code in (0x7F, 0xFF):
            broken = weight.copy()
            broken[257, 199] = code
            with pytest.raises(FormatError, match=r"weight at \[257, 199\]: it is NaN"):
                function(broken, scale)
        nan = scale.copy()
        nan[2, 1] = 255
        with pytest.raises(FormatError, match=r"scale at \[2, 1\]: it is NaN"):
            function(weight, nan)
        for weights, scales, said in (
            (weight, scale[:2], "scale: its shape"),
            (weight, scale.T, "scale: its shape"),
            (weight[0], scale, "1 axes, not 2"),
            (weight.view(np.int8), scale, "int8"),
            (weight, scale.astype(np.float32), "float32"),
        ):
            with pytest.raises(FormatError, match=said):
                function(weights, scales)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), SIDES, SIDES)
def test_ragged_and_empty_tiles(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    weight = CODES[rng.integers(0, len(CODES), (rows, columns))]
    scale = rng.integers(0, 247, (-(-rows // 128), -(-columns // 128)), dtype=np.uint8)
    wanted = plain(weight, scale)
    assert same_numbers(decode_fp8_blocks(weight, scale), wanted)
    assert same_numbers(decode_fp8_blocks(np.asfortranarray(weight), np.asfortranarray(scale)), wanted)
    codes, exact = fp8_to_bf16(weight, scale)
    assert exact == same_numbers(decode_bf16(codes), wanted)


def test_rows_longer_than_a_chunk() -> None:
    rng = np.random.default_rng(8)
    weight = CODES[rng.integers(0, len(CODES), (3, 70_000))]
    scale = rng.integers(100, 150, (1, 547), dtype=np.uint8)
    assert same_numbers(decode_fp8_blocks(weight, scale), plain(weight, scale))
    assert same_numbers(decode_bf16(fp8_to_bf16(weight, scale).codes), plain(weight, scale))


def cast_plainly(weight: Any, scale: Any) -> tuple[Any, Any]:
    """(numbers of the FP8 result, numbers of the source), each [rows, k] in float64."""
    result = fp4_to_fp8(weight, scale)
    source = decode_e2m1(unpack_nibbles(weight)).astype(np.float64) * decode_e8m0(scale).repeat(32, 1)
    return plain(result.weight, result.scale), source


@pytest.mark.parametrize("largest", [0, 1, 5, 6, 7, 13, 14, 15, 20, 21, 127, 253, 254])
def test_every_code_under_every_spread_of_scales(largest: int) -> None:
    # Sixteen tiles side by side, one for each code: its first block has the largest scale, the rest the code.
    weight = np.arange(16, dtype=np.uint8).repeat(64)[None] * 17
    for spread in range(largest + 1):
        scale = np.full((16, 4), largest - spread, np.uint8)
        scale[:, 0] = largest
        got, wanted = cast_plainly(weight, scale.reshape(1, 64))
        result = fp4_to_fp8(weight, scale.reshape(1, 64))
        assert (result.scale == max(largest - 6, 0)).all()
        nearest = encode_e4m3(np.ldexp(wanted, 127 - max(largest - 6, 0)).astype(np.float32))
        assert (result.weight == nearest).all()
        assert (result.exact[0] == (got == wanted).reshape(16, 128).all(axis=1)).all()
        assert (np.signbit(got) == np.signbit(wanted)).all()
        # The bound: every code within 2^14, {1, 3} within 2^15, {2, 6} 2^16, {4} 2^17, 0 always.
        last = {0.0: 255, 0.5: 14, 1.0: 15, 1.5: 14, 2.0: 16, 3.0: 15, 4.0: 17, 6.0: 16}
        room = max(6 - largest, 0)  # where S cannot go below 2^-127, smaller scales lie closer to it
        for code in range(16):
            value = abs(float(decode_e2m1(np.array([code], np.uint8))[0]))
            assert result.exact[0, code] == (spread <= last[value] + room), (largest, spread, code)
        assert result.exact.all() == (spread <= MAX_EXACT_SPREAD_BITS + room)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), SIDES, st.integers(0, 13), st.integers(0, 24))
def test_each_tile_is_exact_or_says_that_it_is_not(seed: int, rows: int, blocks: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 256, (rows, blocks * 16), dtype=np.uint8)
    scale = rng.integers(120 - spread, 121, (rows, blocks), dtype=np.uint8)
    result = fp4_to_fp8(weight, scale)
    tiles = (-(-rows // 128), -(-blocks // 4))
    assert (result.weight.shape, result.scale.shape, result.exact.shape) == (
        (rows, blocks * 32),
        tiles,
        tiles,
    )
    values, wanted = decode_fp8_blocks(result.weight, result.scale), decode_fp4(weight, scale)
    for row in range(tiles[0]):
        for column in range(tiles[1]):
            tile = np.s_[row * 128 : (row + 1) * 128, column * 128 : (column + 1) * 128]
            assert result.exact[row, column] == (values[tile] == wanted[tile]).all()
            assert result.exact[row, column] or spread > MAX_EXACT_SPREAD_BITS


def test_what_is_no_fp4() -> None:
    weight, scale = np.zeros((3, 32), np.uint8), np.full((3, 2), 127, np.uint8)
    scale[1, 1] = 255
    with pytest.raises(FormatError, match=r"scale at \[1, 1\]: it is NaN"):
        fp4_to_fp8(weight, scale)
    with pytest.raises(FormatError, match="scale: its shape"):
        fp4_to_fp8(weight, scale[:2])
    with pytest.raises(FormatError, match="multiple of 16"):
        fp4_to_fp8(weight[:, :-1], scale)
    with pytest.raises(FormatError, match="3 axes"):
        fp4_to_fp8(weight[None], scale[None])
