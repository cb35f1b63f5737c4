"""Answers that were cut off go on token for token, with llama.cpp itself: a small V4, and the built-in model; and with
the native engine.

Every process of a campaign is a backend, a keeper and a store of their own on the same folder; they are thrown away
after any number of tokens. The whole engine is killed in `tests.support.session_campaign`.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from convert.conversion import convert
from engine.contexts.keeper import ContextKeeper
from engine.contexts.schedule import Schedule
from engine.generation import GenerationRequest, NewText, Outcome, generate
from engine.protocol import Sampling
from engine.store.journal_turns import Turn
from engine.store.snapshots import SnapshotStore
from tests.benchmarks.against_sweep import starter
from tests.convert.conversions import checkpoint, job
from tests.integration.state_process import opened as opened_model
from tests.support.turn_records import TurnRecords

pytestmark = pytest.mark.slow

SHORT = Schedule(prefill_tokens=96, prompt_tokens=32, least_gap_tokens=8, bytes_per_token=2**40, end_tokens=8)
TEXT = "The deep sea begins where the light of day ends, and it is older than the land. "
WRITTEN = 40
Ids = tuple[int, ...]
Open = Callable[[], Any]


class Killed(BaseException):
    """The process has ended."""


class Machine:
    """A folder, and what a process holds of it."""

    def __init__(self, opened: Open, folder: Path) -> None:
        self._opened, self._folder = opened, folder
        self.start()

    def start(self) -> None:
        self.backend = self._opened()
        self.snapshots = SnapshotStore(self._folder, lambda: 10**10, leaves_free=lambda _bytes: 0)
        self.keeper = ContextKeeper(self.backend, self.snapshots, schedule=SHORT)

    def end(self) -> None:
        self.snapshots.close()
        self.backend.close()

    def answer(
        self,
        prompt: Ids,
        sampling: Sampling,
        *,
        already: Ids = (),
        before: Turn | None = None,
        killed_after: int = 10**6,
    ) -> tuple[Ids, Outcome | None, Turn]:
        """The answer's tokens, how it ended (None: it was killed), and what its journal says."""
        written = list(already)
        records = TurnRecords(prompt, self.backend.facts.exact_key, before)
        context = self.keeper.turn(records, before)

        def emit(event: Any) -> None:
            if isinstance(event, NewText):
                written.extend(event.token_ids)
                if len(written) - len(already) >= killed_after:
                    raise Killed

        try:
            outcome = generate(
                context,
                GenerationRequest(prompt, sampling, WRITTEN - len(already), already=already),
                emit,
                lambda: False,
            )
        except Killed:
            self.snapshots.settle(30)
            context.ended()  # what was written up to here was noted
            return tuple(written), None, records.turn
        self.keeper.finish(whole=True)
        self.snapshots.settle(30)
        return tuple(written), outcome, records.turn


@pytest.fixture(scope="module", params=["V4", "starter", "native V4", "native V4 with drafts"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    native = request.param.startswith("native")
    if native:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    if request.param == "starter":
        try:
            path = starter()
        except FileNotFoundError as error:
            pytest.skip(str(error))
    else:
        root = tmp_path_factory.mktemp("v4")
        drafts = request.param.endswith("drafts")
        source = checkpoint(root / "source", "preview" if drafts else "0731", layers=4, seed=8)
        (path,) = convert(job(source, root / f"{source.name}.gguf", draft="keep" if drafts else "skip"))
    yield lambda: opened_model(path, backend="native" if native else "llamacpp")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_is_the_same_however_often_the_process_ends(
    opened: Open, temperature: float, tmp_path: Path
) -> None:
    sampling = Sampling(temperature=temperature, top_p=1.0, min_p=0.0, seed=11)
    first_sampling = sampling.model_copy(update={"seed": 3})

    def machine(name: str) -> tuple[Machine, Ids]:
        """One that has answered before, and the prompt that follows."""
        made = Machine(opened, tmp_path / name)
        first = tuple(made.backend.tokenize(TEXT * 6))
        answer, _, _ = made.answer(first, first_sampling)
        return made, (*first, *answer, *made.backend.tokenize("And who lives there, in that dark?"))

    undisturbed, prompt = machine("undisturbed")
    assert len(prompt) > 128
    whole, _, _ = undisturbed.answer(prompt, sampling)
    undisturbed.end()
    assert len(whole) > 20
    chosen = random.Random(5)
    for campaign in range(1):
        disturbed, same = machine(f"disturbed-{campaign}")
        assert same == prompt
        written: Ids = ()
        turn: Turn | None = None
        outcome: Outcome | None = None
        deaths = 0
        while outcome is None:
            written, outcome, turn = disturbed.answer(
                prompt, sampling, already=written, before=turn, killed_after=chosen.randrange(1, 25)
            )
            assert written == whole[: len(written)]
            if outcome is None:
                deaths += 1
                disturbed.end()
                disturbed.start()
            elif deaths:
                assert outcome.exact is True
        assert written == whole
        disturbed.end()


def test_without_its_files_it_goes_on_and_says_that_it_may_differ(opened: Open, tmp_path: Path) -> None:
    machine = Machine(opened, tmp_path / "states")
    sampling = Sampling(temperature=1.0, seed=11)
    first = tuple(machine.backend.tokenize(TEXT * 6))
    answer, _, _ = machine.answer(first, sampling)
    prompt = (*first, *answer, *machine.backend.tokenize("And who lives there?"))
    part, _, turn = machine.answer(prompt, sampling, killed_after=20)
    machine.snapshots.forget_all()
    machine.end()
    machine.start()
    written, outcome, _ = machine.answer(prompt, sampling, already=part, before=turn)
    assert outcome is not None
    assert outcome.exact is False
    assert written[: len(part)] == part
    machine.end()
