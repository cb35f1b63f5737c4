"""A plan by what is free now, made again until it is one that was rehearsed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from engine.errors import ModelFileError
from engine.placement import hardware, present_plan
from engine.placement.hardware import Gpu, Memory, Processor
from engine.placement.load_plan import LoadPlan
from engine.placement.planner import GPU_BATCHES, ComputeBytes, Wishes
from engine.placement.present_plan import MOST_REHEARSALS, plan_for
from tests.engine.placement.models import GB, flash

GPUS = (Gpu("G", 24 * GB, 23 * GB),)
WISHES = Wishes(32_768)


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "memory", lambda: Memory(256 * GB, 240 * GB))
    monkeypatch.setattr(hardware, "processor", lambda: Processor("CPU", 16, 16, 16, 16))


class Rehearsals:
    """Tells `gpu` and `ram` bytes for each token of a micro-batch, and what it was asked."""

    def __init__(self, gpu: float, ram: float) -> None:
        self.gpu, self.ram = gpu, ram
        self.asked: list[tuple[LoadPlan, list[int]]] = []

    def __call__(self, plan: LoadPlan, batches: Sequence[int]) -> Mapping[int, ComputeBytes]:
        self.asked.append((plan, list(batches)))
        return {each: ComputeBytes(int(self.gpu * each), int(self.ram * each)) for each in batches}


def test_without_rehearsal_the_buffers_are_reckoned() -> None:
    assert plan_for(flash(), WISHES, GPUS) == plan_for(flash(), WISHES, GPUS, rehearse=lambda _plan, _: {})


def test_what_a_rehearsal_says_is_what_is_planned() -> None:
    told = Rehearsals(600_000, 50_000)
    found = plan_for(flash(), WISHES, GPUS, rehearse=told)
    batch = found.micro_batch_tokens
    assert found.part_bytes("compute", "gpu") == 600_000 * batch
    assert found.part_bytes("compute", "ram") == 50_000 * batch
    # The last rehearsal was of this very plan.
    last = told.asked[-1][0]
    assert last.model_parameters() == found.model_parameters()
    assert last.tensors_in_ram() == found.tensors_in_ram()
    assert batch in told.asked[-1][1]


def test_smaller_buffers_leave_room_for_more_experts() -> None:
    small = plan_for(flash(), WISHES, GPUS, rehearse=Rehearsals(1000, 1000))
    large = plan_for(flash(), WISHES, GPUS, rehearse=Rehearsals(3_000_000, 1000))
    assert large.part_bytes("experts", "gpu") < small.part_bytes("experts", "gpu")
    assert large.held_bytes("gpu") <= GPUS[0].free_bytes
    # The end of a prompt takes two matrices of experts, whatever was rehearsed of a whole batch.
    assert small.part_bytes("compute", "gpu") == 2 * flash().largest_matrix_bytes


def test_all_micro_batches_are_asked_for_at_once_and_then_only_the_one_chosen() -> None:
    told = Rehearsals(400_000, 50_000)
    plan_for(flash(), WISHES, GPUS, rehearse=told)
    assert set(GPU_BATCHES) <= set(told.asked[0][1])
    assert all(len(batches) == 1 for _, batches in told.asked[1:])
    on_processor = Rehearsals(0, 50_000)
    plan_for(flash(), WISHES, rehearse=on_processor)
    assert on_processor.asked[0][1] == [512]


def test_what_another_placement_needed_more_does_not_count_in_the_end() -> None:
    class Settling(Rehearsals):
        def __call__(self, plan: LoadPlan, batches: Sequence[int]) -> Mapping[int, ComputeBytes]:
            self.gpu = 1_400_000 if self.asked else 1_500_000
            return super().__call__(plan, batches)

    told = Settling(0, 50_000)
    found = plan_for(flash(), WISHES, GPUS, rehearse=told)
    assert len(told.asked) > 1
    assert found.part_bytes("compute", "gpu") == 1_400_000 * found.micro_batch_tokens


def test_rehearsals_that_never_agree_end_with_no_less_than_any_said() -> None:
    class Moving(Rehearsals):
        def __call__(self, plan: LoadPlan, batches: Sequence[int]) -> Mapping[int, ComputeBytes]:
            self.gpu = 2_000_000 if len(self.asked) % 2 else 200_000
            return super().__call__(plan, batches)

    told = Moving(0, 50_000)
    found = plan_for(flash(), WISHES, GPUS, rehearse=told)
    assert len(told.asked) <= MOST_REHEARSALS
    assert found.held_bytes("gpu") <= GPUS[0].free_bytes


def test_a_file_that_is_no_model_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"no")
    with pytest.raises(ModelFileError):
        present_plan.sizes_of_file(path)
