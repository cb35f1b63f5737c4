"""Headings by day."""

from datetime import date, datetime, timedelta

import pytest

from app.session_groups import grouped, heading_of
from engine.protocol import SessionSummary

TODAY = date(2026, 3, 2)


@pytest.mark.parametrize(
    ("days", "heading"),
    [(-1, "Today"), (0, "Today"), (1, "Yesterday"), (2, "Previous 7 days"), (7, "Previous 7 days"),
     (8, "February"), (60, "January"), (61, "December 2025")],
)  # fmt: skip
def test_headings(days: int, heading: str) -> None:
    assert heading_of(TODAY - timedelta(days=days), TODAY) == heading


def test_newest_first_under_their_headings() -> None:
    noon = datetime(2026, 3, 2, 12)
    summaries = [
        SessionSummary(id=str(d), title="", created_at=0, updated_at=(noon - timedelta(days=d)).timestamp())
        for d in (3, 0, 40, 1, 2)
    ]
    found = [(heading, [s.id for s in members]) for heading, members in grouped(summaries, TODAY)]
    assert found == [
        ("Today", ["0"]), ("Yesterday", ["1"]), ("Previous 7 days", ["2", "3"]), ("January", ["40"]),
    ]  # fmt: skip
