"""The checkpoint's FP4 and GGUF's MXFP4 hold the same numbers, bit for bit, and ggml agrees."""

from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import fp4_blocks
from kernels.float_codes import decode_e2m1, decode_e8m0, unpack_nibbles
from kernels.fp4_blocks import decode_fp4, decode_mxfp4, fp4_to_mxfp4, mxfp4_to_fp4
from kernels.operands import FormatError


def same_bits(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def plain_repack(weight: Any, scale: Any) -> Any:
    """The layout as it is described, one code after the other."""
    codes = unpack_nibbles(weight).reshape(*scale.shape, 32)
    packed = codes[..., :16] | codes[..., 16:] << 4
    return np.concatenate((scale[..., None], packed), axis=-1).reshape(
        *scale.shape[:-1], scale.shape[-1] * 17
    )


def random_fp4(seed: int, leading: tuple[int, ...], blocks: int, scales: int = 255) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 256, (*leading, blocks * 16), dtype=np.uint8)
    return weight, rng.integers(0, scales, (*leading, blocks), dtype=np.uint8)


def every_byte_everywhere() -> tuple[Any, Any]:
    """Each byte at each of a block's 16 places, with every scale but NaN: [4096, 16] and [4096, 1]."""
    weight = np.zeros((16, 256, 16), np.uint8)
    for place in range(16):
        weight[place, :, place] = np.arange(256)
        weight[place, :, place - 1] = 0x5A  # a neighbour that must not leak
    scale = np.arange(4096) % 255
    return weight.reshape(4096, 16), scale.astype(np.uint8)[:, None]


def test_every_byte_at_every_place_and_back() -> None:
    weight, scale = every_byte_everywhere()
    blocks = fp4_to_mxfp4(weight, scale)
    assert same_bits(blocks, plain_repack(weight, scale))
    again = mxfp4_to_fp4(blocks)
    assert same_bits(again[0], weight)
    assert same_bits(again[1], scale)


@given(st.integers(0, 2**32), st.lists(st.integers(0, 4), min_size=0, max_size=3), st.integers(0, 7))
def test_any_shape_there_and_back(seed: int, leading: list[int], blocks: int) -> None:
    weight, scale = random_fp4(seed, tuple(leading), blocks, scales=250)
    packed = fp4_to_mxfp4(weight, scale)
    assert packed.shape == (*leading, blocks * 17)
    assert same_bits(packed, plain_repack(weight, scale))
    again = mxfp4_to_fp4(packed)
    assert same_bits(again[0], weight)
    assert same_bits(again[1], scale)
    assert same_bits(decode_mxfp4(packed), decode_fp4(weight, scale))


@pytest.mark.parametrize("blocks", [-1, 0, 1])
def test_around_the_size_of_a_chunk(blocks: int) -> None:
    for chunks in (1, 2):
        weight, scale = random_fp4(7, (1,), chunks * fp4_blocks._CHUNK_BLOCKS + blocks)
        packed = fp4_to_mxfp4(weight, scale)
        assert same_bits(packed, plain_repack(weight, scale))
        assert same_bits(mxfp4_to_fp4(packed)[0], weight)


def test_into_a_slice_of_a_larger_array() -> None:
    weight, scale = random_fp4(3, (5,), 4)
    whole = np.full((3, 5, 68), 9, np.uint8)
    assert fp4_to_mxfp4(weight, scale, out=whole[1]).base is whole
    assert same_bits(whole[1], plain_repack(weight, scale))
    assert (whole[0] == 9).all()
    assert (whole[2] == 9).all()
    with pytest.raises(FormatError, match="out: its shape"):
        fp4_to_mxfp4(weight, scale, out=whole[:1])
    with pytest.raises(FormatError, match="overlaps"):
        fp4_to_mxfp4(whole[0, :, :64].copy(), whole[0, :, 64:], out=whole[0])


