"""Conversations with real models killed at random: a small part of `python -m tests.support.session_campaign`."""

import random
from pathlib import Path

import pytest

from tests.support import session_campaign
from tests.support.session_campaign import Count, holds, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    ("which", "backend", "kills", "seed"),
    [("v4", "llamacpp", 10, 7), ("starter", "llamacpp", 3, 7), ("v4", "native", 4, 7)],
)
def test_nothing_shown_is_lost_and_what_goes_on_is_identical(
    tmp_path: Path, which: str, backend: str, kills: int, seed: int
) -> None:
    if backend == "native":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    count = run(tmp_path, kills=kills, seed=seed, which=which, backend=backend)
    told = session_campaign.report(count, 0)
    assert holds(count), told
    assert count.cut_turns and count.compared, told


def test_a_campaign_that_sees_a_difference_does_not_hold() -> None:
    count = Count()
    count.continued["identical"] = 99
    assert holds(count)
    count.continued["different"] = 10
    assert not holds(count)
    count.continued["different"] = 0
    count.wrong.append("an answer is not the undisturbed one")
    assert not holds(count)


def test_the_same_seed_asks_the_same() -> None:
    first, second = (session_campaign.drawn_acts(random.Random(5), "v4", 20) for _ in range(2))
    assert first == second
    assert {act.kind for act in first} >= {"ask", "retry", "edit"}
