"""Q8_0 has the bytes of ggml's reference, and what it loses is measured."""

from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.fp8_blocks import decode_fp8_blocks
from kernels.operands import FormatError
from kernels.q8_0 import Q8Error, decode_q8_0, encode_q8_0, fp8_to_q8_0, q8_0_error

Q8_0 = gguf.GGMLQuantizationType.Q8_0


def same_bits(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def random_rows(seed: int, shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_random_rows_of_every_size_of_number(ggml: Any) -> None:
    rng = np.random.default_rng(2)
    # One power of two in each row: from subnormal numbers to the last whose scale a float16 holds.
    rows = np.ldexp(random_rows(1, (172, 64)), np.arange(-150, 22)[:, None]).astype(np.float32)
    rows = np.clip(rows, -8.3e6, 8.3e6)
    rows[::7] *= rng.integers(0, 2, rows[::7].shape)  # zeros among them
    blocks = encode_q8_0(rows)
    assert same_bits(blocks, ggml.encode_q8_0(rows))
    assert same_bits(decode_q8_0(blocks), ggml.decode_q8_0(blocks))
    normal = np.abs(rows).reshape(172, 2, 32).max(-1).min(-1) > 1e-30  # below, gguf divides by zero
    assert same_bits(blocks[normal], gguf.quants.quantize(rows[normal], Q8_0))
    assert same_bits(decode_q8_0(blocks), gguf.quants.dequantize(blocks, Q8_0))


def test_the_middles_between_codes(ggml: Any) -> None:
    middles = np.arange(127, dtype=np.float32) + np.float32(0.5)
    around = np.stack((np.nextafter(middles, np.float32(0)), middles, np.nextafter(middles, np.float32(200))))
    numbers = np.concatenate((around.reshape(-1), [np.float32(0.49999997), np.float32(-0.0)]))
    rows = np.zeros((numbers.size, 32), np.float32)
    rows[:, 0] = 127  # d and 1/d are 1, so q is roundf of the number
    rows[:, 1], rows[:, 2] = np.minimum(numbers, 127), -np.minimum(numbers, 127)
    assert same_bits(encode_q8_0(rows), ggml.encode_q8_0(rows))
    assert encode_q8_0(rows).view(np.int8)[1 + 127, 2:5].tolist() == [127, 2, -2]  # 1.5


def test_zero_and_subnormal_rows(ggml: Any) -> None:
    rows = np.zeros((6, 32), np.float32)
    rows[1] = -0.0
    rows[2, 3] = 1e-45
    rows[3] = np.linspace(-1e-39, 1e-39, 32)
    rows[4] = np.linspace(-5e-37, 5e-37, 32)  # d is subnormal, 1/d is not beyond float32
    rows[5] = np.linspace(-1e-4, 1e-4, 32)  # d is subnormal as a float16
    blocks = encode_q8_0(rows)
    assert same_bits(blocks, ggml.encode_q8_0(rows))
    assert not blocks[:4].any()
    assert blocks[4, 2:].any()
    assert blocks[5, :2].any()


def test_every_fp8_number_beside_every_other_as_largest(ggml: Any) -> None:
    """What the dense weights of a checkpoint are made of."""
    code = np.arange(127, dtype=np.float32)
    values = np.where(code < 8, code / 512, np.ldexp(1 + code % 8 / 8, (code // 8).astype(int) - 7))
    rows = np.zeros((127, 127, 32), np.float32)
    rows[..., 0], rows[..., 1] = values[:, None], np.minimum(values[:, None], values)
    assert same_bits(encode_q8_0(rows), ggml.encode_q8_0(rows))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 5))
def test_any_shape(seed: int, leading: list[int], blocks: int) -> None:
    values = random_rows(seed, (*leading, blocks * 32))
    packed = encode_q8_0(values)
    assert packed.shape == (*leading, blocks * 34)
    back = decode_q8_0(packed)
    assert back.shape == values.shape
    largest = np.abs(values.reshape(*leading, blocks, 32)).max(axis=-1, initial=0)
    lost = np.abs(back - values).reshape(*leading, blocks, 32).max(axis=-1, initial=0)
    # Half a step, and a float16's half unit (2^-11) of at most 127 steps.
    assert (lost <= largest / 127 * (0.5 + 127 * 2.0**-11) * 1.0001).all()


def test_longer_than_a_chunk_strided_and_into_a_slice(ggml: Any) -> None:
    values = random_rows(4, (2, 32 * 2049))
    wanted = ggml.encode_q8_0(values)
    whole = np.full((3, 2, 34 * 2049), 7, np.uint8)
    assert encode_q8_0(values, out=whole[1]).base is whole
    assert same_bits(whole[1], wanted)
    assert (whole[::2] == 7).all()
    assert same_bits(encode_q8_0(values.repeat(2, 1)[:, ::2]), wanted)
    assert same_bits(encode_q8_0(np.asfortranarray(values)), wanted)
    assert same_bits(decode_q8_0(np.asfortranarray(wanted)), decode_q8_0(wanted))
    with pytest.raises(FormatError, match="out: its shape"):
        encode_q8_0(values, out=whole)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    values = random_rows(5, (3, 32 * 3000))
    values[2, 95_000] = value
    with pytest.raises(
        FormatError, match=r"values at \[2, 2968\]: in this block of 32, there is NaN or an infinity"
    ):
        encode_q8_0(values)
    with pytest.raises(FormatError, match="source: it holds NaN or an infinity"):
        q8_0_error(values, encode_q8_0(np.zeros_like(values)))


def test_the_largest_scale_of_a_float16(ggml: Any) -> None:
    rows = np.zeros((2, 32), np.float32)
    rows[1, 5] = np.nextafter(np.float32(65520) * np.float32(127), np.float32(0))  # d rounds to 65504
    assert same_bits(encode_q8_0(rows), ggml.encode_q8_0(rows))
    rows[1, 5] = 65520 * 127
    assert np.isinf(ggml.encode_q8_0(rows)[1, :2].view(np.float16))
    with pytest.raises(FormatError, match=r"values at \[1, 0\].*too large for a float16 scale"):
        encode_q8_0(rows)
    rows[1, 5] = 3.4028235e38
    with pytest.raises(FormatError, match="too large"):
        encode_q8_0(rows)


def test_wrong_shapes_types_and_scales_are_refused() -> None:
    values = random_rows(6, (4, 64))
    blocks = encode_q8_0(values)
    for refused, said in (
        (lambda: encode_q8_0(values[:, :-1]), "multiple of 32"),
        (lambda: encode_q8_0(values.astype(np.float64)), "float64"),
        (lambda: decode_q8_0(blocks[:, :-1]), "multiple of 34"),
        (lambda: decode_q8_0(blocks.view(np.int8)), "int8"),
        (lambda: q8_0_error(values, blocks[:3]), "blocks: its shape"),
    ):
        with pytest.raises(FormatError, match=said):
            refused()
    for half in (np.nan, np.inf, -np.inf):
        blocks[3, 34:36] = np.array([half], np.float16).view(np.uint8)
        with pytest.raises(FormatError, match=r"blocks at \[3, 1\]: its scale is not finite"):
            decode_q8_0(blocks)
    blocks[3, 34:36] = np.array([0x7C01], np.uint16).view(np.uint8)  # a signalling NaN
    with pytest.raises(FormatError, match="not finite"):
        decode_q8_0(blocks)


def test_the_error_is_that_of_the_definition_and_adds_up() -> None:
    values = random_rows(7, (3, 32 * 3000))
    blocks = encode_q8_0(values)
    lost = values.astype(np.float64) - decode_q8_0(blocks)
    error = q8_0_error(values, blocks)
    assert error.max_abs == np.abs(lost).max()
    assert error.relative_rms == pytest.approx(
        np.sqrt((lost**2).sum() / (values.astype(np.float64) ** 2).sum())
    )
    assert 0.002 < error.relative_rms < 0.008  # a step of max/127, max about 2 sigma: near 1/220 of sigma
    parts = sum((q8_0_error(values[i], blocks[i]) for i in range(3)), Q8Error())
    assert parts.max_abs == error.max_abs
    assert parts.relative_rms == pytest.approx(error.relative_rms)


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 64), (1, 32), (130, 288), (2, 70_016)])
def test_fp8_becomes_q8_0_as_through_float32(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(9)
    weight = rng.integers(0, 127, shape, dtype=np.uint8) | rng.integers(0, 2, shape, dtype=np.uint8) << 7
    scale = rng.integers(100, 135, (-(-shape[0] // 128), -(-shape[1] // 128)), dtype=np.uint8)
    values = decode_fp8_blocks(weight, scale)
    blocks, error = fp8_to_q8_0(weight, scale)
    assert same_bits(blocks, encode_q8_0(values))
    whole = q8_0_error(values, blocks)
    assert error.max_abs == whole.max_abs
    assert error.relative_rms == pytest.approx(whole.relative_rms)
    room = np.zeros_like(blocks)
    assert fp8_to_q8_0(weight, scale, out=room).blocks is room
    assert same_bits(room, blocks)


def test_fp8_that_does_not_become_q8_0() -> None:
    weight, scale = np.full((129, 64), 0x38, np.uint8), np.full((2, 1), 127, np.uint8)
    with pytest.raises(FormatError, match="multiple of 32"):
        fp8_to_q8_0(weight[:, :63], scale)
    with pytest.raises(FormatError, match="out: its shape"):
        fp8_to_q8_0(weight, scale, out=np.zeros((1, 68), np.uint8))
    scale[1, 0] = 127 + 24  # 2^24 / 127 is beyond a float16
    with pytest.raises(
        FormatError,
        match=r"weight at \[128, 0\]: in this block of 32, numbers are too large for a float16 scale",
    ):
        fp8_to_q8_0(weight, scale)
    scale[1, 0] = 255
    with pytest.raises(FormatError, match=r"scale at \[1, 0\]: it is NaN"):
        fp8_to_q8_0(weight, scale)


def test_nothing_is_lost_of_nothing() -> None:
    assert Q8Error().relative_rms == 0
    for shape in ((0,), (3, 0), (2, 64)):
        zeros = np.zeros(shape, np.float32)
        assert q8_0_error(zeros, encode_q8_0(zeros)) == Q8Error()
    only_lost = np.zeros((1, 32), np.float32)
    only_lost[0, 0] = 1e-9
    error = q8_0_error(only_lost, encode_q8_0(only_lost))
    assert error.relative_rms == 1
