"""A matrix has the bytes that its format calls for; parts of it are views."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels.matrices import Matrix, stored_columns  # noqa: E402
from tests.kernels.seeded_operands import KINDS, Seeded  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_matrix_are_a_view_with_the_same_numbers(kind: str) -> None:
    from kernels.dequantisation.reference import dequantised

    matrix, numbers = Seeded(1).matrix(kind, 300, 64)
    part = matrix.rows_of(128, 290)
    assert torch.equal(dequantised(part), torch.from_numpy(numbers[128:290]))
    assert part.data.untyped_storage().data_ptr() == matrix.data.untyped_storage().data_ptr()
    moved = matrix.to("cpu")
    assert torch.equal(moved.data, matrix.data)
    assert matrix.size_bytes == matrix.data.nbytes + (0 if matrix.scale is None else matrix.scale.nbytes)


def test_shapes_and_types_that_contradict_the_format_are_refused() -> None:
    byte = torch.zeros(2, 34, dtype=torch.uint8)
    with pytest.raises(ValueError, match="q8_0 2 x 64: data is"):
        Matrix("q8_0", 2, 64, byte)
    with pytest.raises(ValueError, match="f32 2 x 34: data is"):
        Matrix("f32", 2, 34, byte)
    with pytest.raises(ValueError, match="fp8 2 x 34: scale does not have the shape"):
        Matrix("fp8", 2, 34, byte)
    with pytest.raises(ValueError, match="q8_0 2 x 32: scale does not have the shape None"):
        Matrix("q8_0", 2, 32, byte, byte)
    with pytest.raises(ValueError, match="a row of 33 numbers cannot be stored as mxfp4"):
        stored_columns("mxfp4", 33)


def test_part_of_an_fp8_matrix_begins_with_a_tile() -> None:
    matrix, _ = Seeded(2).matrix("fp8", 300, 64)
    with pytest.raises(ValueError, match="row 100 of an fp8 matrix does not begin a tile"):
        matrix.rows_of(100, 200)


def test_an_experts_matrices_move_and_weigh_together() -> None:
    three = Seeded(3).bank(1, 64, 32, "mxfp4").matrices(0)
    assert three.size_bytes == 3 * 64 * 32 // 32 * 17
    assert torch.equal(three.to("cpu").down.data, three.down.data)
