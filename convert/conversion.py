"""A conversion, carried out: one pass over the shards, in bounded memory, that can be killed and goes on.

Owns: the order of things. Bytes of a group are written at their final places, made durable, and only then
noted in the progress file; so after a kill or a power cut at most one group is done again, and the result is the
same to the byte. Results get their names when they are whole. Does not know formats (`tensor_stream`), keys
(`metadata`) or how an operating system is told (`target_file`).

Shards may still be on their way (`arrivals`): everything is planned from their beginnings, and each group waits for
those that it is made of, which must then be what their beginnings promised.

Three threads: one reads and repacks, one hashes what was read, one writes and hashes what is written; hashing and
numpy let go of the GIL.
"""

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from convert.arrivals import Arrivals
from convert.conversion_error import ConversionError
from convert.conversion_plan import Job, Plan, PlannedFile, extents_of, make_plan, path_of
from convert.conversion_progress import ConversionProgress, Record, progress_path, source_changed
from convert.receipt import write_receipt
from convert.shard_reader import ShardReader
from convert.target_file import TargetFile, name_when_whole, part_of, remove_whole, sync_folder, told_for
from convert.tensor_map import Role, Target
from convert.tensor_stream import Loss, pieces

PIECES_UNDER_WAY = 6
"""Pieces that are read but not written yet: at most 6 x (16 + 16) MiB, whatever is slowest."""


@dataclass(frozen=True)
class Advance:
    """How far a conversion is. Bytes are of the result; `bytes_per_s` since this run began."""

    done_bytes: int
    total_bytes: int
    group: str
    tensor: str
    bytes_per_s: float
    tensors_done: int = 0
    tensors: int = 0


Report = Callable[[Advance], None]


def convert(
    job: Job,
    on_advance: Report | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    arrivals: Arrivals | None = None,
    planned: Callable[[Plan], None] = lambda _: None,
) -> tuple[Path, ...]:
    """Carry out `job`, or go on with it where it was; returns the finished files, the model's first.

    `planned` is told what will be done before anything is written; what it raises is passed on.
    `arrivals` brings shards that are not in the folder yet; the result is the same to the byte as of the whole
    folder. A beginning that was not true is ConversionError "changed"; called again, what has arrived counts,
    unless something was made of that shard already. What bringing fails with is passed on as it is.

    `on_advance` is called after every piece (some MB), in this thread; `cancelled` is asked then, and ends it
    with ConversionError "stopped". Whatever ends it, calling it again goes on. Raises CheckpointError and
    ConversionError.
    """
    if not job.target.parent.is_dir():  # else the lock would make it
        raise ConversionError(
            "target",
            f"{job.target.name} could not be written",
            "there is no such folder",
            "choose another place",
        )
    lock = FileLock(part_of(job.target).with_suffix(".part.lock"))
    with told_for(job.target):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ConversionError(
                "busy",
                f"{job.target.name} could not be written",
                "another conversion to it is running",
                "wait for it, or stop it first",
            ) from error
    try:
        paths = _convert(job, on_advance or (lambda _: None), cancelled, arrivals, planned)
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        return paths
    finally:
        lock.release()


def _convert(
    job: Job,
    on_advance: Report,
    cancelled: Callable[[], bool],
    arrivals: Arrivals | None,
    planned: Callable[[Plan], None],
) -> tuple[Path, ...]:
    progress = ConversionProgress.load(progress_path(job.target))
    if progress is None:
        plan = make_plan(job, arrivals=arrivals)
        _refuse_links(plan)
        _refuse_existing(plan)
        progress = ConversionProgress(progress_path(job.target), plan.fingerprint, _headers(plan))
    else:
        plan = make_plan(job, progress.consumed, progress.source, arrivals)
        _refuse_links(plan)
        if not _only_promises_changed(plan, progress, arrivals):
            progress.refuse_changed_source(plan.fingerprint)
        if progress.headers != _headers(plan):
            raise ConversionError(
                "options",
                "The conversion cannot go on",
                "it was begun with other options, or by another version",
                "choose the same options, or delete the .part and .progress.json files and begin anew",
            )
        _refuse_lost_parts(plan, progress)
        if changed := progress.changed_source(plan.fingerprint):
            progress.source["shards"] |= {name: plan.fingerprint["shards"][name] for name in changed}
            plan = make_plan(job, progress.consumed, progress.source, arrivals)
            progress.headers = _headers(plan)
            progress.save()
    planned(plan)
    with contextlib.ExitStack() as stack:
        run = _Run(plan, progress, on_advance, cancelled, arrivals, stack)
        run.all_groups()
    return _finish(plan, progress)


