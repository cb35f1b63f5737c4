"""The bytes of matrices mean in torch what they mean in `kernels.formats`, bit for bit."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import formats  # noqa: E402
from kernels.dequantisation.reference import decoded_rows, dequantised, powers  # noqa: E402
from kernels.matrices import Matrix  # noqa: E402
from tests.kernels.seeded_operands import KINDS, Seeded  # noqa: E402


def same_bits(a: torch.Tensor, b: np.ndarray) -> bool:
    return a.dtype == torch.float32 and a.shape == b.shape and a.numpy().tobytes() == b.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, 32), (1, 32), (150, 96), (129, 160), (300, 0)])
def test_every_kind_and_shape(kind: str, shape: tuple[int, int]) -> None:
    matrix, numbers = Seeded(3).matrix(kind, *shape)
    assert same_bits(dequantised(matrix), numbers)
    assert dequantised(matrix, torch.bfloat16).dtype == torch.bfloat16
    middle = slice(shape[0] // 3, shape[0])
    assert same_bits(decoded_rows(matrix, middle), numbers[middle])
    some = torch.tensor([shape[0] - 1, 0, shape[0] // 2] if shape[0] else [], dtype=torch.int64)
    assert same_bits(decoded_rows(matrix, some), numbers[some.numpy()])


def test_every_code_under_every_scale() -> None:
    """All bytes of FP4 and FP8 under all scales but NaN; where `formats` refuses (beyond F32), an infinity."""
    scale = np.arange(255, dtype=np.uint8)
    assert same_bits(powers(torch.from_numpy(scale)), formats.decode_e8m0(scale))
    code = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (255, 1, 1)).reshape(255, 256)
    spread = np.repeat(scale[:, None], 16, axis=1)
    fits = slice(0, 253)
    numbers = formats.decode_fp4(code[fits], spread[fits])
    fp4 = Matrix("fp4", 255, 512, torch.from_numpy(code), torch.from_numpy(spread))
    assert same_bits(dequantised(fp4)[fits], numbers)
    assert dequantised(fp4)[253:].isinf().any()
    mxfp4 = formats.fp4_to_mxfp4(code, spread)
    assert same_bits(dequantised(Matrix("mxfp4", 255, 512, torch.from_numpy(mxfp4)))[fits], numbers)
    finite = np.array([c for c in range(256) if c & 127 != 127], np.uint8)
    tall = np.repeat(finite[None], 128 * 247, axis=0)  # 448 * 2^(246 - 127) is the last below F32's end
    tiles = np.repeat(scale[:247, None], 2, axis=1)
    fp8 = Matrix("fp8", *tall.shape, torch.from_numpy(tall), torch.from_numpy(tiles))
    assert same_bits(dequantised(fp8)[::128], formats.decode_fp8_blocks(tall, tiles)[::128])


def test_every_scale_of_q8_0() -> None:
    """All finite float16 numbers, with the smallest and largest codes."""
    half = np.arange(65536, dtype=np.uint16)
    half = half[np.isfinite(half.view(np.float16))]
    blocks = np.zeros((len(half), 34), np.uint8)
    blocks[:, :2] = half.view(np.uint8).reshape(-1, 2)
    blocks[:, 2:] = np.resize(np.array([0, 1, 127, 128, 255, 129], np.uint8), 32)
    matrix = Matrix("q8_0", len(half), 32, torch.from_numpy(blocks))
    assert same_bits(dequantised(matrix), formats.decode_q8_0(blocks))


def test_nan_scales_and_codes_are_nan() -> None:
    nan = torch.full((1, 1), 255, dtype=torch.uint8)
    zeros = torch.zeros(1, 16, dtype=torch.uint8)
    assert dequantised(Matrix("fp4", 1, 32, zeros, nan)).isnan().all()
    assert dequantised(Matrix("mxfp4", 1, 32, torch.cat((nan, zeros), 1))).isnan().all()
    assert dequantised(Matrix("fp8", 1, 16, zeros, nan)).isnan().all()
    assert (
        dequantised(Matrix("fp8", 1, 1, torch.full((1, 1), 0x7F, dtype=torch.uint8), zeros[:, :1]))
        .isnan()
        .all()
    )


def test_plain_f32_is_a_view() -> None:
    matrix, _ = Seeded(4).matrix("f32", 5, 3)
    assert decoded_rows(matrix, slice(1, 4)).data_ptr() == matrix.data[1].data_ptr()
