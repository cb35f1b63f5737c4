"""A backup's format: which files of a data folder belong to it, what they are called in it, and its manifest.

Owns: the one list of names, so that nothing else is ever taken into a backup or out of one, and the manifest's shape.
Does not read or write files (`backup`, `restore`). docs/sessions.md documents the format.

A backup is a ZIP file (APPNOTE 6.3.10) whose members are stored as they are. A member `NAME.zst` is the file NAME
compressed with Zstandard (RFC 8878). `manifest.json` is the last member and names all others.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import FailFast, Field

from engine.protocol import Wire

FORMAT = "seamount-backup"
VERSION = 1
MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 64 << 20
MOST_MEMBERS = 200_000
PACKED = ".zst"

DATABASE = "sessions.db"
BESIDE_DATABASE = ("sessions.db-wal", "sessions.db-shm")
"""SQLite's companions of a store that is open or was left by a kill; a backup holds what is in them, not them."""
JOURNALS = "sessions"
STATES = "snapshots"
FILES = (
    "version.json",
    "settings.toml",
    "catalogue.toml",
    "hardware.json",
    "threads.json",
    "placement.json",
    "window.ini",
    "models/added.json",
    "models/last_used.json",
)
"""Small files that hold what a person chose and what was found out about the machine."""

_JOURNAL = re.compile(r"sessions/[0-9A-Za-z_-]{1,128}/[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}", re.ASCII)
_STATE = re.compile(r"snapshots/[0-9A-Za-z_-]{1,200}\.kv", re.ASCII)
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.ASCII | re.IGNORECASE)
"""What Windows takes for a device, in any folder and with any ending."""


class Member(Wire):
    """One file of the data folder. `name` is its path there, `bytes` and `sha256` are of it, uncompressed."""

    name: str
    packed: str
    """The member of the ZIP that holds it: `name`, or `name` with `.zst` behind it."""
    bytes: Annotated[int, Field(ge=0, lt=2**60)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(Wire):
    """`manifest.json`. `store_version` is that of `sessions.db`, 0 without one."""

    format: Literal["seamount-backup"]
    version: Literal[1]
    seamount: str
    created_at: float
    store_version: int
    with_states: bool
    members: Annotated[list[Member], FailFast()]


def may_hold(name: str) -> bool:
    """Whether a backup may hold a file of that name.

    Every name that leads out of the data folder may not, nor one that is another file's somewhere: Windows drops dots
    at the end, and has devices.
    """
    if any(step.endswith(".") or _DEVICE.match(step) for step in name.split("/")):
        return False
    return name == DATABASE or name in FILES or bool(_JOURNAL.fullmatch(name) or _STATE.fullmatch(name))


def files_of(root: Path, *, with_states: bool) -> list[str]:
    """The names of the ordinary files in the data folder that a backup takes along, the database not among them.

    Links are left out. Raises OSError.
    """
    patterns = [*FILES, f"{JOURNALS}/*/*", *([f"{STATES}/*.kv"] if with_states else [])]
    found = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    names = [path.relative_to(root).as_posix() for path in found if path.is_file() and not path.is_symlink()]
    return [name for name in names if may_hold(name)]
