"""When memory is short, by what a system says of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.placement import control_groups, hardware, pressure
from engine.placement.planner import Room
from engine.placement.pressure import Level, Reading, Strain, level, stalls_in, strain

RESERVE = 1_000_000_000
CALM = Strain(free_bytes=3 * RESERVE, reserve_bytes=RESERVE)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Level.CALM),
        # The half of the reserve that a desktop takes and gives back is nobody's business.
        ({"free_bytes": RESERVE // 2}, Level.CALM),
        ({"free_bytes": RESERVE // 2 - 1}, Level.SHORT),
        ({"free_bytes": RESERVE // 4}, Level.SHORT),
        ({"free_bytes": RESERVE // 4 - 1}, Level.CRITICAL),
        ({"free_bytes": -1}, Level.CRITICAL),
        # Programs that wait, where there is little more than the reserve, say that it is not enough.
        ({"free_bytes": RESERVE, "some_share": 0.10}, Level.SHORT),
        ({"free_bytes": RESERVE, "some_share": 0.09}, Level.CALM),
        ({"free_bytes": RESERVE, "some_share": 0.5, "full_share": 0.39}, Level.SHORT),
        ({"free_bytes": RESERVE, "some_share": 0.5, "full_share": 0.40}, Level.CRITICAL),
        ({"free_bytes": RESERVE, "swap_in_bytes_per_s": 16e6}, Level.SHORT),
        # A model larger than the memory, which reads its own file again and again, is no need.
        ({"some_share": 1.0, "full_share": 0.9, "swap_in_bytes_per_s": 1e9}, Level.CALM),
    ],
)
def test_levels(change: dict[str, float], expected: Level) -> None:
    assert level(replace(CALM, **change)) is expected


def test_strain_is_what_grew_between_two_readings() -> None:
    first = Reading(10.0, 8 << 30, 4 << 30, stalls=((1_000_000, 500_000), (9_000_000, 4_000_000)))
    second = Reading(12.0, 8 << 30, 3 << 30, stalls=((1_400_000, 500_000), (9_100_000, 4_050_000)))
    found = strain(first, second, kept_bytes=1 << 30)
    assert found.free_bytes == 2 << 30
    # The group waited most, the machine's programs waited all at once.
    assert (found.some_share, found.full_share) == (pytest.approx(0.2), pytest.approx(0.025))
    assert found.reserve_bytes == Room(8 << 30, 0, 1).ram_reserve_bytes
    assert found.missing_bytes == 0
    assert replace(found, free_bytes=-5).missing_bytes == found.reserve_bytes + 5


def test_one_reading_alone_or_of_other_sources_tells_only_what_is_free() -> None:
    now = Reading(12.0, 8 << 30, 3 << 30, stalls=((5, 5),), swapped_in_bytes=1 << 20)
    assert strain(None, now) == Strain(3 << 30, Room(8 << 30, 0, 1).ram_reserve_bytes)
    assert strain(replace(now, at_s=11.0, stalls=()), now).some_share == 0
    swapping = strain(Reading(10.0, 8 << 30, 1, swapped_in_bytes=0), replace(now, stalls=()))
    assert swapping.swap_in_bytes_per_s == (1 << 20) / 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("some avg10=1.5 avg60=0 avg300=0 total=484\nfull avg10=0 avg60=0 avg300=0 total=15\n", (484, 15)),
        ("some avg10=0.00 total=484\n", None),
        ("some total=-1\nfull total=x\n", None),
        ("", None),
    ],
)
def test_pressure_files(text: str, expected: tuple[int, int] | None) -> None:
    assert stalls_in(text) == expected


def test_a_groups_own_pressure_is_read_beside_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = tmp_path / "cgroup" / "user" / "app"
    group.mkdir(parents=True)
    (tmp_path / "cgroup" / "cgroup.controllers").write_text("memory")
    (group / "memory.pressure").write_text("some total=7\nfull total=3\n")
    (tmp_path / "membership").write_text("0::/user/app\n")
    (tmp_path / "system").write_text("some total=9\nfull total=1\n")
    files = control_groups.memory_pressure_files(tmp_path / "membership", tmp_path / "cgroup")
    assert files == (group / "memory.pressure",)
    assert control_groups.memory_pressure_files(tmp_path / "membership", tmp_path / "none") == ()
    monkeypatch.setattr(control_groups, "memory_pressure_files", lambda: files)
    monkeypatch.setattr(pressure, "SYSTEM_PRESSURE", tmp_path / "system")
    assert pressure.read().stalls == ((7, 3), (9, 1))
    assert pressure.read().swapped_in_bytes == 0


def test_this_machine_is_read_as_the_planner_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "SYSTEM_PRESSURE", tmp_path / "none")
    monkeypatch.setattr(control_groups, "memory_pressure_files", lambda: ())
    monkeypatch.setattr(
        control_groups, "limits", lambda: control_groups.Limits(memory_bytes=2_000_000, free_bytes=1_000_000)
    )
    now, memory = pressure.read(), hardware.memory()
    assert (now.total_bytes, now.available_bytes) == (memory.total_bytes, memory.available_bytes)
    assert (now.total_bytes, now.available_bytes) == (2_000_000, 1_000_000)
    # Without stalls, what was swapped in ever; 0 on a machine without swap.
    assert now.stalls == ()
    assert now.swapped_in_bytes >= 0
