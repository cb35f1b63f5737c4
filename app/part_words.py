"""Optional parts, in words.

Owns: these sentences. Pure; asks nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.quantities import rough_duration, size_name

if TYPE_CHECKING:
    from engine.protocol_parts import PartEntry, PartTask, PartVariant

HONEST = "exact, and slower than llama.cpp for now"


def variant_words(variant: PartVariant) -> str:
    """A set that can be installed: "For the processor, 200.7 MB to download"."""
    return f"{variant.title[:1].upper()}{variant.title[1:]}, {size_name(variant.download_bytes)} to download"


def part_words(entry: PartEntry) -> str:
    """What is there of a part, and what of it could be."""
    match entry.state:
        case "outside":
            return f"The Python that runs Seamount has PyTorch {entry.version}."
        case "elsewhere":
            return f"Not to be had here: {entry.why}; {entry.how}."
        case "installed":
            used = " In use by this engine now." if entry.in_use else ""
            return f"PyTorch {entry.version} is installed and takes {size_name(entry.unpacked_bytes)}.{used}"
        case "outdated":
            return f"PyTorch {entry.version} is installed; this version of Seamount goes with a newer set."
        case _:
            return f"PyTorch is not installed. {_whom_it_is_for(entry)}{_need(entry)}"


def task_words(task: PartTask) -> str:
    """How far an installation is: "torch 2.13.0+cpu: 12.0 MB of 200.7 MB, 3.1 MB a second, 1 min 2 s left"."""
    if task.state == "stopped":
        return "Stopped. Nothing of it is left, and the next time begins anew."
    if task.state == "failed":
        return task.error.text if task.error is not None else "It failed, and gave no reason; try once more."
    parts = [f"{size_name(task.done_bytes)} of {size_name(task.total_bytes)}"]
    if task.bytes_per_s > 0:
        parts.append(f"{size_name(round(task.bytes_per_s))} a second")
    if task.seconds_left is not None:
        parts.append(f"{rough_duration(task.seconds_left)} left")
    return (f"{task.item}: " if task.item else "") + ", ".join(parts)


def task_share(task: PartTask) -> float:
    """How much of it is done, from 0 to 1."""
    return min(1.0, task.done_bytes / task.total_bytes) if task.total_bytes else 0.0


def _whom_it_is_for(entry: PartEntry) -> str:
    if entry.pays:
        return f"A DeepSeek-V4 is here, which Seamount's own engine computes with it: {HONEST}."
    return "Only DeepSeek-V4 is computed with it, and none is here."


def _need(entry: PartEntry) -> str:
    """What the suited set takes, and why it suits; a hint where there is no room for it."""
    suited = next((each for each in entry.variants if each.name == entry.suited), None)
    if suited is None:
        return ""
    told = f" It takes {size_name(suited.unpacked_bytes)} on the disk ({suited.title}, because {entry.why})."
    if entry.free_bytes < suited.needed_bytes:
        told += f" There is not the room for it: {size_name(suited.needed_bytes)} are needed, and "
        told += f"{size_name(entry.free_bytes)} are free."
    return told
