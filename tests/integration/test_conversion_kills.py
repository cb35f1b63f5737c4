"""A few kills of the campaign, in every run of the tests; `make campaign` does a hundred."""

from pathlib import Path

from tests.convert import kill_campaign


def test_a_killed_conversion_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    count = kill_campaign.run(tmp_path, kills=6, seed=11)
    assert count.kills >= 6
    assert count.conversions
