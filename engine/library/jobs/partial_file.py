"""What a conversion that was given up has left beside its target.

Owns: deleting it, and when it must not be: while another conversion writes it, and when shards of the checkpoint
were deleted because what was in them is safe there. Does not know jobs.
"""

from pathlib import Path

from filelock import FileLock, Timeout

from convert.conversion_error import ConversionError
from convert.conversion_plan import path_of
from convert.conversion_progress import ConversionProgress, progress_path
from convert.target_file import part_of
from engine.errors import Conflict, ConversionFailed

_WHAT = "The partial file was kept"


def files_of(target: Path) -> tuple[Path, Path]:
    """What a conversion to `target` may write: the model, and the drafter beside it."""
    return path_of(target, "model"), path_of(target, "draft")


def refuse_if_needed(target: Path) -> None:
    """Raise Conflict when the partial file holds what is nowhere else any more."""
    try:
        progress = ConversionProgress.load(progress_path(target))
    except ConversionError as error:
        remedy = f"delete {part_of(target).name} yourself if the checkpoint is whole"
        raise Conflict(_WHAT, "what was done so far cannot be read", remedy) from error
    if progress is not None and progress.consumed:
        count = len(progress.consumed)
        shards = "1 shard" if count == 1 else f"{count:,} shards"
        raise Conflict(
            _WHAT,
            f"{shards} of the checkpoint were deleted, and what was in them is only there",
            "convert the same checkpoint to the same file to go on",
        )


def remove(target: Path, *, even_if_consumed: bool = False) -> None:
    """Delete what an unfinished conversion to `target` has left. Raises Conflict, ConversionFailed.

    `even_if_consumed`: also where shards were deleted, since they can be fetched again.
    """
    lock = FileLock(part_of(target).with_suffix(".part.lock"))
    try:
        if not target.parent.is_dir():
            return
        with lock.acquire(timeout=0):
            if not even_if_consumed:
                refuse_if_needed(target)
            # Without its progress a partial file is nothing; the other way round it would be missed.
            progress_path(target).unlink(missing_ok=True)
            for file in files_of(target):
                part_of(file).unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout as error:
        raise Conflict(_WHAT, "another conversion to it is running", "stop that one first") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise ConversionFailed(_WHAT, why, f"delete {part_of(target).name} yourself") from error
