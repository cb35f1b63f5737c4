"""What a job that was given up leaves on the disk.

Owns: which parts of it are the job's own, and when they must not be deleted. Does not know states or processes
(`jobs`); each kind of work knows its own files.
"""

from pathlib import Path

from engine.library.jobs.job_plan import JobPlan
from engine.protocol_jobs import ConvertRequest, FetchRequest, MoveRequest


def refuse_if_needed(plan: JobPlan) -> None:
    """Raise Conflict when what the job has written holds what is nowhere else any more.

    A download that consumes its shards is none: the hub still has them.
    """
    if isinstance(plan.asked, ConvertRequest) and plan.asked.consume:
        from engine.library.jobs import partial_file

        partial_file.refuse_if_needed(Path(plan.asked.target))


def remove(plan: JobPlan) -> None:
    """Delete what the job has written and not finished. Raises Conflict and other SeamountErrors."""
    asked = plan.asked
    if isinstance(asked, ConvertRequest):
        from engine.library.jobs import partial_file

        partial_file.remove(Path(asked.target))
    elif isinstance(asked, FetchRequest):
        from engine.library.fetching.fetch_work import remove_partial

        if asked.convert is not None and asked.convert.target is not None:
            from engine.library.jobs import partial_file

            partial_file.remove(Path(asked.convert.target), even_if_consumed=True)
        if asked.folder is not None:
            # What was there before it, as of another program's download, is not its own.
            remove_partial(Path(asked.folder), fetched=plan.fresh)
    elif isinstance(asked, MoveRequest):
        from engine.library.jobs import move

        move.remove_partial([Path(path) for path in plan.takes], Path(asked.folder))
