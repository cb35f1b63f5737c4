import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine.backends import cores
from engine.backends.cores import fast_cores, numbers_to_try, threads_to_use
from engine.placement import hardware
from engine.placement.hardware import Processor


def linux(folder: Path, siblings: dict[int, str], quick: str | None = None) -> Path:
    for number, listed in siblings.items():
        place = folder / f"system/cpu/cpu{number}/topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(listed + "\n")
    if quick is not None:
        (folder / "cpu_core").mkdir()
        (folder / "cpu_core/cpus").write_text(quick + "\n")
    return folder


@pytest.fixture(autouse=True)
def _on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")


def test_intels_quick_cores_are_counted_once_for_both_hyper_threads(tmp_path: Path) -> None:
    siblings = {0: "0-1", 1: "0-1", 2: "2,3", 3: "2,3", 4: "4", 5: "5"}
    assert fast_cores(linux(tmp_path, siblings, "0-3")) == 2


def test_arms_quick_cores_are_those_of_most_capacity(tmp_path: Path) -> None:
    for number, capacity in enumerate([1024, 1024, 446, 446, 446, 446]):
        place = linux(tmp_path, {number: str(number)}) / f"system/cpu/cpu{number}"
        (place / "cpu_capacity").write_text(f"{capacity}\n")
    assert fast_cores(tmp_path) == 2


@pytest.mark.parametrize("quick", [None, "", "nonsense", "3-1", "0-99999999999", "0-70000"])
def test_where_nothing_tells_there_are_none(tmp_path: Path, quick: str | None) -> None:
    assert fast_cores(linux(tmp_path, {0: "0", 1: "1"}, quick)) == 0


def test_equal_capacities_are_no_hybrid(tmp_path: Path) -> None:
    for number in range(4):
        place = linux(tmp_path, {number: str(number)}) / f"system/cpu/cpu{number}"
        (place / "cpu_capacity").write_text("1024\n")
    assert fast_cores(tmp_path) == 0


def test_macos_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    def run(arguments: list[str], **_options: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(arguments, 0, b"8\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert fast_cores(tmp_path) == 8

    def missing(*_arguments: object, **_options: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert fast_cores(tmp_path) == 0


@pytest.mark.parametrize(
    ("processor", "numbers"),
    [
        (Processor("p", 8, 16, 16, cores=8), (4, 7, 8, 16)),
        (Processor("p", 2, 2, 2, cores=2), (1, 2)),
        (Processor("p", 32, 64, 64, cores=4), (3, 4)),  # a container's quota of four
        (Processor("p", 8, 16, 4, cores=2), (1, 2, 4)),  # an affinity of four hyper-threads
        (Processor("p", 1, 1, 1, cores=1), (1,)),
    ],
)
def test_numbers_that_are_tried(
    processor: Processor, numbers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "processor", lambda: processor)
    monkeypatch.setattr(cores, "fast_cores", lambda _system: 0)
    assert numbers_to_try() == (numbers, processor.cores)


def test_a_number_is_taken_as_it_is() -> None:
    assert threads_to_use(5) == 5


def test_here_it_is_at_least_one() -> None:
    assert 1 <= threads_to_use(0) <= (psutil.cpu_count() or 1)
