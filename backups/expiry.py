"""How long a snapshot is kept: decided when it is made, never by counting what came later."""

from __future__ import annotations

from datetime import datetime, timedelta

DAILY = timedelta(days=30)
WEEKLY = timedelta(weeks=12)
MONTHLY = timedelta(days=365)


def expires_at(started_at: datetime, previous: datetime | None) -> datetime:
    """The first snapshot of a month stays a year, the first of a week 12 weeks, others 30 days."""
    if previous is None or (previous.year, previous.month) != (
        started_at.year,
        started_at.month,
    ):
        return started_at + MONTHLY
    if previous.isocalendar()[:2] != started_at.isocalendar()[:2]:
        return started_at + WEEKLY
    return started_at + DAILY
