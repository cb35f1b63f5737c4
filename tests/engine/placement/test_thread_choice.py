import pytest

from engine.placement.planner import Room, Wishes, plan
from engine.placement.thread_choice import (
    ThreadChoice,
    candidates,
    choice_of,
    chosen,
    decision_of,
    expected_threads,
    is_about_threads,
    with_threads,
)
from tests.engine.placement.models import dense_model

GB = 10**9


@pytest.mark.parametrize(
    ("cores", "processors", "fast", "tried"),
    [
        (1, 1, 0, (1,)),
        (2, 2, 0, (1, 2)),
        (1, 2, 0, (1, 2)),
        (4, 8, 0, (3, 4, 8)),
        (8, 16, 0, (4, 7, 8, 16)),
        (14, 20, 6, (5, 6, 7, 13, 14, 20)),
        (8, 8, 8, (4, 7, 8)),
        (16, 16, 0, (8, 15, 16)),
    ],
)
def test_what_is_tried(cores: int, processors: int, fast: int, tried: tuple[int, ...]) -> None:
    assert candidates(cores, processors, fast) == tried


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (4, 4), (13, 13), (14, 13), (16, 15)])
def test_the_last_core_is_counted_on_where_it_is_much_of_the_speed(cores: int, threads: int) -> None:
    assert expected_threads(cores) == threads


@pytest.mark.parametrize(
    ("times", "cores", "threads"),
    [
        ({1: [1.0], 2: [0.55]}, 2, 2),
        ({1: [1.0], 2: [0.93]}, 2, 1),  # 1.075 times as fast: not for the last core
        ({1: [1.08], 2: [1.0]}, 2, 2),
        ({1: [1.0], 2: [2.4]}, 2, 1),
        ({1: [1.0, 1.0, 9.0], 2: [0.5, 0.6, 9.0]}, 2, 2),  # medians
        ({8: [1.0], 15: [1.01], 16: [1.0]}, 16, 8),  # memory is the limit
        ({8: [1.5], 15: [1.0], 16: [0.95]}, 16, 15),
        ({3: [1.0], 4: [0.7], 8: [0.9]}, 4, 4),
        ({3: [1.0], 4: [0.9], 8: [0.7]}, 4, 8),
        ({1: [1.0], 2: [0.6]}, 1, 2),  # two hyper-threads of one core
        ({2: [1.0]}, 1, 2),
    ],
)
def test_the_number_that_times_speak_for(times: dict[int, list[float]], cores: int, threads: int) -> None:
    assert chosen(times, cores) == threads


def test_without_times_nothing_is_chosen() -> None:
    with pytest.raises(ValueError, match="no times"):
        chosen({1: []}, 2)


def test_answers_and_prompts_are_decided_apart() -> None:
    found = choice_of({3: [1.0], 4: [0.97]}, {3: [1.0], 4: [0.8]}, 4)
    assert (found.decode, found.prompt, found.free, found.decode_gain) == (3, 4, 3, 1.0)
    assert found.prompt_gain == pytest.approx(1.25)
    told = decision_of(found)
    assert told.what == "3 threads for answers, 4 for prompts"
    assert "4 threads read prompts 1.25 times as fast as 3 here" in told.why
    assert is_about_threads(told)


def test_without_a_trial_of_prompts_they_are_read_as_answers_are_written() -> None:
    found = choice_of({1: [1.0], 2: [0.5]}, {}, 2)
    assert (found.decode, found.prompt, found.decode_gain) == (2, 2, pytest.approx(2.0))
    assert decision_of(found).what == "2 threads"


def test_a_plan_gets_the_choice_and_its_reason() -> None:
    before = plan(dense_model(), Room(64 * GB, 56 * GB, 2), Wishes(2048))
    assert [each.what for each in before.decisions if is_about_threads(each)] == ["2 threads"]
    after = with_threads(before, ThreadChoice(1, 2, 1, 1.0, 1.4))
    assert (after.threads, after.prompt_threads) == (1, 2)
    assert after.context_parameters()["n_threads"] == 1
    assert after.context_parameters()["n_threads_batch"] == 2
    told = [each for each in after.decisions if is_about_threads(each)]
    assert [each.what for each in told] == ["1 thread for answers, 2 for prompts"]
    assert len(after.decisions) == len(before.decisions)
