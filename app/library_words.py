"""What is said about the library: what lies here, what can be had, and what it costs.

Owns: the words. Pure; knows no widget and changes nothing.
"""

from datetime import datetime

from app.conversion_words import result_bytes
from app.fetch_plan import FetchPlan
from app.quantities import rough_duration, size_name
from engine.protocol_jobs import ConvertAfter, DenseFormat, FetchRequest
from engine.protocol_library import (
    DiskRoom,
    HubState,
    Library,
    LibraryItem,
    MachineSummary,
    Offer,
    RemoteFileEntry,
    Removed,
)

LINE_MBIT_S = 100
"""An example of a line's speed, so that bytes become hours."""
ITEMS_EMPTY = (
    "Nothing yet",
    "Get a model below, or drop a GGUF file or a checkpoint’s folder onto this window: it stays where it lies.",
)
JOBS_EMPTY = (
    "Nothing under way",
    "Downloads, conversions and checks stand here while they run. They go on when this window is closed, can be "
    "paused, and resume after a power cut.",
)
OFFERS_EMPTY = (
    "The catalogue is empty",
    "Any model on Hugging Face can be had by its name: write it into the field above.",
)
LOADING = ("Waiting for the engine…", "")
CONSUME_WORDS = (
    "Each part of the checkpoint is deleted as soon as everything in it is written and read back. The disk then "
    "holds the result and a few parts at most; the checkpoint itself is not kept."
)
ACCESS_HINT = (
    "Make one at huggingface.co/settings/tokens (reading is enough). Where a model has terms, accept them on its "
    "page first, with the same account."
)


def item_title(item: LibraryItem) -> str:
    """The release where it is known, else the name."""
    return item.name


def item_words(item: LibraryItem, now_s: float) -> str:
    """Release, kind, size, last use."""
    words: list[str] = []
    if item.release and item.release != item.name:
        words.append(item.release)
    if item.kind == "checkpoint":
        words.append("checkpoint" if item.complete else "checkpoint, not complete yet")
    words.append(size_name(item.size_bytes))
    if item.files > 1:
        words.append(f"{item.files:,} files")
    if item.kind == "model":
        words.append(used_words(item.last_used_at, now_s))
    return " · ".join(words)


def used_words(last_used_at: float | None, now_s: float) -> str:
    """When it was used last, by the calendar of this machine."""
    if last_used_at is None:
        return "not used yet"
    then, now = datetime.fromtimestamp(last_used_at), datetime.fromtimestamp(now_s)
    days = (now.date() - then.date()).days
    if days <= 0:
        return "used today"
    if days == 1:
        return "used yesterday"
    if days < 60:
        return f"used {days} days ago"
    return f"used {days // 30} months ago" if days < 730 else f"used {days // 365} years ago"


def offer_words(offer: Offer, *, tells_time: bool = False) -> str:
    """What it weighs, on the line and on the disk, and its licence. `tells_time`: how long it takes, as well."""
    words: list[str] = []
    if offer.download_bytes is None:
        words.append("size known once the hub is asked")
    else:
        takes = f", {time_words(offer.download_bytes)}" if tells_time else ""
        words.append(f"{size_name(offer.download_bytes)} to download{takes}")
    converted = result_bytes(offer.results, "q8_0")
    if converted is not None:
        words.append(f"{size_name(converted)} once converted")
        if offer.working_bytes is not None:
            words.append(f"{size_name(converted + offer.working_bytes)} at most meanwhile")
    if offer.licence:
        words.append(offer.licence)
    return " · ".join(words)


def offer_source(offer: Offer) -> str:
    """Where it comes from: repository and revision."""
    revision = offer.revision[:12] if offer.pinned else offer.revision
    return f"{offer.repository} @ {revision}" + (" · your catalogue" if offer.own else "")


def room_words(rooms: list[DiskRoom]) -> list[tuple[str, float]]:
    """One line for each disk, and how full it is, 0 to 1. Folders on one disk share a line."""
    names = {"models": "Models", "checkpoints": "Checkpoints"}
    lines: list[tuple[str, float]] = []
    seen: dict[tuple[int, str], list[DiskRoom]] = {}
    for room in rooms:
        seen.setdefault((room.total_bytes, size_name(room.free_bytes)), []).append(room)
    for (total, _), group in seen.items():
        roles = " and ".join(dict.fromkeys(names[room.role] for room in group))
        used = 1 - group[0].free_bytes / total if total > 0 else 0.0
        words = f"{roles}: {size_name(group[0].free_bytes)} free of {size_name(total)}"
        lines.append((words, min(1.0, max(0.0, used))))
    return lines


def cost_lines(plan: FetchPlan) -> list[tuple[str, str]]:
    """What it costs, as (name, value)."""
    lines = [("To download", _size(plan.download_bytes))]
    if plan.converts:
        lines.append(("On the disk at the end", _size(plan.end_bytes)))
        lines.append(("On the disk at most", _size(plan.peak_bytes)))
    else:
        lines.append(("On the disk", _size(plan.end_bytes)))
    seconds = plan.seconds_at(LINE_MBIT_S * 1e6)
    if seconds is not None:
        # Labelled as what it is: nobody here knows the line.
        lines.append(
            ("Time", f"about {rough_duration(seconds)} on a line of {LINE_MBIT_S} Mbit/s, as an example")
        )
    return lines


