"""The kept states of contexts: the folder in which they lie, and the thread that writes them.

Owns: when a snapshot is written, refused or evicted, and that a damaged one is never used. Does not know what a state
is, when one is taken, whether one can be trusted beyond its sums (the keeper of contexts tries it), how a file is laid
out (`snapshot_file`), which snapshot serves for what (`snapshot_catalogue`) or is worth what (`snapshot_budget`).

A snapshot is known by its tokens and its bits, so whoever has the same beginning shares it. Snapshots are never the
only place of anything: one that is damaged, gone or refused is read again, which costs time and nothing else. So
nothing here stops an answer, and what fails is told to who asked.

Only the engine that holds `engine.lock` makes one of these for a folder.
"""

import contextlib
import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.atomic_file import is_disk_full
from engine.backends.base import ContextState
from engine.errors import DataFolderError, DiskFull, SeamountError, SnapshotDamaged, SnapshotRefused
from engine.store.snapshot_catalogue import Entry, Found, SnapshotCatalogue, by_length, common_tokens
from engine.store.snapshot_file import (
    SnapshotFileError,
    check_file,
    put_in_place,
    read_ids,
    read_snapshot,
    state_digest,
    write_snapshot,
)
from engine.store.snapshot_folder import SnapshotFolder, size_of
from engine.store.snapshot_index import About, Ids, Probe, SnapshotIndex
from engine.store.snapshot_room import (
    MAPPED_FROM_BYTES,
    lacking,
    left_free,
    mapped_memory,
    own_memory,
    part_name,
    refuse_beyond_memory,
)

if TYPE_CHECKING:
    from engine.store.sealing import Cipher

Done = Callable[[str | None, Exception | None], None]
"""Told the digest when a state is durable, or why it is not."""

