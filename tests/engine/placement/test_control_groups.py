"""Limits of containers, read from folders laid out as the kernel lays them out."""

from pathlib import Path

import pytest

from engine.placement.control_groups import Limits, limits

MIB = 1 << 20


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    path = tmp_path / "cgroup"
    path.write_text("0::/a.slice/b.scope\n")
    return path


def second(mount: Path) -> None:
    write(mount, cgroup__controllers="cpu memory")


def test_no_control_groups_limit_nothing(tmp_path: Path) -> None:
    assert limits(tmp_path / "none", tmp_path / "mount") == Limits()


def test_version_2_the_tightest_on_the_path_counts(tmp_path: Path, membership: Path) -> None:
    mount = tmp_path / "mount"
    second(mount)
    write(
        mount / "a.slice",
        memory__max=str(4096 * MIB),
        memory__current=str(1024 * MIB),
        cpu__max="150000 100000",
    )
    write(
        mount / "a.slice/b.scope",
        memory__max="max",
        memory__current=str(512 * MIB),
        memory__swap__max="0",
        cpu__max="max 100000",
    )
    assert limits(membership, mount) == Limits(4096 * MIB, 3072 * MIB, 0, 1.5)


def test_what_is_cached_of_files_can_be_had(tmp_path: Path, membership: Path) -> None:
    mount = tmp_path / "mount"
    second(mount)
    write(
        mount / "a.slice/b.scope",
        memory__max=str(1000 * MIB),
        memory__current=str(900 * MIB),
        memory__stat=f"anon 1\ninactive_file {300 * MIB}\nactive_file {200 * MIB}\nshmem {400 * MIB}",
    )
    assert limits(membership, mount).free_bytes == 600 * MIB


def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path, membership: Path) -> None:
    """The path in /proc may be the host's, which is not there inside."""
    mount = tmp_path / "mount"
    second(mount)
    write(mount, memory__max=str(64 * MIB), memory__current="0")
    assert limits(membership, mount).memory_bytes == 64 * MIB


def test_version_1(tmp_path: Path) -> None:
    membership, mount = tmp_path / "cgroup", tmp_path / "mount"
    membership.write_text("7:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    write(mount / "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="5")
    write(
        mount / "memory/docker/x",
        memory__limit_in_bytes=str(2048 * MIB),
        memory__usage_in_bytes=str(1024 * MIB),
        memory__stat=f"total_inactive_file {24 * MIB}",
    )
    write(mount / "cpu/docker/x", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(mount / "cpu", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert limits(membership, mount) == Limits(2048 * MIB, 1048 * MIB, None, 0.5)


@pytest.mark.parametrize("text", ["", "max", "twelve", "-5", "1e9", "\udce4"])
def test_nonsense_is_no_limit(tmp_path: Path, membership: Path, text: str) -> None:
    mount = tmp_path / "mount"
    second(mount)
    folder = mount / "a.slice/b.scope"
    write(folder, memory__current="1", cpu__max="100 0")
    (folder / "memory.max").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert limits(membership, mount) == Limits()


def test_a_path_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    membership, mount = tmp_path / "cgroup", tmp_path / "mount"
    membership.write_text("0::/../../outside\n")
    second(mount)
    write(tmp_path.parent / "outside", memory__max="1")
    assert limits(membership, mount).memory_bytes is None
