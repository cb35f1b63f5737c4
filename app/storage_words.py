"""What is kept, backed up and encrypted, in words.

Owns: these sentences. Pure; asks nobody.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from app.quantities import size_name

if TYPE_CHECKING:
    from engine.protocol_encryption import EncryptionState
    from engine.protocol_storage import RestorePrepared, StorageTask, StorageUsage

PROTECTS = (
    "With it on, the text of every conversation, its token ids and what models have read of it are encrypted where "
    "they lie on the disk. Who copies the data folder, or finds the disk, cannot read them."
)
DOES_NOT_PROTECT = (
    "It does not protect against programs that run as you: they can ask the system's keyring for the key, as "
    "Seamount does. When conversations were held and how long they are can still be seen, and so can settings with the "
    "system message, model files, exported files, what the system swaps out of memory, and what a disk still holds of "
    "deleted files."
)
KEY_ADVICE = (
    "This is the recovery key. Write it down and keep it somewhere else: it is shown this once. If the keyring loses "
    "the key, or the data folder moves to another machine, nothing else opens the conversations."
)

MOST_LEFT_FREE_BYTES = 10 << 30
"""Where more is free, a full disk is not why nothing is kept (docs/snapshots.md)."""


def states_words(usage: StorageUsage) -> str:
    """What models have read, and what that takes now: "1.2 GB in 14 files are kept now"."""
    if not usage.states_count:
        if usage.states_budget_bytes and usage.free_bytes < MOST_LEFT_FREE_BYTES:
            return (
                f"Nothing is kept now; {size_name(usage.free_bytes)} are free, and a twentieth of the disk, "
                "at least 1.1 GB, stays so."
            )
        return "Nothing is kept now."
    files = "1 file" if usage.states_count == 1 else f"{usage.states_count:,} files"
    told = f"{size_name(usage.states_bytes)} in {files} now; {size_name(usage.free_bytes)} are free."
    if usage.states_damaged:
        count = usage.states_damaged
        told += f" {'One was' if count == 1 else f'{count:,} were'} damaged and set aside."
    return told


def task_words(task: StorageTask) -> str:
    """How far a backup is, or what has become of it."""
    match task.state:
        case "running":
            if not task.total_bytes:
                return "Looking at what there is…"
            return f"{size_name(task.done_bytes)} of {size_name(task.total_bytes)}"
        case "done":
            return "\n".join(task.lines) or "Done."
        case "stopped":
            return "Stopped. Nothing was written in the backup's place."
        case _:
            return (
                task.error.text if task.error is not None else "It failed, and gave no reason; try once more."
            )


def task_share(task: StorageTask) -> float:
    """How much of it is done, from 0 to 1."""
    return min(1.0, task.done_bytes / task.total_bytes) if task.total_bytes else 0.0


def restore_words(prepared: RestorePrepared) -> str:
    """What a restart of the engine will do with a backup that was checked."""
    made = datetime.fromtimestamp(prepared.created_at).strftime("%Y-%m-%d %H:%M")
    return (
        f"The backup of {made} is whole. It takes effect when the engine starts next. What is here now is not "
        f"deleted: it is put aside into {prepared.aside}."
    )


def encryption_words(state: EncryptionState) -> str:
    """What is so now, and what waits for a restart."""
    if state.locked is not None:
        if state.restart_needed:
            return "The key is here again. The conversations are there once the engine is restarted."
        return state.locked.text
    now = "The conversations are encrypted." if state.on else "The conversations are not encrypted."
    if state.pending == "on":
        return f"{now} They will be when the engine starts next."
    if state.pending == "off":
        return f"{now} They will not be any more when the engine starts next."
    return now


def plain_words(state: EncryptionState) -> str:
    """Older copies that are not encrypted; "" where there are none."""
    if not state.plain_files:
        return ""
    named = ", ".join(state.plain_files[:3]) + (", …" if len(state.plain_files) > 3 else "")
    return f"Older copies in the data folder are not encrypted: {named}."


def file_name(title: str, suffix: str) -> str:
    """A name for the file of a conversation: its title without what no system takes."""
    plain = "".join(char if char.isalnum() or char in " -_" else " " for char in title)
    return (" ".join(plain.split())[:80].strip() or "conversation") + suffix
