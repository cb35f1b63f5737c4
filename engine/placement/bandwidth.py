"""How fast this machine's memory, processor and disk are, measured.

Owns: the measurements, each of bounded memory, disk space and time, and the best of several rounds where other
programs can only slow it. Does not keep them (`hardware_record`) and does not know models.

The disk is measured as an engine meets it: a file read from its start to its end, and pieces of an expert's size
taken here and there, once around the page cache and once through a mapping, whose page faults are what
llama.cpp waits for. Importing this module loads no numpy; calling it does.
"""

import contextlib
import mmap
import os
import random
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MEMORY_BUFFER_BYTES = 512 << 20
"""Well above the last cache of nearly every processor; less where memory is short."""
LEAST_BUFFER_BYTES = 64 << 20
DISK_FILE_BYTES = 1 << 30
LEFT_S = 3600.0
"""A measurement's file that is so old is nobody's any more."""
PIECE_BYTES = 4 << 20
"""About one matrix of one expert of Flash (4.5 MB)."""
ROUNDS = 7
_MATRIX, _MATRICES = 64, 64
_DISK_LIMIT_S = 6.0
"""For each way of reading: a disk slower than that shows in what it managed until then."""


@dataclass(frozen=True)
class DiskRates:
    """Bytes per second. `mapped` is a mapping's page faults; where the others cannot be told apart from the cache,
    the whole is None."""

    sequential_bytes_per_s: float
    random_bytes_per_s: float
    mapped_bytes_per_s: float


@dataclass(frozen=True)
class Unmeasured:
    """Something could not be measured; `why` is a clause."""

    why: str


def memory_rate(threads: int, available_bytes: int) -> float | Unmeasured:
    """Bytes per second that `threads` threads together read from RAM: a sum over a buffer larger than caches."""
    import numpy as np

    size_bytes = min(MEMORY_BUFFER_BYTES, available_bytes // 4)
    if size_bytes < LEAST_BUFFER_BYTES:
        return Unmeasured(f"only {available_bytes >> 20:,} MiB of memory are free")
    # Every page must be written once: untouched ones all are the same page of zeros.
    numbers = np.full(size_bytes // 8, 3, np.int64)
    parts = np.array_split(numbers, threads)

    def read() -> None:
        _together([part.sum for part in parts])

    return numbers.nbytes / _best_s(read)


def arithmetic_rate() -> float:
    """Multiplications with addition per second that one core does, of float32 matrices that lie in its cache.

    They are so small that numpy's library gives them to one thread.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    left = rng.standard_normal((_MATRICES, _MATRIX, _MATRIX), np.float32)
    right = rng.standard_normal((_MATRIX, _MATRIX), np.float32)
    out = np.empty_like(left)
    return _MATRICES * _MATRIX**3 / _best_s(lambda: np.matmul(left, right, out=out))


def disk_rates(folder: Path, *, size_bytes: int = DISK_FILE_BYTES) -> DiskRates | Unmeasured:
    """How fast the disk of `folder` reads, by a file of `size_bytes` that is written there and deleted.

    Writes nothing to a disk that it would fill beyond half of what is free.
    """
    if not hasattr(os, "posix_fadvise"):
        return Unmeasured("this system cannot be told to forget what it has in memory of a file")
    try:
        _remove_left(folder)
        status = os.statvfs(folder)
        if size_bytes > status.f_bavail * status.f_frsize // 2:
            return Unmeasured(f"its disk has less than {2 * size_bytes >> 20:,} MiB free")
        with _file_of(folder, size_bytes) as path:
            return _rates(path, size_bytes)
    except OSError as error:
        return Unmeasured(error.strerror or str(error))


def _rates(path: Path, size_bytes: int) -> DiskRates:
    starts = list(range(0, size_bytes - PIECE_BYTES + 1, PIECE_BYTES))
    mixed = list(starts)
    random.Random(1).shuffle(mixed)  # noqa: S311 - an order, not a secret
    third = max(1, len(mixed) // 3)
    return DiskRates(
        sequential_bytes_per_s=_read_rate(path, starts[third:], threads=1),
        random_bytes_per_s=_read_rate(path, mixed[:third], threads=4),
        mapped_bytes_per_s=_mapped_rate(path, mixed[third : 2 * third] or mixed),
    )


def _read_rate(path: Path, starts: Sequence[int], *, threads: int) -> float:
    """Bytes per second of pieces read by several threads, around the page cache where the file system allows."""
    descriptor, direct = _open_direct(path)
    try:
        if not direct:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        began_s = time.perf_counter()
        deadline_s = began_s + _DISK_LIMIT_S

        def read(mine: Sequence[int]) -> int:
            done = 0
            # Direct reads want memory that begins at a page, which a mapping does.
            with mmap.mmap(-1, PIECE_BYTES) as page:
                for start in mine:
                    done += os.preadv(descriptor, [page], start)
                    if time.perf_counter() > deadline_s:
                        break
            return done

        with ThreadPoolExecutor(threads) as pool:
            total = sum(pool.map(read, [starts[number::threads] for number in range(threads)]))
        return total / (time.perf_counter() - began_s)
    finally:
        os.close(descriptor)


def _open_direct(path: Path) -> tuple[int, bool]:
    flag = getattr(os, "O_DIRECT", 0)
    if flag:
        with contextlib.suppress(OSError):  # tmpfs and some others refuse
            return os.open(path, os.O_RDONLY | flag), True
    return os.open(path, os.O_RDONLY), False


def _mapped_rate(path: Path, starts: Sequence[int]) -> float:
    """Bytes per second of pieces touched through a mapping, one thread, nothing asked for ahead by us."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped:
            began_s = time.perf_counter()
            done = 0
            for start in starts:
                mapped[start : start + PIECE_BYTES : mmap.PAGESIZE]
                done += PIECE_BYTES
                if time.perf_counter() - began_s > _DISK_LIMIT_S:
                    break
            return done / (time.perf_counter() - began_s)
    finally:
        os.close(descriptor)


@contextmanager
def _file_of(folder: Path, size_bytes: int) -> Generator[Path]:
    """A file of that size in `folder`, on the disk and not in the page cache; gone afterwards."""
    path = folder / f".bench-{secrets.token_hex(6)}.part"
    try:
        with path.open("xb") as file:
            block = os.urandom(32 << 20)  # what compresses would be read faster than a model
            left = size_bytes
            while left:
                left -= file.write(block[: min(left, len(block))])
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _remove_left(folder: Path) -> None:
    """Delete what measurements left here that were killed; one that may still run is left alone."""
    for path in folder.glob(".bench-????????????.part"):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < time.time() - LEFT_S:
                path.unlink()


def _best_s(run: Callable[[], object]) -> float:
    """The best of the medians of `ROUNDS` times three runs, after one that counts nothing."""
    run()
    medians: list[float] = []
    for _ in range(ROUNDS):
        taken: list[float] = []
        for _ in range(3):
            began_s = time.perf_counter()
            run()
            taken.append(time.perf_counter() - began_s)
        medians.append(statistics.median(taken))
    return max(1e-9, min(medians))


def _together(calls: Sequence[Callable[[], object]]) -> None:
    """Each call in a thread of its own, the last one in this."""
    threads = [threading.Thread(target=call) for call in calls[:-1]]
    for thread in threads:
        thread.start()
    calls[-1]()
    for thread in threads:
        thread.join()
