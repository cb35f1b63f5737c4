"""The plan for a model's file on this machine as it is at this moment.

Owns: putting a file's headers, the machine's present state and rehearsals before the planner. Does not decide anything
itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from convert.gguf_header import GgufError, read_gguf_header
from engine.errors import ModelFileError
from engine.library.model_files import REMEDIES, parts_of
from engine.placement import hardware
from engine.placement.context_sizes import V4Cache
from engine.placement.hardware_record import HardwareRecord
from engine.placement.load_plan import LoadPlan, Reach
from engine.placement.model_sizes import DRAFTER, V4, ModelSizes, sizes_of_headers
from engine.placement.native_plan import native_plan
from engine.placement.planner import GPU_BATCHES, ComputeBytes, Room, Wishes, plan

Rehearse = Callable[[LoadPlan, Sequence[int]], Mapping[int, ComputeBytes]]
"""What the buffers take with a plan and each of some micro-batches; nothing where that cannot be had."""
MOST_REHEARSALS = 3
"""One tells the buffers, the next one whether they hold with what was planned by them, and one more for good measure:
where it still moves, it moves by single layers."""


def sizes_of_file(path: Path) -> ModelSizes:
    """What the model that begins at `path` weighs, all its parts together. Raises ModelFileError."""
    try:
        return sizes_of_headers([read_gguf_header(part) for part in parts_of(path)])
    except GgufError as error:
        raise ModelFileError(error.what, error.why, REMEDIES[error.problem]) from error


def plan_for(
    sizes: ModelSizes,
    wishes: Wishes,
    gpus: tuple[hardware.Gpu, ...] = (),
    *,
    rehearse: Rehearse | None = None,
    room: Room | None = None,
    freed_bytes: int = 0,
    record: HardwareRecord | None = None,
) -> LoadPlan:
    """The plan with what is free now; `gpus` as llama.cpp lists them. `freed_bytes`: RAM that will be free besides.
    Raises DoesNotFit.

    `room`: what is to count as free instead.
    `rehearse`: what llama.cpp's buffers really take, by which the plan is made again until it is one that was
    rehearsed; without it they are reckoned. `record`: what was measured of this machine.
    """
    memory = hardware.memory()
    memory = replace(memory, available_bytes=memory.available_bytes + freed_bytes)
    room = room or Room.of(memory, hardware.processor(), gpus)
    found = plan(sizes, room, wishes, record=record)
    if rehearse is None:
        return found
    known: dict[tuple[Reach, int], ComputeBytes] = {}
    for turn in range(MOST_REHEARSALS):
        batches = {found.micro_batch_tokens}
        if turn == 0 and found.gpu is not None:
            batches |= {each for each in GPU_BATCHES if each <= found.context_tokens}
        told = rehearse(found, sorted(batches))
        if not told:
            return found
        for batch, taken in told.items():
            before = known.get((found.reach, batch), ComputeBytes(0, 0))
            # Never less than with a placement before, or two of them could take turns.
            known[found.reach, batch] = ComputeBytes(*map(max, taken, before))
        again = plan(sizes, room, wishes, known, record)
        if _loads_alike(again, found):
            # What was said of this very plan is what it takes; more was said of another.
            exactly = plan(sizes, room, wishes, known | _by_reach(found, told), record)
            return exactly if _loads_alike(exactly, found) else again
        found = again
    return found


def native_plan_for(
    sizes: ModelSizes,
    wishes: Wishes,
    gpus: tuple[hardware.Gpu, ...] = (),
    *,
    room: Room | None = None,
    freed_bytes: int = 0,
) -> LoadPlan:
    """The native engine's plan with what is free now; `gpus` as torch lists them; otherwise as `plan_for`. Raises
    DoesNotFit, and ModelFileError for a model that it does not compute."""
    if sizes.architecture == DRAFTER:
        raise ModelFileError(
            f"{sizes.name} cannot be used as a model",
            "it holds only a drafter (DSpark)",
            "choose the model's own file",
        )
    if sizes.architecture != V4 or not isinstance(sizes.cache, V4Cache):
        raise ModelFileError(
            f"{sizes.name} cannot be computed by the native engine",
            f"it is a model of the architecture {sizes.architecture}, and that engine computes {V4} alone",
            "let llama.cpp compute it (Settings → Machine → Computed by, or --backend llamacpp)",
        )
    memory = hardware.memory()
    memory = replace(memory, available_bytes=memory.available_bytes + freed_bytes)
    return native_plan(sizes, room or Room.of(memory, hardware.processor(), gpus), wishes)


def _by_reach(found: LoadPlan, told: Mapping[int, ComputeBytes]) -> dict[tuple[Reach, int], ComputeBytes]:
    return {(found.reach, batch): taken for batch, taken in told.items()}


def _loads_alike(one: LoadPlan, other: LoadPlan) -> bool:
    """Whether llama.cpp is told the same by both."""
    return all(
        getattr(one, what)() == getattr(other, what)()
        for what in ("model_parameters", "context_parameters", "tensors_in_ram")
    )
