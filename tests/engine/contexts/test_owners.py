"""Whose a kept state is, is noted when it is on the disk; one that nobody has any more is deleted."""

from typing import Any, cast

from engine.contexts.keeper import ContextKeeper
from engine.contexts.kept_states import StateFile
from engine.contexts.owners import Owners
from engine.contexts.schedule import Schedule
from engine.errors import DiskFull
from engine.generation import GenerationRequest, generate
from engine.protocol import Sampling
from tests.support.sensitive_backend import SensitiveBackend
from tests.support.shelf import Shelf

SHORT = Schedule(prefill_tokens=64, prompt_tokens=24, least_gap_tokens=16, bytes_per_token=256, end_tokens=8)


class Notes:
    """What is noted; `gone` are purged conversations."""

    def __init__(self, *gone: str) -> None:
        self.gone = set(gone)
        self.noted: dict[str, set[str]] = {}

    def note(self, session_id: str, state: str) -> bool:
        if session_id not in self.gone:
            self.noted.setdefault(state, set()).add(session_id)
        return state in self.noted


def answer(keeper: ContextKeeper, prompt: tuple[int, ...], session_id: str | None) -> tuple[int, ...]:
    written: list[int] = []
    request = GenerationRequest(prompt, Sampling(temperature=1, top_p=1, min_p=0, seed=1), 20)
    context = keeper.turn(None, None, session_id)
    generate(context, request, lambda event: written.extend(getattr(event, "token_ids", ())), lambda: False)
    keeper.finish(whole=True)
    return (*prompt, *written)


def keeper_of(shelf: Shelf, notes: Notes) -> ContextKeeper:
    return ContextKeeper(SensitiveBackend(), cast(Any, shelf), schedule=SHORT, note=notes.note)


def test_every_state_of_a_conversation_is_noted_and_those_of_other_clients_are_not() -> None:
    shelf, notes = Shelf(), Notes()
    keeper = keeper_of(shelf, notes)
    answer(keeper, tuple(range(1, 50)), "a")
    mine = set(shelf.files)
    assert mine and all(notes.noted[each] == {"a"} for each in mine)
    answer(keeper, tuple(reversed(range(1, 50))), None)
    assert set(shelf.files) > mine and set(notes.noted) == mine


def test_who_begins_with_all_of_a_state_has_it_too_and_who_begins_with_a_part_has_not() -> None:
    shelf, notes = Shelf(), Notes()
    keeper = keeper_of(shelf, notes)
    answer(keeper, tuple(range(1, 50)), "a")
    longest = max(shelf.files, key=lambda each: len(shelf.files[each].state.tokens))
    answer(keeper, (*shelf.files[longest].state.tokens, *range(1, 40)), "branch")
    assert notes.noted[longest] == {"a", "branch"}
    answer(keeper, (*range(1, 45), *range(30, 60)), "other")
    assert "other" not in notes.noted[longest]


def test_what_is_written_of_a_purged_conversation_goes_at_once() -> None:
    shelf, notes = Shelf(), Notes()
    keeper = keeper_of(shelf, notes)
    shelf.holds_back = True
    answer(keeper, tuple(range(1, 50)), "a")
    notes.gone.add("a")
    shelf.write()
    assert shelf.files == {}


def test_a_store_that_cannot_note_it_ends_nothing() -> None:
    def full(_session: str, _state: str) -> bool:
        raise DiskFull("It cannot be noted", "the disk is full", "make room")

    shelf = Shelf()
    keeper = ContextKeeper(SensitiveBackend(), cast(Any, shelf), schedule=SHORT, note=full)
    assert len(answer(keeper, tuple(range(1, 50)), "a")) == 69
    assert shelf.files
    Owners(None, full).add(StateFile(1, 1, "digest"), "a")