def time_words(download_bytes: int) -> str:
    """How long a download takes on the example's line."""
    return f"about {rough_duration(download_bytes * 8 / (LINE_MBIT_S * 1e6))} at {LINE_MBIT_S} Mbit/s"


def shortfall_words(shortfalls: list[tuple[int, int]]) -> str:
    """Why there is not enough room; "" where there is."""
    if not shortfalls:
        return ""
    needed, free = shortfalls[0]
    return (
        f"There is not enough room: it takes {size_name(needed)}, and {size_name(free)} are free there. Choose "
        "another disk, or free some space."
    )


def file_name(offer: Offer) -> str:
    """The folder and the model of an offer are named after its repository."""
    return offer.repository.rpartition("/")[2] or offer.name


def choice_offers(offer: Offer, choices: list[RemoteFileEntry]) -> list[Offer]:
    """One offer for each of several models in a repository; the repository itself where there is no choice."""
    if not choices:
        return [offer]
    return [
        offer.model_copy(
            update={
                "title": choice.path,
                "about": "",
                "files": [choice.path],
                "download_bytes": choice.size_bytes,
                "item_id": None,
                # That of a whole repository says nothing of one model in it.
                "fit": offer.fit if len(choices) == 1 else None,
            }
        )
        for choice in choices
    ]


def fetch_request(
    offer: Offer, folder: str | None, convert: tuple[DenseFormat, bool, str | None] | None
) -> FetchRequest:
    """What to ask for. `convert`: (format of the dense part, delete parts, file to write)."""
    return FetchRequest(
        what=offer.name,
        revision=offer.revision or None,
        files=offer.files,
        folder=folder,
        convert=ConvertAfter(dense=convert[0], consume=convert[1], target=convert[2]) if convert else None,
    )


def keeping_words(hub: HubState | None) -> str:
    """Where a token would be kept."""
    if hub is not None and hub.keyring_problem:
        return f"It is kept for this run only, and asked for again next time: {_lower(hub.keyring_problem)}"
    return "It is kept in this system’s keyring, and never shown again, written to a file or logged."


def kept_words(hub: HubState) -> str:
    """What became of a token."""
    if hub.token == "keyring":  # noqa: S105 (a place, not a token)
        return "The access token is kept in this system’s keyring."
    why = f": {_lower(hub.keyring_problem)}" if hub.keyring_problem else "."
    return f"The access token is kept for this run only{why}"


def hub_words(hub: HubState) -> tuple[str, bool]:
    """How the hub is reached, and whether there is a token of ours that can be forgotten."""
    asked = f"Models come from {hub.endpoint}"
    where = "Offline, as the settings say: the hub is not asked" if hub.offline else asked
    token = {
        "none": "",
        "keyring": ", with the access token in this system’s keyring",
        "this_run": ", with an access token that is kept for this run",
        "environment": ", with the access token of Hugging Face’s own tools",
    }[hub.token]
    is_ours = hub.token in ("keyring", "this_run")
    return where + token, is_ours


def removal_words(item: LibraryItem, *, stays: bool) -> tuple[str, str]:
    """(question, what it means). `stays`: it was added where it lies, and is only taken off the list."""
    files = f"{item.files:,} files, " if item.files > 1 else ""
    what = f"{files}{size_name(item.size_bytes)}, in {item.path}"
    if stays:
        return (
            f"Take {item.name} off the list?",
            f"{what}\n\nIt was added where it lies, and stays there; it can be added again.",
        )
    meaning = "From the trash it can be brought back; its space is free only once the trash is emptied."
    if item.kind == "checkpoint":
        meaning += " If it was added from a folder of yours, it is only taken off the list."
    return f"Remove {item.name}?", f"{what}\n\n{meaning}"


def removed_words(name: str, removed: Removed) -> str:
    """What became of it."""
    if removed.in_trash:
        return f"{name} is in the trash; its {size_name(removed.size_bytes)} are free once that is emptied."
    if removed.size_bytes == 0:
        return f"{name} is off the list; its files stay where they lie."
    return f"{name} is deleted; {size_name(removed.size_bytes)} are free again."


def machine_words(machine: MachineSummary, rooms: list[DiskRoom]) -> str:
    """What was found on this machine, as one sentence."""
    cores = f"{machine.cores} core{'' if machine.cores == 1 else 's'}"
    found = [f"{machine.processor} ({cores})" if machine.processor else cores]
    found.append(f"{size_name(machine.memory_bytes)} of memory")
    found.extend(machine.gpus)
    words = "Found here: " + ", ".join(found)
    models = next((room for room in rooms if room.role == "models"), None)
    if models is not None:
        words += f"; {size_name(models.free_bytes)} are free where models go"
    return words + "."


def welcome_offers(library: Library) -> list[Offer]:
    """The two to begin with: the first Flash and the first Pro of the catalogue."""
    found: list[Offer] = []
    for word in ("flash", "pro"):
        offer = next((each for each in library.offers if word in each.name.lower().split("-")), None)
        if offer is not None:
            found.append(offer)
    return found or library.offers[:2]


def _size(size_bytes: int | None) -> str:
    return "not known yet" if size_bytes is None else size_name(size_bytes)


def _lower(sentence: str) -> str:
    # Only a plain capital; "D-Bus" stays.
    return (
        sentence[:1].lower() + sentence[1:] if sentence[1:2].islower() or sentence[1:2] == " " else sentence
    )
