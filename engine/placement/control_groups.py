"""What a container or a service manager lets this process have, of Linux's control groups.

Owns: reading memory and processor limits of both versions of control groups, along the whole path from this
process's group up, because a group is also bound by those above it. Does not know the machine's own figures
(`hardware`). Where there are no such groups (other systems), nothing is limited. Source: the kernel's
admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")
_NO_LIMIT_BYTES = 1 << 60
"""Version 1 writes "no limit" as a number near 2**63, rounded to a page."""


@dataclass(frozen=True)
class Limits:
    """None: not limited. `free_bytes` is what may still be taken: the limit less what cannot be given back."""

    memory_bytes: int | None = None
    free_bytes: int | None = None
    swap_bytes: int | None = None
    cores: float | None = None


def limits(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> Limits:
    """The tightest limit of each kind that holds for this process. Raises nothing."""
    found = [*_of_version_2(membership, mount), *_of_version_1(membership, mount)]
    return Limits(
        memory_bytes=min(
            (each.memory_bytes for each in found if each.memory_bytes is not None), default=None
        ),
        free_bytes=min((each.free_bytes for each in found if each.free_bytes is not None), default=None),
        swap_bytes=min((each.swap_bytes for each in found if each.swap_bytes is not None), default=None),
        cores=min((each.cores for each in found if each.cores is not None), default=None),
    )


def memory_pressure_files(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> tuple[Path, ...]:
    """Where the kernel tells how long this process's group waited for memory; none with version 1. Raises nothing."""
    if not (mount / "cgroup.controllers").exists():
        return ()
    return (next(_groups(mount, _path_of(membership, ""))) / "memory.pressure",)


def _of_version_2(membership: Path, mount: Path) -> Iterator[Limits]:
    if not (mount / "cgroup.controllers").exists():
        return
    for folder in _groups(mount, _path_of(membership, "")):
        limit = _number(folder / "memory.max")
        used = _number(folder / "memory.current")
        yield Limits(
            memory_bytes=limit,
            free_bytes=_free(limit, used, _statistic(folder, "active_file", "inactive_file")),
            swap_bytes=_number(folder / "memory.swap.max"),
            cores=_quota(_text(folder / "cpu.max").split()),
        )


def _of_version_1(membership: Path, mount: Path) -> Iterator[Limits]:
    for folder in _groups(mount / "memory", _path_of(membership, "memory")):
        limit = _number(folder / "memory.limit_in_bytes")
        if limit is not None and limit < _NO_LIMIT_BYTES:
            used = _number(folder / "memory.usage_in_bytes")
            cache = _statistic(folder, "total_active_file", "total_inactive_file")
            yield Limits(memory_bytes=limit, free_bytes=_free(limit, used, cache))
    for folder in _groups(mount / "cpu", _path_of(membership, "cpu")):
        quota = [_text(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        yield Limits(cores=_quota(quota))


def _path_of(membership: Path, controller: str) -> str:
    """Where this process is in the hierarchy of a controller; "" is the one of version 2."""
    for line in _text(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path
    return "/"


def _groups(mount: Path, path: str) -> Iterator[Path]:
    """The group's folder and those above it. In a container the path may be the host's: then the mount alone."""
    folder = mount / path.strip("/")
    if ".." in Path(path).parts or not folder.is_dir():
        folder = mount
    while True:
        yield folder
        if folder == mount:
            return
        folder = folder.parent


def _free(limit: int | None, used: int | None, cache: int) -> int | None:
    """Cached files count as used, but the kernel gives them back before it lets the group fail."""
    return None if limit is None or used is None else max(0, limit - max(0, used - cache))


def _statistic(folder: Path, *names: str) -> int:
    total = 0
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in names and value.strip().isdecimal():
            total += int(value)
    return total


def _quota(words: list[str]) -> float | None:
    """Cores from "quota period" in microseconds; "max" and -1 are no limit."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not int(words[1]):
        return None
    return int(words[0]) / int(words[1])


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
