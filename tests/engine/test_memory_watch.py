"""A loaded model gives memory back when it is short, and takes it again when it is not."""

import logging
import threading

import pytest

from engine.memory_watch import CALM_LOOKS, MemoryWatch
from engine.placement.planner import Room
from engine.placement.pressure import Level, Reading

TOTAL = 8 << 30
RESERVE = Room(TOTAL, 0, 1).ram_reserve_bytes


class Machine:
    """A machine with one model that has `spare` bytes to give back."""

    def __init__(self, spare_bytes: int = 2 * RESERVE) -> None:
        self.loaded_id: str | None = "m"
        self.needed_mapped_bytes = 0
        self.reads_its_file_again = False
        self.available_bytes = 2 * RESERVE
        self.spare_bytes = self.most_bytes = spare_bytes
        self.some_us = 0
        self.now_s = 0.0
        self.looked = threading.Event()
        self.fails = False

    def read(self) -> Reading:
        self.looked.set()
        if self.fails:
            raise OSError("no such device")
        self.now_s += 0.5
        return Reading(self.now_s, TOTAL, self.available_bytes, stalls=((self.some_us, 0),))

    def relieve(self, wanted_bytes: int) -> int:
        given = min(wanted_bytes, self.spare_bytes)
        self.spare_bytes -= given
        self.available_bytes += given
        return given

    def allow(self, more_bytes: int) -> int:
        taken = min(more_bytes, self.most_bytes - self.spare_bytes)
        self.spare_bytes += taken
        self.available_bytes -= taken
        return taken


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def told() -> list[str | None]:
    return []


@pytest.fixture
def watch(machine: Machine, told: list[str | None]) -> MemoryWatch:
    made: MemoryWatch
    made = MemoryWatch(machine, lambda: told.append(made.notice), machine.read)
    return made


def test_a_calm_machine_is_left_alone(machine: Machine, watch: MemoryWatch, told: list[str | None]) -> None:
    for _ in range(2 * CALM_LOOKS):
        assert watch.look() is Level.CALM
    assert machine.spare_bytes == machine.most_bytes
    assert told == []


def test_short_memory_is_given_back_up_to_the_reserve_and_said_once(
    machine: Machine, watch: MemoryWatch, told: list[str | None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "engine.memory_watch")
    watch.look()
    machine.available_bytes = RESERVE // 2 - 1
    assert watch.look() is Level.SHORT
    assert machine.available_bytes == RESERVE
    machine.available_bytes -= RESERVE * 2 // 3
    watch.look()
    assert machine.available_bytes == RESERVE
    assert len(told) == len(caplog.records) == 1
    assert watch.notice is not None
    assert "Memory is short" in watch.notice
    # With just the reserve free nothing is taken again, however long it is calm.
    for _ in range(2 * CALM_LOOKS):
        watch.look()
    assert machine.available_bytes == RESERVE
    # The program that took it has ended: the model takes again what is free beyond the reserve, then all.
    given = machine.most_bytes - machine.spare_bytes
    machine.available_bytes = 2 * RESERVE + given
    for _ in range(CALM_LOOKS):
        watch.look()
    assert machine.spare_bytes == machine.most_bytes
    for _ in range(CALM_LOOKS):
        watch.look()
    assert told[1:] == [None]
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]
    assert "again" in caplog.text


def test_a_short_moment_begins_the_calm_anew(machine: Machine, watch: MemoryWatch) -> None:
    machine.available_bytes = 0
    watch.look()
    machine.most_bytes = machine.spare_bytes = 8 * RESERVE  # a second need finds something
    machine.spare_bytes -= RESERVE
    left = machine.spare_bytes
    machine.available_bytes = 4 * RESERVE
    for _ in range(CALM_LOOKS - 1):
        watch.look()
    machine.available_bytes = RESERVE // 2 - 1
    watch.look()
    machine.available_bytes = 4 * RESERVE
    for _ in range(CALM_LOOKS - 1):
        watch.look()
    assert machine.spare_bytes < left
    watch.look()
    assert machine.spare_bytes > left


def test_in_need_more_than_the_reserve_is_given_back(machine: Machine, watch: MemoryWatch) -> None:
    machine.available_bytes = RESERVE // 4 - 1
    assert watch.look() is Level.CRITICAL
    assert machine.available_bytes >= 2 * RESERVE - 1


