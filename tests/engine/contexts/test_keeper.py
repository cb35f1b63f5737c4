"""From where a context begins, what is kept of it, and what is trusted."""

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest

from engine.contexts.costs import Pace
from engine.contexts.keeper import ContextKeeper
from engine.contexts.schedule import Schedule
from engine.generation import GenerationRequest, generate
from engine.protocol import Sampling
from tests.support.sensitive_backend import SensitiveBackend
from tests.support.shelf import Shelf

SHORT = Schedule(prefill_tokens=64, prompt_tokens=24, least_gap_tokens=16, bytes_per_token=256, end_tokens=8)
Ids = tuple[int, ...]


def ids(count: int, seed: int = 1) -> Ids:
    chosen = random.Random(seed)
    return tuple(chosen.randrange(1, 64) for _ in range(count))


def keeper_of(
    shelf: Shelf | None,
    backend: SensitiveBackend | None = None,
    *,
    pace: Pace | None = None,
    wanted: Callable[[], bool] = lambda: True,
    waits: Callable[[], bool] = lambda: False,
) -> ContextKeeper:
    return ContextKeeper(
        backend or SensitiveBackend(),
        cast(Any, shelf),
        schedule=SHORT,
        pace=pace,
        wanted=wanted,
        waits=waits,
    )


def read(keeper: ContextKeeper, tokens: Sequence[int]) -> int:
    """Have `tokens` in the context as a prompt; how many of them were read."""
    return keeper.turn().prepare(tokens, (), lambda _a, _b, _c: None, lambda: False).read_tokens


def answered(keeper: ContextKeeper, prompt: Ids, tokens: int = 40) -> Ids:
    """A whole answer."""
    written: list[int] = []
    request = GenerationRequest(prompt, Sampling(temperature=1, top_p=1, min_p=0, seed=1), tokens)
    generate(
        keeper.turn(),
        request,
        lambda event: written.extend(getattr(event, "token_ids", ())),
        lambda: False,
    )
    keeper.finish(whole=True)
    return tuple(written)


@pytest.mark.parametrize("rewinds", [True, False])
def test_a_common_beginning_is_read_once_whoever_asks(rewinds: bool) -> None:
    shelf = Shelf()
    keeper = keeper_of(shelf, SensitiveBackend(rewinds=rewinds))
    book = ids(500)
    answered(keeper, (*book, *ids(20, 2)))
    # In memory: another conversation, then the first again.
    assert read(keeper, (*book, *ids(20, 3))) <= 20 + 64
    assert read(keeper, (*book, *ids(20, 2))) <= 20 + 64
    # After a restart: from the disk.
    later = keeper_of(shelf, SensitiveBackend(rewinds=rewinds))
    assert read(later, (*book, *ids(20, 4))) <= 20 + 64
    assert not shelf.quarantined


@pytest.mark.parametrize("rewinds", [True, False])
def test_what_is_told_beforehand_is_what_is_then_done(rewinds: bool) -> None:
    shelf = Shelf()
    keeper = keeper_of(shelf, SensitiveBackend(rewinds=rewinds))
    chosen = random.Random(4)
    known = [ids(200, seed) for seed in range(3)]
    for _ in range(25):
        text = chosen.choice(known)
        prompt = (*text[: chosen.randrange(20, 200)], *ids(chosen.randrange(1, 60), chosen.randrange(99)))
        cost = keeper.cost(prompt, more=False)
        assert cost.kept + cost.reread == cost.total == len(prompt)
        told = keeper.turn()
        assert told.prepare(prompt, (), lambda _a, _b, _c: None, lambda: False).read_tokens == cost.reread
        keeper.finish(whole=True)
        if chosen.random() < 0.3:
            keeper = keeper_of(shelf, SensitiveBackend(rewinds=rewinds))
            again = keeper.cost(prompt, more=False)
            assert again.from_disk == again.kept > 0


def test_the_cost_has_seconds_where_they_are_known() -> None:
    shelf = Shelf()
    answered(keeper_of(shelf), ids(300))
    later = keeper_of(shelf, pace=lambda tokens, depth: tokens * 2.0 + depth)
    cost = later.cost((*ids(300), *ids(50, 2)))
    found = shelf.find(later.backend.facts.state_key, (*ids(300), *ids(50, 2)), any_prefix=False)[0]
    assert cost.from_disk == cost.kept == found.tokens
    assert cost.seconds == pytest.approx(later.speeds.loading_s(found.bytes) + 2.0 * cost.reread + cost.kept)
    assert keeper_of(shelf).cost(ids(300, 9)).seconds is None
    assert keeper_of(None).cost(()).seconds == 0


def test_a_file_that_is_slower_than_reading_is_left_alone() -> None:
    shelf = Shelf()
    answered(keeper_of(shelf), ids(300))
    quick = keeper_of(shelf, pace=lambda tokens, _depth: tokens * 1e-12)
    assert read(quick, ids(300)) == 300
    assert shelf.loads == 0


