"""All files of a download, by several streams at once, until they lie whole in their folder.

Owns: which file is fetched when and by which stream, when the whole stops, and what it says of itself meanwhile. It
brings shards to a conversion (`convert.arrivals.Arrivals`). How one file arrives is `fetch_stream`; what is fetched
is a `fetch_plan`.

    with Fetch(plan, hub) as fetch:
        fetch.begin()                 # returns at once; streams are threads
        fetch.finish(stopped)         # returns when everything is there

Small files come first; then, if wished, the beginnings of all shards; then the shards in their order, what somebody
waits for before the others. A failure that passes (no network, a busy server) is waited for without end; a definite
one stops all streams, and is raised to whoever waits. Whatever the end, everything that has arrived is kept.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from filelock import FileLock, Timeout

from convert.arrivals import Beginning
from engine.errors import Conflict, FetchFailed, FetchStopped, SeamountError
from engine.library.fetching.fetch_manifest import notes_folder, parts_folder
from engine.library.fetching.fetch_plan import FetchPlan, check_room, is_bulk
from engine.library.fetching.fetch_stream import EndedError, Stream
from engine.library.fetching.fetch_trouble import told
from engine.library.fetching.file_fetch import PartFile, is_noted
from engine.library.fetching.hub import Hub
from engine.library.fetching.rate_limit import RateLimit, Speed
from engine.library.fetching.remote_file import RemoteFile, place_of

MOST_STREAMS = 16
ASK_EVERY_S = 0.25
JOIN_S = 5.0
_State = Literal["waiting", "active", "whole", "skipped", "used"]


@dataclass(frozen=True)
class FetchProgress:
    """How far a download is. `fetched_bytes`: what has arrived, of `fetch_bytes`; with it, what need not arrive.

    `note`: what all streams wait for, as a sentence; empty while one gets on. `checking`: it reads what lies there.
    """

    fetched_bytes: int
    fetch_bytes: int
    bytes_per_s: float
    files_done: int
    files: int
    item: str
    note: str
    checking: bool = False


@dataclass
class _Item:
    file: RemoteFile
    part: PartFile
    state: _State = "waiting"
    head: Path | None = None
    """A copy of the shard's header, which stays where it is when the shard gets its place."""
    estimate_bytes: int = 0
    """What lies there, before it was looked at."""

    @property
    def have_bytes(self) -> int:
        if self.state in ("whole", "skipped", "used"):
            return self.file.size_bytes
        return max(self.part.have_bytes, self.estimate_bytes)


