"""Converting a checkpoint and checking a GGUF, as commands and jobs have it done.

Owns: what `convert` is asked for, its progress in the shape that is told of all work, and its failures as errors that
a person can meet. Does not convert (`convert/`); who asked, and where it is told, is not known here.
"""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from convert import verification
from convert.checkpoint_error import CheckpointError
from convert.conversion import Advance, convert
from convert.conversion_error import ConversionError, Trouble
from convert.conversion_plan import Job, path_of
from convert.gguf_header import GgufError
from convert.tensor_map import Options
from engine.checkpoint_origin import origin_of
from engine.checkpoint_remedies import told
from engine.errors import (
    ConversionDiskFull,
    ConversionFailed,
    ConversionStopped,
    ModelFileError,
    SeamountError,
)
from engine.library.model_files import REMEDIES
from engine.protocol_jobs import ConvertRequest, JobProgress, Verdict

Report = Callable[[JobProgress], None]
Stopped = Callable[[], bool]
MOST_DIFFERENCES = 100
_KINDS: Mapping[Trouble, type[ConversionFailed]] = {
    "stopped": ConversionStopped,
    "disk_full": ConversionDiskFull,
}


def convert_checkpoint(asked: ConvertRequest, report: Report, stopped: Stopped) -> list[Path]:
    """Convert, or go on where it was; the files, the model's first. Raises SeamountError and its kinds."""

    def tell(advance: Advance) -> None:
        left = advance.total_bytes - advance.done_bytes
        report(
            JobProgress(
                done_bytes=advance.done_bytes,
                total_bytes=advance.total_bytes,
                bytes_per_s=round(advance.bytes_per_s),
                seconds_left=round(left / advance.bytes_per_s, 1) if advance.bytes_per_s > 0 else None,
                stage="converting",
                item=advance.tensor,
                items_done=advance.tensors_done,
                items=advance.tensors,
            )
        )

    source = Path(asked.source)
    with told_for_people():
        origin = origin_of(source, asked.release)
        options = Options(asked.dense, asked.draft)
        return list(convert(Job(source, Path(asked.target), origin, options, asked.consume), tell, stopped))


def check(
    gguf: Path, source: Path | None, report: Report, stopped: Stopped
) -> Generator[tuple[Path, verification.Verdict]]:
    """(file, what was found) of a GGUF and of the drafter in a file of its own beside it, against the receipts or,
    where there is a `source`, against the checkpoint in that folder. Raises SeamountError and its kinds."""
    draft = path_of(gguf, "draft")
    for path in (gguf, draft) if draft.is_file() else (gguf,):
        began_s = time.monotonic()

        def tell(done: int, total: int, tensor: str, began_s: float = began_s) -> None:
            rate = done / max(time.monotonic() - began_s, 1e-9)
            report(
                JobProgress(
                    done_bytes=done,
                    total_bytes=total,
                    bytes_per_s=round(rate),
                    seconds_left=round((total - done) / rate, 1) if rate > 0 else None,
                    stage="checking",
                    item=tensor,
                )
            )

        with told_for_people():
            if source is None:
                found = verification.verify_receipt(path, tell, stopped)
            else:
                found = verification.verify_source(source, path, tell, stopped)
        yield path, found


def check_against_receipt(gguf: Path, report: Report, stopped: Stopped) -> Verdict:
    """What a check of a GGUF and its drafter against their receipts found. Raises SeamountError and its kinds."""
    good, checked_bytes, differences = True, 0, list[str]()
    for path, found in check(gguf, None, report, stopped):
        good = good and found.good
        checked_bytes += path.stat().st_size
        differences += [f"{path.name}, {each.tensor}: {each.why}" for each in found.differences]
    return Verdict(good=good, checked_bytes=checked_bytes, differences=differences[:MOST_DIFFERENCES])


def failure_of(error: CheckpointError | ConversionError | GgufError) -> SeamountError:
    """What `convert` raised, as one of the errors that a person can meet."""
    if isinstance(error, CheckpointError):
        return told(error)
    if isinstance(error, GgufError):
        return ModelFileError(error.what, error.why, REMEDIES[error.problem])
    return _KINDS.get(error.trouble, ConversionFailed)(error.what, error.why, error.remedy)


@contextmanager
def told_for_people() -> Generator[None]:
    """What `convert` raises in here comes out as a SeamountError."""
    try:
        yield
    except (CheckpointError, ConversionError, GgufError) as error:
        raise failure_of(error) from error