def test_strided_and_unaligned_sources() -> None:
    weight, scale = random_fp4(4, (6,), 5)
    wanted = plain_repack(weight, scale)
    spread = np.zeros((12, 160), np.uint8)
    spread[::2, ::2] = weight
    assert same_bits(fp4_to_mxfp4(spread[::2, ::2], scale), wanted)
    shifted = np.zeros(weight.size + 3, np.uint8)
    shifted[3:] = weight.reshape(-1)
    assert same_bits(fp4_to_mxfp4(shifted[3:].reshape(weight.shape), scale), wanted)
    blocks = np.zeros(wanted.size + 1, np.uint8)
    blocks[1:] = wanted.reshape(-1)
    assert same_bits(mxfp4_to_fp4(blocks[1:].reshape(wanted.shape))[0], weight)


def test_all_codes_under_all_scales_decode_as_defined() -> None:
    weight = np.broadcast_to(np.arange(256, dtype=np.uint8), (253, 256)).copy()
    scale = np.broadcast_to(np.arange(253, dtype=np.uint8)[:, None], (253, 16)).copy()
    values = decode_fp4(weight, scale)
    wanted = decode_e2m1(unpack_nibbles(weight)).astype(np.float64) * decode_e8m0(scale).repeat(32, 1)
    assert (values.astype(np.float64) == wanted).all()
    assert (np.signbit(values) == np.signbit(wanted)).all()
    assert same_bits(decode_mxfp4(fp4_to_mxfp4(weight, scale)), values)


def test_ggml_and_gguf_read_the_same_numbers(ggml: Any) -> None:
    scale = np.arange(255, dtype=np.uint8)[:, None].repeat(16, 1)
    blocks = fp4_to_mxfp4(np.arange(256, dtype=np.uint8)[None].repeat(255, 0), scale)
    theirs = ggml.decode_mxfp4(blocks)
    fits = np.isfinite(theirs).all(axis=1)
    assert np.flatnonzero(~fits).tolist() == [253, 254]  # ggml: infinities; here: refused
    ours = decode_mxfp4(blocks[fits])
    assert (ours == theirs[fits]).all()
    with np.errstate(over="ignore"):
        assert (gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.MXFP4)[fits] == ours).all()
    # The one difference: ggml's table of doubled integers has no -0.
    assert (np.signbit(ours) == np.signbit(theirs[fits]) | ((ours == 0) & np.signbit(ours))).all()


def test_a_product_beyond_float32_is_refused() -> None:
    held = {253: 5, 254: 3}  # largest code whose value fits: 3 * 2^126, 1.5 * 2^127
    for scale, code in held.items():
        block = np.array([scale] + [code] * 16, np.uint8)
        assert np.isfinite(decode_mxfp4(block)).all()
        weight = np.full((2, 16), code, np.uint8)
        scales = np.array([[1], [scale]], np.uint8)
        assert np.isfinite(decode_fp4(weight, scales)).all()
        weight[1, 5] = code + 1
        with pytest.raises(FormatError, match=r"scale at \[1, 0\].*beyond float32"):
            decode_fp4(weight, scales)
        assert same_bits(mxfp4_to_fp4(fp4_to_mxfp4(weight, scales))[0], weight)  # repacking has no such bound


def test_nan_scales_and_wrong_shapes_are_refused() -> None:
    weight, scale = random_fp4(5, (3,), 4)
    blocks = fp4_to_mxfp4(weight, scale)
    scale[2, 1] = blocks.reshape(3, 4, 17)[2, 1, 0] = 255
    for refused in (
        lambda: fp4_to_mxfp4(weight, scale),
        lambda: decode_fp4(weight, scale),
        lambda: mxfp4_to_fp4(blocks),
        lambda: decode_mxfp4(blocks),
    ):
        with pytest.raises(FormatError, match=r"scale at \[2, 1\]: it is NaN"):
            refused()
    scale[2, 1] = 0
    for weights, scales, said in (
        (weight[:, :-1], scale, "multiple of 16"),
        (weight, scale[:, :-1], "scale: its shape"),
        (weight[:2], scale, "scale: its shape"),
        (weight.view(np.int8), scale, "int8"),
        (weight, scale.astype(np.float32), "float32"),
    ):
        with pytest.raises(FormatError, match=said):
            fp4_to_mxfp4(weights, scales)
    with pytest.raises(FormatError, match="multiple of 17"):
        mxfp4_to_fp4(blocks[:, :-1])
    with pytest.raises(FormatError, match="multiple of 17"):
        decode_mxfp4(blocks[:, :-1])
