"""States in memory: which stay, with which marks, and how far they reach."""

from dataclasses import replace

import numpy as np
import pytest

from engine.backends.base import ContextState, Mark
from engine.contexts import kept_states
from engine.contexts.kept_states import KeptState, KeptStates, common_length, thinned, usable


def state(
    tokens: int, *marks: int, size: int = 100, mark_size: int = 10, logits: bool = False
) -> ContextState:
    return ContextState(
        tuple(range(tokens)),
        np.zeros(size, np.uint8),
        tuple(Mark(at, np.zeros(mark_size, np.uint8)) for at in marks),
        np.zeros(4, np.float32) if logits else None,
    )


def test_the_newest_stays_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_states, "KEPT_BYTES", 250)
    states = KeptStates()
    kept = [
        KeptState.of(state(number, size=size)) for number, size in ((1, 100), (2, 100), (3, 100), (4, 900))
    ]
    for each in kept:
        states.add(each)
    assert states.all == [kept[3], kept[2], kept[1]]
    states.add(kept[1])
    assert states.all == [kept[1]]  # the large one is not the newest any more
    states.drop(kept[1])
    assert states.all == []
    for number in range(20):
        states.add(KeptState.of(state(number, size=1)))
    assert len(states.all) == kept_states.STATES_KEPT


def test_when_memory_is_short_what_is_on_the_disk_goes() -> None:
    states = KeptStates()
    written, waiting = KeptState.of(state(1)), KeptState.of(state(2))
    written.file.digest = "d"
    states.add(written)
    states.add(waiting)
    assert states.of("d") is written
    states.relieve()
    assert states.all == [waiting]
    assert states.of("d") is None


def test_marks_take_half_the_room_of_the_rest() -> None:
    many = state(1000, *range(10, 1000, 10), size=200, mark_size=10)
    left = thinned(many)
    assert len(left.marks) == 10
    places = [mark.tokens for mark in left.marks]
    assert places[-4:] == [960, 970, 980, 990]  # where people retry and edit
    assert max(b - a for a, b in zip([0, *places], places, strict=False)) < 400
    few = state(50, 10, 20, 30, 40, size=1)
    assert thinned(few) is few  # these stay whatever they take


@pytest.mark.parametrize("cuttable", [True, False])
def test_how_far_a_state_reaches(cuttable: bool) -> None:
    kept = state(20, 5, 15)
    tokens = list(range(20))
    assert usable(kept, [*tokens, 99], 20, cuttable=cuttable) == 20
    assert usable(kept, tokens, 19, cuttable=cuttable) == (19 if cuttable else 15)
    # All of it and nothing more: then the logits have to be there.
    assert usable(replace(kept, logits=np.zeros(4, np.float32)), tokens, 19, cuttable=cuttable) == 20
    assert usable(kept, [*tokens[:12], 99, 98], 13, cuttable=cuttable) == (12 if cuttable else 5)
    assert usable(kept, [*tokens[:3], 99], 3, cuttable=cuttable) == (3 if cuttable else 0)
    assert usable(kept, [99], 0, cuttable=cuttable) == 0


def test_common_beginnings() -> None:
    assert common_length((), (1,)) == 0
    assert common_length((1, 2), (1, 2, 3)) == 2
    for differs in range(50):
        other = [*range(differs), -1, *range(differs + 1, 50)]
        assert common_length(range(50), other) == differs
