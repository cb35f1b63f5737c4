"""The plan for a model's file on this machine as it is at this moment.

Owns: putting a file's headers and the machine's present state before the planner. Does not decide anything itself.
"""

from pathlib import Path

from convert.gguf_header import GgufError, read_gguf_header
from engine.errors import ModelFileError
from engine.library.model_files import REMEDIES, parts_of
from engine.placement import hardware
from engine.placement.load_plan import LoadPlan
from engine.placement.model_sizes import ModelSizes, sizes_of_headers
from engine.placement.planner import Room, Wishes, plan


def sizes_of_file(path: Path) -> ModelSizes:
    """What the model that begins at `path` weighs, all its parts together. Raises ModelFileError."""
    try:
        return sizes_of_headers([read_gguf_header(part) for part in parts_of(path)])
    except GgufError as error:
        raise ModelFileError(error.what, error.why, REMEDIES[error.problem]) from error


def plan_for(sizes: ModelSizes, wishes: Wishes, gpus: tuple[hardware.Gpu, ...] = ()) -> LoadPlan:
    """The plan with what is free now; `gpus` as llama.cpp lists them. Raises DoesNotFit."""
    return plan(sizes, Room.of(hardware.memory(), hardware.processor(), gpus), wishes)
