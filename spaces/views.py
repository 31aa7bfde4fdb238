"""What the API shows of a space and an operation: the bodies that CLI, API and console share. Pure.

URLs are computed from stored names and the settings of the moment, never stored.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from spaces.model import Mark, OpStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spaces.model import Override, Running, Space
    from spaces.ports import Instance
    from spaces.registry import OpRow, StepRow


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an operation; `status` in the words of the HTTP contract."""

    name: str
    status: str
    started_at: datetime | None
    ended_at: datetime | None
    attempts: int
    detail: str


class OperationView(msgspec.Struct, frozen=True, kw_only=True):
    """An operation with all its steps; `error_kind` is the problem slug of what failed."""

    operation_id: str
    space_id: str
    kind: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    steps: list[StepView]
    error: str | None
    error_kind: str | None


class InstanceView(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of a space: its zone, and the limits that hold it (null where nobody tells)."""

    name: str
    zone: str
    state: str
    memory_mib: int | None
    cpus: float | None
    limited_by: str | None


class BackupRef(msgspec.Struct, frozen=True, kw_only=True):
    """The newest backup; `verified_at` is null until a restore proved it."""

    backup_id: str
    completed_at: datetime
    verified_at: datetime | None


class MarkView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody said of a space: who, why, when, and until when (null: no end).

    `wish` is what an override wants it to be; null for a mere flag.
    """

    reason: str
    actor: str
    at: datetime
    until: datetime | None = None
    wish: str | None = None


class TombstoneView(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of an erased space; `proof` is the text of the restore that failed."""

    at: datetime
    never_had_data: bool
    keys_destroyed: list[str]
    backups_destroyed: int
    proof: str


class SpaceView(msgspec.Struct, frozen=True, kw_only=True):
    """A space as callers see it; `operation` is the running one or null."""

    space_id: str
    name: str
    status: str
    cluster: str
    azure_region: str
    zones: list[str]
    url: str
    plan: str
    release: str
    customer_ref: str
    order_id: str
    desired: str | None
    failure: str | None
    created_at: datetime
    activated_at: datetime | None
    instances: list[InstanceView]
    operation: OperationView | None
    last_backup: BackupRef | None
    app_settings: dict[str, str]
    override: MarkView | None
    quarantined: MarkView | None
    paused: MarkView | None
    deletion_lock: MarkView | None
    cancelled_at: datetime | None
    grace_until: datetime | None
    final_backup: str | None
    deleted_at: datetime | None
    retain_until: datetime | None
    tombstone: TombstoneView | None


def space_view(
    space: Space,
    *,
    url: str,
    instances: Sequence[Instance] = (),
    operation: OperationView | None = None,
) -> SpaceView:
    """The view of a space."""
    last = space.last_backup
    return SpaceView(
        space_id=space.space_id,
        name=space.name,
        status=space.status.value,
        cluster=space.cluster,
        azure_region=space.azure_region,
        zones=list(space.zones),
        url=url,
        plan=space.tier.value,
        release=space.release,
        customer_ref=space.customer_ref,
        order_id=space.order_id,
        desired=space.desired,
        failure=space.failure,
        created_at=space.created_at,
        activated_at=space.activated_at,
        instances=[
            InstanceView(
                name=one.name,
                zone=one.zone,
                state=one.state,
                memory_mib=one.memory_mib,
                cpus=one.cpus,
                limited_by=one.limited_by,
            )
            for one in instances
        ],
        operation=operation,
        last_backup=last
        and BackupRef(
            backup_id=last.backup_id,
            completed_at=last.completed_at,
            verified_at=last.verified_at,
        ),
        app_settings=dict(space.app_settings),
        override=_mark(space.override),
        quarantined=_mark(space.quarantined),
        paused=_mark(space.paused or space.held),
        deletion_lock=_mark(space.deletion_lock),
        cancelled_at=space.cancelled_at,
        grace_until=space.grace_until,
        final_backup=space.final_backup,
        deleted_at=space.deleted_at,
        retain_until=space.retain_until,
        tombstone=space.tombstone
        and TombstoneView(
            at=space.tombstone.at,
            never_had_data=space.tombstone.never_had_data,
            keys_destroyed=list(space.tombstone.keys_destroyed),
            backups_destroyed=space.tombstone.backups_destroyed,
            proof=space.tombstone.proof,
        ),
    )


def _mark(said: Mark | Override | None) -> MarkView | None:
    if said is None:
        return None
    if isinstance(said, Mark):
        return MarkView(reason=said.reason, actor=said.actor, at=said.at)
    return MarkView(
        reason=said.reason, actor=said.actor, at=said.at, until=said.until, wish=said.wish
    )


def operation_view(
    row: OpRow, steps: Sequence[StepRow], running: Running | None = None
) -> OperationView:
    """An operation: its row, its finished steps, and where it stands while it runs.

    `running` may have been read before the operation ended: then `row` and `steps` tell.
    """
    done = {step.number: step for step in steps}
    live = running if running is not None and running.op_id == row.op_id else None
    if row.ended_at is not None:
        live = None
    return OperationView(
        operation_id=row.op_id,
        space_id=row.space_id,
        kind=row.kind,
        status=row.status.wire,
        started_at=row.started_at,
        ended_at=row.ended_at,
        steps=[
            _step_view(name, number, done.get(number), live)
            for number, name in enumerate(row.steps)
        ],
        error=row.error or (live.error if live else None),
        error_kind=row.error_kind or (live.error_kind if live else None),
    )


def _step_view(name: str, number: int, row: StepRow | None, live: Running | None) -> StepView:
    if live is not None and live.at == number:
        return StepView(
            name=name,
            status=(OpStatus.NEEDS_OPERATOR if live.stuck else OpStatus.RUNNING).wire,
            started_at=live.step_started_at,
            ended_at=None,
            attempts=live.attempt,
            detail=live.detail,
        )
    if row is None:
        return StepView(
            name=name,
            status=OpStatus.NOT_STARTED.wire,
            started_at=None,
            ended_at=None,
            attempts=0,
            detail="",
        )
    return StepView(
        name=name,
        status=row.status.wire,
        started_at=row.started_at,
        ended_at=row.ended_at,
        attempts=row.attempts,
        detail=row.detail,
    )