def _headers(plan: Plan) -> dict[str, str]:
    return {str(role): file.header_sha256 for role, file in plan.files.items()}


def _only_promises_changed(plan: Plan, progress: ConversionProgress, arrivals: Arrivals | None) -> bool:
    """Whether all that changed are shards on their way, of which nothing was used yet but the beginning."""
    if arrivals is None:
        return False
    used = plan.shards_of(target for target in plan.mapped.targets if target.group in progress.groups)
    unused = plan.fingerprint["shards"].keys() - {shard.name for shard in used}
    return unused >= set(progress.changed_source(plan.fingerprint))


class _Run:
    """The groups that are still to be done, in one go."""

    def __init__(
        self,
        plan: Plan,
        progress: ConversionProgress,
        on_advance: Report,
        cancelled: Callable[[], bool],
        arrivals: Arrivals | None,
        stack: contextlib.ExitStack,
    ) -> None:
        self._plan, self._progress = plan, progress
        self._on_advance, self._cancelled, self._stack = on_advance, cancelled, stack
        self._arrivals = arrivals
        self._promised = {shard.path: shard for shard in plan.shards if shard.promised}
        self._read_back: set[str] = set()
        self._done_bytes = self._begun_bytes = 0
        self._tensors_done = sum(map(len, progress.groups.values()))
        self._started_s = time.monotonic()
        self._extents = extents_of(plan.expected)

    def all_groups(self) -> None:
        groups = self._plan.mapped.groups
        done = [targets for name, targets in groups if name in self._progress.groups]
        self._done_bytes = self._begun_bytes = sum(t.size_bytes for targets in done for t in targets)
        # A kill may have come between what was done and the deletion of what it was done with.
        unnamed = all(part_of(file.path).exists() for file in self._plan.files.values())
        if len(done) < len(groups) or unnamed:
            self._open_files()
            if self._plan.job.consume and unnamed:
                self._consume()
            for name, targets in groups:
                if name not in self._progress.groups:
                    self._group(name, targets)
        if not self._plan.job.consume:
            self._await_shards(set(self._promised))

    def _open_files(self) -> None:
        self._files: dict[Role, TargetFile] = {}
        begun = bool(self._progress.groups)
        for role, planned in self._plan.files.items():
            file = TargetFile(planned.path, planned.header.file_bytes, keep=begun)
            self._stack.callback(file.close)
            self._files[role] = file
        if not self._plan.job.consume:
            self._reserve_all()
        for role, planned in self._plan.files.items():
            self._files[role].write(0, memoryview(planned.header.content))
            self._files[role].sync()
        if not begun:
            # From here on there is something to go on with.
            self._progress.save()
        self._reader = self._stack.enter_context(ShardReader(self._plan.sources))
        self._reading = self._stack.enter_context(ThreadPoolExecutor(1, "convert-hash"))
        self._writing = self._stack.enter_context(ThreadPoolExecutor(1, "convert-write"))

    def _reserve_all(self) -> None:
        try:
            for file in self._files.values():
                file.reserve(0, file.size_bytes)
        except ConversionError:
            if not self._progress.groups:
                for file in self._files.values():
                    file.close()
                    with contextlib.suppress(OSError):
                        file.part.unlink()
            raise

    def _group(self, name: str, targets: Sequence[Target]) -> None:
        records: dict[str, Record] = {}
        used = self._plan.shards_of(targets)
        self._await_shards(used)
        if self._plan.job.consume:
            for target in targets:
                at = self._plan.files[target.role].offset(target)
                self._files[target.role].reserve(at, at + target.size_bytes)
        for target in targets:
            records[f"{target.role}/{target.name}"] = self._tensor(target)
            self._tensors_done += 1
        for role, file in self._files.items():
            if any(target.role == role for target in targets):
                file.sync()
        self._reader.close()
        for shard in self._plan.shards:
            if shard.path in used and not shard.is_unchanged():
                raise source_changed(shard.path.name)
        self._progress.groups[name] = records
        self._progress.save()
        if self._plan.job.consume:
            self._consume()

    def _await_shards(self, paths: Collection[Path]) -> None:
        """Return when these are there; those of which only the beginning was there must be what it promised."""
        if self._arrivals is None or not paths:
            return
        self._arrivals.wait_for([path.name for path in sorted(paths)], self._cancelled)
        if self._cancelled():
            raise _stopped()
        for path in paths:
            if path in self._promised:
                if not self._promised[path].is_as_promised():
                    raise source_changed(path.name)
                del self._promised[path]

    def _tensor(self, target: Target) -> Record:
        """Write one tensor; its record."""
        file, at = self._files[target.role], self._plan.files[target.role].offset(target)
        read, written, loss = hashlib.sha256(), hashlib.sha256(), Loss()
        under_way: deque[tuple[Future[None], Future[None], int]] = deque()
        end = at + target.size_bytes
        for piece in pieces(target, self._extents, self._reader.read, loss):
            hashed = self._reading.submit(_hash, read, piece.sources)
            stored = self._writing.submit(_write, file, at, written, piece.output)
            under_way.append((hashed, stored, piece.output.size))
            at += piece.output.size
            if len(under_way) >= PIECES_UNDER_WAY:
                self._await(under_way, target)
            if self._cancelled():
                self._drain(under_way)
                raise _stopped()
        while under_way:
            self._await(under_way, target)
        if at != end:
            raise ValueError(f"{target.name} has {at - end} bytes too many")
        if target.exact:
            return Record(written.hexdigest(), read.hexdigest())
        error = loss.error
        return Record(written.hexdigest(), read.hexdigest(), error.max_abs, error.relative_rms)

    def _await(self, under_way: "deque[tuple[Future[None], Future[None], int]]", target: Target) -> None:
        hashed, stored, count = under_way.popleft()
        hashed.result()
        stored.result()
        self._done_bytes += count
        elapsed = max(time.monotonic() - self._started_s, 1e-9)
        rate = (self._done_bytes - self._begun_bytes) / elapsed
        tensors = self._tensors_done, len(self._plan.mapped.targets)
        self._on_advance(
            Advance(self._done_bytes, self._plan.total_bytes, target.group, target.name, rate, *tensors)
        )

    @staticmethod
    def _drain(under_way: "deque[tuple[Future[None], Future[None], int]]") -> None:
        for hashed, stored, _ in under_way:
            hashed.result()
            stored.result()

    def _consume(self) -> None:
        """Delete the shards of which everything is written, made durable and, read back, what it should be."""
        done, left_out = self._progress.groups, self._plan.mapped.left_out
        needed = self._plan.shards_of(t for t in self._plan.mapped.targets if t.group not in done)
        needed |= {self._plan.sources[name].shard for name in left_out if name in self._plan.sources}
        for shard in self._plan.shards:
            name = shard.path.name
            if name in self._progress.consumed:
                same = self._plan.fingerprint["shards"][name] == self._progress.source["shards"][name]
                if same and shard.path.exists():
                    self._delete(shard.path)  # a kill came first
                continue
            if shard.path in needed:
                continue
            for target in self._plan.mapped.targets:
                if any(self._lies_in(source, shard.path) for source in target.sources):
                    self._check_written(target)
            self._progress.consumed.append(name)
            self._progress.save()
            self._delete(shard.path)

    def _delete(self, shard: Path) -> None:
        _delete(shard)
        if self._arrivals is not None:
            self._arrivals.deleted(shard.name)

    def _lies_in(self, source: str, shard: Path) -> bool:
        return source in self._plan.sources and self._plan.sources[source].shard == shard

    def _check_written(self, target: Target) -> None:
        key = f"{target.role}/{target.name}"
        if key in self._read_back:
            return
        at = self._plan.files[target.role].offset(target)
        digest = self._files[target.role].digest(at, target.size_bytes)
        if digest != self._progress.groups[target.group][key].sha256:
            raise ConversionError(
                "target",
                f"{self._plan.files[target.role].path.name} could not be written",
                f"the disk does not give back what was written of {target.name}",
                "look after the disk; nothing more of the checkpoint was deleted",
            )
        self._read_back.add(key)


