"""What is said about a checkpoint and what a conversion makes of it.

Owns: the words. Pure; knows no widget and changes nothing.
"""

from pathlib import PurePath

from app.quantities import size_name
from engine.protocol_jobs import DenseFormat, DraftPlace, Inspection, ResultBytes

DENSE_WORDS: tuple[tuple[DenseFormat, str], ...] = (
    ("q8_0", "Q8_0: smaller, rounded to 8 bits"),
    ("bf16", "BF16: exact"),
)
"""The formats of what is not an expert, each with what it means."""
NAME_IT = "The folder’s name does not tell which model it is: write its name below, as it stands on the hub."
CONSUME_WARNING = (
    "Each file of the checkpoint is deleted for good once everything in it is written and read back. There is no "
    "way back but another download; without it, both need room at the same time."
)
_DRAFTERS = {"none": "no drafter", "mtp": "an MTP drafter", "dspark": "a DSpark drafter"}


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


def result_bytes(results: list[ResultBytes], dense: str, draft: DraftPlace = "separate") -> int | None:
    """What would be written; None when it cannot be told."""
    for each in results:
        if each.dense == dense:
            return each.model_bytes + (0 if draft == "skip" else each.draft_bytes)
    return None


def space_words(found: Inspection, dense: str, draft: DraftPlace, *, consume: bool) -> tuple[str, bool]:
    """What it takes and what is free there; False when that is too little."""
    needed = result_bytes(found.results, dense, draft)
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


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _amount(number: int | None) -> str:
    for name, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if number and number >= scale:
            return f"{number / scale:.1f}{name}"
    return f"{number or 0:,}"
