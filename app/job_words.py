"""What is said about jobs: what one does, how far it is, what became of it.

Owns: the words. Pure; knows no widget and changes nothing.
"""

from pathlib import PurePosixPath, PureWindowsPath

from app.quantities import rough_duration, size_name
from engine.protocol_jobs import ConvertRequest, Exactness, FetchRequest, Job, MoveRequest, VerifyRequest

MOST_DIFFERENCES = 5
_STATES = {
    "queued": "Waiting for its turn",
    "paused": "Paused",
    "interrupted": "Interrupted",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
_STAGES = {
    "listing": "Asking for the list of files",
    "fetching": "Downloading",
    "converting": "Converting",
    "checking": "Checking",
    "moving": "Moving",
}
_KINDS = {"fetch": "download", "convert": "conversion", "verify": "check", "move": "move"}
_FIRST_WORDS = {
    "fetch": "Asking for the list of files…",
    "convert": "Reading the checkpoint’s headers…",
    "verify": "Reading what it has to be…",
    "move": "Looking at both disks…",
}
_DENSE = {"q8_0": "dense part Q8_0", "bf16": "dense part BF16"}
_PARTS = {
    "listing": "files",
    "fetching": "files",
    "converting": "tensors",
    "checking": "parts",
    "moving": "files",
}


def kind_name(job: Job) -> str:
    """What kind of work it is, as a noun: "download"."""
    return _KINDS[job.asked.kind]


def state_words(job: Job) -> str:
    """The state in a few words."""
    if job.stopping:
        return "Stopping…"
    if job.state == "running":
        return _doing(job)
    if job.state == "done" and job.verdict is not None:
        return "Whole" if job.verdict.good else "Damaged"
    return _STATES[job.state]


def _doing(job: Job) -> str:
    if job.progress is not None:
        if job.progress.stage == "fetching" and isinstance(job.asked, FetchRequest) and job.asked.convert:
            return "Downloading and converting"
        return _STAGES[job.progress.stage]
    return {"fetch": "Downloading", "convert": "Converting", "verify": "Checking", "move": "Moving"}[
        job.asked.kind
    ]


def origin_words(job: Job) -> str:
    """What of, and how; where to is `place_words`."""
    match job.asked:
        case FetchRequest() as asked:
            words = [f"from {asked.what}"]
            if asked.revision:
                words.append(f"as of {asked.revision[:8]}")
            if asked.convert is not None:
                words.append(_DENSE[asked.convert.dense])
                if asked.convert.consume:
                    words.append("deletes each part once it is converted")
        case ConvertRequest() as asked:
            words = [f"of {path_name(asked.source)}", _DENSE[asked.dense]]
            if asked.consume:
                words.append("deletes the checkpoint")
        case VerifyRequest() as asked:
            words = [f"of {path_name(asked.path)}"]
        case MoveRequest() as asked:
            words = [f"into {path_name(asked.folder)}"]
    return " · ".join(words)


def place_words(job: Job) -> str:
    """The file or folder that it writes or checks."""
    match job.asked:
        case FetchRequest() as asked:
            return (asked.convert.target if asked.convert else None) or job.place
        case ConvertRequest() as asked:
            return asked.target
        case VerifyRequest() as asked:
            return asked.path
        case MoveRequest() as asked:
            return asked.folder


def path_name(path: str) -> str:
    """The last part of a path of any system."""
    return min((PurePosixPath(path).name, PureWindowsPath(path).name), key=len) or path


def share(job: Job) -> float:
    """How much is done, 0 to 1."""
    progress = job.progress
    if progress is None or progress.total_bytes <= 0:
        return 0.0
    return min(1.0, max(0.0, progress.done_bytes / progress.total_bytes))


def progress_words(job: Job) -> str:
    """Done, total, and while it runs rate and time left; "" before anything is known."""
    progress = job.progress
    if progress is None:
        return _FIRST_WORDS[job.asked.kind] if job.state == "running" else ""
    if not progress.total_bytes:
        return _FIRST_WORDS[job.asked.kind] if job.state == "running" else ""
    words = [f"{size_name(progress.done_bytes)} of {size_name(progress.total_bytes)}", f"{share(job):.0%}"]
    if job.state == "running" and not job.stopping:
        if progress.bytes_per_s >= 1:
            words.append(f"{size_name(round(progress.bytes_per_s))}/s")
        if progress.seconds_left is not None:
            words.append(f"{rough_duration(progress.seconds_left)} left")
    return " · ".join(words)


def halves_words(job: Job) -> str:
    """Of a job that downloads and converts: how far each is; "" for any other."""
    progress = job.progress
    if progress is None or progress.fetched_bytes is None or progress.fetch_bytes is None:
        return ""
    if not (isinstance(job.asked, FetchRequest) and job.asked.convert):
        return ""
    made, to_make = (
        max(0, progress.done_bytes - progress.fetched_bytes),
        max(0, progress.total_bytes - progress.fetch_bytes),
    )
    return (
        f"Downloaded {size_name(progress.fetched_bytes)} of {size_name(progress.fetch_bytes)} · "
        f"converted {size_name(made)} of {size_name(to_make)}"
    )


def item_words(job: Job) -> str:
    """What it is at, and how many are done; "" when it does not run."""
    progress = job.progress
    if job.state != "running" or progress is None:
        return ""
    words: list[str] = []
    if progress.items:
        words.append(f"{progress.items_done:,} of {progress.items:,} {_PARTS[progress.stage]}")
    if progress.item:
        words.append(progress.item)
    return " · ".join(words)


def note_words(job: Job) -> str:
    """What it waits for; "" while it gets on."""
    return job.progress.note if job.progress is not None and job.state == "running" else ""


def badge_words(exactness: Exactness) -> tuple[str, str]:
    """(the badge, what it rests on)."""
    if exactness.lossless:
        return (
            "Exact",
            f"All {_count(exactness.exact, 'tensor')} hold every number of the checkpoint exactly.",
        )
    rounded = (
        f"{_count(exactness.approximate, 'tensor')} rounded to 8 bits, by {exactness.worst_relative_rms:.2%} at "
        "most (RMS, measured)"
    )
    return (
        f"Experts exact, dense 8-bit, {exactness.worst_relative_rms:.2%}",
        f"{_count(exactness.exact, 'tensor')} exact, all experts among them; {rounded}.",
    )


def outcome_words(job: Job) -> str:
    """What has come of it: why it failed, what a check found, how exact the result is."""
    words: list[str] = []
    if job.error is not None:
        words.append(job.error.text)
    if job.verdict is not None and job.state == "done":
        words.append(verdict_words(job))
    elif job.state == "done" and job.exactness is not None:
        words.append(badge_words(job.exactness)[1])
    elif job.state == "done" and isinstance(job.asked, ConvertRequest):
        words.append("How exact it is cannot be told: there is no receipt beside the file any more.")
    elif job.state == "interrupted" and job.error is None:
        words.append(
            "It ended without a word, as when the machine is switched off. Nothing that was done is lost."
        )
    return "\n".join(words)


def verdict_words(job: Job) -> str:
    """What a check found, as sentences."""
    verdict = job.verdict
    if verdict is None:
        return ""
    if verdict.good:
        return f"All {size_name(verdict.checked_bytes)} were read, and every byte is as it has to be."
    shown = verdict.differences[:MOST_DIFFERENCES]
    lines = [f"{size_name(verdict.checked_bytes)} were read, and this is not as it has to be:"]
    lines += [f"– {difference}" for difference in shown]
    if len(verdict.differences) > len(shown):
        lines.append(f"– and {len(verdict.differences) - len(shown)} more")
    return "\n".join(lines)


def size_words(job: Job) -> str:
    """What a finished job has written; "" for one that writes nothing."""
    if not job.files or job.verdict is not None:
        return ""
    files, progress = _count(len(job.files), "file"), job.progress
    if progress is None:
        return files
    converts = isinstance(job.asked, FetchRequest) and job.asked.convert is not None
    # What was fetched is the way to the result, and not always kept.
    fetched_bytes = (progress.fetch_bytes or 0) if converts else 0
    return f"{files}, {size_name(max(0, progress.total_bytes - fetched_bytes))}"


def cancel_words(job: Job) -> tuple[str, str, str, str | None]:
    """(question, what becomes of what is there, "go on" button, "cancel and delete" button or None)."""
    match job.asked:
        case FetchRequest():
            # Also where parts are deleted once they are converted: the hub has them still.
            return (
                f"Cancel the download of {job.title}?",
                "What has arrived can be kept: getting the same model again goes on there.",
                "Go on downloading",
                "Cancel and delete",
            )
        case ConvertRequest() as asked:
            kept = (
                "What is written so far can be kept: converting the same checkpoint to the same file goes on "
                "there."
            )
            return (
                f"Cancel the conversion of {job.title}?",
                kept,
                "Go on converting",
                None if asked.consume else "Cancel and delete",
            )
        case VerifyRequest():
            return f"Cancel the check of {job.title}?", "Nothing is changed by it.", "Go on checking", None
        case MoveRequest():
            return (
                f"Cancel moving {job.title}?",
                "It stays where it was; nothing is deleted there before the copy is whole and read back.",
                "Go on moving",
                None,
            )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
