"""What a person must look at: one row each in the table `alarms`, a log line, a count, an event.

An alarm is first only *seen* (it may be a moment's difference between two systems), then *raised*,
at the latest 15 minutes after it was first seen, and in the end *closed*: by whoever finds its cause
gone, or by a person with a reason. Its id is computed from what it is about, so that one cause has
one alarm however often it is met. Every function may be repeated from any line.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from spaces import telemetry
from spaces.errors import ConflictError, LostRaceError, NotFoundError
from spaces.idempotency import digest
from spaces.ports import Delete, Insert, Message, Replace, instant
from spaces.registry import EVENTS_QUEUE

if TYPE_CHECKING:
    from spaces.ports import Ports, Scalar, Stored

log = logging.getLogger("kpax.alarms")

ALARMS = "alarms"
PARTITION = "alarms"


class Kind(StrEnum):
    """What is the matter; docs/running.md has a paragraph for each."""

    PAID_WITHOUT_SPACE = "paid-without-space"
    SPACE_WITHOUT_PAYER = "space-without-payer"
    STATE_DIFFERENT = "state-different"
    BILLING_UNREACHABLE = "billing-unreachable"
    BILLING_CONTRADICTION = "billing-contradiction"
    PAYMENT_DISPUTED = "payment-disputed"
    ERASURE_REQUESTED = "erasure-requested"
    COUNTRY_CHANGED = "country-changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be. `about` is a subscription, or the part that fails."""

    kind: Kind
    about: str
    detail: str
    space_id: str | None = None
    order_id: str | None = None
    key: str = ""

    @property
    def alarm_id(self) -> str:
        """The alarm of this cause; `key` parts the causes of one kind about one thing."""
        return "a-" + digest("alarm", self.kind.value, self.about, self.key)[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An alarm as its row has it. `told`: its event is out."""

    alarm_id: str
    kind: str
    about: str
    detail: str
    space_id: str | None
    order_id: str | None
    first_seen_at: datetime
    raised_at: datetime | None
    told: bool
    closed_at: datetime | None
    closed_by: str | None
    close_reason: str | None
    etag: str


async def everything(ports: Ports) -> list[Alarm]:
    """All alarms, seen, raised and closed, oldest first."""
    rows = await ports.tables.query(ALARMS, partition=PARTITION)
    return sorted((_alarm(row) for row in rows), key=lambda one: one.first_seen_at)


async def see(ports: Ports, finding: Finding) -> Alarm:
    """Note a finding, unless it is known; one that was closed and is found again begins anew."""
    now = ports.clock.now()
    fresh = _values(finding, now)
    try:
        await ports.tables.commit(ALARMS, PARTITION, [Insert(finding.alarm_id, fresh)])
    except ConflictError:
        known = await get(ports, finding.alarm_id)
        if known.closed_at is None:
            return known
        await _replace(ports, known, fresh)
    return await get(ports, finding.alarm_id)


async def get(ports: Ports, alarm_id: str) -> Alarm:
    """One alarm; `NotFoundError` where there is none."""
    known = alarm_id.startswith("a-") and alarm_id.removeprefix("a-").isalnum()
    row = None
    if known and len(alarm_id) <= 64 and alarm_id.isascii():
        row = await ports.tables.get(ALARMS, PARTITION, alarm_id)
    if row is None:
        raise NotFoundError(f"no alarm {alarm_id[:64]}", remedy="See: kpax alarm list.")
    return _alarm(row)


async def raise_now(ports: Ports, finding: Finding) -> None:
    """Raise what needs no second look; one that a person closed stays closed."""
    values = _values(finding, ports.clock.now())
    with contextlib.suppress(
        ConflictError
    ):  # met before: an event again, or a process that died
        await ports.tables.commit(ALARMS, PARTITION, [Insert(finding.alarm_id, values)])
    alarm = await get(ports, finding.alarm_id)
    if alarm.closed_at is None:
        await tell(ports, alarm)


async def tell(ports: Ports, alarm: Alarm) -> None:
    """Raise a seen alarm and tell everybody; says it again where a process died in between."""
    if alarm.told:
        return
    now = alarm.raised_at or ports.clock.now()
    if alarm.raised_at is None:
        await _replace(ports, alarm, {**_row(alarm), "raised_at": now})
        alarm = await get(ports, alarm.alarm_id)
        see = f"docs/running.md#{alarm.kind}"
        fields = {"kind": alarm.kind, "about": alarm.about, "space": alarm.space_id, "see": see}
        log.error(
            "alarm.raised", extra={"alarm": alarm.alarm_id, "reason": alarm.detail, **fields}
        )
        telemetry.count(telemetry.ALARMS_RAISED)
    await ports.bus.send([_event(alarm, "raised", now)])
    await _replace(ports, alarm, {**_row(alarm), "raised_at": now, "told": True})


async def close(ports: Ports, alarm: Alarm, *, by: str, reason: str) -> None:
    """Close an alarm whose cause is gone or looked after; one never raised leaves no trace."""
    if alarm.closed_at is not None:
        return
    if alarm.raised_at is None:
        await _drop(ports, alarm)
        return
    now = ports.clock.now()
    log.info("alarm.closed", extra={"alarm": alarm.alarm_id, "kind": alarm.kind, "by": by})
    await ports.bus.send([_event(alarm, "closed", now)])
    ended = {"closed_at": now, "closed_by": by[:200], "close_reason": reason[:1_000]}
    await _replace(ports, alarm, {**_row(alarm), "told": True, **ended})


async def _replace(ports: Ports, alarm: Alarm, values: dict[str, Scalar]) -> None:
    try:
        await ports.tables.commit(
            ALARMS, PARTITION, [Replace(alarm.alarm_id, values, alarm.etag)]
        )
    except LostRaceError:
        return  # somebody else moved it on; the next look sees how


async def _drop(ports: Ports, alarm: Alarm) -> None:
    try:
        await ports.tables.commit(ALARMS, PARTITION, [Delete(alarm.alarm_id, alarm.etag)])
    except LostRaceError:
        return


def _values(finding: Finding, now: datetime) -> dict[str, Scalar]:
    return {
        "kind": finding.kind.value,
        "about": finding.about[:1_000],
        "detail": finding.detail[:1_000],
        "space_id": finding.space_id or "",
        "order_id": finding.order_id or "",
        "first_seen_at": now,
        "told": False,
    }


def _row(alarm: Alarm) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {
        "kind": alarm.kind,
        "about": alarm.about,
        "detail": alarm.detail,
        "space_id": alarm.space_id or "",
        "order_id": alarm.order_id or "",
        "first_seen_at": alarm.first_seen_at,
        "told": alarm.told,
    }
    if alarm.raised_at is not None:
        values["raised_at"] = alarm.raised_at
    return values


def _alarm(row: Stored) -> Alarm:
    def at(name: str) -> datetime | None:
        return instant(row.values[name]) if name in row.values else None

    def text(name: str) -> str | None:
        return str(row.values[name]) if row.values.get(name) else None

    return Alarm(
        alarm_id=row.key,
        kind=str(row.values["kind"]),
        about=str(row.values["about"]),
        detail=str(row.values["detail"]),
        space_id=text("space_id"),
        order_id=text("order_id"),
        first_seen_at=instant(row.values["first_seen_at"]),
        raised_at=at("raised_at"),
        told=bool(row.values["told"]),
        closed_at=at("closed_at"),
        closed_by=text("closed_by"),
        close_reason=text("close_reason"),
        etag=row.etag,
    )


def _event(alarm: Alarm, what: str, now: datetime) -> Message:
    """The CloudEvent of an alarm; told twice it has the same id."""
    message_id = f"{alarm.alarm_id}-{what}-{int(alarm.first_seen_at.timestamp())}"
    body = {
        "specversion": "1.0",
        "id": message_id,
        "source": "/kpax/alarms",
        "type": f"space.alarm.{what}",
        "time": now.isoformat(),
        "subject": alarm.space_id or alarm.about,
        "datacontenttype": "application/json",
        "data": {
            "alarm_id": alarm.alarm_id,
            "kind": alarm.kind,
            "about": alarm.about,
            "detail": alarm.detail,
            "order_id": alarm.order_id,
            "first_seen_at": alarm.first_seen_at.isoformat(),
        },
    }
    return Message(queue=EVENTS_QUEUE, message_id=message_id, body=json.dumps(body))
