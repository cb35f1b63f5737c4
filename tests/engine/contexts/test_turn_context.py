"""An answer that was cut off goes on token for token, or says that it does not."""

import random
from typing import Any, cast

import numpy as np
import pytest

from engine.backends.base import Cancelled, ContextState
from engine.contexts.keeper import ContextKeeper
from engine.contexts.schedule import Schedule
from engine.contexts.turn_context import MOST_TRIES
from engine.errors import GenerationError
from engine.generation import GenerationRequest, NewText, Outcome, generate
from engine.protocol import Sampling
from engine.store.journal_turns import Turn
from tests.support.sensitive_backend import SensitiveBackend
from tests.support.shelf import Shelf
from tests.support.turn_records import TurnRecords

SHORT = Schedule(prefill_tokens=64, prompt_tokens=24, least_gap_tokens=16, bytes_per_token=256, end_tokens=8)
Ids = tuple[int, ...]


def untold(_done: int, _total: int, _reused: int) -> None:
    """No progress is told."""


class Killed(BaseException):
    """The process has ended."""


class Machine:
    """A disk, and a process on it that can be ended and started again."""

    def __init__(self, **backend: Any) -> None:
        self._backend = backend
        self.shelf = Shelf()
        self.start()

    def start(self, **backend: Any) -> None:
        self.backend = SensitiveBackend(**(self._backend | backend))
        self.keeper = ContextKeeper(self.backend, cast(Any, self.shelf), schedule=SHORT)

    def answer(
        self,
        prompt: Ids,
        *,
        tokens: int = 100,
        temperature: float = 1.0,
        seed: int = 5,
        already: Ids = (),
        before: Turn | None = None,
        killed_after: int | None = None,
        stopped_after: int | None = None,
    ) -> tuple[Ids, Outcome | None, Turn]:
        """What is there of the answer then, how it ended (None: with the process) and what its journal says."""
        written = list(already)
        journal = TurnRecords(prompt, self.backend.facts.exact_key, before)
        context = self.keeper.turn(journal, before)

        def emit(event: Any) -> None:
            if isinstance(event, NewText):
                written.extend(event.token_ids)
                if killed_after is not None and len(written) - len(already) >= killed_after:
                    raise Killed

        request = GenerationRequest(
            prompt,
            Sampling(temperature=temperature, top_p=1.0, min_p=0.0, seed=seed),
            tokens - len(already),
            already=already,
        )
        try:
            outcome = generate(
                context,
                request,
                emit,
                lambda: stopped_after is not None and len(written) - len(already) >= stopped_after,
            )
        except Killed:
            self.start()
            return tuple(written), None, journal.turn
        context.ended()
        self.keeper.finish(whole=outcome.reason == "stop")
        return tuple(written), outcome, journal.turn


def ids(count: int, seed: int = 1) -> Ids:
    chosen = random.Random(seed)
    return tuple(chosen.randrange(1, 64) for _ in range(count))