def _stopped() -> ConversionError:
    return ConversionError(
        "stopped", "The conversion was stopped", "it was asked to", "convert again to go on where it was"
    )


def _delete(shard: Path) -> None:
    try:
        shard.unlink(missing_ok=True)
    except OSError as error:
        raise ConversionError(
            "target",
            f"{shard.name} could not be deleted",
            error.strerror or str(error),
            "convert again without --consume; it goes on where it was",
        ) from error
    sync_folder(shard.parent)


def _hash(digest: Any, arrays: Sequence[NDArray[np.uint8]]) -> None:
    for array in arrays:
        digest.update(array.data)


def _write(file: TargetFile, at: int, digest: Any, output: NDArray[np.uint8]) -> None:
    file.write(at, output.data)
    digest.update(output.data)


def _finish(plan: Plan, progress: ConversionProgress) -> tuple[Path, ...]:
    """Receipts and names; done again from the start if it was interrupted, to the same end."""
    records = progress.records()
    for role in reversed(tuple(plan.files)):  # the model last: when it is there, everything is
        file = plan.files[role]
        _write_receipt(plan, file, records)
        name_when_whole(file.path)
    remove_whole(progress.path)
    return tuple(file.path for file in plan.files.values())


def _write_receipt(plan: Plan, file: PlannedFile, records: Mapping[str, Record]) -> None:
    write_receipt(
        file.path,
        file.role,
        targets=file.targets,
        offsets=file.header.offsets,
        records=records,
        left_out=plan.mapped.left_out,
        header=(len(file.header.content), file.header_sha256),
        size_bytes=file.header.file_bytes,
        options=plan.job.options,
        origin=plan.origin,
    )


def _refuse_existing(plan: Plan) -> None:
    for role in plan.files:
        path = path_of(plan.job.target, role)
        if path.exists() or path.is_symlink():
            raise ConversionError(
                "target", f"{path.name} could not be written", "it is there already", "choose another name"
            )


def _refuse_links(plan: Plan) -> None:
    """A link's deletion frees nothing, and what it leads to may belong to others (the hub's cache)."""
    if plan.job.consume and any(shard.path.is_symlink() for shard in plan.shards):
        raise ConversionError(
            "options",
            "The shards cannot be consumed",
            "they are links to files elsewhere, as in the hub's cache",
            "convert without --consume, or point at the folder that holds the files themselves",
        )


def _refuse_lost_parts(plan: Plan, progress: ConversionProgress) -> None:
    """Raise when what the progress file speaks of is not there any more."""
    whole = len(progress.groups) == len(plan.mapped.groups)
    for file in plan.files.values():
        if (whole and file.path.exists()) or part_of(file.path).exists():
            continue
        if not progress.groups:
            continue
        raise ConversionError(
            "target",
            "The conversion cannot go on",
            f"{part_of(file.path).name} is not there any more",
            f"put it back, or delete {progress.path.name} and begin anew",
        )
