import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ModelLoadError
from engine.placement import hardware
from engine.placement.hardware import Processor
from engine.placement.planner import Wishes
from engine.placement.present_plan import plan_for, sizes_of_file
from engine.placement.thread_choice import ThreadChoice, chosen, is_about_threads
from engine.placement.thread_record import NAME
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic
from tests.convert.seeded_checkpoint import SMALL

threads = pytest.importorskip("engine.backends.llama_threads", reason="llama_cpp is not installed")
llamacpp = pytest.importorskip("engine.backends.llamacpp", reason="llama_cpp is not installed")


class Clock:
    """A clock that only work moves on: `costs[threads]` seconds for each run."""

    def __init__(self, costs: dict[int, float]) -> None:
        self.now_s = 100.0
        self.costs = costs
        self.runs: list[int] = []

    def __call__(self) -> float:
        return self.now_s

    def run(self, number: int) -> None:
        self.runs.append(number)
        self.now_s += self.costs[number]


def test_all_are_run_there_and_back_again() -> None:
    clock = Clock({1: 0.02, 2: 0.01})
    times = threads.timed(clock.run, (1, 2), 1.0, 1.0, clock=clock)
    assert clock.runs == [2, *([1, 2, 2, 1] * threads.ROUNDS)[: 2 * threads.ROUNDS]]
    assert times is not None
    assert times[1] == pytest.approx([0.02] * threads.ROUNDS)
    assert times[2] == pytest.approx([0.01] * threads.ROUNDS)


def test_it_ends_when_it_has_taken_long_enough() -> None:
    clock = Clock({1: 0.2, 2: 0.1})
    times = threads.timed(clock.run, (1, 2), 1.0, 2.0, clock=clock)
    assert times is not None
    assert len(times[1]) == 4
    assert clock.now_s - 100 == pytest.approx(1.3)


def test_where_the_first_number_leaves_no_room_for_the_others_there_is_no_trial() -> None:
    clock = Clock({1: 0.9, 2: 0.5})
    assert threads.timed(clock.run, (1, 2), 0.5, 2.0, clock=clock) is None
    assert clock.runs == [2, 1]


def test_a_slow_model_is_tried_once_with_each() -> None:
    clock = Clock({1: 0.7, 2: 0.4})
    assert threads.timed(clock.run, (1, 2), 0.5, 2.0, clock=clock) == {
        1: [pytest.approx(0.7)],
        2: [pytest.approx(0.4)],
    }


def test_a_number_that_holds_everything_up_is_timed_and_not_run_again() -> None:
    clock = Clock({1: 0.1, 2: 5.0, 4: 0.1})
    times = threads.timed(clock.run, (1, 2, 4), 0.5, 2.0, clock=clock)
    assert clock.runs == [4, 1, 2]
    assert times == {1: [pytest.approx(0.1)], 2: [pytest.approx(5.0)], 4: []}
    assert chosen(times, 2) == 1


@pytest.fixture(scope="module")
def v4_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("v4") / "m.gguf"
    small = {key: value for key, value in SMALL.items() if key != "num_hash_layers"}
    write_synthetic(path, synthetic_shape(layers=2, overrides=small))
    return path


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hardware, "processor", lambda: Processor("p", 2, 2, 2, cores=2))
    yield


def opened(path: Path, search: Any, *, asked: int = 0) -> Any:
    plan = plan_for(sizes_of_file(path), Wishes(64, cache_type="f32", threads=asked))
    return llamacpp.LlamaCppBackend.open(
        path,
        name="m",
        context_tokens=64,
        threads=asked,
        on_progress=lambda _fraction: True,
        plan=plan,
        search=search,
    )


def answers(backend: Any) -> list[Any]:
    """Logits after a prompt and after three tokens more."""
    backend.sync(list(range(5, 25)), lambda *_: None, lambda: False)
    return [backend.logits().copy(), *(backend.step(token).copy() for token in (30, 31, 32))]


