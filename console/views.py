"""Rows become what the fleet page shows. Pure: the templates only lay out what stands here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spaces.clusters import CLUSTERS
from spaces.model import OpStatus, Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from spaces.views import OperationView, SpaceView

TITLES = {
    "france": "France",
    "uk": "England",
    "united-states": "United States",
    "canada": "Canada",
    "south-africa": "South Africa",
    "india": "India",
}
ALL_ZONES = ("1", "2", "3")
BUSY_MS, IDLE_MS = 1000, 5000
HOUR_S, DAY_S = 3600, 86400

# Status is never told by colour alone: a shape and a word stand beside it.
SHAPES = {
    Status.ACTIVE: "●",
    Status.REQUESTED: "◐",
    Status.FAILED: "✕",
    Status.SUSPENDED: "❚❚",
}
STEP_SHAPES = {
    OpStatus.SUCCEEDED.wire: "✓",
    OpStatus.RUNNING.wire: "▶",
    OpStatus.FAILED.wire: "✕",
    OpStatus.CANCELED.wire: "↩",
    OpStatus.NOT_STARTED.wire: "·",
    OpStatus.NEEDS_OPERATOR.wire: "!",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One zone of a cluster, and how many instances of active spaces stand in it."""

    name: str
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One cluster."""

    cluster: str
    title: str
    region: str
    country: str
    zones: tuple[Zone, ...]
    active: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMark:
    """One step of the running operation."""

    name: str
    status: str
    shape: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One space."""

    name: str
    space_id: str
    status: str
    shape: str
    url: str
    is_open: bool
    cluster: str
    zones: tuple[str, ...]
    plan: str
    release: str
    failure: str
    desired: str
    backup: str
    backup_at: str
    verified: bool
    operation: str
    operation_id: str
    steps: tuple[StepMark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The whole page."""

    sentence: str
    cards: tuple[Card, ...]
    rows: tuple[Row, ...]
    poll_ms: int


def fleet(spaces: Sequence[SpaceView], *, now: datetime) -> Fleet:
    """The page for these spaces at this moment."""
    busy = [one for one in spaces if one.operation is not None]
    return Fleet(
        sentence=_sentence(spaces, len(busy)),
        cards=tuple(_card(cluster, spaces) for cluster in CLUSTERS),
        rows=tuple(_row(one, now) for one in reversed(spaces)),
        poll_ms=BUSY_MS if busy else IDLE_MS,
    )


def ago(at: datetime, now: datetime) -> str:
    """A past moment as a person says it."""
    seconds = max(0, int((now - at).total_seconds()))
    if seconds < 60:
        return "just now"
    if seconds < HOUR_S:
        return f"{seconds // 60} min ago"
    if seconds < 2 * DAY_S:
        return f"{seconds // HOUR_S} h ago"
    return f"{seconds // DAY_S} days ago"


def _sentence(spaces: Sequence[SpaceView], busy: int) -> str:
    if not spaces:
        return "No space yet."
    failed = sum(one.status == Status.FAILED for one in spaces)
    active = sum(one.status == Status.ACTIVE for one in spaces)
    parts = [f"{active} of {len(spaces)} spaces active"]
    if busy:
        parts.append(f"{busy} with an operation running")
    if failed:
        parts.append(f"{failed} failed: look at them")
    return "; ".join(parts) + "."


def _card(cluster: str, spaces: Sequence[SpaceView]) -> Card:
    here = [one for one in spaces if one.cluster == cluster]
    active = [one for one in here if one.status == Status.ACTIVE]
    known = CLUSTERS[cluster]
    return Card(
        cluster=cluster,
        title=TITLES[cluster],
        region=known.azure_region,
        country=known.country,
        zones=tuple(
            Zone(name=zone, instances=sum(zone in one.zones for one in active))
            for zone in ALL_ZONES
        ),
        active=len(active),
        total=len(here),
    )


def _row(space: SpaceView, now: datetime) -> Row:
    last, operation = space.last_backup, space.operation
    return Row(
        name=space.name,
        space_id=space.space_id,
        status=space.status,
        shape=SHAPES.get(Status(space.status), "○"),
        url=space.url,
        is_open=space.status == Status.ACTIVE,
        cluster=TITLES[space.cluster],
        zones=tuple(space.zones),
        plan=space.plan,
        release=space.release,
        failure=space.failure or "",
        desired=space.desired if space.desired and space.desired != space.status else "",
        backup=ago(last.completed_at, now) if last else "",
        backup_at=last.completed_at.isoformat(timespec="seconds") if last else "",
        verified=last is not None and last.verified_at is not None,
        operation=operation.kind if operation else "",
        operation_id=operation.operation_id if operation else "",
        steps=_steps(operation),
    )


def _steps(operation: OperationView | None) -> tuple[StepMark, ...]:
    if operation is None:
        return ()
    return tuple(
        StepMark(
            name=step.name,
            status=step.status,
            shape=STEP_SHAPES.get(step.status, "·"),
            detail=step.detail,
        )
        for step in operation.steps
    )
