"""What one download will do: which files of a repository, in what order, into which folder, and whether they fit.

Owns: the choice of files, the manifest that pins it, and the room that is needed. Does not fetch.
"""

import fnmatch
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from convert.wording import listed
from engine.errors import Conflict, FetchDiskFull, FetchFailed
from engine.library.fetching.fetch_manifest import Manifest, read_manifest, write_manifest
from engine.library.fetching.fetch_trouble import told
from engine.library.fetching.hub import Listing
from engine.library.fetching.remote_file import RemoteFile, check_names
from engine.library.model_files import parts_pattern
from engine.model_table import size_text

CHECKPOINT_FILES = (
    "config.json", "generation_config.json", "tokenizer*.json", "*.safetensors", "model.safetensors.index.json",
    "LICENSE*", "README.md",
)  # fmt: skip
"""What of a checkpoint is wanted where nobody says."""
GGUF_FILES = ("*.gguf", "LICENSE*", "README.md")
SMALL_BYTES = 64 << 20
"""Files up to here come before all others: what a checkpoint is follows from them."""
SPARE_BYTES = 64 << 20
"""What stays free on the disk: others write there too."""
_LATEST_S = float(1 << 32)
_EVEN_SECONDS_NS = 2_000_000_000
"""Times of change are kept to two seconds on some disks (FAT)."""


@dataclass(frozen=True)
class FetchPlan:
    """Which files go into `folder`. `files` of the manifest are in the order in which they are fetched."""

    folder: Path
    manifest: Manifest

    @property
    def total_bytes(self) -> int:
        """All of the files together."""
        return self.manifest.total_bytes

    @property
    def shards(self) -> tuple[str, ...]:
        """The names of the checkpoint's shards."""
        return tuple(each.path for each in self.manifest.files if each.is_shard)

    def file(self, path: str) -> RemoteFile | None:
        """The file of this name; None: it is not part of the download."""
        return next((each for each in self.manifest.files if each.path == path), None)


def planned(
    folder: Path, listing: Listing, patterns: Iterable[str] = (), title: str = "", revision: str = ""
) -> FetchPlan:
    """Choose files of a listing and note them down in `folder`, which is made.

    `patterns` as of the shell, `*` also over slashes; none: what a model needs. `revision`: what the listing was
    asked for by. Raises FetchFailed for names that
    are refused and when nothing is chosen; Conflict when something else was fetched into this folder.
    """
    chosen = chosen_files(listing, patterns)
    check_names((each.path for each in chosen), listing.repository)
    # A time that no disk can hold is none.
    seconds = listing.modified_s if 0 < listing.modified_s < _LATEST_S else time.time()
    manifest = Manifest(
        listing.repository,
        listing.revision,
        chosen,
        tuple(patterns),
        int(seconds * 1e9) // _EVEN_SECONDS_NS * _EVEN_SECONDS_NS,
        time.time(),
        title,
        revision,
    )
    before = read_manifest(folder)
    if before is not None and before.commit == manifest.commit and before.repository == manifest.repository:
        # More files of the same: those that lie there keep their time of change.
        names = {each.path for each in chosen}
        kept = tuple(each for each in before.files if each.path not in names)
        files = tuple(sorted((*kept, *chosen), key=_order))
        check_names((each.path for each in files), listing.repository)
        manifest = replace(manifest, files=files, modified_ns=before.modified_ns, noted_s=before.noted_s)
    elif before is not None:
        raise Conflict(
            f"{listing.repository} cannot be fetched into {folder}",
            f"{before.repository} at {before.commit[:7]} was fetched into it",
            "choose another folder",
        )
    try:
        write_manifest(folder, manifest)
    except OSError as error:
        raise told(error, folder) from error
    return FetchPlan(folder, manifest)


def chosen_files(listing: Listing, patterns: Iterable[str] = ()) -> tuple[RemoteFile, ...]:
    """The files that the patterns name, in the order in which they are fetched; without patterns, what the one model
    of the repository needs. Raises FetchFailed for none, and for several models of which none is named."""
    wanted = tuple(patterns)
    if not wanted:
        has_shards = any(each.is_shard for each in listing.files)
        wanted = CHECKPOINT_FILES if has_shards else GGUF_FILES
    chosen = [each for each in listing.files if any(fnmatch.fnmatchcase(each.path, one) for one in wanted)]
    weights = [each for each in chosen if each.path.endswith((".safetensors", ".gguf"))]
    if not chosen or (not patterns and not weights):
        raise FetchFailed(
            f"{listing.repository} cannot be fetched",
            f"none of its {len(listing.files):,} files is {listed(list(wanted))}",
            "choose other files, or another repository",
        )
    ggufs = sorted({parts_pattern(each.path) for each in chosen if each.path.endswith(".gguf")})
    if not patterns and len(ggufs) > 1:
        # Rarely is every one of them wanted, and each may be as large as a disk.
        raise FetchFailed(
            f"{listing.repository} cannot be fetched as a whole",
            f"it holds {len(ggufs):,} models, {listed(ggufs)}",
            "name the file of one",
        )
    return tuple(sorted(chosen, key=_order))


def check_room(needed_bytes: Mapping[Path, int]) -> None:
    """Raise FetchDiskFull when a disk has not the room for what is to be written to it.

    `needed_bytes`: for folders, there or not yet; those on one disk are counted together.
    """
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, needed in needed_bytes.items():
        there = _nearest(folder)
        disk = there.stat().st_dev
        first, before = by_disk.get(disk, (folder, 0))
        by_disk[disk] = (first, before + needed)
    for folder, needed in by_disk.values():
        free = shutil.disk_usage(_nearest(folder)).free
        if needed and needed + SPARE_BYTES > free:
            raise FetchDiskFull(
                "There is not enough room for it",
                f"{size_text(needed)} more are needed on the disk of {folder}, and {size_text(free)} are free",
                "make room, or choose a folder on another disk",
            )


def is_bulk(file: RemoteFile) -> bool:
    """Whether the file comes after the small ones."""
    return file.size_bytes > SMALL_BYTES or file.path.endswith((".safetensors", ".gguf"))


def _order(file: RemoteFile) -> tuple[bool, str]:
    return is_bulk(file), file.path


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    for each in (folder, *folder.parents):
        if os.path.lexists(each):
            return each
    return folder
