"""What is said about checkpoints and conversions.

Owns: the words. Pure; knows no widget and changes nothing.
"""

import re
from pathlib import PurePath

from app.quantities import duration, size_name
from engine.protocol_jobs import DraftPlace, Exactness, Inspection, Job

EMPTY_TITLE = "No conversions yet"
EMPTY_TEXT = (
    "A conversion makes one GGUF file of a DeepSeek-V4 checkpoint, which this program can load. It runs in the "
    "background, can be paused, and goes on when this window is closed."
)
WAITING_TITLE = "Waiting for the engine…"
NAME_IT = "The folder’s name does not tell which model it is: write its name below, as it stands on the hub."
CONSUME_WARNING = (
    "Each file of the checkpoint is deleted for good once everything in it is written and read back. There is no "
    "way back but another download; without it, both need room at the same time."
)
_LONG_WORD = re.compile(r"\S{32,}")
_PLACES = re.compile(r"([/\\_.-]|[^/\\_.-]{24})")
_STATES = {
    "queued": "Waiting for its turn",
    "running": "Converting",
    "paused": "Paused",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
_DENSE = {"q8_0": "dense part Q8_0", "bf16": "dense part BF16"}
_DRAFTERS = {"none": "no drafter", "mtp": "an MTP drafter", "dspark": "a DSpark drafter"}


def breakable(text: str) -> str:
    """`text` with places to break its long words at, which paths are, so that it fits any width."""
    return _LONG_WORD.sub(lambda word: _PLACES.sub("\\1\u200b", word[0]), text)


def state_words(job: Job) -> str:
    """The state in one or two words."""
    return "Stopping…" if job.stopping else _STATES[job.state]


def origin_words(job: Job) -> str:
    """What of, how, and where to."""
    words = [f"of {PurePath(job.source).name}", _DENSE[job.dense], f"in {PurePath(job.target).parent}"]
    if job.consume:
        words.insert(2, "deletes the checkpoint")
    return " · ".join(words)


def share(job: Job) -> float:
    """How much is done, 0 to 1."""
    progress = job.progress
    return progress.done_bytes / progress.total_bytes if progress and progress.total_bytes else 0.0


def progress_words(job: Job) -> str:
    """Done, total, and while it runs rate and time left; "" before anything is known."""
    progress = job.progress
    if progress is None:
        return "Reading the checkpoint’s headers…" if job.state == "running" else ""
    words = [f"{size_name(progress.done_bytes)} of {size_name(progress.total_bytes)}", f"{share(job):.0%}"]
    if job.state == "running" and not job.stopping:
        words.append(f"{size_name(round(progress.bytes_per_s))}/s")
        if progress.seconds_left is not None:
            words.append(f"{_time_left(progress.seconds_left)} left")
    return " · ".join(words)


def tensor_words(job: Job) -> str:
    """What it is at; "" when it does not run."""
    progress = job.progress
    if job.state != "running" or progress is None or not progress.tensor:
        return ""
    if progress.tensors:
        return f"{progress.tensors_done:,} of {progress.tensors:,} tensors · {progress.tensor}"
    return progress.tensor


def badge_words(exactness: Exactness) -> tuple[str, str]:
    """(the badge, what it rests on). "Lossless" is said of all, or of the experts alone."""
    if exactness.lossless:
        return (
            "Lossless",
            f"All {_count(exactness.exact, 'tensor')} hold every number of the checkpoint exactly.",
        )
    rounded = (
        f"{_count(exactness.approximate, 'tensor')} rounded to 8 bits, by {exactness.worst_relative_rms:.2%} at "
        "most (RMS, measured)"
    )
    return (
        "Experts lossless",
        f"{_count(exactness.exact, 'tensor')} exact, all experts among them; {rounded}.",
    )


def size_words(job: Job) -> str:
    """What a finished conversion has written."""
    files = "1 file" if len(job.files) == 1 else f"{len(job.files)} files"
    return f"{files}, {size_name(job.progress.total_bytes)}" if job.progress else files


def inspection_words(found: Inspection) -> list[str]:
    """A checkpoint, line by line, without what is wrong with it."""
    lines = [f"{found.name} · {found.release or 'release not known'}"]
    if found.parameters:
        active = f", {_amount(found.active_parameters)} for a token" if found.active_parameters else ""
        lines.append(f"{_amount(found.parameters)} parameters{active} · {_DRAFTERS[found.drafter]}")
    lines.append(
        f"{_count(found.shards, 'shard')}, {_count(found.tensors, 'tensor')}, {size_name(found.tensor_bytes)}"
    )
    if found.formats:
        formats = ", ".join(f"{each.name} {size_name(each.size_bytes)}" for each in found.formats[:5])
        lines.append(formats)
    return lines


def result_bytes(found: Inspection, dense: str, draft: DraftPlace) -> int | None:
    """What would be written; None when it cannot be told."""
    for each in found.results:
        if each.dense == dense:
            return each.model_bytes + (0 if draft == "skip" else each.draft_bytes)
    return None


def space_words(found: Inspection, dense: str, draft: DraftPlace, *, consume: bool) -> tuple[str, bool]:
    """What it takes and what is free there; False when that is too little."""
    needed = result_bytes(found, dense, draft)
    if needed is None:
        return "", True
    words = f"It takes {size_name(needed)}; {size_name(found.free_bytes)} are free there."
    if needed <= found.free_bytes:
        return words, True
    if consume:
        return f"{words} Room is freed as the checkpoint is deleted.", True
    return f"{words} That is not enough: choose another disk, or free some space.", False


def suggested_target(found: Inspection) -> str:
    """Beside the checkpoint's folder, under its name."""
    folder = PurePath(found.path)
    return str(folder.parent / f"{found.name}.gguf")


def _time_left(seconds: float) -> str:
    if seconds < 5400:
        return duration(max(seconds, 0))
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _amount(number: int | None) -> str:
    for name, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if number and number >= scale:
            return f"{number / scale:.1f}{name}"
    return f"{number or 0:,}"
