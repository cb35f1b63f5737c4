"""One stream of a download: one file after the other, each until it is whole.

Owns: how long is waited after a failure that passes, how often something wrong is fetched again, how much is gathered
before it is written, and the room on the disk meanwhile. Which file comes next is decided by `fetch`. Bytes come from
`hub` and go to `file_fetch`.

Memory: a stream holds `BATCH_BYTES` twice and one piece of its connection (64 KiB) at most.
"""

import random
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from convert.safetensors_header import MAX_HEADER_BYTES
from engine.atomic_file import write_atomically
from engine.errors import FetchDiskFull, FetchFailed
from engine.library.fetching.fetch_plan import SPARE_BYTES, FetchPlan, check_room
from engine.library.fetching.file_fetch import PartFile, ReadStoppedError, is_whole
from engine.library.fetching.hub import REQUEST_BYTES, Hub, HubBusyError, WrongContentError, cached_file
from engine.library.fetching.rate_limit import RateLimit, Speed

BATCH_BYTES = 1 << 20
"""So much is gathered before it is hashed and written: a killed process loses less than that for each stream."""
BATCH_S = 0.5
FIRST_BYTES = 256 << 10
"""The first request for the beginning of a shard: the header of a layer of V4 fits."""
LONGEST_WAIT_S = 60.0
LONGEST_ASKED_WAIT_S = 3600.0
MOST_WRONG = 3
MOST_EXPIRED = 8
LOOK_AT_DISK_BYTES = 64 << 20


class EndedError(Exception):
    """The stream is to do no more, or not with this file."""


