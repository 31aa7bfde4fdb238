"""What is remembered of a timer, and what follows from it when the host starts.

Pure, apart from the port at the end. Source of the rules: the real host's schedule monitor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from local.functions_host.timers.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`last` is None when the timer never fired."""

    last: datetime | None
    following: datetime
    updated: datetime

    def to_json(self) -> str:
        """As the real host writes it."""
        last = self.last.isoformat() if self.last else "0001-01-01T00:00:00+00:00"
        return json.dumps(
            {
                "Last": last,
                "Next": self.following.isoformat(),
                "LastUpdated": self.updated.isoformat(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Status:
        """Read what `to_json`, or the real host, wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            document = json.loads(text)
            last = _time(document["Last"])
            return cls(
                last=last if last.year > 1 else None,
                following=_time(document["Next"]),
                updated=_time(document["LastUpdated"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError("not a timer status") from error


class Firing(StrEnum):
    """Why a timer fires when the host starts."""

    NOT = "not"
    PAST_DUE = "past_due"
    ON_STARTUP = "on_startup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What to do when a timer starts: store `status` when `changed`, fire now or not."""

    status: Status
    changed: bool
    firing: Firing


def begin(
    schedule: Schedule, known: Status | None, *, now: datetime, run_on_startup: bool
) -> Beginning:
    """What a starting host does with a timer it has, or has not, seen before.

    However many times were missed, it fires once. A schedule that changed is not past due.
    """
    on_startup = Firing.ON_STARTUP if run_on_startup else Firing.NOT
    if known is None:
        new = Status(last=None, following=schedule.next_after(now), updated=now)
        return Beginning(status=new, changed=True, firing=on_startup)
    expected = schedule.next_after(known.last or known.updated)
    changed = expected != known.following
    if changed:
        following = schedule.next_after(now) if now > expected else expected
        known = replace(known, following=following, updated=now)
    firing = Firing.PAST_DUE if now > known.following else on_startup
    return Beginning(status=known, changed=changed, firing=firing)


def after(schedule: Schedule, *, due_at: datetime, fired_at: datetime) -> Status:
    """The status once a run has ended. A clock that fires a little early must not fire twice."""
    last = max(due_at, fired_at)
    return Status(last=last, following=schedule.next_after(last), updated=last)


class StoreError(Exception):
    """The store does not answer."""


class StatusStore(Protocol):
    """Where statuses are kept, by function name."""

    async def read(self, function: str) -> str | None:
        """The text last written, or None. Raises StoreError."""
        ...

    async def write(self, function: str, text: str) -> None:
        """Replace it. Raises StoreError."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
