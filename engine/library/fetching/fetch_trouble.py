"""What a disk says when files cannot be written or read, as sentences about a download.

Owns: which error of the system means what to a person. Does not know what was being done.
"""

import errno
import shutil
from pathlib import Path

from engine.errors import FetchDiskFull, FetchFailed
from engine.model_table import size_text

_GONE = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN, errno.ENOENT, errno.ENOTDIR)


def told(error: OSError, folder: Path) -> FetchFailed:
    """An OSError about something in `folder`, as the error that a person meets. What has arrived is kept."""
    what = f"Fetching into {folder} stopped"
    number = error.errno
    if number in (errno.ENOSPC, errno.EDQUOT):
        try:
            free = f"{size_text(shutil.disk_usage(folder).free)} are free"
        except OSError:
            free = "nothing is free"
        full = "the disk is full" if number == errno.ENOSPC else "you may not write more to this disk"
        return FetchDiskFull(what, f"{full} ({free})", "make room, then resume")
    if number == errno.EFBIG:
        return FetchFailed(
            what,
            "this disk cannot hold files of that size",
            "choose a folder on another disk (FAT32 ends at 4 GB; exFAT, NTFS and ext4 do not)",
        )
    if number == errno.EROFS:
        return FetchFailed(what, "the disk can only be read", "make it writable, or choose another folder")
    if number in (errno.EACCES, errno.EPERM):
        return FetchFailed(what, "writing there is not permitted", "change the folder's rights, then resume")
    if number in _GONE and not folder.is_dir():
        return FetchFailed(what, "the folder is not there any more", "connect its disk again, then resume")
    if number in (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN):
        why = f"the disk does not do what it should ({error.strerror})"
        return FetchFailed(what, why, "check the disk and its cable, then resume")
    if number == errno.ENAMETOOLONG:
        return FetchFailed(what, "a name is too long for this disk", "choose a folder with a shorter path")
    return FetchFailed(what, error.strerror or str(error), "check the folder and its disk, then resume")