def test_a_state_is_probed_once_before_it_is_trusted_and_one_that_fails_is_never_used() -> None:
    shelf = Shelf()
    prompt = ids(300)
    answered(keeper_of(shelf), prompt)
    first = keeper_of(shelf)
    assert read(first, (*prompt, 1)) < 60
    stepped = first.backend.stepped  # type: ignore[attr-defined]
    assert stepped == 1
    spoilt = next(iter(sorted(shelf.files, key=lambda each: -len(shelf.files[each].state.tokens))))
    kept = shelf.files[spoilt]
    assert kept.probe is not None
    assert kept.state.logits is not None
    kept.probe.logits[3] += np.float32(1e-3)
    later = keeper_of(shelf)
    tokens = kept.state.tokens
    assert read(later, (*tokens, 1)) > 0
    assert list(shelf.quarantined) == [spoilt]
    assert "differs" in shelf.quarantined[spoilt]
    assert list(later.backend.held) == [*tokens, 1]


@pytest.mark.parametrize(("off", "trusted"), [(0.05, True), (0.5, False)])
def test_another_build_may_differ_a_little(off: float, trusted: bool) -> None:
    shelf = Shelf()
    prompt = ids(300)
    answered(keeper_of(shelf), prompt)
    backend = SensitiveBackend(exact="another build")
    backend.off = off
    assert (read(keeper_of(shelf, backend), (*prompt, 1)) < 60) is trusted
    assert bool(shelf.quarantined) is not trusted


def test_a_state_that_the_model_refuses_is_set_aside_and_the_prompt_is_read() -> None:
    shelf = Shelf()
    prompt = ids(300)
    answered(keeper_of(shelf), prompt)
    backend = SensitiveBackend()
    backend.fails_to_load = True
    keeper = keeper_of(shelf, backend)
    assert read(keeper, (*prompt, 1)) == 301  # nor its own states
    assert backend.held == [*prompt, 1]
    assert shelf.quarantined
    # Not at every relay anew: one that failed is enough.
    assert backend.read_tokens < 2 * 301
    backend.fails_to_load = False
    assert read(keeper, (*prompt, 2)) > 0


def test_what_another_conversation_displaces_is_kept_first() -> None:
    shelf = Shelf()
    keeper = keeper_of(shelf)
    context = keeper.turn()
    context.prepare(ids(10), (), lambda _a, _b, _c: None, lambda: False)
    for token in ids(300, 2):
        context.step(token)
    keeper.finish(whole=False)
    assert shelf.files == {}  # it may go on where it stands
    read(keeper, ids(50, 3))
    assert any(len(each.state.tokens) == 310 for each in shelf.files.values())
    assert read(keeper, (*ids(10), *ids(300, 2), 7)) == 1


def test_what_is_not_kept_yet_is_kept_before_the_model_goes() -> None:
    shelf = Shelf()
    keeper = keeper_of(shelf)
    read(keeper, ids(20))
    keeper.release()
    assert [each.state.tokens for each in shelf.files.values()] == [ids(20)]
    assert all(each.probe is not None for each in shelf.files.values())
    keeper.release()
    assert len(shelf.files) == 1


def test_a_short_answer_while_somebody_waits_is_not_kept() -> None:
    shelf = Shelf()
    keeper = keeper_of(shelf, waits=lambda: True)
    answered(keeper, ids(10), tokens=30)
    assert shelf.files == {}


def test_something_aside_runs_behind_what_was_saved_and_disturbs_nothing() -> None:
    shelf = Shelf()
    keeper = keeper_of(shelf)
    prompt = ids(40)
    generate(
        keeper.turn(),
        GenerationRequest(prompt, Sampling(temperature=0, seed=1), 40),
        lambda _event: None,
        lambda: False,
    )
    held = list(keeper.backend.held)

    def aside() -> None:
        with keeper.backend.fork():
            keeper.backend.step(5)

    keeper.finish(whole=True, aside=aside)
    (longest,) = [each for each in shelf.files.values() if len(each.state.tokens) == len(held)]
    assert list(longest.state.tokens) == held
    assert longest.probe is not None
    assert read(keeper_of(shelf), (*held, 9)) == 1
    assert not shelf.quarantined


def test_what_the_turn_rests_on_is_not_evicted() -> None:
    shelf = Shelf()
    keeper = keeper_of(shelf)
    answered(keeper, ids(200))
    answer = answered(keeper, (*ids(200), *ids(40, 2)))
    newest = max(shelf.files, key=lambda each: len(shelf.files[each].state.tokens))
    assert newest in shelf.protected
    assert len(shelf.protected) <= 3
    assert answer
    # Nor what the conversation needs that somebody has open, and asks the cost of.
    answered(keeper, ids(200, 7))
    answered(keeper, ids(200, 8))
    answered(keeper, ids(200, 9))
    assert newest not in shelf.protected
    keeper.cost((*shelf.files[newest].state.tokens, 3))
    assert newest in shelf.protected


def test_when_memory_is_short_states_come_from_the_disk() -> None:
    shelf = Shelf()
    keeper = keeper_of(shelf)
    prompt = ids(200)
    answered(keeper, prompt)
    keeper.relieve()
    loads = shelf.loads
    assert read(keeper, (*prompt, 5)) < 40
    assert shelf.loads == loads + 1


def test_where_states_are_not_wanted_none_is_kept() -> None:
    shelf = Shelf()
    keeper = keeper_of(shelf, SensitiveBackend(rewinds=True), wanted=lambda: False)
    answered(keeper, ids(200))
    assert shelf.files == {}
    assert read(keeper, (*ids(200), 5)) == 1
    assert keeper.backend.loads == 0  # type: ignore[attr-defined]