def test_programs_that_wait_are_given_something_though_there_seems_to_be_enough(
    machine: Machine, watch: MemoryWatch
) -> None:
    machine.available_bytes = RESERVE
    watch.look()
    machine.some_us += 100_000  # of half a second
    assert watch.look() is Level.SHORT
    assert machine.most_bytes - machine.spare_bytes == RESERVE // 4


def test_a_model_that_reads_its_own_pages_again_does_not_make_memory_short(
    machine: Machine, watch: MemoryWatch
) -> None:
    machine.reads_its_file_again = True
    machine.available_bytes = RESERVE
    watch.look()
    machine.some_us += 500_000
    assert watch.look() is Level.CALM
    machine.available_bytes = RESERVE // 2 - 1
    assert watch.look() is Level.SHORT


def test_pages_that_every_token_reads_are_not_free(machine: Machine, watch: MemoryWatch) -> None:
    machine.needed_mapped_bytes = machine.available_bytes - RESERVE // 2 + 1
    assert watch.look() is Level.SHORT


def test_a_model_with_nothing_to_give_back_is_said_once_and_until_it_is_over(told: list[str | None]) -> None:
    machine = Machine(spare_bytes=0)
    watch = MemoryWatch(machine, lambda: told.append(watch.notice), machine.read)
    machine.available_bytes = 0
    watch.look()
    watch.look()
    assert len(told) == 1
    assert told[0] is not None
    assert "nothing back" in told[0]
    machine.available_bytes = 3 * RESERVE
    for _ in range(CALM_LOOKS):
        watch.look()
    assert told[1:] == [None]


def test_it_is_over_where_a_plan_left_no_more_than_the_reserve(told: list[str | None]) -> None:
    machine = Machine(spare_bytes=0)
    watch = MemoryWatch(machine, lambda: told.append(watch.notice), machine.read)
    for turn in (1, 2):
        machine.available_bytes = 0
        watch.look()
        assert len(told) == 2 * turn - 1
        assert told[-1] is not None
        machine.available_bytes = RESERVE
        for _ in range(CALM_LOOKS - 1):
            watch.look()
        assert len(told) == 2 * turn - 1
        watch.look()
        assert told[2 * turn - 1 :] == [None]


def test_what_stays_free_beyond_the_reserve_is_not_called_short_for_ever(
    machine: Machine, watch: MemoryWatch, told: list[str | None]
) -> None:
    machine.available_bytes = 0
    watch.look()
    given = machine.most_bytes - machine.spare_bytes
    machine.available_bytes = RESERVE + given  # all that the plan had left, and what the model gave
    for _ in range(CALM_LOOKS):
        watch.look()
    assert 0 < machine.most_bytes - machine.spare_bytes <= RESERVE // 4
    assert told[1:] == [None]
    machine.available_bytes = 4 * RESERVE
    for _ in range(CALM_LOOKS):
        watch.look()
    assert machine.spare_bytes == machine.most_bytes


def test_another_model_owes_nothing(machine: Machine, watch: MemoryWatch, told: list[str | None]) -> None:
    machine.available_bytes = 0
    watch.look()
    machine.loaded_id = "other"
    watch.look()
    assert told[-1] is None
    before = machine.spare_bytes
    machine.available_bytes = 4 * RESERVE
    for _ in range(2 * CALM_LOOKS):
        watch.look()
    assert machine.spare_bytes == before


def test_the_thread_sleeps_until_there_is_a_model_and_ends_when_told() -> None:
    machine = Machine()
    machine.loaded_id = None
    watch = MemoryWatch(machine, lambda: None, machine.read)
    watch.start()
    watch.wake()
    machine.loaded_id = "m"
    watch.wake()
    assert machine.looked.wait(30)
    watch.close()
    watch.close()
    assert not watch._thread.is_alive()


def test_a_system_that_cannot_be_read_is_said_and_harms_nothing(
    machine: Machine, watch: MemoryWatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine.fails = True
    watch.start()
    watch._thread.join(30)
    assert not watch._thread.is_alive()
    assert "memory is not watched any more" in caplog.text
    watch.close()
