import math

import numpy as np
import pytest

from engine.token_chances import MOST_TOP, chances_of


def test_log_probabilities_are_those_of_a_softmax() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.05, 0.25], np.float32)) + np.float32(7)
    chances = chances_of(logits, 3, 2)
    assert chances.token_id == 3
    assert chances.log_probability == pytest.approx(math.log(0.25), abs=1e-6)
    assert [id_ for id_, _ in chances.top] == [1, 3]
    assert [value for _, value in chances.top] == pytest.approx([math.log(0.6), math.log(0.25)], abs=1e-6)
    assert chances_of(logits, 0, 0).top == ()


def test_of_equal_ones_the_lowest_ids_come_first() -> None:
    logits = np.zeros(300, np.float32)
    logits[[7, 200]] = 1
    assert [id_ for id_, _ in chances_of(logits, 0, 5).top] == [7, 200, 0, 1, 2]


def test_it_is_bounded_and_changes_nothing() -> None:
    logits = np.arange(50, dtype=np.float32)
    before = logits.copy()
    assert len(chances_of(logits, 1, 1000).top) == MOST_TOP
    assert len(chances_of(logits[:3], 1, 10).top) == 3
    assert (logits == before).all()


def test_logits_far_apart_stay_finite() -> None:
    chances = chances_of(np.array([-1e30, 1e30], np.float32), 0, 1)
    assert chances.log_probability == pytest.approx(-2e30, rel=1e-6)
    assert chances.top == ((1, 0.0),)
