"""Which operation a space needs next: what it is to be against what it is. Pure.

Level-triggered: events set what is desired and never say what to do; this comparison starts at most
one operation per space, and is asked again when that one ends (control-plane.md 3.1). What waits
for a moment (a period, a grace, a retention, an override that ends) has its time in `plan_due`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spaces.desire import desired, next_turn
from spaces.model import Facts, OpKind, Status, Tier, Wish

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """An operation that is needed, and why; `params` are those it starts with."""

    kind: OpKind
    why: str
    params: Facts = field(default_factory=dict[str, "str | int | float | bool | None"])


def needed(space: Space, now: datetime) -> Need | None:
    """What has to start now on an idle space; None where it is as desired, or must wait.

    Nothing starts by itself on a space that is paused, quarantined, or has an operation (one that
    waits for an operator too).
    """
    if space.op is not None or space.paused is not None or space.quarantined is not None:
        return None
    plan = _PLANS.get(space.status)
    return plan(space, desired(space, now), now) if plan is not None else None


def due_at(space: Space, now: datetime) -> datetime | None:
    """When `needed` must be asked again although nothing happens; None: only when something does."""
    moments = [next_turn(space, now)]
    if space.status is Status.CANCELLED:
        moments.append(space.grace_until)
    if space.status is Status.DELETED:
        moments.append(space.retain_until)
    return min((moment for moment in moments if moment and moment > now), default=None)


def held_by(space: Space) -> str | None:
    """Why a space may not be deleted or erased whatever its dates say; None: nothing holds it."""
    if space.billing is not None and space.billing.legal_hold:
        return "billing says that it is under legal hold"
    if space.deletion_lock is not None:
        return (
            f"deletion is locked by {space.deletion_lock.actor}: {space.deletion_lock.reason}"
        )
    return None


def _requested(space: Space, wish: Wish | None, now: datetime) -> Need | None:
    """The subscription was announced before it is paid: an announcement opens nothing."""
    del now
    if wish is Wish.CANCELLED:
        return Need(kind=OpKind.CANCEL, why="cancelled before it was opened")
    if wish is not Wish.ACTIVE or space.billing is None or not space.billing.paid:
        return None
    return Need(kind=OpKind.PROVISION, why="it is paid")


def _active(space: Space, wish: Wish | None, now: datetime) -> Need | None:
    """Ended, unpaid, or on another plan; one that failed for this plan is not tried again."""
    del now
    if wish is Wish.CANCELLED:
        return Need(kind=OpKind.CANCEL, why="the subscription has ended")
    if wish is Wish.SUSPENDED:
        return Need(kind=OpKind.SUSPEND, why="billing or an operator wants it suspended")
    if wish is None or space.billing is None:
        return None
    wanted = Tier(space.billing.plan)
    if wanted is space.tier or space.billing.sequence == space.resize_failed_at:
        return None
    return Need(kind=OpKind.RESIZE, why=f"billing says {wanted}", params={"plan": wanted.value})


def _suspended(space: Space, wish: Wish | None, now: datetime) -> Need | None:
    del space, now
    if wish is Wish.CANCELLED:
        return Need(kind=OpKind.CANCEL, why="the subscription has ended")
    if wish is Wish.ACTIVE:
        return Need(kind=OpKind.RESUME, why="it is paid, or an operator wants it active")
    return None


def _cancelled(space: Space, wish: Wish | None, now: datetime) -> Need | None:
    if not space.had_data:
        return Need(kind=OpKind.ERASE, why="it never had data")
    if space.grace_until is None:
        return None
    if now < space.grace_until:
        back = wish is Wish.ACTIVE
        return Need(kind=OpKind.RESUME, why="reactivated within its grace") if back else None
    return None if held_by(space) else Need(kind=OpKind.DELETE, why="its grace is over")


def _deleted(space: Space, wish: Wish | None, now: datetime) -> Need | None:
    del wish
    if space.retain_until is None or now < space.retain_until or held_by(space) is not None:
        return None
    return Need(kind=OpKind.ERASE, why="its retention is over")


_PLANS = {
    Status.REQUESTED: _requested,
    Status.ACTIVE: _active,
    Status.SUSPENDED: _suspended,
    Status.CANCELLED: _cancelled,
    Status.DELETED: _deleted,
}
