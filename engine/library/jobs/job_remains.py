"""What a job that was given up leaves on the disk.

Owns: which parts of it are the job's own, and when they must not be deleted. Does not know states or processes
(`jobs`); each kind of work knows its own files.
"""

from pathlib import Path

from engine.library.jobs.job_plan import JobPlan
from engine.protocol_jobs import ConvertRequest, FetchRequest, JobProgress, MoveRequest


def refuse_if_needed(plan: JobPlan, progress: JobProgress | None) -> None:
    """Raise Conflict when what the job has written, or found in its place, holds what is nowhere else any more.

    What a download has converted is none: the hub still has it. `progress`: the last that the job said.
    """
    asked = plan.asked
    target = None
    if isinstance(asked, ConvertRequest) and asked.consume:
        target = asked.target
    elif isinstance(asked, FetchRequest) and asked.convert is not None and not _has_converted(progress):
        target = asked.convert.target
    if target is not None:
        from engine.library.jobs import partial_file

        partial_file.refuse_if_needed(Path(target))


def _has_converted(progress: JobProgress | None) -> bool:
    """Whether a download got as far as its conversion: what that goes on with is then of the same checkpoint."""
    return progress is not None and progress.done_bytes > (progress.fetched_bytes or 0)


def remove(plan: JobPlan, progress: JobProgress | None) -> None:
    """Delete what the job has written and not finished. Raises Conflict and other SeamountErrors."""
    asked = plan.asked
    if isinstance(asked, ConvertRequest):
        from engine.library.jobs import partial_file

        partial_file.remove(Path(asked.target))
    elif isinstance(asked, FetchRequest):
        from engine.library.fetching.fetch_work import remove_partial

        if asked.convert is not None and asked.convert.target is not None:
            from engine.library.jobs import partial_file

            partial_file.remove(Path(asked.convert.target), even_if_consumed=_has_converted(progress))
        if asked.folder is not None:
            # What was there before it, as of another program's download, is not its own.
            remove_partial(Path(asked.folder), fetched=plan.fresh)
    elif isinstance(asked, MoveRequest):
        from engine.library.jobs import move

        move.remove_partial([Path(path) for path in plan.takes], Path(asked.folder))
