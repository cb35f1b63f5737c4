"""What a job is, told from its folder: its state, its error, what its files are worth.

Owns: the rules by which state and sentences follow from what was wanted, what was said and whether the process runs.
Does not look for processes (`job_process`) or change anything (`jobs`). What it needs of `convert` is imported when it
is needed: most engines have no job.
"""

from pathlib import Path
from typing import Any

from engine.errors import Conflict
from engine.library.jobs.job_folder import Course, JobFolder, Said
from engine.protocol import ErrorBody
from engine.protocol_jobs import Exactness, Job, JobKind, JobState

OPEN: tuple[JobState, ...] = ("queued", "running", "paused", "interrupted")
"""A job in one of these holds on to the files that it works on."""
NAMES: dict[JobKind, str] = {
    "fetch": "The download",
    "convert": "The conversion",
    "verify": "The check",
    "move": "The move",
}
_STOPPED = "_stopped"
"""How the codes of errors end that are no failure: it was ended on request."""


def waits(course: Course) -> bool:
    """It is to run, and no process was begun for that wish."""
    never = course.run == 0 and course.ended
    return (
        course.wish == "run"
        and course.problem is None
        and (never or (not course.ended and course.pid is None))
    )


def state_of(course: Course, said: Said, *, runs: bool) -> JobState:
    """The state of a job whose process `runs` or not."""
    if runs:
        return "running"
    if waits(course):
        return "queued"
    last = said.last if course.run else None
    if last is not None and last["event"] == "done":
        return "done"
    if course.wish == "cancel":
        return "cancelled"
    if last is not None and not str(last.get("code")).endswith(_STOPPED):
        return "failed"
    if course.wish == "pause":
        return "paused"
    # A word of its end without a wish for it: the system is shut down, or somebody has ended it politely.
    return "failed" if course.problem is not None else "interrupted"


def job_of(job: JobFolder, state: JobState, said: Said, exactness: Exactness | None) -> Job:
    """The job as it is told. `exactness`: of one that is done."""
    plan = job.plan
    return Job(
        id=job.id,
        state=state,
        stopping=state == "running" and job.course.wish != "run",
        created_at=job.created_at,
        title=plan.title,
        asked=plan.asked,
        place=plan.place,
        progress=said.progress,
        files=files_of(said) if state == "done" else [],
        exactness=exactness if state == "done" else None,
        verdict=said.verdict if state == "done" else None,
        error=_error(job, said) if state in ("failed", "cancelled", "interrupted") else None,
    )


def files_of(said: Said) -> list[str]:
    """What a job that is done has made."""
    found: Any = said.last.get("files", []) if said.last is not None else []
    return [str(path) for path in found] if isinstance(found, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def exactness_of(files: list[str]) -> Exactness | None:
    """What the receipts of these files say together; None when one cannot be read, or there are none."""
    from convert.conversion_error import ConversionError
    from convert.receipt import read_receipt

    try:
        receipts = [read_receipt(Path(file)) for file in files if file.lower().endswith(".gguf")]
    except ConversionError:
        return None
    if not receipts:
        return None
    errors = [tensor.error for receipt in receipts for tensor in receipt.tensors.values()]
    rounded = [error[1] for error in errors if error is not None]
    return Exactness(
        lossless=all(receipt.lossless for receipt in receipts),
        exact=len(errors) - len(rounded),
        approximate=len(rounded),
        worst_relative_rms=max(rounded, default=0.0),
    )


def clash(kind: JobKind, deed: str, state: str) -> Conflict:
    """That a job cannot be paused, resumed and so on (`deed`) in this state; "stopping" is one as well."""
    why, remedy = {
        "queued": ("it waits for its turn", "cancel it first"),
        "running": ("it is running", "cancel it first"),
        "paused": ("it can still go on", "cancel it first"),
        "interrupted": ("it can still go on", "resume or cancel it"),
        "stopping": ("it is just being stopped", "try again in a moment"),
        "done": ("it is done", "remove it from the list"),
        "failed": ("it has failed", "resume or cancel it"),
        "cancelled": ("it was cancelled", "begin it anew"),
    }[state]
    return Conflict(f"{NAMES[kind]} cannot be {deed}", why, remedy)


def _error(job: JobFolder, said: Said) -> ErrorBody | None:
    if job.course.problem is not None:
        return ErrorBody(code="job", text=job.course.problem)
    if job.course.wish == "cancel":
        return None
    last, name = said.last, NAMES[job.plan.asked.kind]
    if last is None:
        complaint = job.complaint()
        why = f"its process ended ({complaint})" if complaint else "its process was ended from outside"
    elif str(last.get("code")).endswith(_STOPPED):
        why = "it was asked to stop from outside"
    else:
        return ErrorBody(code=str(last.get("code")), text=str(last.get("text")))
    return ErrorBody(code="interrupted", text=f"{name} has stopped: {why}; resume it to go on where it was.")
