"""A backup's file, read with suspicion: nothing in it is believed before it has been held against the manifest.

Owns: the checks of the ZIP's directory (bounds, names, duplicates, links, bombs) and of the manifest, and reading a
member with its sum. Does not write anything (`restore`).
"""

import contextlib
import errno
import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import IO

from pydantic import ValidationError

from engine.errors import BackupRefused, DataFolderError
from engine.store.backup import PIECE_BYTES, Progress
from engine.store.backup_format import (
    DATABASE,
    MANIFEST,
    MOST_MANIFEST_BYTES,
    MOST_MEMBERS,
    PACKED,
    VERSION,
    Manifest,
    Member,
    may_hold,
)

WHAT = "The backup cannot be used"
_REMEDY = "use another backup; nothing was changed"
_END, _END_BYTES = b"PK\x05\x06", 22
_END_64, _PLACE_64 = b"PK\x06\x06", b"PK\x06\x07"
_END_64_BYTES, _PLACE_64_BYTES = 56, 20
_IN_64 = 0xFFFFFFFF
"""What stands for a size that the longer record has."""
_MOST_DIRECTORY_BYTES = 128 << 20
_MOST_WINDOW_BYTES = 128 << 20
_ENCRYPTED = 0x1


def refused(why: str) -> BackupRefused:
    """The error for a backup that is not as it should be."""
    return BackupRefused(WHAT, why, _REMEDY)


class BackupReader:
    """An open backup whose directory and manifest agree. Closed by `close`, or at the end of `with`."""

    def __init__(self, path: Path) -> None:
        """Raises BackupRefused, DataFolderError for a file that cannot be read."""
        self.path = path
        try:
            found = path.stat()
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                # Opening a pipe would wait for whoever writes into it.
                raise OSError(errno.EINVAL, "it is no ordinary file")
            self.size_bytes = found.st_size
            with path.open("rb") as file:
                _check_end(file, self.size_bytes)
        except OSError as error:
            why = f"{path} cannot be read ({error.strerror or error})"
            raise DataFolderError(WHAT, why, "check its name and your permission") from error
        with _suspicious(path):
            self._archive = zipfile.ZipFile(path)
        try:
            with _suspicious(path):
                entries = self._entries()
                self.manifest = self._manifest(entries)
            self._check_members(entries)
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> "BackupReader":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._archive.close()

    @property
    def content_bytes(self) -> int:
        """What all files in it have together, uncompressed."""
        return sum(member.bytes for member in self.manifest.members)

    def pieces(self, member: Member) -> Generator[bytes, None, None]:
        """The file's bytes. Raises BackupRefused, at the latest behind the last piece, when they are not those that the
        manifest tells of; never more bytes are given than it says."""
        digest, left = hashlib.sha256(), member.bytes
        with _suspicious(self.path), self._open(member) as source:
            while piece := source.read(PIECE_BYTES):
                left -= len(piece)
                if left < 0:
                    raise refused(f"{member.name} in it is longer than its manifest says")
                digest.update(piece)
                yield piece
        if left or digest.hexdigest() != member.sha256:
            raise refused(f"{member.name} in it is damaged")

    def check(self, progress: Progress) -> None:
        """Read all of it. Raises BackupRefused, TaskStopped."""
        progress.expect(self.content_bytes)
        for member in self.manifest.members:
            for piece in self.pieces(member):
                progress.add(len(piece), member.name)

    @contextlib.contextmanager
    def _open(self, member: Member) -> Generator[IO[bytes], None, None]:
        import zstandard

        with self._archive.open(member.packed) as source:
            if member.packed == member.name:
                yield source
                return
            plain = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW_BYTES)
            with plain.stream_reader(source, closefd=False) as reader:
                yield reader

    def _entries(self) -> dict[str, zipfile.ZipInfo]:
        listed = self._archive.infolist()
        if len(listed) > MOST_MEMBERS:
            raise refused(f"it has more than {MOST_MEMBERS:,} members")
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in listed:
            mode = entry.external_attr >> 16
            if entry.filename in entries:
                raise refused("two of its members have the same name")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise refused("a member of it is not stored as backups store theirs")
            if entry.flag_bits & _ENCRYPTED or entry.is_dir() or stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise refused("a member of it is no ordinary file")
            entries[entry.filename] = entry
        if sum(entry.compress_size for entry in listed) > self.size_bytes:
            raise refused("its members overlap")
        return entries

    def _manifest(self, entries: dict[str, zipfile.ZipInfo]) -> Manifest:
        entry = entries.get(MANIFEST)
        if entry is None or entry.file_size > MOST_MANIFEST_BYTES:
            raise refused(f"it has no {MANIFEST}, or one that is too large")
        try:
            return Manifest.model_validate_json(self._archive.read(entry))
        except ValidationError as error:
            places = {
                step for each in error.errors(include_url=False, include_input=False) for step in each["loc"]
            }
            if "version" in places and "format" not in places:
                raise BackupRefused(
                    WHAT,
                    f"it is of another format than version {VERSION}, the one that this Seamount knows",
                    "install the newer Seamount that wrote it; nothing was changed",
                ) from error
            raise refused(f"its {MANIFEST} is not that of a backup") from error

    def _check_members(self, entries: dict[str, zipfile.ZipInfo]) -> None:
        members = self.manifest.members
        for member in members:
            if not may_hold(member.name):
                raise refused("it holds a file that does not belong to a backup")
            if member.packed not in (member.name, member.name + PACKED):
                raise refused(f"{member.name} in it has a wrong name")
        # Some file systems do not tell capitals from small letters.
        if len({member.name.lower() for member in members}) != len(members):
            raise refused("its manifest names a file twice")
        if {member.packed for member in members} != entries.keys() - {MANIFEST}:
            raise refused("its manifest does not name the files that are in it")
        if (DATABASE in {member.name for member in members}) != (self.manifest.store_version > 0):
            raise refused("its manifest does not say what its database is")


