"""A memory control group for tests: processes that may have so much memory, and what became of them. Linux, root."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.placement import control_groups

_HOG = """
import sys
size = int(sys.stdin.readline())
taken = bytearray(size)
for place in range(0, size, 4096):
    taken[place] = 1
print("taken", flush=True)
sys.stdin.readline()
"""


class MemoryGroup:
    """One group; `made` makes one."""

    def __init__(self, folder: Path, *, second: bool) -> None:
        self.folder, self._second = folder, second

    @classmethod
    @contextlib.contextmanager
    def made(cls, limit_bytes: int) -> Iterator["MemoryGroup"]:
        """A group below the root; skips where none can be made or memory is not counted in it."""
        name = f"seamount-test-{os.getpid()}"
        for mount, limit in (
            (control_groups.MOUNT / "memory", "memory.limit_in_bytes"),
            (control_groups.MOUNT, "memory.max"),
        ):
            folder = mount / name
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                if (folder / limit).exists():
                    group = cls(folder, second=limit == "memory.max")
                    group.limit(limit_bytes)
                    yield group
                    return
            finally:
                with contextlib.suppress(OSError):  # a process that is still ending holds it
                    folder.rmdir()
        pytest.skip("needs a memory control group that may be written (Linux, root)")

    def limit(self, limit_bytes: int) -> None:
        """From now on. Raises OSError where more than that is in use and cannot be given back."""
        name = "memory.max" if self._second else "memory.limit_in_bytes"
        (self.folder / name).write_text(str(limit_bytes))

    def add(self, pid: int) -> None:
        """What this process takes from now on counts here."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    @property
    def taken_bytes(self) -> int:
        """What its processes have that is no page of a file."""
        return self._statistic("anon" if self._second else "total_rss")

    @property
    def free_bytes(self) -> int:
        """What a process in it finds free, as the program counts it."""
        limit = int((self.folder / ("memory.max" if self._second else "memory.limit_in_bytes")).read_text())
        used = int(
            (self.folder / ("memory.current" if self._second else "memory.usage_in_bytes")).read_text()
        )
        names = ("active_file", "inactive_file")
        cache = sum(self._statistic(each if self._second else f"total_{each}") for each in names)
        return limit - (used - cache)

    @property
    def swapped_bytes(self) -> int:
        """Of its processes, in swap."""
        if self._second:
            return int((self.folder / "memory.swap.current").read_text())
        return self._statistic("total_swap")

    @property
    def killed(self) -> int:
        """How many of its processes the kernel has ended for want of memory."""
        name = "memory.events" if self._second else "memory.oom_control"
        return _value((self.folder / name).read_text(), "oom_kill")

    @contextlib.contextmanager
    def slow_disk(self, file: Path, bytes_per_s: int, pid: int) -> Iterator[None]:
        """Within it the process reads no faster than that from the disk of `file`; skips where that cannot be had."""
        device = file.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        if self._second:
            folder, limit = self.folder, "io.max"
            slow, fast = f"{number} rbps={bytes_per_s}", f"{number} rbps=max"
        else:
            folder, limit = (
                control_groups.MOUNT / "blkio" / self.folder.name,
                "blkio.throttle.read_bps_device",
            )
            slow, fast = f"{number} {bytes_per_s}", f"{number} 0"
        with contextlib.ExitStack() as stack:
            try:
                if not self._second:
                    folder.mkdir()
                    stack.callback(folder.rmdir)
                (folder / limit).write_text(slow)
            except OSError as error:
                pytest.skip(f"this disk cannot be slowed down: {error}")
            stack.callback((folder / limit).write_text, fast)
            if not self._second:
                (folder / "cgroup.procs").write_text(str(pid))
                stack.callback((folder.parent / "cgroup.procs").write_text, str(pid))
            yield

    @contextlib.contextmanager
    def hog(self, size_bytes: int) -> Iterator[None]:
        """Within it another program in the group has that much memory."""
        process = subprocess.Popen(
            [sys.executable, "-c", _HOG], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.add(process.pid)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{size_bytes}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "taken\n"
            yield
        finally:
            process.kill()
            process.communicate()

    def _statistic(self, name: str) -> int:
        return _value((self.folder / "memory.stat").read_text(), name)


def _value(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
