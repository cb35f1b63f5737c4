"""A load stops before the memory is gone."""

import pytest

from engine.backends.load_guard import LOOK_S, STALL_S, LoadGuard
from engine.errors import DoesNotFit
from engine.placement.load_needs import still_needed_bytes
from engine.placement.load_plan import LoadPlan
from engine.placement.planner import Room
from engine.placement.pressure import Reading
from tests.engine.placement.test_load_needs import plan_of

TOTAL = 8 << 30
RESERVE = Room(TOTAL, 0, 1).ram_reserve_bytes


class Machine:
    """A clock and a memory that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.available_bytes = 4 << 30
        self.full_us = 0
        self.looks = 0

    def read(self) -> Reading:
        self.looks += 1
        return Reading(self.now_s, TOTAL, self.available_bytes, stalls=((self.full_us, self.full_us),))


@pytest.fixture
def machine() -> Machine:
    return Machine()


def guard(machine: Machine, *, goes_on: bool = True, plan: LoadPlan | None = None) -> LoadGuard:
    plan = plan or plan_of(mapped=True, copied=True)
    return LoadGuard(plan, lambda _fraction: goes_on, machine.read, lambda: machine.now_s)


def test_a_load_with_memory_goes_on_as_its_caller_says(machine: Machine) -> None:
    machine.now_s += 1
    assert guard(machine)(0.5)
    assert not guard(machine, goes_on=False)(0.5)


def test_memory_is_looked_at_now_and_then_and_always_before_the_context(machine: Machine) -> None:
    watched = guard(machine)
    for _ in range(100):
        watched(0.1)
    assert machine.looks == 1
    machine.now_s += 2 * LOOK_S
    watched(0.2)
    watched(0.3)
    assert machine.looks == 2
    watched(1.0)
    assert machine.looks == 3


def test_it_stops_as_soon_as_what_is_still_needed_is_not_there(machine: Machine) -> None:
    plan = plan_of(mapped=True, copied=True)
    needed = still_needed_bytes(plan, 0.5)
    watched = guard(machine)
    machine.now_s += 1
    machine.available_bytes = needed + RESERVE // 4
    assert watched(0.5)
    machine.now_s += 1
    machine.available_bytes -= 1
    with pytest.raises(
        DoesNotFit, match=r"m was not loaded: memory got short .* needs .* more.*; close other"
    ) as told:
        watched(0.5)
    assert "0 kB more" in told.value.text
    # What was enough at the end was not enough in the middle.
    machine.now_s += 1
    assert watched(1.0)


def test_it_stops_when_all_programs_wait_for_memory(machine: Machine) -> None:
    watched = guard(machine)
    machine.available_bytes = RESERVE
    machine.now_s += 1
    machine.full_us += 390_000
    assert watched(0.5)
    machine.now_s += 1
    machine.full_us += 400_000
    with pytest.raises(DoesNotFit, match="memory got short"):
        watched(0.6)


def test_a_moment_in_which_all_wait_does_not_stop_it(machine: Machine) -> None:
    watched = guard(machine)
    machine.available_bytes = RESERVE
    machine.now_s += 1
    assert watched(0.5)
    machine.now_s += 2 * LOOK_S
    machine.full_us += 90_000
    assert watched(0.6)
    # It is not forgotten either: of the next half second it is a part.
    machine.now_s += STALL_S
    machine.full_us += 200_000
    with pytest.raises(DoesNotFit, match="memory got short"):
        watched(0.7)