class Fetch:
    """One download. `begin` once; all other calls may come from any thread.

    `streams` and `limit_bytes_per_s` (0: none) are asked while it runs. `first_wait_s`: how long is waited after a
    first failure that passes.
    """

    def __init__(
        self,
        plan: FetchPlan,
        hub: Hub,
        *,
        streams: Callable[[], int] = lambda: 4,
        limit_bytes_per_s: Callable[[], float] = lambda: 0.0,
        first_wait_s: float = 1.0,
    ) -> None:
        self.plan = plan
        self._hub, self._streams_wanted, self._first_wait_s = hub, streams, first_wait_s
        self._change = threading.Condition()
        self._stopping = threading.Event()
        self._limit = RateLimit(limit_bytes_per_s, wait=self._stopping.wait)
        self._speed = Speed()
        self._failure: BaseException | None = None
        self._items = {each.path: _Item(each, PartFile(plan.folder, each)) for each in plan.manifest.files}
        self._wanted: list[str] = []
        self._streams: list[Stream] = []
        self._threads: list[threading.Thread] = []
        self._beginnings_first = False
        self._most_waiting: int | None = None
        self._lock = FileLock(notes_folder(plan.folder) / "fetch.lock")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(
        self,
        *,
        skip: Collection[str] = (),
        beginnings_first: bool = False,
        most_waiting: int | None = None,
        needed_bytes: Mapping[Path, int] | None = None,
    ) -> None:
        """Begin to fetch, in threads.

        skip: files that are not needed (any more). beginnings_first: the headers of all shards come before any
        shard's data. most_waiting: no further shard is begun while so many lie whole and were not `deleted`, unless
        somebody waits for it. needed_bytes: the room that is needed, by folder; None: for all that is missing.
        Raises Conflict when another download into this folder runs, FetchDiskFull, FetchFailed.
        """
        try:
            parts_folder(self.plan.folder).mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise Conflict(
                f"Nothing was fetched into {self.plan.folder}",
                "another download into this folder is running",
                "wait for it, or stop it first",
            ) from error
        except OSError as error:
            raise told(error, self.plan.folder) from error
        try:
            self._look(frozenset(skip))
            if needed_bytes is None:
                needed_bytes = {self.plan.folder: self.missing_bytes()}
            check_room(needed_bytes)
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise told(error, self.plan.folder) from error
            raise
        self._beginnings_first, self._most_waiting = beginnings_first, most_waiting
        for number in range(min(MOST_STREAMS, max(1, len(self._items)))):
            stream = Stream(number, self.plan, self._hub, self._limit, self._speed, self._stopping)
            stream.first_wait_s, stream.streams_wanted = self._first_wait_s, self._streams_wanted
            thread = threading.Thread(target=self._work, args=(stream,), name=f"fetch-{number}", daemon=True)
            self._streams.append(stream)
            self._threads.append(thread)
        for thread in self._threads:
            thread.start()

    @property
    def streams_wanted(self) -> int:
        """How many files are fetched at the same time at most, as it is wished now."""
        return min(MOST_STREAMS, max(1, self._streams_wanted()))

    def missing_bytes(self) -> int:
        """What has still to arrive, by what lies there."""
        with self._change:
            return sum(each.file.size_bytes - each.have_bytes for each in self._items.values())

    def progress(self) -> FetchProgress:
        """How far it is now."""
        with self._change:
            done = [each for each in self._items.values() if each.state in ("whole", "skipped", "used")]
            active = [each for each in self._streams if each.item]
            note = active[0].note if active and all(each.note for each in active) else ""
            return FetchProgress(
                sum(each.have_bytes for each in self._items.values()),
                self.plan.total_bytes,
                0.0 if note else self._speed.bytes_per_s(),
                len(done),
                len(self._items),
                active[0].item if active else "",
                note,
                bool(active) and all(each.checking for each in active),
            )

    # --- what a conversion asks ----------------------------------------------------------------------

    def beginning(self, name: str) -> Beginning | None:
        """The header of a shard that is on its way, once it is here; None for one that lay in the folder whole, or
        is not known. Of a shard that has become whole meanwhile it can still be had. Raises what fetching failed
        with."""
        with self._change:
            item = self._items.get(name)
            if item is None or not self._beginnings_first:
                return None
            while item.head is None and item.state in ("waiting", "active"):
                self._raise_failure()
                self._change.wait(ASK_EVERY_S)
            if item.head is None:
                return None
            return Beginning(item.head, item.file.size_bytes, self.plan.manifest.modified_ns)

    def wait_for(self, names: Collection[str], cancelled: Callable[[], bool]) -> None:
        """Return when all of these lie whole in the folder, or `cancelled()`; they are fetched before all others.

        Raises what fetching failed with; FetchFailed for a file that is no part of the download.
        """
        with self._change:
            for name in names:
                if name not in self._items:
                    raise FetchFailed(
                        f"{self.plan.manifest.repository} cannot be fetched as a whole",
                        f"the file {name} is no part of it",
                        "fetch it again with all of its files",
                    )
            self._wanted = [*names, *(each for each in self._wanted if each not in names)]
            self._change.notify_all()
            try:
                while any(self._items[name].state in ("waiting", "active") for name in names):
                    self._raise_failure()
                    if cancelled():
                        return
                    self._change.wait(ASK_EVERY_S)
            finally:
                self._wanted = [each for each in self._wanted if each not in names]

    def deleted(self, name: str) -> None:
        """The shard was used up and deleted, or is not needed at all: its room is free again."""
        with self._change:
            if name in self._items:
                self._items[name].state = "used"
                for stream in self._streams:
                    stream.dropped = stream.dropped or stream.item == name
            self._change.notify_all()

    # --- its end -------------------------------------------------------------------------------------

    def finish(
        self, stopped: Callable[[], bool], report: Callable[[FetchProgress], None] = lambda _: None
    ) -> None:
        """Return when everything is there. `report` is called several times a second.

        Raises FetchStopped when `stopped()`, or what fetching failed with.
        """
        while True:
            report(self.progress())
            with self._change:
                self._raise_failure()
                if all(each.state not in ("waiting", "active") for each in self._items.values()):
                    break
                if stopped():
                    self._stopping.set()
                    raise FetchStopped(
                        f"Fetching {self.plan.manifest.repository} was stopped",
                        "that was asked for",
                        "resume it to go on where it was",
                    )
                self._change.wait(ASK_EVERY_S)
        report(self.progress())
        self._end_streams()
        try:
            self._tidy()
        except OSError as error:
            raise told(error, self.plan.folder) from error
        finally:
            self.close()

    def stop(self) -> None:
        """Have all streams end; returns at once."""
        self._stopping.set()
        self._hub.abort()
        with self._change:
            self._change.notify_all()

    def close(self) -> None:
        """End all streams, and let others fetch into the folder. What has arrived is durable then."""
        self._end_streams()
        for item in self._items.values():
            if item.head is not None:
                item.head.unlink(missing_ok=True)
        self._lock.release()

    def _end_streams(self) -> None:
        self.stop()
        until_s = time.monotonic() + JOIN_S
        for thread in self._threads:
            # One that waits for a connection would keep us for long; it does nothing when it gets it.
            thread.join(max(0.0, until_s - time.monotonic()))

    def _tidy(self) -> None:
        """Everything is there: no parts are needed."""
        folder = parts_folder(self.plan.folder)
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._stopping.is_set():
            raise FetchStopped(
                f"Fetching {self.plan.manifest.repository} was stopped",
                "that was asked for",
                "resume it to go on",
            )

    def _fail(self, error: BaseException) -> None:
        with self._change:
            if self._failure is None and not self._stopping.is_set():
                self._failure = error
            self._stopping.set()
            self._change.notify_all()
        self._hub.abort()

    # --- what a stream does --------------------------------------------------------------------------

    def _look(self, skip: frozenset[str]) -> None:
        """What lies there, without reading it."""
        for name, item in self._items.items():
            if name in skip:
                item.state = "skipped"
            elif is_noted(self.plan.folder, item.file):
                item.state = "whole"
            else:
                for path in (item.part.path, place_of(self.plan.folder, name)):
                    if path.is_file():
                        found = path.stat().st_size
                        item.estimate_bytes = max(item.estimate_bytes, min(found, item.file.size_bytes))

    def _work(self, stream: Stream) -> None:
        try:
            while (item := self._next(stream)) is not None:
                try:
                    self._bring(stream, item)
                except EndedError:
                    pass
                finally:
                    with self._change:
                        if item.state == "active":
                            item.state = "waiting"
                        stream.item = stream.note = ""
                        self._change.notify_all()
        except SeamountError as error:
            self._fail(error)
        except OSError as error:
            self._fail(told(error, self.plan.folder))
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever waits
            self._fail(error)

    def _next(self, stream: Stream) -> _Item | None:
        """The file to fetch now, marked as this stream's; None: there is nothing to do any more."""
        with self._change:
            while not self._stopping.is_set():
                item = None if stream.is_surplus() else self._choice()
                if item is not None:
                    item.state, stream.item, stream.dropped = "active", item.file.path, False
                    return item
                if all(each.state not in ("waiting", "active") for each in self._items.values()):
                    return None
                self._change.wait(ASK_EVERY_S)
        return None

    def _choice(self) -> _Item | None:
        waiting = [each for each in self._items.values() if each.state == "waiting"]
        for item in waiting:
            if not is_bulk(item.file):
                return item
        if self._lacks_beginnings():
            return next((each for each in waiting if self._lacks_beginning(each)), None)
        for name in self._wanted:
            if self._items[name].state == "waiting":
                return self._items[name]
        if not waiting:
            return None
        shards = [each for each in self._items.values() if each.file.is_shard]
        held = sum(each.state in ("whole", "active") for each in shards)
        if self._most_waiting is not None and held >= self._most_waiting and waiting[0].file.is_shard:
            return None
        return waiting[0]

    def _lacks_beginning(self, item: _Item) -> bool:
        return item.file.is_shard and item.head is None and item.state in ("waiting", "active")

    def _lacks_beginnings(self) -> bool:
        return self._beginnings_first and any(map(self._lacks_beginning, self._items.values()))

    def _bring(self, stream: Stream, item: _Item) -> None:
        """Fetch the file, or first its beginning: what comes after that follows from the order of all."""
        if stream.is_whole_already(item.part):
            self._mark(item, "whole")
            return
        with stream.opened(item.part):
            item.estimate_bytes = 0
            if self._beginnings_first and item.file.is_shard and item.head is None:
                head = stream.bring_beginning(item.part)
                with self._change:
                    item.head = head
                return
            stream.bring_whole(item.part)
        self._mark(item, "whole")

    def _mark(self, item: _Item, state: _State) -> None:
        with self._change:
            if item.state != "used":
                item.state = state
            self._change.notify_all()
