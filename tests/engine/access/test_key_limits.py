"""What one key may take, by a clock that is set."""

import pytest

from engine.access.key_limits import AnswerLimits
from engine.errors import PromptTooLong
from engine.protocol_access import KeyLimits


def test_tokens_are_capped() -> None:
    limits = AnswerLimits(KeyLimits(answer_tokens=100))
    assert [limits.tokens(asked) for asked in (None, 50, 100, 500)] == [100, 50, 100, 100]
    assert [AnswerLimits(KeyLimits()).tokens(asked) for asked in (None, 500)] == [None, 500]


def test_a_longer_prompt_is_refused() -> None:
    limits = AnswerLimits(KeyLimits(prompt_tokens=100))
    limits.check_prompt(100)
    with pytest.raises(PromptTooLong, match=r"101 tokens, and its key may send 100"):
        limits.check_prompt(101)
    AnswerLimits(KeyLimits()).check_prompt(10**9)


def test_time_runs_from_its_turn_on() -> None:
    now = [0.0]
    limits = AnswerLimits(KeyLimits(seconds=10), lambda: now[0])
    now[0] = 1000.0
    assert not limits.is_over()  # it waits in the queue
    limits.begin()
    now[0] += 9.9
    assert not limits.is_over()
    now[0] += 0.1
    assert limits.is_over()
    assert limits.ran_out
    assert "10 s" in limits.notice
    endless = AnswerLimits(KeyLimits(), lambda: now[0])
    endless.begin()
    now[0] += 1e9
    assert not endless.is_over()
