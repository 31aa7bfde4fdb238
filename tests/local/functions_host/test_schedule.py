from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.functions_host.timers.schedule import parse

_NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 2 * * *", "2026-11-25T02:00:00"),
        ("0 30 12 * * *", "2026-11-24T12:30:00"),
        ("*/15 * * * * *", "2026-11-24T12:00:15"),
        ("5 * * * *", "2026-11-24T12:05:00"),  # five fields: no seconds
        ("0 0 0 1 * MON", "2027-02-01T00:00:00"),  # the first AND a Monday
        ("0 0 9 * * Mon-Fri", "2026-11-25T09:00:00"),
        ("0 0 0 1 Jan,Jul *", "2027-01-01T00:00:00"),
        ("0 0 0 * * 0", "2026-11-29T00:00:00"),
        ("1,31 0 12 * * *", "2026-11-24T12:00:01"),
        ("00:00:10", "2026-11-24T12:00:10"),
        ("24:00:00", "2026-12-18T12:00:00"),
    ],
)
def test_the_next_time_is_the_one_azure_would_fire(text: str, expected: str) -> None:
    assert parse(text).next_after(_NOON) == datetime.fromisoformat(expected + "+00:00")


def test_the_next_time_lies_strictly_after_the_moment() -> None:
    assert parse("0 0 12 * * *").next_after(_NOON) == _NOON + timedelta(days=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * *",
        "0 0 25 * * *",
        "60 * * * * *",
        "* * * * * 7",  # Sunday is 0 alone
        "0 0 0 31 2 *",
        "0 0 0 L * *",
        "@daily",
        "0 0 0 ? * *",
        "*/0 * * * * *",
        "00:00:00",
        "00:99:00",
        "0 0 0 1 13 *",
    ],
)
def test_what_azure_cannot_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@pytest.mark.parametrize(
    ("text", "frequent"),
    [
        ("*/15 * * * * *", True),
        ("0 * * * * *", False),
        ("0,30 0 2 * * *", True),
        ("0 0 2 * * *", False),
        ("00:00:59", True),
        ("00:01:00", False),
    ],
)
def test_a_schedule_knows_whether_it_may_fire_twice_in_a_minute(
    text: str, frequent: bool
) -> None:
    assert parse(text).may_fire_twice_a_minute is frequent


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    start=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 — made aware by `timezones`
)
def test_a_daily_schedule_fires_once_a_day_at_its_time(
    minute: int, hour: int, start: datetime
) -> None:
    schedule = parse(f"0 {minute} {hour} * * *")
    first = schedule.next_after(start)
    assert start < first <= start + timedelta(days=1)
    assert (first.hour, first.minute, first.second) == (hour, minute, 0)
    assert schedule.next_after(first) == first + timedelta(days=1)
