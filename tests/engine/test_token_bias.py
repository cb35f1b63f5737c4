import numpy as np
import pytest

from engine.token_bias import TokenBias


def test_nothing_to_add_gives_the_logits_themselves() -> None:
    logits = np.zeros(4, np.float32)
    bias = TokenBias({}, frequency=0.5)
    assert bias.applied(logits) is logits
    TokenBias({}).saw(1)


def test_a_bias_is_added_and_the_logits_stay() -> None:
    logits = np.arange(4, dtype=np.float32)
    assert list(TokenBias({0: 10, 3: -100}).applied(logits)) == [10, 1, 2, -97]
    assert list(logits) == [0, 1, 2, 3]


def test_what_was_written_counts_by_how_often_and_by_whether() -> None:
    bias = TokenBias({2: 1.0}, frequency=0.5, presence=0.25)
    for token_id in (2, 2, 1):
        bias.saw(token_id)
    changed = bias.applied(np.zeros(4, np.float32))
    assert list(changed) == pytest.approx([0, -0.75, 1.0 - 0.25 - 2 * 0.5, 0])


def test_a_negative_penalty_makes_more_likely() -> None:
    bias = TokenBias({}, presence=-1.5)
    bias.saw(0)
    assert list(bias.applied(np.zeros(2, np.float32))) == [1.5, 0]
