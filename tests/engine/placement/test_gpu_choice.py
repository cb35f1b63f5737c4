"""Which GPU is used, and which is left alone because the processor is faster."""

import pytest

from engine.placement.gpu_choice import chosen
from engine.placement.hardware import Gpu
from engine.placement.hardware_record import (
    DeviceRates,
    Fingerprint,
    HardwareRecord,
    MeasuredGpu,
    Multiplying,
)
from engine.placement.load_plan import Decision
from engine.placement.turn_time import Favour
from tests.engine.placement.models import GB

SHARED = Gpu("HD 520", 12 * GB, 11 * GB, "Vulkan0", "Vulkan", integrated=True)
OWN = Gpu("RX 6600", 8 * GB, 7 * GB, "Vulkan1", "Vulkan")
CORES, ARITHMETIC_PER_S, MEMORY_BYTES_PER_S = 4, 20e9, 40e9


def record(*gpus: MeasuredGpu) -> HardwareRecord:
    return HardwareRecord(
        measured_at=0,
        fingerprint=Fingerprint(processor="P", cores=CORES, memory_bytes=16 * GB, disk="D"),
        memory_threads=CORES,
        memory_bytes_per_s=MEMORY_BYTES_PER_S,
        memory_one_bytes_per_s=MEMORY_BYTES_PER_S / 2,
        arithmetic_per_s=ARITHMETIC_PER_S,
        gpus=list(gpus),
    )


def measured(gpu: Gpu, answers: float, prompts: float) -> MeasuredGpu:
    """A GPU that is so many times as fast as that processor."""
    q8_0 = Multiplying(
        one_bytes_per_s=answers * 0.8 * MEMORY_BYTES_PER_S,
        many_per_s=prompts * 0.43 * ARITHMETIC_PER_S * CORES,
    )
    return MeasuredGpu(
        name=gpu.name,
        rates=DeviceRates(
            copy_bytes_per_s=1e9,
            pinned_bytes_per_s=None,
            pageable_bytes_per_s=1e9,
            back_bytes_per_s=1e9,
            operation_s=1e-5,
            exchange_s=1e-5,
            q8_0=q8_0,
            mxfp4=None,
        ),
    )


def choice(
    *gpus: Gpu, known: HardwareRecord | None = None, favour: Favour = "balanced", asked_for: bool = False
) -> tuple[int | None, list[Decision]]:
    return chosen(gpus, known, favour, asked_for=asked_for)


def test_one_with_memory_of_its_own_is_used_unmeasured_and_one_without_is_not() -> None:
    assert choice(OWN) == (0, [])
    number, said = choice(SHARED)
    assert number is None
    assert said[0].what == "HD 520 is not used"
    assert "not measured" in said[0].why


def test_of_both_it_is_the_one_with_memory_of_its_own_though_the_other_calls_all_ram_its_own() -> None:
    number, said = choice(SHARED, OWN)
    assert number == 1
    assert [each.what for each in said] == ["HD 520 is not used"]
    number, said = choice(SHARED, OWN, asked_for=True)
    assert number == 1
    assert said == [Decision("Of 2 GPUs RX 6600 is used", "it has memory of its own")]


def test_who_sets_a_budget_gets_what_is_there() -> None:
    slow = record(measured(SHARED, 0.2, 0.2))
    assert choice(SHARED, known=slow, asked_for=True) == (0, [])


@pytest.mark.parametrize(
    ("answers", "prompts", "favour", "used"),
    [
        (1.1, 3.0, "balanced", True),
        (0.9, 3.0, "balanced", True),
        (0.5, 0.7, "balanced", False),
        (0.3, 2.0, "balanced", False),
        (0.9, 3.0, "answers", False),
        (0.3, 2.0, "prompts", True),
    ],
)
@pytest.mark.parametrize("gpu", [SHARED, OWN], ids=["shared", "own"])
def test_what_was_measured_decides(
    gpu: Gpu, answers: float, prompts: float, favour: Favour, used: bool
) -> None:
    number, said = choice(gpu, known=record(measured(gpu, answers, prompts)), favour=favour)
    assert number == (0 if used else None)
    assert used or "the processor is faster" in said[0].why


def test_one_that_could_not_be_measured() -> None:
    failed = record(MeasuredGpu(name=SHARED.name, why="its driver ended"))
    number, said = choice(SHARED, known=failed)
    assert number is None
    assert "its driver ended" in said[0].why
    # Its memory may have been taken just then; a load that fails there is made anew without it.
    assert choice(OWN, known=record(MeasuredGpu(name=OWN.name, why="its memory is taken")))[0] == 0


def test_one_that_cannot_multiply_is_not_used() -> None:
    found = measured(OWN, 1, 1)
    assert found.rates is not None
    without = found.model_copy(update={"rates": found.rates.model_copy(update={"q8_0": None})})
    assert choice(OWN, known=record(without))[0] is None


def test_the_record_of_another_gpu_is_none_of_this_one() -> None:
    assert choice(OWN, known=record(measured(SHARED, 0.1, 0.1)))[0] == 0
