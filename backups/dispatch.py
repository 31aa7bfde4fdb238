"""Who is due for a backup, and at which moment of the window. Pure: no clock, no table, no queue.

A space is due when its last good backup is older than twenty hours, or when it has none: that a
tick comes once a day is never assumed. A message that finds an operation on its space is put off
by a minute under a new id, as often as needed: no backup is lost to a busy space.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from spaces.messages import RunRequest, encode
from spaces.model import Space, Status
from spaces.ports import Message

if TYPE_CHECKING:
    from collections.abc import Iterable

QUEUE = "backup-runs"
FRESH = timedelta(hours=20)
PUT_OFF = timedelta(minutes=1)
# Half a day of minutes; by then the next night is nearer than this one.
MOST_WAITS = 720
_BACKED_UP = frozenset({Status.ACTIVE, Status.SUSPENDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A backup that is due: `slot` names day and tick, `due_at` when (None: now)."""

    space_id: str
    slot: str
    due_at: datetime | None


def is_due(space: Space, now: datetime) -> bool:
    """Whether a backup of this space is due at all."""
    if space.status not in _BACKED_UP or space.resources is None:
        return False
    last = space.last_backup
    return last is None or now - last.completed_at > FRESH


def due(
    spaces: Iterable[Space], *, now: datetime, window_s: float, jitter_s: float
) -> list[Due]:
    """Every space that is due, spread over the window; one without any backup comes at once."""
    slot = slot_of(now)
    return [
        Due(
            space_id=space.space_id,
            slot=slot,
            due_at=_moment(space, now, window_s, jitter_s) if space.last_backup else None,
        )
        for space in spaces
        if is_due(space, now)
    ]


def slot_of(now: datetime) -> str:
    """The day and the minute of a tick: two ticks of one minute merge, a later one is new."""
    return f"{now:%Y-%m-%d}:run:{now.hour * 60 + now.minute}"


def message(each: Due) -> Message:
    """The message that asks for one backup."""
    return Message(
        queue=QUEUE,
        message_id=f"{each.space_id}:{each.slot}",
        body=encode(RunRequest(space_id=each.space_id, slot=each.slot)),
        due_at=each.due_at,
    )


def put_off(request: RunRequest, now: datetime) -> Message | None:
    """The same request a minute later; None when it was put off for half a day."""
    waits = request.waits + 1
    if waits > MOST_WAITS:
        return None
    later = RunRequest(space_id=request.space_id, slot=request.slot, waits=waits)
    return Message(
        queue=QUEUE,
        # A known id would be dropped as a duplicate, and the backup with it.
        message_id=f"{request.space_id}:{request.slot}:w{waits}",
        body=encode(later),
        due_at=now + PUT_OFF,
    )


def _moment(space: Space, now: datetime, window_s: float, jitter_s: float) -> datetime:
    """A space keeps its place in the window; a part of it changes from day to day."""
    place = _fraction(space.space_id) * window_s
    jitter = _fraction(f"{space.space_id}{now:%Y-%m-%d}") * jitter_s
    return now + timedelta(seconds=place + jitter)


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48
