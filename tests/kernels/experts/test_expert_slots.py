import numpy as np
import pytest

from kernels.formats import decode_fp4, decode_mxfp4

torch = pytest.importorskip("torch", reason="torch is not installed")

from kernels.experts.expert_slots import ExpertSlots  # noqa: E402
from kernels.matrices import ExpertMatrices  # noqa: E402
from tests.kernels.gpu_tensors import random_matrix  # noqa: E402


def expert(kind: str, hidden: int = 64, intermediate: int = 96) -> ExpertMatrices:
    return ExpertMatrices(
        random_matrix(kind, intermediate, hidden, 1),
        random_matrix(kind, intermediate, hidden, 2),
        random_matrix(kind, hidden, intermediate, 3),
    )


def test_what_is_written_is_there_to_the_last_bit() -> None:
    slots, one = ExpertSlots(3, 64, 96, "cpu"), expert("mxfp4")
    slots.write(1, one)
    there = slots.matrices(1)
    for m, found in zip((one.gate, one.up, one.down), (there.gate, there.up, there.down), strict=True):
        assert found.scale is not None
        assert np.array_equal(
            decode_fp4(found.data.numpy(), found.scale.numpy()), decode_mxfp4(m.data.numpy())
        )
    assert not slots.codes1[0].any() and not slots.codes2[2].any()


def test_a_checkpoint_s_bytes_are_not_changed() -> None:
    slots, one = ExpertSlots(1, 64, 96, "cpu"), expert("fp4")
    slots.write(0, one)
    there = slots.matrices(0)
    assert torch.equal(there.down.data, one.down.data)
    assert torch.equal(there.down.scale, one.down.scale)


def test_a_slot_takes_what_is_said() -> None:
    slots = ExpertSlots(3, 64, 96, "cpu")
    assert slots.size_bytes == 3 * ExpertSlots.slot_bytes(64, 96)
    assert slots.size_bytes == sum(t.nbytes for t in (slots.codes1, slots.scale1, slots.codes2, slots.scale2))


def test_what_does_not_fit_is_refused() -> None:
    slots = ExpertSlots(1, 64, 96, "cpu")
    with pytest.raises(ValueError, match="room for"):
        slots.write(0, expert("mxfp4", 96, 64))
    with pytest.raises(ValueError, match="no FP4 codes"):
        slots.write(0, expert("q8_0"))
    with pytest.raises(ValueError, match="do not divide"):
        ExpertSlots(1, 48, 96, "cpu")
