"""Cached rows in few bytes: the nearest codes, the scales of the definition, and back bit for bit."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import formats, ops  # noqa: E402
from tests.kernels.seeded_operands import Seeded  # noqa: E402


def spread_rows(seed: int, rows: int, d: int) -> torch.Tensor:
    """Rows of sizes from 2^-40 to 2^40, some all zeros."""
    x = Seeded(seed).normal(rows, d) * torch.exp2(torch.linspace(-40, 40, rows))[:, None]
    x[::7] = 0
    return x


def scale_of(block: np.ndarray, smallest: float, largest_code: float) -> float:
    """The least power of two not below max / largest code."""
    needed = max(float(np.abs(block).max()), float(np.float32(smallest))) / largest_code
    exponent = -150
    while math.ldexp(1.0, exponent) < needed:
        exponent += 1
    return math.ldexp(1.0, exponent)


@pytest.mark.parametrize("d", [64, 448, 96, 5])
def test_fp8_in_blocks_of_64(d: int) -> None:
    x = spread_rows(1, 60, d)
    found = ops.fake_fp8(x).numpy()
    for row, got in zip(x.numpy(), found, strict=True):
        for start in range(0, d, 64):
            block = row[start : start + 64].astype(np.float64)
            scale = scale_of(block, 1e-4, 448.0)
            codes = formats.encode_e4m3((block / scale).astype(np.float32))
            np.testing.assert_array_equal(got[start : start + 64], formats.decode_e4m3(codes) * scale)


def test_fp8_scales_at_powers_of_two() -> None:
    """448 * 2^k is held under 2^k itself; the next number above it needs twice that."""
    for k in (-10, 0, 7):
        edge = torch.full((1, 64), 448.0 * 2.0**k)
        assert torch.equal(ops.fake_fp8(edge), edge)
        row = torch.full((1, 64), 2.0**k * 2**-9)  # the least number that 2^k as a scale holds
        row[0, 0] = 448.0 * 2.0**k
        assert torch.equal(ops.fake_fp8(row), row)
        row[0, 0] = float(np.nextafter(np.float32(448.0 * 2.0**k), np.float32(np.inf)))
        assert ops.fake_fp8(row)[0, 1] == 0


@pytest.mark.parametrize("d", [32, 128])
def test_fp4_in_blocks_of_32_is_the_nearest_with_ties_to_even(d: int) -> None:
    x = spread_rows(2, 60, d)
    x[1, :13] = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6, -0.25, -0.75, -5, -0.0, 0.26])
    x[1, 13:] = 0
    found = ops.fake_fp4(x).numpy()
    values = np.array(formats.E2M1_VALUES[:8])
    for row, got in zip(x.numpy(), found, strict=True):
        for start in range(0, d, 32):
            block = row[start : start + 32].astype(np.float64)
            scale = scale_of(block, 6 * 2.0**-126, 6.0)
            for number, rounded in zip(block / scale, got[start : start + 32], strict=True):
                distance = np.abs(values - abs(number))
                nearest = np.flatnonzero(distance == distance.min())
                code = int(nearest[0]) if len(nearest) == 1 else int(nearest[nearest % 2 == 0][0])
                assert rounded == math.copysign(values[code], number) * scale
                assert math.copysign(1, rounded) == math.copysign(1, number)
    assert found[1, :13].tolist() == [0, 1, 1, 2, 2, 4, 4, 6, 0, -1, -4, 0, 0.5]


@pytest.mark.parametrize(("d", "r"), [(512, 64), (64, 16), (128, 64), (40, 8), (64, 64)])
def test_packed_rows_hold_the_fake_quantised_numbers(d: int, r: int) -> None:
    x = spread_rows(3, 60, d)
    packed = ops.pack_row(x, r)
    assert packed.dtype == torch.uint8
    assert packed.shape == (60, ops.row_bytes(d, r))
    back = ops.unpack_row(packed, d, r)
    wanted = torch.cat((ops.fake_fp8(x[:, : d - r]), x[:, d - r :].bfloat16().float()), dim=1)
    assert back.dtype == torch.float32
    assert back.numpy().tobytes() == wanted.numpy().tobytes()
    assert torch.equal(ops.unpack_row(ops.pack_row(back, r), d, r), back)  # nothing more is lost
    assert ops.unpack_row(ops.pack_row(x[:0], r), d, r).shape == (0, d)


def test_the_layout_of_a_row() -> None:
    assert ops.row_bytes(512, 64) == 584
    x = torch.zeros(1, 512)
    x[0, 0], x[0, 64], x[0, 511] = 448.0, 3.5, -2.0
    packed = ops.pack_row(x, 64)[0]
    assert packed[0] == 0x7E
    assert packed[64] == 0x7E  # 3.5 = 448 * 2^-7
    assert packed[448 + 126 : 448 + 128].tolist() == [0x00, 0xC0]  # BF16, little-endian
    assert packed[576:].tolist() == [127, 120, *[127 - 22] * 5, 0]  # 2^-22 is the least above 1e-4 / 448


@pytest.mark.parametrize("d", [32, 128])
def test_packed_index_rows_hold_the_fake_quantised_numbers(d: int) -> None:
    x = spread_rows(4, 60, d)
    packed = ops.pack_index_row(x)
    assert packed.shape == (60, ops.index_row_bytes(d))
    back = ops.unpack_index_row(packed)
    assert back.numpy().tobytes() == ops.fake_fp4(x).numpy().tobytes()
    assert torch.equal(ops.fake_fp4(back), back)  # nothing more is lost
    # The layout is FP4 of the checkpoint, so its own decoder reads it.
    numbers = formats.decode_fp4(packed[:, : d // 2].numpy(), packed[:, d // 2 :].numpy())
    assert numbers.tobytes() == back.numpy().tobytes()
    assert ops.unpack_index_row(ops.pack_index_row(x[:0])).shape == (0, d)


def test_the_bytes_of_an_index_row() -> None:
    assert ops.index_row_bytes(128) == 68
    x = torch.zeros(1, 32)
    x[0, 0], x[0, 1], x[0, 2] = 6.0, -0.5, 1.0
    assert ops.pack_index_row(x)[0].tolist() == [0x97, 0x02, *[0] * 14, 127]
    for refused in (ops.fake_fp4, ops.pack_index_row):
        with pytest.raises(ValueError, match="rows of 33 numbers cannot be packed as FP4"):
            refused(torch.zeros(1, 33))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_lost(bad: float) -> None:
    x = torch.ones(2, 128)
    x[1, 70] = bad
    for found, block in ((ops.fake_fp8(x), slice(64, 128)), (ops.fake_fp4(x), slice(64, 96))):
        assert found[1, block].isnan().all()
        assert torch.equal(found[0], x[0])
        assert torch.equal(found[1, : block.start], x[1, : block.start])


def test_types_and_gradients_pass_straight_through() -> None:
    for rounded in (ops.fake_fp8, ops.fake_fp4):
        x = Seeded(5).normal(3, 64).requires_grad_()
        found = rounded(x)
        with torch.no_grad():
            assert torch.equal(found, rounded(x))
        back = Seeded(6).normal(3, 64)
        (found * back).sum().backward()
        assert torch.equal(x.grad, back)
        assert rounded(x.bfloat16()).dtype == torch.bfloat16
