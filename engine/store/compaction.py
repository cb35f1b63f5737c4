"""The store's file without the room that what was deleted has left in it.

Owns: SQLite's VACUUM, and that there is room for it before it begins. Does not know whether anybody writes: whoever
calls sees to that, for every write waits until it is done.

VACUUM writes the whole store anew inside one transaction: after a kill there is the store as it was. It takes twice the
store's size on the disk for a while, and as much memory for any store.
"""

import shutil
import sqlite3
from dataclasses import dataclass

from engine.errors import DataFolderError, DiskFull, SeamountError
from engine.store.database import Database

_WHAT = "The conversations were not compacted"
_SPARE_BYTES = 16 << 20


@dataclass(frozen=True)
class Compacted:
    """The sizes of the store's files, log and all."""

    before_bytes: int
    after_bytes: int


def compact(database: Database) -> Compacted:
    """Make the file as small as what is in it. Raises DiskFull, DataFolderError; the store is then as it was."""
    before = store_bytes(database)
    free = shutil.disk_usage(database.path.parent).free
    needed = 2 * before + _SPARE_BYTES
    if free < needed:
        raise DiskFull(
            _WHAT,
            f"it takes {needed:,} bytes for a while, and the disk that holds {database.path.parent} has {free:,} free",
            "free some space there and try again",
        )
    try:
        with database.reading() as connection:
            # An encrypted store is sorted in memory, but the copy that is made here is encrypted, and may be large.
            sorting = connection.execute("PRAGMA temp_store").fetchone()[0]
            connection.execute("PRAGMA temp_store = DEFAULT")
            try:
                connection.execute("VACUUM")
            finally:
                connection.execute(f"PRAGMA temp_store = {sorting}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except DiskFull as error:
        why = "the disk that holds the data folder, or the one for temporary files, is full"
        raise DiskFull(_WHAT, why, "free some space there and try again") from error
    except SeamountError as error:
        raise DataFolderError(_WHAT, error.why, error.remedy) from error
    except sqlite3.Error as error:
        raise DataFolderError(_WHAT, str(error), "see what `seamount sessions verify` says") from error
    return Compacted(before, store_bytes(database))


def store_bytes(database: Database) -> int:
    """What the store takes on the disk now, its log included."""
    names = (database.path, database.path.with_name(f"{database.path.name}-wal"))
    return sum(path.stat().st_size for path in names if path.exists())
