from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from local.functions_host.timers.schedule import parse
from local.functions_host.timers.status import Firing, Status, after, begin

_DAILY = parse("0 0 2 * * *")
_TWO = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
_DAY = timedelta(days=1)


def _fired(at: datetime) -> Status:
    return Status(last=at, following=at + _DAY, updated=at)


def test_a_timer_never_seen_before_waits_for_its_next_time() -> None:
    beginning = begin(_DAILY, None, now=_TWO + timedelta(hours=1), run_on_startup=False)
    assert beginning.firing is Firing.NOT
    assert beginning.changed
    assert beginning.status.last is None
    assert beginning.status.following == _TWO + _DAY


def test_a_time_missed_while_the_host_was_off_fires_once_past_due() -> None:
    beginning = begin(_DAILY, _fired(_TWO), now=_TWO + 3.5 * _DAY, run_on_startup=True)
    assert beginning.firing is Firing.PAST_DUE
    assert not beginning.changed


def test_a_timer_that_never_fired_is_past_due_from_the_time_it_was_first_seen() -> None:
    seen = Status(last=None, following=_TWO + _DAY, updated=_TWO + timedelta(hours=1))
    assert (
        begin(_DAILY, seen, now=_TWO + 2 * _DAY, run_on_startup=False).firing is Firing.PAST_DUE
    )


def test_nothing_fires_when_nothing_was_missed() -> None:
    beginning = begin(_DAILY, _fired(_TWO), now=_TWO + _DAY / 2, run_on_startup=False)
    assert beginning.firing is Firing.NOT
    assert beginning.status.following == _TWO + _DAY


def test_run_on_startup_fires_when_nothing_was_missed() -> None:
    beginning = begin(_DAILY, _fired(_TWO), now=_TWO + _DAY / 2, run_on_startup=True)
    assert beginning.firing is Firing.ON_STARTUP


def test_a_schedule_that_changed_is_not_past_due() -> None:
    hourly = parse("0 0 * * * *")
    now = _TWO + timedelta(hours=5, minutes=30)
    beginning = begin(hourly, _fired(_TWO), now=now, run_on_startup=False)
    assert beginning.firing is Firing.NOT
    assert beginning.changed
    assert beginning.status.following == _TWO + timedelta(hours=6)


def test_a_clock_that_fires_early_does_not_fire_the_same_time_twice() -> None:
    status = after(_DAILY, due_at=_TWO, fired_at=_TWO - timedelta(milliseconds=3))
    assert status.following == _TWO + _DAY


@pytest.mark.parametrize(
    "status", [_fired(_TWO), Status(last=None, following=_TWO, updated=_TWO)]
)
def test_a_status_survives_its_json(status: Status) -> None:
    assert Status.from_json(status.to_json()) == status


def test_the_real_host_s_json_is_read() -> None:
    status = Status.from_json(
        '{"Last":"0001-01-01T00:00:00","Next":"2026-11-24T02:00:00Z",'
        '"LastUpdated":"2026-11-23T10:00:00.1234567+00:00"}'
    )
    assert status.last is None
    assert status.following == _TWO


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"Last": 1, "Next": 2, "LastUpdated": 3}'])
def test_anything_else_is_no_status(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Status.from_json(text)
