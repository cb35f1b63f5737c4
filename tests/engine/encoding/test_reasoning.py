"""Modes, the thinking budget, and the guard against circles."""

import random

import pytest
from hypothesis import strategies as st

from engine.encoding.reasoning import (
    LEAST_REPEATED_TOKENS,
    LONGEST_PERIOD,
    MAX_CONTEXT_TOKENS,
    REPEATS,
    RepetitionDetector,
    ThinkingGuard,
    mode_choices,
    require_context,
    style_of,
    style_of_effort,
)
from engine.encoding.release import release
from engine.encoding.tokenizer import official_tokenizer
from engine.errors import BadRequest, ContextTooSmall
from tests.engine.encoding.properties import for_all

END = 128822


def test_modes_by_release() -> None:
    for id_, high in (("preview", "high"), ("0731", "high")):
        chosen = release(id_)
        assert not style_of(chosen, "non-think").thinking
        assert style_of(chosen, "high").effort == high
        assert style_of(chosen, "max").effort == "max"


@pytest.mark.parametrize(
    ("word", "old", "new"),
    [
        ("none", None, None), ("minimal", "high", "low"), ("low", "high", "low"), ("medium", "high", "high"),
        ("high", "high", "high"), ("xhigh", "max", "high"), ("max", "max", "max"), (None, "high", "high"),
    ],
)  # fmt: skip
def test_what_other_programs_call_an_effort(word: str | None, old: str | None, new: str | None) -> None:
    for id_, meant in (("preview", old), ("0731", new)):
        style = style_of_effort(release(id_), word)
        assert (style.effort if style.thinking else None) == meant


def test_an_effort_that_means_nothing_is_refused() -> None:
    with pytest.raises(BadRequest, match="mighty"):
        style_of_effort(release("preview"), "mighty")


def test_think_max_needs_its_context_and_says_so() -> None:
    require_context("max", MAX_CONTEXT_TOKENS)
    require_context("high", 1)
    with pytest.raises(ContextTooSmall, match=r"393,216 tokens.*393,215"):
        require_context("max", MAX_CONTEXT_TOKENS - 1)
    problems = {choice.mode: choice.problem for choice in mode_choices(8192)}
    assert problems["non-think"] is None and problems["high"] is None
    assert "Think-High" in (problems["max"] or "")
    assert all(choice.problem is None for choice in mode_choices(1 << 20))


# --- the guard ------------------------------------------------------------------------------------------


def run(guard: ThinkingGuard, tokens: list[int]) -> list[int | None]:
    """What the guard forces before each of `tokens`, which is then written unless something is forced."""
    verdicts: list[int | None] = []
    for token in tokens:
        forced = guard.forced()
        verdicts.append(forced)
        guard.saw(token if forced is None else forced)
    return verdicts


def test_the_budget_forces_the_end_once() -> None:
    guard = ThinkingGuard(END, thinking=True, budget=3)
    assert run(guard, [5, 6, 7, 8, 9]) == [None, None, None, END, None]
    assert (guard.reason, guard.tokens, guard.is_thinking) == ("budget", 3, False)


def test_a_budget_of_nothing_and_no_reasoning() -> None:
    assert ThinkingGuard(END, thinking=True, budget=0).forced() == END
    assert run(ThinkingGuard(END, thinking=False, budget=0), [1] * 2000) == [None] * 2000


def test_reasoning_that_ends_by_itself_is_left_alone() -> None:
    guard = ThinkingGuard(END, thinking=True, budget=3)
    assert run(guard, [5, 6, END, *[7] * 1000]) == [None] * 1003
    assert (guard.reason, guard.tokens) == (None, 2)


streams = st.lists(
    st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 200)), max_size=4
).map(lambda runs: [token for run_, times in runs for token in run_ * times])


@for_all(streams, st.integers(0, 1200), st.none() | st.integers(0, 600))
def test_a_replay_gives_the_same_verdicts(tokens: list[int], at: int, budget: int | None) -> None:
    whole = ThinkingGuard(END, thinking=True, budget=budget)
    verdicts = run(whole, tokens)
    written = [token if forced is None else forced for token, forced in zip(tokens, verdicts, strict=True)]
    at %= len(tokens) + 1
    again = ThinkingGuard(END, thinking=True, budget=budget, already=written[:at])
    assert run(again, tokens[at:]) == verdicts[at:]
    assert (again.tokens, again.is_thinking) == (whole.tokens, whole.is_thinking)


# --- circles --------------------------------------------------------------------------------------------


def first_found(tokens: list[int]) -> int | None:
    detector = RepetitionDetector()
    for place, token in enumerate(tokens):
        detector.add(token)
        if detector.found:
            return place
    return None


@pytest.mark.parametrize("period", [1, 2, 3, 5, 8, 63, 64, 85, 86, 100, 255, 256, 257, 400, 511, 512])
def test_every_period_is_found_as_soon_as_it_may_be_and_no_sooner(period: int) -> None:
    random_ = random.Random(period)
    before = [random_.randrange(1000, 100_000) for _ in range(700)]
    loop = [10**6 + number for number in range(period)]
    needed = max(REPEATS * period, LEAST_REPEATED_TOKENS)
    tokens = before + (loop * (2 * needed // period + 2))
    assert first_found(tokens) == len(before) + period + needed - 1


def test_all_periods_are_found() -> None:
    for period in range(1, LONGEST_PERIOD + 1, 7):
        assert first_found(list(range(period)) * (600 // period + 5)) is not None
    assert first_found(list(range(LONGEST_PERIOD + 1)) * 6) is None


PROSE = """The tide rises because the moon pulls on the near side of the earth more than on its centre, and on the
centre more than on the far side; the difference stretches the water along the line to the moon. """
TABLE = "| cod | 200 | m |\n|---|---|---|\n"


def test_ordinary_reasoning_is_no_circle() -> None:
    encode = official_tokenizer().encode
    texts = [
        "".join(f"Step {number}: {PROSE}" for number in range(40)),
        "".join(f"| fish {number} | {number * 37 % 900} | m |\n" for number in range(300)),
        TABLE * 10,
        "0" * 300 + "\n" + "-" * 400,
        "".join(f"for i{n} in range({n}):\n        x += {n * 7}\n" for n in range(100)),
        "Wait, let me check that again. " * 20 + PROSE,
        "\n".join(f'{{"id": {n}, "name": "n{n}", "tags": []}},' for n in range(200)),
    ]
    for text in texts:
        assert first_found(encode(text)) is None, text[:40]
    assert first_found(encode("Wait, let me check that again. " * 200)) is not None