WAITING_BYTES = 1 << 30
"""What may wait to be written besides the state that came last; the oldest are given up when it is more."""
IDS_HELD = 1 << 24
"""So many token ids of snapshots are held in memory."""
LONGEST_WRITE_S = 60.0
"""So long `forget_all` waits for the one that is just being written."""
WRITERS_NICENESS = 5
"""Beside threads that compute without a pause the writer's gets a quarter of a processor."""
REFINED = 8
"""So many of the longest common beginnings are looked at id by id."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SnapshotUsage:
    """What the folder holds: how many bytes in how many snapshots, and what was set aside besides."""

    bytes: int
    count: int
    damaged: int
    damaged_bytes: int


@dataclass
class _Waiting:
    state: ContextState
    probe: Probe | None
    about: About
    done: Done
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        marks = sum(mark.state.nbytes for mark in self.state.marks)
        self.size_bytes = self.state.whole.nbytes + marks + 4 * len(self.state.tokens)


class SnapshotStore:
    """The snapshots in `folder`, together at most `budget_bytes()`. Any thread may call it."""

    def __init__(
        self,
        folder: Path,
        budget_bytes: Callable[[], int],
        cipher: "Cipher | None" = None,
        *,
        leaves_free: Callable[[int], int] = left_free,
    ) -> None:
        """Look through the folder: temporaries of a dead engine go, what is damaged is set aside, what is more than
        the budget is evicted. Raises nothing.

        With a cipher, files that are not sealed are deleted. `leaves_free`: of a disk of so many bytes.
        """
        self._folder = SnapshotFolder(folder, cipher)
        self._budget_bytes, self._cipher = budget_bytes, cipher
        self._leaves_free = leaves_free
        self._catalogue = SnapshotCatalogue()
        self._ids: dict[str, Ids] = {}
        """Token ids of some, for finding common beginnings."""
        self._changed = threading.Condition()
        """For what follows."""
        self._waiting: list[_Waiting] = []
        self._unsettled = 0
        self._closed = False
        self._writer: threading.Thread | None = None
        for entry in self._folder.look_through():
            self._catalogue.add(entry)
        self.keep_to_budget()

    def room(self, size_bytes: int) -> NDArray[np.uint8]:
        """Memory for a state of so many bytes. Raises MemoryError, OSError.

        A large one lies in a file without a name, whose space is really there; with a cipher, or where the disk has no
        room to spare, in the program's own memory.
        """
        if size_bytes >= MAPPED_FROM_BYTES and self._cipher is None:
            with contextlib.suppress(OSError):
                self._folder.create()
                if not lacking(self._folder.path, size_bytes, self._leaves_free):
                    return mapped_memory(self._folder.path, size_bytes)
        return own_memory(size_bytes)

    def put(self, state: ContextState, probe: Probe | None, about: About, done: Done) -> None:
        """Have `state` written by the writer's thread; it must not be changed any more.

        `done` is called on that thread, before anything that was put later is written and before this one can be
        evicted: so what it protects stays. States that wait too long for a slow disk are given up, the oldest first.
        """
        job = _Waiting(state, probe, about, done)
        given_up: list[_Waiting] = []
        with self._changed:
            if not (closed := self._closed):
                self._waiting.append(job)
                self._unsettled += 1
                while (
                    len(self._waiting) > 1 and sum(each.size_bytes for each in self._waiting) > WAITING_BYTES
                ):
                    given_up.append(self._waiting.pop(0))
                if self._writer is None:
                    self._writer = threading.Thread(
                        target=self._write_all, name="snapshot-writer", daemon=True
                    )
                    self._writer.start()
                self._changed.notify_all()
        if closed:
            self._tell(job, None, _refused("the engine is stopping", "it is read again when it is needed"))
        for each in given_up:
            self._tell(each, None, _refused("the disk is too slow for it", "nothing has to be done"))
            self._settled()

    def settle(self, timeout_s: float) -> bool:
        """Wait until everything that was put is durable or has failed, and was told so; False: not in that time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._unsettled == 0, timeout_s)

    def find(self, state_key: str, tokens: Sequence[int], *, any_prefix: bool) -> list[Found]:
        """Snapshots with a beginning of `tokens`, the longest first; of equal ones the one used last.

        `any_prefix`: a context can be cut back to any length, so what is common to both counts (but less than 16
        tokens do not); else only all of a snapshot, or what lies before one of its marks.
        """
        served = self._catalogue.serving(state_key, tokens, any_prefix=any_prefix)
        if any_prefix:
            longest = [(self._common(each, tokens, least), each) for least, each in served[:REFINED]]
            served = by_length([pair for pair in longest if pair[0]] + served[REFINED:])
        return [each.found(common) for common, each in served]

    def by_digest(self, digest: str) -> Found | None:
        """The snapshot of exactly these bits, all of it."""
        entry = self._catalogue.of_digest(digest)
        return None if entry is None else entry.found(entry.index.tokens)

    def load(self, snapshot_id: str) -> tuple[ContextState, Probe | None]:
        """What a snapshot holds, after all its sums were looked at.

        Raises SnapshotDamaged when it cannot be used, and then it was set aside; MemoryError.
        """
        entry = self._catalogue.get(snapshot_id)
        if entry is None:
            raise _damaged("it is not there any more")
        refuse_beyond_memory(sum(entry.index.part_bytes))
        try:
            state, probe, index = read_snapshot(entry.path, self.room, self._cipher)
            if (index.digest, index.about.state_key) != (entry.index.digest, entry.index.about.state_key):
                raise SnapshotFileError("another file has taken its place")
        except FileNotFoundError:
            self._catalogue.take(snapshot_id)
            raise _damaged("its file is gone") from None
        except (SnapshotFileError, OSError) as error:
            self.quarantine(snapshot_id, _why(error))
            raise _damaged(_why(error)) from error
        _touch(entry)
        return state, probe

    def quarantine(self, snapshot_id: str, why: str) -> None:
        """Set a snapshot aside, in the folder `damaged`; it is never used again. Of many only the newest are kept."""
        if (entry := self._catalogue.take(snapshot_id)) is not None:
            self._folder.set_aside(entry.path, why)

    def protect(self, ids: Collection[str]) -> None:
        """From now on these are not evicted, and those named before may be."""
        self._catalogue.protect(ids)

    def usage(self) -> SnapshotUsage:
        """What the folder holds now."""
        damaged = self._folder.damaged()
        return SnapshotUsage(
            self._size_bytes(), len(self._catalogue.entries), len(damaged), sum(map(size_of, damaged))
        )

    def verify(self) -> list[str]:
        """Read every snapshot whole; a sentence for each that is damaged, which is set aside."""
        complaints: list[str] = []
        for each in self._catalogue.entries:
            try:
                check_file(each.path, self._cipher)
            except FileNotFoundError:
                self._catalogue.take(each.id)  # evicted meanwhile, or deleted by somebody
            except (SnapshotFileError, OSError) as error:
                why = _why(error)
                self.quarantine(each.id, why)
                complaints.append(
                    f"The snapshot {each.path.name} was set aside: {why}; it is read again when needed."
                )
        return complaints

    @property
    def names(self) -> list[str]:
        """The ids of all that are there."""
        return [each.id for each in self._catalogue.entries]

    def keep_to_budget(self) -> int:
        """Evict what is more than the budget, which may have changed; how many bytes went."""
        return self._evict(self._budget_bytes())

    def compact(self) -> int:
        """Delete what is damaged, what cannot be used here, and what is more than the budget; how many bytes went."""
        return self._folder.drop_damaged() + self._folder.drop_strangers() + self.keep_to_budget()

    def forget(self, ids: Collection[str]) -> list[str]:
        """Delete these, protected ones too, and all that was set aside, which may be of the same; which are gone."""
        gone: list[str] = []
        for each in ids:
            entry = self._catalogue.take(each)
            self._ids.pop(each, None)
            if entry is None or self._folder.delete(entry.path):
                gone.append(each)
            else:
                self._catalogue.add(entry)
        self._folder.drop_damaged()
        return gone

    def forget_all(self) -> None:
        """Delete every snapshot, protected and damaged ones too, and what waits to be written."""
        with self._changed:
            given_up, self._waiting[:] = list(self._waiting), []
        for each in given_up:
            self._tell(each, None, _refused("all of them are to be forgotten", "nothing has to be done"))
            self._settled()
        self.settle(LONGEST_WRITE_S)
        for entry in self._catalogue.take_all():
            self._folder.delete(entry.path)
        self._ids.clear()
        self.compact()

    def close(self) -> None:
        """Write what waits, then stop. Calling it again does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            writer = self._writer
        if writer is not None:
            writer.join()

    def _write_all(self) -> None:
        """The writer's thread: until the store is closed and nothing waits."""
        _yield_to_others()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                jobs = [self._waiting.pop(0)]
            # Nothing here may hold on to a state while the next one is waited for.
            self._write(jobs.pop())
            self._catalogue.settled()
            self._settled()

    def _write(self, job: _Waiting) -> None:
        digest, error = None, None
        try:
            digest = self._kept(job)
        except SeamountError as failure:
            error = failure
        except OSError as failure:
            error = _not_written(self._folder.path, failure)
        except Exception as failure:  # whatever it is, the next one must be written
            _logger.exception("a snapshot could not be written")
            error = failure
        self._tell(job, digest, error)
        # An error knows the frames that it came through, and these the state: let go of one to let go of the other.
        del error

    def _kept(self, job: _Waiting) -> str:
        """Write a state, or find it here; its digest. Raises OSError, SeamountError, ValueError."""
        budget = self._budget_bytes()
        if budget <= 0:
            raise _refused("snapshots may take no room", "allow them some in the settings")
        if (same := self._same(job)) is not None:
            _touch(same)
            self._catalogue.add(same, fresh=True)
            return same.index.digest
        # Compression may win half, hardly more: what is larger than that is not even tried.
        self._refuse_too_large(job.size_bytes // 2, budget)
        self._folder.create()
        short = lacking(self._folder.path, job.size_bytes, self._leaves_free)
        if short and not self._make_room(short):
            raise _disk_full(self._folder.path)
        part = part_name(self._folder.path)
        try:
            index = write_snapshot(part, job.state, job.probe, job.about, cipher=self._cipher)
        except OSError as error:
            if not is_disk_full(error) or not self._evict(self._size_bytes() - job.size_bytes):
                raise
            index = write_snapshot(part, job.state, job.probe, job.about, cipher=self._cipher)
        try:
            size = part.stat().st_size
            self._refuse_too_large(size, budget)
            self._evict(budget - size)
            path = self._folder.named(self._name(index))
            put_in_place(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._catalogue.add(Entry(path, size, time.time(), index), fresh=True)
        return index.digest

    def _same(self, job: _Waiting) -> Entry | None:
        """The entry that holds the very bits of a state; they are summed only if one is alike in all else."""
        alike = self._catalogue.alike(job.about, job.state)
        if job.probe is not None:
            alike = [each for each in alike if each.index.probe_token is not None]
        digest = state_digest(job.state) if alike else ""
        # Somebody may have emptied the folder meanwhile.
        return next((each for each in alike if each.index.digest == digest and each.path.exists()), None)

    def _refuse_too_large(self, size_bytes: int, budget_bytes: int) -> None:
        left = max(0, budget_bytes - self._catalogue.protected_bytes)
        if size_bytes > left:
            why = f"it would take {size_bytes:,} bytes, and {left:,} are left of what they may take"
            raise _refused(why, "allow snapshots more room in the settings")

    def _make_room(self, size_bytes: int) -> bool:
        """Evict so many bytes if there are so many that may go; whether they went."""
        total = self._size_bytes()
        if size_bytes > total - self._catalogue.protected_bytes:
            return False
        return self._evict(total - size_bytes) >= size_bytes

    def _evict(self, room_bytes: int) -> int:
        """Delete the cheapest until the rest takes at most `room_bytes`; how many bytes went."""
        if self._size_bytes() <= room_bytes:
            return 0
        freed = self._folder.drop_strangers()
        for each in self._catalogue.take_to_evict(room_bytes):
            self._ids.pop(each.id, None)
            if self._folder.delete(each.path):
                freed += each.size_bytes
            else:
                self._catalogue.add(each)
        return freed

    def _size_bytes(self) -> int:
        return sum(each.size_bytes for each in self._catalogue.entries) + self._folder.stranger_bytes

    def _common(self, entry: Entry, tokens: Sequence[int], least: int) -> int:
        """How many tokens an entry has in common with `tokens`, `least` at least; 0 when its ids cannot be read."""
        own = self._ids.get(entry.id)
        if own is None:
            try:
                own = read_ids(entry.path, self._cipher)
            except (SnapshotFileError, OSError) as error:
                self.quarantine(entry.id, _why(error))
                return 0
            if sum(each.size for each in list(self._ids.values())) + own.size > IDS_HELD:
                self._ids = {}
            self._ids[entry.id] = own
        return common_tokens(own, tokens, least)

    def _name(self, index: SnapshotIndex) -> str:
        key = hashlib.blake2b(index.about.state_key.encode(), digest_size=6).hexdigest()
        if self._cipher is None:
            return f"{key}-{index.tokens_sum[:24]}-{index.digest[:16]}"
        return self._cipher.name(f"{key}-{index.tokens_sum}-{index.digest}".encode())[:48]

    def _tell(self, job: _Waiting, digest: str | None, error: Exception | None) -> None:
        try:
            job.done(digest, error)
        except Exception:
            _logger.exception("what was to be done after a snapshot failed")

    def _settled(self) -> None:
        with self._changed:
            self._unsettled -= 1
            self._changed.notify_all()


def _touch(entry: Entry) -> None:
    entry.used_at_s = time.time()
    with contextlib.suppress(OSError):
        os.utime(entry.path)


def _why(error: SnapshotFileError | OSError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _yield_to_others() -> None:
    """Let the threads that compute go first, where a thread can have a priority of its own (Linux)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WRITERS_NICENESS)


def _damaged(why: str) -> SnapshotDamaged:
    return SnapshotDamaged("A kept state of the context cannot be used", why, "what it held is read again")


def _refused(why: str, remedy: str) -> SnapshotRefused:
    return SnapshotRefused("The state of the context was not kept", why, remedy)


def _disk_full(folder: Path) -> DiskFull:
    return DiskFull(
        "The state of the context was not kept",
        f"the disk that holds {folder} is nearly full",
        "free some space there, or allow snapshots less room in the settings",
    )


def _not_written(folder: Path, error: OSError) -> DataFolderError:
    if is_disk_full(error):
        return _disk_full(folder)
    return DataFolderError(
        "The state of the context was not kept",
        f"{folder} cannot be written ({error.strerror or error})",
        "give yourself permission to write there",
    )
