"""Fault points: named places in the program at which a proof may kill the process or fill the disk.

A random kill seldom falls into the moment between two writes that belong together; these places are such
moments. This module owns their names and what happens there. It knows nothing of what is being written. With
`SEAMOUNT_FAULT` unset, as it always is outside tests, a point costs one look at an empty string.

`SEAMOUNT_FAULT` is `name:n`, which kills the own process (SIGKILL where there is one) when the point `name` is
passed for the n-th time, or `name:n:enospc`, which raises "no space left on device" there, that once.
"""

import errno
import os
import signal
import threading

# What stands at each point; `at()` is called by the module that does it.
NAMES = {
    "journal-write": "a record is about to be written to a journal",
    "journal-written": "a record is in the journal's file, not yet synced",
    "journal-synced": "a journal has been synced to the disk",
    "journal-compacting": "a journal's shorter copy is written beside it, not yet in its place",
    "journal-compacted": "a journal's shorter copy has just taken its place",
    "snapshot-write": "a block of a snapshot is about to be written to its temporary file",
    "snapshot-written": "a snapshot's temporary file is whole and synced, not yet renamed",
    "snapshot-renamed": "a snapshot has its name; nobody has been told yet",
    "snapshot-evict": "a snapshot is about to be deleted to make room",
    "relay-saved": "the context's state has been saved, and not yet been loaded again",
    "relay-loaded": "the context has been loaded from what was saved",
    "piece-journalled": "a piece of an answer is in the journal, not yet in the database",
    "piece-stored": "a piece of an answer is in the database, nobody has been told yet",
    "turn-stored": "a question and its empty answer are in the database, the turn has not begun",
    "turn-ending": "an answer's end is in the journal, not yet in the database",
    "turn-ended": "an answer's end is in the database, nobody has been told yet",
    "branch-storing": "inside the transaction that makes a new branch of a conversation",
    "store-resealed": "the database is written in its other form (encrypted or not), not yet in its place",
    "store-replaced": "the database in its other form has just taken its place",
    "part-fetched": "a wheel of an optional part is there and has the right sum, not yet unpacked",
    "part-unpacking": "a file of an optional part is about to be written",
    "part-whole": "an optional part is unpacked and on the disk, not yet under its name",
    "part-renamed": "an optional part has just got its name; an older one is still there",
    "part-removing": "an optional part is not under its name any more, its files are about to be deleted",
    "recovery": "an unfinished turn found at the start is about to be put right",
}

_spec = os.environ.get("SEAMOUNT_FAULT", "")
_passes = 0
_counting = threading.Lock()


def at(name: str) -> None:
    """Pass the point `name`; the process ends here, or the disk is full here, if `SEAMOUNT_FAULT` says so.

    Raises OSError (ENOSPC) when told to, and ValueError for a `SEAMOUNT_FAULT` that names no point: a proof
    that waits for a fault that never comes would pass without having proved anything.
    """
    if not _spec:
        return
    wanted, nth, kind = parsed(_spec)
    if name != wanted:
        return
    global _passes
    with _counting:
        _passes += 1
        if _passes != nth:
            return
    if kind == "enospc":
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (fault point {name})")
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


def parsed(spec: str) -> tuple[str, int, str]:
    """`name:n` or `name:n:enospc` → the name, the pass, and "kill" or "enospc". Raises ValueError."""
    name, _, rest = spec.partition(":")
    nth, _, kind = rest.partition(":")
    if name not in NAMES or not nth.isdecimal() or int(nth) < 1 or kind not in ("", "enospc"):
        raise ValueError(f"SEAMOUNT_FAULT={spec!r} is not name:n or name:n:enospc with a known name")
    return name, int(nth), kind or "kill"
