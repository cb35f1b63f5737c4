"""What a turn costs, in words."""

import pytest

from app.cost_words import cost_words, is_instant
from engine.protocol import Reuse


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (Reuse(total=3100, kept=3100, reread=0), "instant"),
        (Reuse(total=126, kept=125, reread=1), "instant"),
        (
            Reuse(total=9400, kept=9399, reread=1, seconds=3.4, from_disk=9000),
            "9,000 tokens from the disk, about 3 s",
        ),
        (Reuse(total=0, kept=0, reread=0), "instant"),
        (Reuse(total=3100, kept=3000, reread=100, seconds=0.4), "instant"),
        (Reuse(total=2100, kept=0, reread=2100, seconds=38.2), "2,100 tokens, about 38 s"),
        (Reuse(total=2100, kept=0, reread=2100), "2,100 tokens"),
        (
            Reuse(total=9400, kept=7300, reread=2100, seconds=38),
            "reads 2,100 of 9,400 tokens again, about 38 s",
        ),
        (Reuse(total=9400, kept=7300, reread=2100), "reads 2,100 of 9,400 tokens again"),
        (
            Reuse(total=9400, kept=9400, reread=0, seconds=3.4, from_disk=9000),
            "9,000 tokens from the disk, about 3 s",
        ),
        (Reuse(total=9400, kept=0, reread=9400, seconds=185), "9,400 tokens, about 3 min 5 s"),
        (Reuse(total=10**6, kept=0, reread=10**6, seconds=7500), "1,000,000 tokens, about 2 h 05 min"),
    ],
)
def test_every_kind_of_cost(cost: Reuse, words: str) -> None:
    assert cost_words(cost) == words
    assert is_instant(cost) == (words == "instant")
