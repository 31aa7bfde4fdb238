"""When a timer fires: an NCRONTAB expression or a time span, as the timer trigger reads them.

Pure, always UTC. NCRONTAB has six fields, seconds first, or five; day of month AND day of week must
both hold, where classic cron is content with one of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from croniter import CroniterBadDateError, croniter

from local.functions_host.settings import span_s

_MONTHS = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
_DAYS = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
# Per field: lowest and highest number, and the names that may stand for numbers.
_SECOND_TO_DAY: tuple[tuple[int, int, set[str]], ...] = (
    (0, 59, set()),
    (0, 59, set()),
    (0, 23, set()),
    (1, 31, set()),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_PART = re.compile(r"(\*|\w+(?:-\w+)?)(?:/(\d+))?")
_PROBED = 10


@dataclass(frozen=True, slots=True)
class Schedule:
    """`text` as written; `every` a fixed interval, else `cron` six fields."""

    text: str
    cron: str = ""
    every: timedelta | None = None
    may_fire_twice_a_minute: bool = field(default=False, compare=False)

    def next_after(self, moment: datetime) -> datetime:
        """The first time after `moment` at which it fires."""
        if self.every is not None:
            return moment + self.every
        found = croniter(self.cron, moment, second_at_beginning=True, day_or=False)
        return found.get_next(datetime)


def parse(text: str) -> Schedule:
    """The schedule in `text`.

    Raises:
        ValueError: neither NCRONTAB nor a time span, or a date that never comes.
    """
    if ":" in text:
        seconds = span_s(text)
        if not seconds:
            raise ValueError("a time span is hh:mm:ss and longer than nothing")
        return Schedule(
            text, every=timedelta(seconds=seconds), may_fire_twice_a_minute=seconds < 60
        )
    fields = text.split()
    if len(fields) not in (5, 6):
        raise ValueError("six fields (seconds first) or five are needed")
    if len(fields) == 5:
        fields = ["0", *fields]
    for value, limits in zip(fields, _SECOND_TO_DAY, strict=True):
        _check(value, *limits)
    plain = Schedule(text, cron=" ".join(fields))
    return Schedule(text, cron=plain.cron, may_fire_twice_a_minute=_is_frequent(plain))


def _check(value: str, lowest: int, highest: int, names: set[str]) -> None:
    for part in value.split(","):
        found = _PART.fullmatch(part)
        if found is None or found[2] == "0":
            raise ValueError(f"{part!r} cannot be read")
        for end in found[1].split("-"):
            is_number = end.isdigit() and lowest <= int(end) <= highest
            if end != "*" and not is_number and end.lower() not in names:
                raise ValueError(f"{end!r} is not within {lowest} to {highest}")


def _is_frequent(schedule: Schedule) -> bool:
    """Looked at from a fixed day on: what a schedule is must not depend on when it is read."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    times: list[datetime] = []
    for _ in range(_PROBED):
        try:
            moment = schedule.next_after(moment)
        except CroniterBadDateError as error:
            raise ValueError("no such date ever comes") from error
        times.append(moment)
    return any(later - earlier < timedelta(minutes=1) for earlier, later in pairwise(times))
