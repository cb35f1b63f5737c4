"""What to do about a checkpoint that cannot be used.

Owns: the third clause of the sentence, for each kind of trouble that `convert` tells apart. Does not know how the
trouble is found.
"""

from convert.checkpoint_error import CheckpointError, Problem
from engine.errors import ModelFileError

REMEDIES: dict[Problem, str] = {
    "unreadable": "check that it is there and that you may read it",
    "truncated": "download it again; it did not arrive whole",
    "not_safetensors": "download it again from the model's own repository",
    "damaged": "download it again, or look for another source of this model",
    "unsupported": "choose an official DeepSeek-V4 checkpoint, or use a newer Seamount",
    "not_checkpoint": "choose the folder that holds the checkpoint's config.json and its safetensors files",
    "incomplete": "download the missing files into the same folder",
    "inconsistent": "download the index and the shards again, all of the same revision",
    "unsafe": "do not use it, and look for the model at its official source",
}


def told(error: CheckpointError) -> ModelFileError:
    """The same as an error that a person can meet."""
    return ModelFileError(error.what, error.why, REMEDIES[error.problem])