class Stream:
    """One of the streams. Its methods are for its own thread; what it is at may be read from any.

    `note`: what it waits for, as a sentence; "" while it gets on. `checking`: it reads what lies on the disk.
    """

    def __init__(
        self,
        number: int,
        plan: FetchPlan,
        hub: Hub,
        limit: RateLimit,
        speed: Speed,
        stopping: threading.Event,
    ) -> None:
        self.number, self.item, self.note, self.checking = number, "", "", False
        self.dropped = False
        """The file that it is at is not needed any more."""
        self.first_wait_s = 1.0
        self.streams_wanted: Callable[[], int] = lambda: number + 1
        self._plan, self._hub, self._limit, self._speed, self._stopping = plan, hub, limit, speed, stopping
        self._until_look_bytes = LOOK_AT_DISK_BYTES

    def is_surplus(self) -> bool:
        """Whether there are to be fewer streams."""
        return self.number >= max(1, self.streams_wanted())

    def is_whole_already(self, part: PartFile) -> bool:
        """Whether the file lies in its place, and is right. Raises OSError, EndedError."""
        self.checking = True
        try:
            there = is_whole(self._plan.folder, part.file, self._plan.manifest.commit, self._stopping.is_set)
        except ReadStoppedError:
            raise EndedError from None
        finally:
            self.checking = False
        if there:
            part.remove()
        return there

    @contextmanager
    def opened(self, part: PartFile) -> Generator[None]:
        """The part, with what arrived before; afterwards all of it is on the disk for certain."""
        self.checking = True
        try:
            part.open(self._stopping.is_set)
        except ReadStoppedError:
            raise EndedError from None
        finally:
            self.checking = False
        try:
            yield
        finally:
            try:
                if part.is_open:
                    part.make_sure()
            finally:
                part.close()

    def bring_beginning(self, part: PartFile) -> Path:
        """Have the header of a shard arrive; returns a copy of it, which stays when the shard gets its place."""
        file = part.file
        self._receive(part, min(FIRST_BYTES, file.size_bytes))
        raw = part.beginning(8)
        length: int = struct.unpack("<Q", raw)[0] if len(raw) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, file.size_bytes - 8):
            raise FetchFailed(
                f"{self._plan.manifest.repository} cannot be fetched",
                f"its file {file.path} does not begin as a safetensors file does",
                "choose another repository",
            )
        self._receive(part, 8 + length)
        head = part.path.with_suffix(".head")
        write_atomically(head, part.beginning(8 + length))
        return head

    def bring_whole(self, part: PartFile) -> None:
        """Have the file arrive as a whole, and put it in its place."""
        file, manifest = part.file, self._plan.manifest
        wrong = 0
        self._copy_cached(part)
        while True:
            self._receive(part, file.size_bytes)
            if part.is_right():
                break
            if part.step_back():
                continue
            wrong += 1
            came = part.came()
            part.quarantine()
            if wrong >= MOST_WRONG:
                raise WrongContentError(
                    f"{file.path} of {manifest.repository} cannot be fetched",
                    f"what came {wrong} times has the digest {came[:12]}… and not {file.digest[:12]}…, as the hub "
                    "lists it",
                    "try again later, or through another network or mirror; what came is kept in .cache/seamount",
                )
            part.open()
        part.finish(manifest.commit, manifest.modified_ns)

    def _copy_cached(self, part: PartFile) -> None:
        """Take what Hugging Face's own cache on this machine has of the file; it is hashed like everything else."""
        manifest = self._plan.manifest
        place = cached_file(manifest.repository, manifest.commit, part.file)
        if place is not None:
            self._take(part, _read(place, part.have_bytes), limited=False)

    def _receive(self, part: PartFile, until: int) -> None:
        """Have the first `until` bytes of the file arrive, however long that takes."""
        failures = expired = wrong = 0
        file, manifest = part.file, self._plan.manifest
        while part.have_bytes < until:
            before = part.have_bytes
            try:
                stop = min(until, before + REQUEST_BYTES)
                with self._hub.stream(manifest.repository, manifest.commit, file, before, stop) as pieces:
                    self._take(part, pieces)
                if part.have_bytes < stop:
                    raise HubBusyError(f"{file.path} cannot be fetched", "the connection ended too early")
            except HubBusyError as error:
                if part.have_bytes > before:
                    failures = expired = 0
                failures, expired = failures + 1, expired + error.expired
                if expired > MOST_EXPIRED:
                    raise FetchFailed(error.what, error.why, "try again later, or ask another hub") from error
                if not (error.expired and expired == 1):
                    self._be_patient(error, failures)
            except WrongContentError as error:
                wrong += 1
                if wrong >= MOST_WRONG:
                    raise
                self._be_patient(HubBusyError(error.what, error.why), wrong)

    def _take(self, part: PartFile, pieces: Iterator[bytes], *, limited: bool = True) -> None:
        """Write what comes, in batches; what has come is written whatever happens."""
        batch: list[bytes] = []
        gathered, since_s = 0, time.monotonic()
        held_back = limited and self._limit.is_on()
        try:
            for piece in pieces:
                batch.append(piece)
                gathered += len(piece)
                if held_back:
                    self._limit.take(len(piece), self._stopping.is_set)
                if gathered >= BATCH_BYTES or time.monotonic() - since_s >= BATCH_S:
                    content, batch = b"".join(batch), []
                    self._write(part, content)
                    gathered, since_s = 0, time.monotonic()
                    # What is asked of others costs something for each of thousands of pieces a second.
                    held_back = limited and self._limit.is_on()
                    self._end_if_asked()
                elif self._stopping.is_set():
                    raise EndedError
        finally:
            if batch:
                self._write(part, b"".join(batch))

    def _write(self, part: PartFile, content: bytes) -> None:
        self.note = ""
        part.write(content)
        self._speed.count(len(content))
        self._until_look_bytes -= len(content)
        if self._until_look_bytes <= 0:
            self._until_look_bytes = LOOK_AT_DISK_BYTES
            check_room_left(self._plan.folder)

    def _be_patient(self, error: HubBusyError, failures: int) -> None:
        wait_s = min(LONGEST_WAIT_S, self.first_wait_s * 2 ** min(failures - 1, 20))
        wait_s *= random.uniform(0.75, 1.25)  # noqa: S311 - so that not all streams ask at once
        if error.wait_s is not None:
            wait_s = max(wait_s, min(error.wait_s, LONGEST_ASKED_WAIT_S))
        self.note = f"{error.why[:1].upper()}{error.why[1:]}; it is tried again by itself."
        self._stopping.wait(wait_s)
        self._end_if_asked()

    def _end_if_asked(self) -> None:
        if self._stopping.is_set() or self.is_surplus() or self.dropped:
            raise EndedError


def _read(place: Path, start: int) -> Iterator[bytes]:
    """The bytes of a file from `start` on; they end where it cannot be read."""
    try:
        with place.open("rb", buffering=0) as content:
            content.seek(start)
            while piece := content.read(BATCH_BYTES):
                yield piece
    except OSError:
        return


def check_room_left(folder: Path) -> None:
    """Raise FetchDiskFull when hardly anything is free any more on the folder's disk."""
    try:
        check_room({folder: 1})
    except FetchDiskFull as error:
        why = f"less than {SPARE_BYTES >> 20} MiB are free on its disk"
        raise FetchDiskFull(f"Fetching into {folder} stopped", why, "make room, then resume") from error
