"""The plan for a model's file on this machine as it is at this moment.

Owns: putting a file's headers, the machine's present state and rehearsals before the planner. Does not decide anything
itself.
"""

from dataclasses import replace
from pathlib import Path

from convert.gguf_header import GgufError, read_gguf_header
from engine.errors import ModelFileError
from engine.library.model_files import REMEDIES, parts_of
from engine.placement import hardware
from engine.placement.hardware_record import HardwareRecord
from engine.placement.load_plan import LoadPlan, Part, Reach
from engine.placement.model_sizes import ModelSizes, sizes_of_headers
from engine.placement.planner import GPU_BATCHES, ComputeBytes, Room, Wishes, plan

Rehearse = Callable[[LoadPlan, Sequence[int]], Mapping[int, ComputeBytes]]
"""What the buffers take with a plan and each of some micro-batches; nothing where that cannot be had."""
MOST_REHEARSALS = 4
"""One tells the buffers, the next one whether they hold with what was planned by them, and two more for good measure:
where it still moves, it moves by single matrices."""


def sizes_of_file(path: Path) -> ModelSizes:
    """What the model that begins at `path` weighs, all its parts together. Raises ModelFileError."""
    try:
        return sizes_of_headers([read_gguf_header(part) for part in parts_of(path)])
    except GgufError as error:
        raise ModelFileError(error.what, error.why, REMEDIES[error.problem]) from error


def plan_for(
    sizes: ModelSizes, wishes: Wishes, gpus: tuple[hardware.Gpu, ...] = (), *, freed_bytes: int = 0
) -> LoadPlan:
    """The plan with what is free now; `gpus` as llama.cpp lists them. `freed_bytes`: RAM that will be free besides.
    Raises DoesNotFit."""
    memory = hardware.memory()
    memory = replace(memory, available_bytes=memory.available_bytes + freed_bytes)
    return plan(sizes, Room.of(memory, hardware.processor(), gpus), wishes)
