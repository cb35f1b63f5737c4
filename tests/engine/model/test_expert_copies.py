"""Copies of experts: the same bytes, in slots or in memory that goes back to the system."""

import mmap

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from engine.model.expert_copies import PlainSlots, copied, copy_bytes  # noqa: E402
from engine.model.expert_store import tensors_of  # noqa: E402
from kernels.matrices import ExpertMatrices, Matrix  # noqa: E402
from tests.engine.model.small_experts import SmallBank  # noqa: E402


def same(first: ExpertMatrices, second: ExpertMatrices) -> bool:
    pairs = zip(tensors_of(first), tensors_of(second), strict=True)
    return all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)


def test_a_copy_has_the_bytes_and_no_more_than_it_says() -> None:
    for kind in ("mxfp4", "q8_0"):
        expert = SmallBank(1, kind=kind).matrices(0)
        copy = copied(expert)
        assert same(copy, expert)
        places = [(each.data_ptr(), each.data_ptr() + each.nbytes) for each in tensors_of(copy)]
        assert places[-1][1] - places[0][0] <= copy_bytes(expert) < expert.size_bytes + 200 + mmap.PAGESIZE


def test_scales_are_copied_too() -> None:
    tile = Matrix(
        "fp8", 3, 5, torch.arange(15, dtype=torch.uint8).view(3, 5), torch.full((1, 1), 9, dtype=torch.uint8)
    )
    assert same(copied(ExpertMatrices(tile, tile, tile)), ExpertMatrices(tile, tile, tile))
    slots = PlainSlots(1, ExpertMatrices(tile, tile, tile))
    slots.write(0, ExpertMatrices(tile, tile, tile))
    assert same(slots.matrices(0), ExpertMatrices(tile, tile, tile))


def test_a_slot_holds_what_was_written_last_and_nothing_of_another_form() -> None:
    bank = SmallBank(3)
    slots = PlainSlots(2, bank.matrices(0))
    assert slots.size_bytes == 2 * bank.matrices(0).size_bytes
    slots.write(0, bank.matrices(1))
    slots.write(1, bank.matrices(0))
    slots.write(0, bank.matrices(2))
    assert same(slots.matrices(0), bank.matrices(2)) and same(slots.matrices(1), bank.matrices(0))
    with pytest.raises(ValueError, match="form"):
        slots.write(0, SmallBank(1, kind="q8_0").matrices(0))
    assert same(slots.matrices(0), bank.matrices(2))
