"""A checkpoint before its conversion, for a window: what `seamount inspect` finds, as a shape on the wire.

Owns: the shape's content, and the free space where the result would go. Does not read a checkpoint itself.
"""

import shutil
from pathlib import Path
from typing import Literal

from convert.inspection import CheckpointInspection
from convert.wording import shown
from engine.conversation import clean_text
from engine.encoding.release import Release
from engine.errors import BadRequest
from engine.inspect_command import look_at, release_names
from engine.protocol_jobs import InspectedFormat, Inspection, InspectRequest, ResultBytes


def inspect(asked: InspectRequest) -> Inspection:
    """Look at the checkpoint in the folder that `asked` names. Raises BadRequest, ModelFileError."""
    folder = _whole(asked.path)
    found, release, findings = look_at(folder)
    checkpoint, counted = found.checkpoint, found.parameters
    known = isinstance(release, Release)
    problems = [
        f"{each.what}: {each.remedy}" if each.remedy else each.what for each in findings if not each.well
    ]
    if not known:
        # Told apart: a person who knows it can say so.
        problems = [problem for problem in problems if not problem.startswith("release unknown")]
    return Inspection(
        path=clean_text(str(folder))[0],
        name=shown(release_names(folder)[0]),
        release=release.title if isinstance(release, Release) else None,
        release_problem=None if isinstance(release, Release) else clean_text(release.text)[0],
        shards=len(checkpoint.shards),
        tensors=len(checkpoint.tensors),
        tensor_bytes=checkpoint.tensor_bytes,
        parameters=counted.total if counted else None,
        active_parameters=counted.active if counted else None,
        drafter=_drafter(found),
        formats=[
            InspectedFormat(name=shown(each.name), tensors=each.tensors, size_bytes=each.size_bytes)
            for each in found.formats
        ],
        problems=[clean_text(f"{problem[:1].upper()}{problem[1:]}.")[0] for problem in problems],
        results=[
            ResultBytes(dense=each.dense, model_bytes=each.model_bytes, draft_bytes=each.draft_bytes)
            for each in found.results
        ],
        free_bytes=_free_bytes(asked.target, found),
    )


def _drafter(found: CheckpointInspection) -> Literal["none", "mtp", "dspark"]:
    if found.shape is not None and found.shape.dspark is not None:
        return "dspark"
    return "mtp" if found.shape is not None and found.shape.num_nextn_predict_layers else "none"


def _free_bytes(target: str | None, found: CheckpointInspection) -> int:
    """On the disk of the target's folder, or of the next one above it that is there."""
    if target is None:
        return found.free_bytes
    for folder in _whole(target).parents:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return found.free_bytes


def _whole(text: str) -> Path:
    what = "Nothing was inspected"
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise BadRequest(what, "there is no such home folder", "write the whole path") from error
    if not path.is_absolute():
        raise BadRequest(what, "that is not a whole path", "write it from the root on")
    return path
