"""Conversations by day.

Owns: which heading a conversation stands under: Today, Yesterday, Previous 7 days, then its month. Pure;
does not know how the list is drawn.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.protocol import SessionSummary

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
)  # fmt: skip


def heading_of(day: date, today: date) -> str:
    """The heading for something last touched on `day`, seen on `today`. A day in the future is today."""
    age_days = (today - day).days
    if age_days <= 0:
        return "Today"
    if age_days == 1:
        return "Yesterday"
    if age_days <= 7:
        return "Previous 7 days"
    month = MONTHS[day.month - 1]
    return month if day.year == today.year else f"{month} {day.year}"


def grouped(summaries: Iterable["SessionSummary"], today: date) -> "list[tuple[str, list[SessionSummary]]]":
    """Newest first, under their headings, in the local time zone."""
    groups: list[tuple[str, list[SessionSummary]]] = []
    for summary in sorted(summaries, key=lambda s: s.updated_at, reverse=True):
        heading = heading_of(datetime.fromtimestamp(summary.updated_at).date(), today)
        if not groups or groups[-1][0] != heading:
            groups.append((heading, []))
        groups[-1][1].append(summary)
    return groups
