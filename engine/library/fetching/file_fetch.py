"""One file while it arrives: its bytes on the disk, what is sure of them, and its place when it is whole.

Owns: the part file and its journal in `.cache/seamount/parts`, the digest that is computed on the way, quarantine,
and the notes of Hugging Face's own tools beside a finished file. Does not know where bytes come from, other files,
or when to stop. One PartFile is used by one thread at a time. Raises OSError as it comes.

What is written is in the hands of the system at once, so a killed process loses nothing of it. Every 64 MiB the
bytes are made durable and a line of the journal says how far, with the digest up to there. What is found later is
hashed again and cut back to the last line that agrees when the machine was started anew in between (power was cut);
else everything that was written is kept.
"""

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.atomic_file import name_beside, sync_folder, write_atomically
from engine.library.fetching.fetch_manifest import parts_folder, quarantine_folder, replaced_folder
from engine.library.fetching.remote_file import Digest, RemoteFile, long_path, place_of

SURE_EVERY_BYTES = 64 << 20
READ_BYTES = 4 << 20
MAX_JOURNAL_BYTES = 16 << 20
_BOOT_TOLERANCE_S = 5.0


class ReadStoppedError(Exception):
    """Reading what lies on the disk was ended on request."""


class PartFile:
    """The bytes [0, `have_bytes`) of a file that arrives."""

    def __init__(self, folder: Path, file: RemoteFile) -> None:
        self.folder, self.file = folder, file
        name = hashlib.sha256(f"{file.path} {file.digest} {file.size_bytes}".encode()).hexdigest()[:32]
        self.path = long_path(parts_folder(folder) / f"{name}.part")
        self._journal = self.path.with_suffix(".journal")
        self._aside = long_path(quarantine_folder(folder) / f"{name}.wrong")
        self._descriptor: int | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.have_bytes = 0
        self._hash: Digest = self.file.hasher()
        self._sure: tuple[int, Digest] = (0, self.file.hasher())
        """How far the bytes are durable and known to be what came, and the hash there."""
        self._found: tuple[int, Digest] = (0, self.file.hasher())
        """The same as it was when the part was found."""
        self._found_bytes = 0
        self._noted: dict[int, tuple[str, float]] = {}
        """The journal: offset → (digest up to there, start of the machine)."""
        self._looked = False

    def open(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Find what has arrived before, hash it, and be ready to write on. Raises OSError, ReadStoppedError."""
        if self._descriptor is not None:
            return
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(self.path, flags, 0o644)
        try:
            if not self._looked:
                self._resume(stopped)
            os.lseek(self._descriptor, self.have_bytes, os.SEEK_SET)
        except BaseException:
            self.close()
            raise
        self._looked = True

    def close(self) -> None:
        """Give the file back to the system; everything that was written stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def write(self, content: bytes) -> None:
        """Append bytes. After an OSError `have_bytes` says what of them was written."""
        rest = memoryview(content)
        while rest:
            written = os.write(self._opened(), rest)
            self._hash.update(rest[:written])
            self.have_bytes += written
            rest = rest[written:]
        if self.have_bytes - self._sure[0] >= SURE_EVERY_BYTES:
            self.make_sure()

    @property
    def is_open(self) -> bool:
        """Whether it can be written to now."""
        return self._descriptor is not None

    def beginning(self, count: int) -> bytes:
        """The first `count` bytes, or as many as there are."""
        with self.path.open("rb") as content:
            return content.read(min(count, self.have_bytes))

    def make_sure(self) -> None:
        """Have everything so far on the disk for certain, and noted."""
        if self._sure[0] == self.have_bytes:
            return
        _sync(self._opened())
        self._sure = self.have_bytes, self._hash.copy()
        first = not self._noted
        self._noted[self.have_bytes] = self._hash.hexdigest(), _boot_s()
        if first:
            self._write_journal()
        else:
            with self._journal.open("a", encoding="utf-8") as journal:
                journal.write(self._line(self.have_bytes))
                journal.flush()
                os.fsync(journal.fileno())

    def is_right(self) -> bool:
        """Whether the whole file has arrived and has the digest that the hub told; without one, its size counts."""
        if self.have_bytes != self.file.size_bytes:
            return False
        return not self.file.digest or self._hash.hexdigest() == self.file.digest

    def came(self) -> str:
        """The digest of what has arrived."""
        return self._hash.hexdigest()

    def finish(self, commit: str, modified_ns: int) -> Path:
        """Put the whole and right file in its place, durable, with its time of change; returns the place."""
        _sync(self._opened(), whole=True)
        self.close()
        os.utime(self.path, ns=(modified_ns, modified_ns))
        place = place_of(self.folder, self.file.path)
        _make_room(self.folder, place)
        self.path.replace(place)
        sync_folder(place.parent)
        write_note(self.folder, self.file, commit, modified_ns)
        self._journal.unlink(missing_ok=True)
        self._aside.unlink(missing_ok=True)
        return place

    def step_back(self) -> bool:
        """The whole is wrong: drop what was not sure when it was found. False: nothing was sure, or all was."""
        place, digest = self._found
        found_bytes, self._found_bytes = self._found_bytes, 0
        if not 0 < place < found_bytes:
            return False
        self._cut(place, digest)
        return True

    def quarantine(self) -> Path:
        """The whole is wrong: set it aside, in the place of an earlier one, and begin anew; returns where it lies."""
        self.close()
        _make_room(self.folder, self._aside)
        self.path.replace(self._aside)
        self._journal.unlink(missing_ok=True)
        self._begin_anew()
        return self._aside

    def remove(self) -> None:
        """Delete what has arrived."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)
        self._begin_anew()

    # --- what was found ------------------------------------------------------------------------------

    def _opened(self) -> int:
        if self._descriptor is None:
            raise ValueError("the part file is not open")
        return self._descriptor

    def _resume(self, stopped: Callable[[], bool]) -> None:
        """Hash what lies there; keep as much of it as the journal and the machine's start allow."""
        length = os.fstat(self._opened()).st_size
        self._noted = self._read_journal()
        if length > self.file.size_bytes:
            length = 0
        place, tail_is_kept = 0, not self._is_of_another_start(None)
        marks = sorted(self._noted)
        while place < length:
            if stopped():
                raise ReadStoppedError
            end = min([length, *(mark for mark in marks if mark > place)])
            piece = self._read(place, min(READ_BYTES, end - place))
            self._hash.update(piece)
            place += len(piece)
            if not piece:
                tail_is_kept = False
                break
            if place in self._noted:
                digest, boot_s = self._noted[place]
                if self._hash.hexdigest() != digest:
                    tail_is_kept = False
                    break
                self._sure = place, self._hash.copy()
                tail_is_kept = not self._is_of_another_start(boot_s)
        sure, digest_there = self._sure
        self._found = sure, digest_there.copy()
        if not tail_is_kept or not length:
            place, self._hash = sure, digest_there.copy()
        self._found_bytes = place
        self._cut(place, self._hash)

    def _read(self, place: int, count: int) -> bytes:
        os.lseek(self._opened(), place, os.SEEK_SET)
        return os.read(self._opened(), count)

    def _cut(self, place: int, digest: Digest) -> None:
        """Keep the first `place` bytes, and of the journal what is about them."""
        os.ftruncate(self._opened(), place)
        os.lseek(self._opened(), place, os.SEEK_SET)
        self.have_bytes, self._hash = place, digest.copy()
        if self._sure[0] > place:
            self._sure = place, digest.copy()
        sure, digest_there = self._sure
        self._noted = {at: line for at, line in self._noted.items() if at <= sure}
        if sure:
            # What is written from here on is written since this start of the machine.
            self._noted[sure] = digest_there.hexdigest(), _boot_s()
            self._write_journal()
        else:
            self._journal.unlink(missing_ok=True)

    def _is_of_another_start(self, boot_s: float | None) -> bool:
        """Whether the machine was started anew after the part was last noted down."""
        if boot_s is None:
            # No line yet: the part itself must have been written since the machine was started.
            return os.fstat(self._opened()).st_mtime < _boot_s() - _BOOT_TOLERANCE_S
        return abs(boot_s - _boot_s()) > _BOOT_TOLERANCE_S

    def _read_journal(self) -> dict[int, tuple[str, float]]:
        """Empty when there is none, or none of this content."""
        lines: dict[int, tuple[str, float]] = {}
        try:
            with self._journal.open("rb") as journal:
                raw = journal.read(MAX_JOURNAL_BYTES).splitlines()
            head: Any = json.loads(raw[0])
            if head["digest"] != self.file.digest:
                return {}
            for text in raw[1:]:
                line: Any = json.loads(text)
                lines[int(line["offset"])] = str(line["digest"]), float(line["boot_s"])
        except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
            pass  # the last line may be half written; what stands before it counts
        return lines

    def _write_journal(self) -> None:
        head = {"path": self.file.path, "size_bytes": self.file.size_bytes, "digest": self.file.digest}
        text = json.dumps(head) + "\n" + "".join(map(self._line, sorted(self._noted)))
        write_atomically(self._journal, text.encode(), mode=0o644)

    def _line(self, offset: int) -> str:
        digest, boot_s = self._noted[offset]
        return json.dumps({"offset": offset, "digest": digest, "boot_s": boot_s}) + "\n"


# --- files that lie there as a whole -------------------------------------------------------------------


def note_path(folder: Path, file: RemoteFile) -> Path:
    """Where Hugging Face's own tools note what a file in a folder is."""
    noted = place_of(folder / ".cache" / "huggingface" / "download", file.path)
    return noted.with_name(f"{noted.name}.metadata")


def write_note(folder: Path, file: RemoteFile, commit: str, modified_ns: int) -> None:
    """Note down, as Hugging Face's tools do, that the file in the folder is the one of this commit."""
    path = long_path(note_path(folder, file))
    _make_room(folder, path)
    # A note older than the file would not count, and clocks jump.
    when_s = max(time.time(), modified_ns / 1e9)
    write_atomically(path, f"{commit}\n{file.digest}\n{when_s}\n".encode("ascii"), mode=0o644)


def is_noted(folder: Path, file: RemoteFile) -> bool:
    """Whether the file lies in the folder, as long as it should be, and unchanged since it was noted to be right."""
    try:
        found = place_of(folder, file.path).stat()
        with long_path(note_path(folder, file)).open(encoding="ascii") as note:
            _, digest, when = (note.readline(200).strip() for _ in range(3))
        return (
            found.st_size == file.size_bytes and digest == file.digest and found.st_mtime - 1 <= float(when)
        )
    except (OSError, ValueError):
        return False


def is_whole(folder: Path, file: RemoteFile, commit: str, stopped: Callable[[], bool]) -> bool:
    """Whether the file lies in the folder with the right content; one without a note is hashed once, then noted.

    One with other content is set aside. Raises OSError, ReadStoppedError.
    """
    place = place_of(folder, file.path)
    if not os.path.lexists(place):
        return False
    if is_noted(folder, file):
        return True
    if place.is_dir() and not place.is_symlink():
        raise IsADirectoryError(errno.EISDIR, "a folder lies in the place of a file", str(place))
    same_size = place.is_file() and place.stat().st_size == file.size_bytes
    if same_size and (not file.digest or digest_of(place, file, stopped) == file.digest):
        write_note(folder, file, commit, place.stat().st_mtime_ns)
        return True
    set_aside(folder, place, file.path)
    return False


def digest_of(
    place: Path, file: RemoteFile, stopped: Callable[[], bool], read: Callable[[int], None] = lambda _: None
) -> str:
    """The digest of what lies at `place`, of the kind that `file` has; `read` is told of bytes as they are read.

    Raises OSError, ReadStoppedError.
    """
    digest = file.hasher()
    with place.open("rb", buffering=0) as content:
        while piece := content.read(READ_BYTES):
            if stopped():
                raise ReadStoppedError
            digest.update(piece)
            read(len(piece))
    return digest.hexdigest()


def set_aside(folder: Path, place: Path, name: str) -> Path:
    """Move a file that somebody else has laid in the place of `name` out of the way; returns where it lies."""
    wanted = replaced_folder(folder) / name.rpartition("/")[2]
    _make_room(folder, wanted)
    free = name_beside(wanted, "replaced")
    place.replace(free)
    return free


def _make_room(folder: Path, path: Path) -> None:
    """Make the folders above `path`, but not `folder`: where its disk was pulled, another one would be filled."""
    if not long_path(folder).is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    path.parent.mkdir(parents=True, exist_ok=True)


def _sync(descriptor: int, *, whole: bool = False) -> None:
    """To the disk, without the file's times unless `whole`."""
    if not whole and hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def _boot_s() -> float:
    """When this machine was started (Unix seconds)."""
    import psutil

    with contextlib.suppress(OSError, RuntimeError):
        return psutil.boot_time()
    return 0.0