@pytest.mark.parametrize("rewinds", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("prompt", [ids(20), ids(150)])
def test_an_answer_goes_on_exactly_wherever_the_process_ends(
    rewinds: bool, temperature: float, prompt: Ids
) -> None:
    chosen = random.Random(7)
    once = Machine(rewinds=rewinds)
    whole, _, _ = once.answer(prompt, temperature=temperature)
    assert len(whole) > 20
    for _ in range(8):
        machine = Machine(rewinds=rewinds)
        written: Ids = ()
        turn: Turn | None = None
        outcome = None
        while outcome is None:
            left = len(whole) - len(written)
            killed = chosen.randrange(1, left + 1) if left and chosen.random() < 0.8 else None
            written, outcome, turn = machine.answer(
                prompt, temperature=temperature, already=written, before=turn, killed_after=killed
            )
            assert written == whole[: len(written)]
            if outcome is not None and outcome.exact is not None:
                assert outcome.exact
        assert written == whole


@pytest.mark.parametrize("rewinds", [True, False])
def test_it_goes_on_exactly_behind_another_turn_and_reads_next_to_nothing(rewinds: bool) -> None:
    first = ids(150)

    def begun() -> tuple[Machine, Ids]:
        machine = Machine(rewinds=rewinds)
        answer, _, _ = machine.answer(first, seed=2, tokens=60)
        return machine, (*first, *answer, *ids(30, 3))

    machine, second = begun()
    whole, _, _ = machine.answer(second)
    machine, again = begun()
    assert again == second
    part, outcome, turn = machine.answer(second, killed_after=40)
    assert outcome is None
    rest, outcome, _ = machine.answer(second, already=part, before=turn)
    assert (rest, outcome and outcome.exact) == (whole, True)
    assert machine.backend.read_tokens == 0
    assert machine.backend.stepped < 40 + len(whole)


def test_without_its_states_it_goes_on_and_says_that_it_differs() -> None:
    prompt = ids(150)
    machine = Machine()
    machine.answer(ids(40, 9), seed=2)
    base, _, _ = machine.answer(prompt, seed=2)
    second = (*prompt, *base, *ids(30, 3))
    part, _, turn = machine.answer(second, killed_after=20)
    machine.shelf.files.clear()
    written, outcome, _ = machine.answer(second, already=part, before=turn)
    assert outcome
    assert outcome.exact is False
    assert written[: len(part)] == part
    assert len(written) > len(part)


@pytest.mark.parametrize("change", ["key", "prompt", "journal"])
def test_what_is_not_the_same_way_is_not_called_exact(change: str) -> None:
    prompt = ids(150)
    machine = Machine()
    part, _, turn = machine.answer(prompt, killed_after=20)
    before: Turn | None = turn
    if change == "key":
        machine.start(exact="another build")
    elif change == "prompt":
        prompt = (*prompt[:-1], 1 + prompt[-1] % 62)
    else:
        before = None
    _, outcome, _ = machine.answer(prompt, already=part, before=before)
    assert outcome
    assert outcome.exact is False


def test_relays_need_no_disk_and_then_the_answer_goes_on_from_nothing_exactly() -> None:
    prompt = ids(150)
    whole, _, _ = Machine().answer(prompt)
    machine = Machine()
    machine.shelf.refuses = True
    machine.shelf.has_room = False
    part, _, turn = machine.answer(prompt, killed_after=40)
    assert not turn.snapshots
    assert turn.relays
    written, outcome, _ = machine.answer(prompt, already=part, before=turn)
    assert (written, outcome and outcome.exact) == (whole, True)


def test_a_relay_that_was_not_done_is_not_passed_over_in_silence() -> None:
    prompt = ids(150)
    machine = Machine()
    part, _, turn = machine.answer(prompt, killed_after=40)
    turn.snapshots.clear()
    turn.relays.pop()
    _, outcome, _ = machine.answer(prompt, already=part, before=turn)
    assert outcome
    assert outcome.exact is False


def test_a_journal_that_is_full_does_not_end_the_answer() -> None:
    machine = Machine()
    journal = TurnRecords(ids(30), "exact")
    journal.is_full = True
    context = machine.keeper.turn(journal)
    request = GenerationRequest(ids(150), Sampling(temperature=0, seed=1), 60)
    assert generate(context, request, lambda _event: None, lambda: False).usage.generated_tokens > 10
    assert journal.turn.base is None


@pytest.mark.parametrize("rewinds", [True, False])
def test_a_stopped_answer_goes_on_where_the_context_stands(rewinds: bool) -> None:
    prompt = ids(150)
    whole, _, _ = Machine(rewinds=rewinds).answer(prompt)
    machine = Machine(rewinds=rewinds)
    part, outcome, turn = machine.answer(prompt, stopped_after=25)
    assert outcome
    assert outcome.reason == "cancelled"
    read, stepped = machine.backend.read_tokens, machine.backend.stepped
    written, outcome, _ = machine.answer(prompt, already=part, before=turn)
    assert (written, outcome and outcome.exact) == (whole, True)
    assert machine.backend.read_tokens == read
    assert machine.backend.stepped - stepped <= len(whole) - len(part) + 1
    # And when something else was answered meanwhile.
    machine = Machine(rewinds=rewinds)
    part, _, turn = machine.answer(prompt, stopped_after=25)
    machine.answer(ids(90, 8), seed=3)
    written, outcome, _ = machine.answer(prompt, already=part, before=turn)
    assert (written, outcome and outcome.exact) == (whole, True)


@pytest.mark.parametrize("rewinds", [True, False])
def test_an_answer_that_reached_its_length_goes_on(rewinds: bool) -> None:
    prompt = ids(150)
    whole, _, _ = Machine(rewinds=rewinds).answer(prompt)
    machine = Machine(rewinds=rewinds)
    part, outcome, turn = machine.answer(prompt, tokens=30)
    assert outcome
    assert outcome.reason == "length"
    written, outcome, _ = machine.answer(prompt, already=part, before=turn)
    assert (written, outcome and outcome.exact) == (whole, True)


@pytest.mark.parametrize("rewinds", [True, False])
def test_a_cut_reading_goes_on_where_it_was(rewinds: bool) -> None:
    prompt = ids(600)
    machine = Machine(rewinds=rewinds)
    context = machine.keeper.turn()
    with pytest.raises(Cancelled):
        context.prepare(prompt, (), untold, lambda: machine.backend.read_tokens >= 300)
    machine.keeper.finish(whole=False)
    read = machine.backend.read_tokens
    prepared = machine.keeper.turn().prepare(prompt, (), untold, lambda: False)
    assert prepared.read_tokens <= 600 - read + 32
    # After the process has ended there are the states that were kept on the way.
    machine = Machine(rewinds=rewinds)
    with pytest.raises(Cancelled):
        machine.keeper.turn().prepare(prompt, (), untold, lambda: machine.backend.read_tokens >= 300)
    machine.start()
    prepared = machine.keeper.turn().prepare(prompt, (), untold, lambda: False)
    assert 300 <= prepared.read_tokens <= 408


def test_a_base_that_comes_late_is_named_before_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    prompt = ids(150)
    machine.shelf.holds_back = True
    answer, _, _ = machine.answer(prompt, seed=2)
    second = (*prompt, *answer, *ids(30, 3))
    monkeypatch.setattr("engine.contexts.turn_context.BASE_WAIT_S", 0.01)
    _, _, turn = machine.answer(second)
    assert turn.base is None  # it never came
    machine.shelf.write()
    third = (*second, *ids(30, 4))
    _, _, turn = machine.answer(third)
    assert turn.base is not None


def test_where_nothing_is_kept_only_a_context_that_stands_there_goes_on_exactly() -> None:
    machine = Machine(rewinds=True)
    machine.keeper = ContextKeeper(machine.backend, None)
    prompt = ids(50)
    part, _, _ = machine.answer(prompt, stopped_after=25)
    written, outcome, _ = machine.answer(prompt, already=part)
    assert outcome
    assert outcome.exact is True
    whole, _, _ = Machine(rewinds=True).answer(ids(20, 4))
    assert written[: len(part)] == part
    machine.answer(ids(20, 4))
    _, outcome, _ = machine.answer(prompt, already=part)
    assert outcome
    assert outcome.exact is False
    assert whole


def test_completions_have_no_relays_in_their_answers() -> None:
    machine = Machine()
    request = GenerationRequest(ids(30), Sampling(temperature=0, seed=1), 60)
    context = machine.keeper.turn()
    generate(context, request, lambda _event: None, lambda: False)
    assert machine.backend.loads == 2  # from nothing, and at the prompt's end


def test_what_fails_where_it_failed_before_is_gone_round() -> None:
    prompt = ids(150)
    machine = Machine()
    part, _, turn = machine.answer(prompt, killed_after=20)
    turn.snapshots.clear()
    step = machine.backend.step

    def failing(token: int) -> Any:
        if len(machine.backend.held) == 160:
            raise GenerationError("The answer stopped", "this token fails", "continue")
        return step(token)

    machine.backend.step = failing  # type: ignore[method-assign]
    written, outcome, departed = machine.answer(prompt, already=part, before=turn)
    assert outcome
    assert outcome.exact is False
    assert written[: len(part)] == part
    # The journal tells that the way it named was left.
    assert departed.base is not None and departed.base.schedule == 0


def test_what_was_tried_in_vain_is_not_tried_for_ever() -> None:
    prompt = ids(150)
    machine = Machine()
    part, _, turn = machine.answer(prompt, killed_after=20)
    turn.begun = turn.begun.model_copy(update={"resumes": MOST_TRIES - 1})
    assert machine.keeper.turn(None, turn).prepare(prompt, part, untold, lambda: False).exact is True
    turn.begun = turn.begun.model_copy(update={"resumes": MOST_TRIES})
    assert machine.keeper.turn(None, turn).prepare(prompt, part, untold, lambda: False).exact is False


@pytest.mark.parametrize("rewinds", [True, False])
def test_a_token_that_fails_just_behind_a_relay_leaves_nothing_wrong(rewinds: bool) -> None:
    prompt = ids(160)
    whole, _, _ = Machine(rewinds=rewinds).answer(prompt)
    machine = Machine(rewinds=rewinds)
    step, records = machine.backend.step, TurnRecords(prompt, "exact")

    def failing(token: int) -> Any:
        if len(machine.backend.held) < len(prompt):
            return step(token)
        machine.backend.load(ContextState((), np.zeros(0, np.uint8)))
        raise GenerationError("The answer stopped", "this token fails", "continue")

    machine.backend.step = failing  # type: ignore[method-assign]
    request = GenerationRequest(prompt, Sampling(temperature=1, top_p=1, min_p=0, seed=5), 100)
    with pytest.raises(GenerationError):
        generate(machine.keeper.turn(records), request, lambda _event: None, lambda: False)
    machine.backend.step = step  # type: ignore[method-assign]
    assert machine.answer(prompt)[0] == whole  # from the state that was kept
    machine.start()
    assert machine.keeper.cost((*prompt, 1)).from_disk == len(prompt)
    machine.answer((*prompt, 1), tokens=10)
    assert not machine.shelf.quarantined


def test_a_context_that_does_not_take_its_own_state_is_read_again_and_the_answer_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine()
    load, failed = machine.backend.load, list[int]()

    def fails_once(state: ContextState, tokens: int | None = None) -> None:
        if len(state.tokens) > 40 and not failed:
            failed.append(len(state.tokens))
            load(ContextState((), np.zeros(0, np.uint8)))
            raise GenerationError("It was not taken", "for the test", "nothing")
        load(state, tokens)

    monkeypatch.setattr(machine.backend, "load", fails_once)
    written, _, turn = machine.answer(ids(20), killed_after=60)
    assert failed and len(written) == 60
    _, outcome, _ = machine.answer(ids(20), already=written, before=turn)
    assert outcome is not None and outcome.exact is False


def test_a_relay_that_fails_where_there_was_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    machine.shelf.refuses = True
    written, ended, turn = machine.answer(ids(20), killed_after=40)
    assert ended is None and turn.relays

    def no_memory(_room: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(machine.backend, "save", no_memory)
    _, outcome, _ = machine.answer(ids(20), already=written, before=turn)
    assert outcome is not None and outcome.exact is False
    machine.start()
    _, outcome, _ = machine.answer(ids(20), already=written, before=turn)
    assert outcome is not None and outcome.exact is True


def reads(machine: Machine, prompt: Ids, forks: Ids) -> int:
    """How many tokens are read for a prompt."""
    before = machine.backend.read_tokens
    context = machine.keeper.turn(forks=forks)
    request = GenerationRequest(prompt, Sampling(temperature=0.0, top_p=1.0, min_p=0.0, seed=1), 20)
    outcome = generate(context, request, lambda _: None, lambda: False)
    machine.keeper.finish(whole=outcome.reason == "stop")
    return machine.backend.read_tokens - before


@pytest.mark.parametrize("rewinds", [True, False])
def test_a_state_is_kept_where_prompts_will_part(rewinds: bool) -> None:
    """Two agents with one beginning, one after the other, and a third one after the engine was started again."""
    beginning = ids(30, 2)
    machine = Machine(rewinds=rewinds)
    # So long that the marks that stand near its beginning go.
    first = (*beginning, *ids(500, 3))
    assert reads(machine, first, (30,)) == len(first)
    assert reads(machine, (*beginning, *ids(33, 4)), (30,)) <= 33
    machine.start()
    assert reads(machine, (*beginning, *ids(34, 5)), (30,)) <= 34


def test_places_near_others_or_outside_of_what_is_read_are_no_stops() -> None:
    machine = Machine(rewinds=False)
    prompt = ids(160)
    relays: list[int] = []
    done = machine.keeper.relay

    def counted(following: int | None = None) -> Any:
        relays.append(len(machine.backend.held))
        return done(following)

    machine.keeper.relay = counted  # type: ignore[method-assign]
    reads(machine, prompt, (10, 50, 160, 161, 9000))
    assert relays == [64, 128, 160]  # 10 is little, 50 lies near 64
    relays.clear()
    reads(machine, (*prompt[:90], *ids(70, 9)), (90, 104))
    assert relays == [104, 128, 160]  # 90 is near the mark at 80 that it begins with