def _check_end(file: IO[bytes], size_bytes: int) -> None:
    """Refuse what is no ZIP, and one whose directory alone would fill the memory, before it is read."""
    start = max(0, size_bytes - 65_536 - _END_BYTES)
    file.seek(start)
    tail = file.read(65_536 + _END_BYTES)
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_BYTES:
        raise refused("it is not a backup of Seamount, or its end is missing")
    told_bytes = int.from_bytes(tail[place + 12 : place + 16], "little")
    sizes_bytes: list[int] = []
    if place >= _PLACE_64_BYTES and tail[place - _PLACE_64_BYTES :].startswith(_PLACE_64):
        # One reader looks where this says, another right before it, and both whatever stands in the short form.
        says = int.from_bytes(tail[place - 12 : place - 4], "little")
        before = start + place - _PLACE_64_BYTES - _END_64_BYTES
        for at in (says, before):
            file.seek(max(0, min(at, size_bytes)))
            record = file.read(_END_64_BYTES)
            if record.startswith(_END_64):
                sizes_bytes.append(int.from_bytes(record[40:48], "little"))
    if told_bytes != _IN_64 or not sizes_bytes:
        sizes_bytes.append(told_bytes)
    if max(sizes_bytes) > min(_MOST_DIRECTORY_BYTES, size_bytes):
        raise refused("its directory is larger than any backup's")


@contextlib.contextmanager
def _suspicious(path: Path) -> Generator[None, None, None]:
    """What the libraries raise over a hostile file becomes a sentence."""
    import zstandard

    try:
        yield
    except (zipfile.BadZipFile, zstandard.ZstdError, zlib.error, EOFError, NotImplementedError) as error:
        raise refused(
            f"it is damaged ({' '.join(str(error).split())[:200] or type(error).__name__})"
        ) from error
    except (ValueError, RuntimeError, KeyError, IndexError, OverflowError, struct.error) as error:
        raise refused(f"it is not a backup that can be read ({type(error).__name__})") from error
    except MemoryError as error:
        raise refused("reading it takes more memory than there is") from error
    except OSError as error:
        if error.errno == errno.EINVAL:
            # Not the disk's word: a place before the file's beginning was asked for, because the file says so.
            raise refused("it is damaged (its directory points outside of it)") from error
        why = f"{path} cannot be read ({error.strerror or error})"
        raise DataFolderError(WHAT, why, "check the disk; nothing was changed") from error
