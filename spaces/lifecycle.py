"""Which operation may start from which status, and where it leads: the whole matrix as data.

Source: control-plane.md 3.3. What is not listed here is refused with the reason. `docs/lifecycle.md`
is drawn from this table (`python -m scripts.lifecycle`). Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from spaces.errors import RefusedError
from spaces.model import OpKind, Space, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A condition beside the status: its words, and why it does not hold (None: it holds)."""

    words: str
    broken: Callable[[Space, datetime], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Where an operation may start, and the status after success and after failure (None: same).

    `guards` are the conditions that a status asks for beside itself.
    """

    start: frozenset[Status]
    success: Status | None = None
    failure: Status | None = None
    guards: dict[Status, tuple[Guard, ...]] = field(
        default_factory=dict[Status, tuple[Guard, ...]]
    )


def _had_no_data(space: Space, now: datetime) -> str | None:
    del now
    if space.had_data:
        return "it had data: it is deleted first, and erased after its retention"
    return None


def _in_grace(space: Space, now: datetime) -> str | None:
    if not space.had_data:
        return "it never had data: order a new one"
    if space.grace_until is not None and now >= space.grace_until:
        return f"its grace ended on {space.grace_until:%Y-%m-%d %H:%M} UTC"
    return None


def _after_grace(space: Space, now: datetime) -> str | None:
    if space.grace_until is None:
        return "it has no end of grace: cancel it first"
    if now < space.grace_until:
        return f"its grace lasts until {space.grace_until:%Y-%m-%d %H:%M} UTC"
    return None


def _after_retention(space: Space, now: datetime) -> str | None:
    if space.retain_until is not None and now < space.retain_until:
        return f"its backups are retained until {space.retain_until:%Y-%m-%d %H:%M} UTC"
    return None


def _has_final_backup(space: Space, now: datetime) -> str | None:
    del now
    if space.had_data and space.final_backup is None:
        return "it has no proved final backup: cancel it again, or back it up"
    return None


def held_by(space: Space) -> str | None:
    """Why a space may not be deleted or erased whatever its dates say; None: nothing holds it."""
    if space.billing is not None and space.billing.legal_hold:
        return "billing says that it is under legal hold"
    if space.deletion_lock is not None:
        return (
            f"deletion is locked by {space.deletion_lock.actor}: {space.deletion_lock.reason}"
        )
    return None


def _in_quarantine(space: Space, now: datetime) -> str | None:
    del now
    return None if space.quarantined is not None else "it is not in quarantine"


def _out_of_quarantine(space: Space, now: datetime) -> str | None:
    del now
    return None if space.quarantined is None else "it is in quarantine already"


NO_DATA = Guard(words="never had data", broken=_had_no_data)
IN_GRACE = Guard(words="within its grace", broken=_in_grace)
AFTER_GRACE = Guard(words="its grace is over", broken=_after_grace)
AFTER_RETENTION = Guard(words="its retention is over", broken=_after_retention)
FINAL_BACKUP = Guard(words="has a proved final backup", broken=_has_final_backup)
NOT_HELD = Guard(
    words="no legal hold, no deletion lock", broken=lambda space, _: held_by(space)
)
QUARANTINED = Guard(words="it is in quarantine", broken=_in_quarantine)
NOT_QUARANTINED = Guard(words="not in quarantine", broken=_out_of_quarantine)

_DATA = frozenset({Status.ACTIVE, Status.SUSPENDED, Status.CANCELLED})
_STANDING = _DATA | {Status.REQUESTED, Status.FAILED, Status.DELETED}

MATRIX: dict[OpKind, Transition] = {
    OpKind.PROVISION: Transition(
        start=frozenset({Status.REQUESTED}), success=Status.ACTIVE, failure=Status.FAILED
    ),
    OpKind.RESIZE: Transition(start=frozenset({Status.ACTIVE})),
    OpKind.CONFIGURE: Transition(start=frozenset({Status.ACTIVE, Status.SUSPENDED})),
    OpKind.ROTATE_SECRETS: Transition(start=frozenset({Status.ACTIVE})),
    OpKind.SUSPEND: Transition(start=frozenset({Status.ACTIVE}), success=Status.SUSPENDED),
    OpKind.RESUME: Transition(
        start=frozenset({Status.SUSPENDED, Status.CANCELLED}),
        success=Status.ACTIVE,
        guards={Status.CANCELLED: (IN_GRACE,)},
    ),
    OpKind.BACKUP: Transition(start=_DATA),
    OpKind.RESTORE: Transition(start=frozenset({Status.ACTIVE, Status.SUSPENDED})),
    # One whose opening failed has nothing to close; it is cancelled so that it can be erased.
    OpKind.CANCEL: Transition(
        start=frozenset({Status.REQUESTED, Status.ACTIVE, Status.SUSPENDED, Status.FAILED}),
        success=Status.CANCELLED,
    ),
    OpKind.DELETE: Transition(
        start=frozenset({Status.CANCELLED}),
        success=Status.DELETED,
        guards={Status.CANCELLED: (AFTER_GRACE, NOT_HELD, FINAL_BACKUP)},
    ),
    # A space that never had data has nothing to delete first (control-plane.md amendment 5).
    OpKind.ERASE: Transition(
        start=frozenset({Status.DELETED, Status.CANCELLED, Status.FAILED}),
        success=Status.ERASED,
        guards={
            Status.DELETED: (AFTER_RETENTION, NOT_HELD),
            Status.CANCELLED: (NO_DATA, NOT_HELD),
            Status.FAILED: (NO_DATA, NOT_HELD),
        },
    ),
    OpKind.QUARANTINE: Transition(
        start=_STANDING, guards=dict.fromkeys(_STANDING, (NOT_QUARANTINED,))
    ),
    OpKind.RELEASE: Transition(
        start=_STANDING, guards=dict.fromkeys(_STANDING, (QUARANTINED,))
    ),
}

# What goes on although a space is in quarantine, and what ends it.
QUARANTINE_ALLOWS = frozenset({OpKind.RELEASE, OpKind.BACKUP})


def may_start(space: Space, kind: OpKind, now: datetime) -> None:
    """Return when `kind` may start on `space` now; raise `RefusedError` with the reason otherwise."""
    refused = refusal(space, kind, now)
    if refused is not None:
        raise refused


def refusal(space: Space, kind: OpKind, now: datetime) -> RefusedError | None:
    """Why `kind` may not start on `space` now; None where it may. Pauses of clusters aside."""
    return _occupied(space) or _not_from_here(space, kind, now) or _flagged(space, kind)


def _occupied(space: Space) -> RefusedError | None:
    """Its one slot is taken: by what runs, or by what waits for an operator."""
    op = space.op
    if op is None:
        return None
    if op.stuck is not None:
        return RefusedError(
            f"operation {op.op_id} ({op.kind}) waits for an operator: {op.stuck}",
            where=_where(space),
            remedy=f"Settle it first: kpax op retry, skip, rollback or abort {op.op_id}.",
            slug="needs-operator",
            members={"operation_id": op.op_id},
        )
    return RefusedError(
        f"operation {op.op_id} ({op.kind}) is running on this space",
        where=_where(space),
        remedy=f"Wait for it: kpax op show {op.op_id}.",
        slug="operation-running",
        members={"operation_id": op.op_id},
    )


def _not_from_here(space: Space, kind: OpKind, now: datetime) -> RefusedError | None:
    rule = MATRIX[kind]
    if space.status not in rule.start:
        return RefusedError(
            f"{kind} cannot start from status {space.status}",
            where=_where(space),
            remedy=f"Allowed from: {', '.join(sorted(rule.start))}.",
            members={"current_status": space.status, "allowed": sorted(rule.start)},
        )
    for guard in rule.guards.get(space.status, ()):
        broken = guard.broken(space, now)
        if broken is not None:
            return RefusedError(
                f"{kind} of this space is not allowed now: {broken}",
                where=_where(space),
                remedy=f"From status {space.status} it needs: {guard.words}.",
                members={"current_status": space.status, "allowed": sorted(rule.start)},
            )
    return None


def _flagged(space: Space, kind: OpKind) -> RefusedError | None:
    mark = space.quarantined
    if mark is not None and kind not in QUARANTINE_ALLOWS:
        return RefusedError(
            f"the space is in quarantine since {mark.at:%Y-%m-%d %H:%M} UTC: {mark.reason}",
            where=_where(space),
            remedy="Release it first: kpax space release SPACE --reason R.",
            slug="quarantined",
        )
    mark = space.paused
    if mark is not None:
        return RefusedError(
            f"the space is paused by {mark.actor}: {mark.reason}",
            where=_where(space),
            remedy="Go on: kpax unpause space SPACE --reason R.",
            slug="paused",
        )
    if space.held is not None:
        return RefusedError(
            f"its cluster or the fleet is paused by {space.held.actor}: {space.held.reason}",
            where=_where(space),
            remedy="Go on: kpax unpause cluster CLUSTER, or kpax unpause fleet.",
            slug="paused",
        )
    return None


def _where(space: Space) -> str:
    return f"space {space.space_id} · {space.name}"
