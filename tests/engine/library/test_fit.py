"""What is said of a model and this machine has the true numbers in it."""

import pytest

from engine.errors import DoesNotFit
from engine.library.fit import Foretold, duration_text, fit_of, rate_text
from engine.placement.forecast import Forecast, Range
from engine.placement.hardware import Gpu
from engine.placement.planner import Room, Wishes, plan
from tests.engine.placement.models import flash

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("result", "memory", "gpu", "free", "verdict"),
    [
        (156, 192, 0, 300, "memory"),
        (156, 160, 0, None, "memory"),
        (156, 159, 0, None, "memory_and_disk"),
        (156, 64, 96, 300, "memory"),
        (156, 64, 24, 300, "memory_and_disk"),
        (156, 24, 0, 300, "disk"),
        (156, 24, 0, 155, "too_large"),
        (156, 24, 0, None, "disk"),
        (1, 2, 0, 10, "disk"),
    ],
)
def test_verdicts(result: int, memory: int, gpu: int, free: int | None, verdict: str) -> None:
    fit = fit_of(
        result * GB,
        memory_bytes=memory * GB,
        gpu_bytes=gpu * GB,
        free_bytes=None if free is None else free * GB,
    )
    assert fit.verdict == verdict
    text = fit.text
    assert f"{result}.0 GB" in text or f"{result} GB" in text
    told = [free] if verdict == "too_large" else [memory, *([gpu] if gpu else [])]
    assert all(f"{each} GB" in text or f"{each}.0 GB" in text for each in told)
    assert text.endswith(".")
    assert "second" not in text


def test_what_nobody_knows() -> None:
    assert fit_of(None, memory_bytes=GB).verdict == "unknown"


def foretold(low: float, high: float, free: int) -> Foretold:
    """Flash on a machine with so many GB of memory free."""
    rate, nothing = Range(low, (low * high) ** 0.5, high), Range(0, 0, 0)
    first = Range(10, 14, 20)
    forecast = Forecast(rate, nothing, first, None, nothing, 1, 0, 1, nothing, False)
    return Foretold(plan(flash(), Room(free * GB, free * GB, 8), Wishes(8192)), forecast)


@pytest.mark.parametrize(
    ("free", "verdict", "said"),
    [
        (200, "memory", "about 2.0 to 4.1 tokens a second, all of it in memory."),
        (
            120,
            "memory_and_disk",
            "about 2.0 to 4.1 tokens a second, since a part of its experts is read from disk.",
        ),
        (40, "disk", "about 2.0 to 4.1 tokens a second, since most of its experts are read from disk."),
    ],
)
def test_a_speed_that_is_foretold_is_in_the_sentence(free: int, verdict: str, said: str) -> None:
    fit = fit_of(156 * GB, memory_bytes=64 * GB, foretold=foretold(2.0, 4.06, free))
    assert fit.verdict == verdict
    prompt = "A prompt of 1,000 tokens is answered after 10 to 20 seconds."
    assert fit.text == f"It needs 156 GB; this machine has 64 GB of memory: {said} {prompt}"


def test_a_long_prompt_and_a_gpu_are_in_the_sentence() -> None:
    gpu = Gpu("G", 24 * GB, 24 * GB)
    planned = plan(flash(), Room(256 * GB, 240 * GB, 8, (gpu,)), Wishes(8192))
    found = Foretold(planned, foretold(8, 16, 200).forecast, Range(600, 900, 1200))
    text = fit_of(156 * GB, memory_bytes=256 * GB, gpu_bytes=24 * GB, foretold=found).text
    assert "about 8.0 to 16 tokens a second, all of it in memory, 2" in text
    assert text.endswith("is answered after 10 to 20 seconds, one of 100,000 after 10 to 20 minutes.")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (Range(0.5, 0.7, 1), "0.5 to 1.0 seconds"),
        (Range(60, 90, 130), "60 to 130 seconds"),
        (Range(100, 140, 180), "1.7 to 3.0 minutes"),
        (Range(7200, 10_800, 14_400), "2.0 to 4.0 hours"),
    ],
)
def test_a_duration_in_words(seconds: Range, said: str) -> None:
    assert duration_text(seconds) == said


def test_a_model_that_cannot_be_run_is_too_large_with_its_numbers() -> None:
    error = DoesNotFit("Pro does not fit", "it needs 30 GB of 12 GB", "choose a smaller model")
    fit = fit_of(852 * GB, memory_bytes=16 * GB, foretold=error)
    assert (fit.verdict, fit.text) == (
        "too_large",
        "It cannot be run on this machine: it needs 30 GB of 12 GB.",
    )


def test_a_disk_without_room_comes_first() -> None:
    fit = fit_of(156 * GB, memory_bytes=64 * GB, free_bytes=GB, foretold=foretold(2, 4, 200))
    assert fit.verdict == "too_large"


def test_with_a_gpu_it_says_what_has_room_where_and_no_speed() -> None:
    gpu = Gpu("G", 24 * GB, 24 * GB)
    found = Foretold(plan(flash(), Room(64 * GB, 60 * GB, 8, (gpu,)), Wishes(8192)), None)
    fit = fit_of(156 * GB, memory_bytes=64 * GB, gpu_bytes=24 * GB, foretold=found)
    assert fit.verdict == "disk"
    assert "on a GPU and 56 GB in memory, and" in fit.text
    assert "a second" not in fit.text
    much = Foretold(plan(flash(), Room(256 * GB, 240 * GB, 8, (gpu,)), Wishes(8192)), None)
    fit = fit_of(156 * GB, memory_bytes=256 * GB, gpu_bytes=24 * GB, foretold=much)
    assert fit.verdict == "memory"
    assert fit.text.endswith(" in memory.")


def test_without_a_gpu_none_is_spoken_of() -> None:
    found = Foretold(plan(flash(), Room(64 * GB, 60 * GB, 8), Wishes(8192)), None)
    text = fit_of(156 * GB, memory_bytes=64 * GB, foretold=found).text
    assert "with its context 56 GB have room in memory, and" in text
    assert "GPU" not in text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (Range(2, 3, 4.5), "2.0 to 4.5 tokens a second"),
        (Range(95, 123, 151), "95 to 150 tokens a second"),
        (Range(0.05, 0.1, 0.2), "5.0 to 20 seconds for a token"),
    ],
)
def test_a_rate_in_words(rate: Range, text: str) -> None:
    assert rate_text(rate) == text