@pytest.mark.parametrize("which", ["v4", pytest.param("starter", marks=pytest.mark.slow)])
def test_what_was_tried_leaves_no_trace(
    which: str, v4_path: Path, starter_path: Path, two_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = v4_path if which == "v4" else starter_path
    plain = opened(path, None, asked=1)
    try:
        wanted = answers(plain)
    finally:
        plain.close()
    runs: list[int] = []

    def choice_of(decode: Any, prompt: Any, _cores: int) -> ThreadChoice:
        runs.extend([*decode, *prompt])
        return ThreadChoice(1, 1, 1)

    monkeypatch.setattr(threads, "choice_of", choice_of)
    monkeypatch.setattr(threads, "LEAST_BUDGET_S", 60.0)
    monkeypatch.setattr(threads, "ROUNDS", 2)
    monkeypatch.setattr(threads, "MOST_PROMPT_TOKENS", 8)
    backend = opened(path, threads.ThreadSearch("m"))
    try:
        assert runs[:2] == [1, 2]
        assert list(backend.held) == []
        assert (backend.facts.threads, backend.plan.threads) == (1, 1)
        for here, there in zip(answers(backend), wanted, strict=True):
            np.testing.assert_array_equal(here, there)
    finally:
        backend.close()


def test_the_choice_is_kept_and_not_found_again(
    v4_path: Path, two_cores: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, threads.__name__)
    trials: list[float] = []

    def tried(*_arguments: Any, load_s: float, **_options: Any) -> Any:
        trials.append(load_s)
        return threads.Trial(ThreadChoice(1, 2, 1, 1.0, 1.5), busy[0])

    monkeypatch.setattr(threads, "try_threads", tried)
    busy = [2.0]
    search = threads.ThreadSearch.of(v4_path, tmp_path)
    for expected in (1, 2, 2):  # found busy, found quiet, kept
        backend = opened(v4_path, search)
        assert (backend.plan.threads, backend.plan.prompt_threads, backend.facts.threads) == (1, 2, 1)
        assert len(trials) == expected
        told = [each.why for each in backend.plan.decisions if is_about_threads(each)]
        assert len(told) == 1
        assert "1.50 times as fast" in told[0]
        backend.close()
        busy[0] = 0.0
    assert (tmp_path / NAME).exists()
    assert "1 thread for answers, 2 for prompts" in caplog.text


@pytest.mark.parametrize("tried", [threads.Trial(ThreadChoice(1, 1, 1), 2.0), None])
def test_where_an_answer_goes_on_exactly_what_a_busy_machine_led_to_is_kept_to(
    v4_path: Path, two_cores: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tried: Any
) -> None:
    def loaded(*, as_before: bool) -> tuple[int, str]:
        backend = opened(v4_path, threads.ThreadSearch.of(v4_path, tmp_path, as_before=as_before))
        backend.close()
        return backend.facts.threads, backend.facts.exact_key

    monkeypatch.setattr(threads, "try_threads", lambda *_, **__: tried)
    monkeypatch.setattr(threads._Load, "busy_cores", lambda _self: 2.0)
    before = loaded(as_before=False)
    monkeypatch.setattr(threads, "try_threads", lambda *_, **__: threads.Trial(ThreadChoice(2, 2, 1), 0.0))
    assert loaded(as_before=True) == before
    assert before[0] == 1
    quiet = loaded(as_before=False)
    assert quiet[0] == 2 and quiet[1] != before[1]


def test_a_kept_number_beyond_what_there_is_is_not_taken(
    v4_path: Path, two_cores: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(threads, "kept_choice", lambda *_, **__: ThreadChoice(64, 64, 1))
    monkeypatch.setattr(threads, "try_threads", lambda *_, **__: None)
    monkeypatch.setattr(threads._Load, "busy_cores", lambda _self: 0.0)
    backend = opened(v4_path, threads.ThreadSearch("m", tmp_path))
    assert backend.facts.threads == 2
    backend.close()


@pytest.mark.parametrize(("busy_cores", "wanted"), [(0.1, 2), (1.5, 1)])
def test_where_nothing_could_be_tried_a_busy_machine_leaves_a_core_free(
    v4_path: Path, two_cores: None, monkeypatch: pytest.MonkeyPatch, busy_cores: float, wanted: int
) -> None:
    monkeypatch.setattr(threads, "try_threads", lambda *_, **__: None)
    monkeypatch.setattr(threads._Load, "busy_cores", lambda _self: busy_cores)
    backend = opened(v4_path, threads.ThreadSearch("m"))
    assert backend.facts.threads == wanted
    backend.close()


def test_with_experts_on_the_disk_nothing_is_tried(two_cores: None, v4_path: Path) -> None:
    from dataclasses import replace

    plan = plan_for(sizes_of_file(v4_path), Wishes(64))
    parts = tuple(replace(each, ram_bytes=0, disk_bytes=each.size_bytes) if each.what == "experts" else each
                  for each in plan.parts)  # fmt: skip
    search = threads.ThreadSearch("m")
    assert search._choice(None, 512, replace(plan, parts=parts), 1.0) is None


def test_a_load_can_be_given_up_while_it_is_tried(
    v4_path: Path, two_cores: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(threads, "LEAST_BUDGET_S", 60.0)
    asked: list[bool] = []

    def going_on() -> bool:
        asked.append(len(asked) < 2)
        return asked[-1]

    with pytest.raises(ModelLoadError, match="was not loaded: loading was stopped"):
        opened(v4_path, threads.ThreadSearch("m", tmp_path, going_on))
    assert asked == [True, True, False]
    assert list(tmp_path.iterdir()) == []


def test_what_a_context_refuses_is_no_trial(v4_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(v4_path, None, asked=1)
    try:
        monkeypatch.setattr(threads.llama, "llama_decode", lambda *_: 1)
        assert threads.try_threads(backend._context, 512, (1, 2), cores=2, load_s=1.0) is None
    finally:
        backend.close()


@pytest.mark.slow
def test_a_trial_on_a_real_context_finds_one_of_the_numbers(v4_path: Path) -> None:
    backend = opened(v4_path, None, asked=1)
    try:
        found = threads.try_threads(backend._context, 512, (1, 2), cores=2, load_s=600.0)
        assert found is not None
        assert found.choice.decode in (1, 2)
        assert found.choice.prompt in (1, 2)
        assert found.busy_cores >= 0
    finally:
        backend.close()
