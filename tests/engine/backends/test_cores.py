from pathlib import Path

import psutil
import pytest

import engine.backends.cores as cores
from engine.backends.cores import threads_to_use


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Pretends a machine: logical processors, physical cores, those allowed, and a cgroup quota."""

    def pretend(logical: int, physical: int | None, allowed: int, quota: str | None = None) -> None:
        def count(logical_: bool = True, **options: bool) -> int | None:
            return logical if options.get("logical", logical_) else physical

        monkeypatch.setattr(psutil, "cpu_count", count)
        monkeypatch.setattr(cores, "_allowed_processors", lambda _logical: allowed)
        path = tmp_path / "cpu.max"
        if quota is not None:
            path.write_text(quota)
        monkeypatch.setattr(cores, "_CGROUP_QUOTA", path)

    return pretend


@pytest.mark.parametrize(
    ("logical", "physical", "allowed", "quota", "threads"),
    [
        (16, 8, 16, None, 7),
        (8, None, 8, None, 7),
        (2, 2, 2, None, 1),
        (1, 1, 1, None, 1),
        (16, 8, 4, None, 1),
        (16, 16, 4, None, 3),
        (64, 32, 64, "400000 100000\n", 3),
        (64, 32, 64, "50000 100000\n", 1),
        (64, 32, 64, "max 100000\n", 31),
        (64, 32, 64, "nonsense", 31),
        (4, 8, 4, None, 3),
    ],
)
def test_zero_means_what_the_machine_has(machine, logical, physical, allowed, quota, threads) -> None:
    machine(logical, physical, allowed, quota)
    assert threads_to_use(0) == threads


def test_a_number_is_taken_as_it_is() -> None:
    assert threads_to_use(5) == 5


def test_here_it_is_at_least_one() -> None:
    assert 1 <= threads_to_use(0) <= (psutil.cpu_count() or 1)
