"""Which operation a space needs next: what it is to be against what it is. Pure.

Level-triggered: events set what is desired and never say what to do; this comparison starts at most
one operation per space, and is asked again when that one ends (control-plane.md 3.1). What waits
for a moment (a period, a grace, a retention, an override that ends) has its time in `plan_due`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from spaces.desire import desired, next_turn
from spaces.lifecycle import held_by
from spaces.model import Facts, OpKind, OpStatus, Setback, Status, Stop, Tier, Wish

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import Running, Space

# The pause after an operation that was needed and failed: doubling, and never given up.
FIRST_PAUSE = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """An operation that is needed, and why; `params` are those it starts with."""

    kind: OpKind
    why: str
    params: Facts = field(default_factory=dict[str, "str | int | float | bool | None"])


def needed(space: Space, now: datetime) -> Need | None:
    """What has to start now on an idle space; None where it is as desired, or must wait.

    Nothing starts by itself on a space that is paused, quarantined, or has an operation (one that
    waits for an operator too), and nothing that has just failed for the same reason.
    """
    halted = space.paused is not None or space.held is not None
    if space.op is not None or halted or space.quarantined is not None:
        return None
    need = _wanted(space, now)
    return None if need is None or _is_set_back(space, need.kind, now) else need


def due_at(space: Space, now: datetime) -> datetime | None:
    """When `needed` must be asked again although nothing happens; None: only when something does."""
    moments = [next_turn(space, now)]
    if space.status is Status.CANCELLED:
        moments.append(space.grace_until)
    if space.status is Status.DELETED:
        moments.append(space.retain_until)
    if space.setback is not None:
        moments.append(space.setback.until)
    return min((moment for moment in moments if moment and moment > now), default=None)


def stopping(space: Space, now: datetime) -> Space:
    """The space whose opening is asked to stop, where it is to be cancelled before it is active.

    The one wish that interrupts (control-plane.md 3.3); every other waits in `desired`.
    """
    op = space.op
    if op is None or op.kind is not OpKind.PROVISION or op.stop is not None:
        return space
    if op.stuck is not None or desired(space, now) is not Wish.CANCELLED:
        return space
    stop = Stop(actor="planner", reason="it is to be cancelled", at=now)
    return replace(space, op=replace(op, stop=stop))


def after_ending(space: Space, op: Running, status: OpStatus, now: datetime) -> Space:
    """The space with what the end of `op` says of the next try; `space` is as it was before it."""
    if op.kind is OpKind.RESIZE and status is OpStatus.SUCCEEDED:
        space = replace(space, sized_for=_sequence(op))
    before = space.setback
    if status is OpStatus.SUCCEEDED:
        return replace(space, setback=None) if before and before.kind is op.kind else space
    need = _wanted(replace(space, op=None), now)
    if need is None or need.kind is not op.kind:
        return space
    cause = str(_sequence(op)) if op.kind is OpKind.RESIZE else _cause(space, op.kind)
    again = before is not None and (before.kind, before.cause) == (op.kind, cause)
    tries = before.tries + 1 if before is not None and again else 1
    pause = min(FIRST_PAUSE * 2 ** min(tries - 1, 10), LONGEST_PAUSE)
    # A plan that cannot be reached would be tried for ever: billing's next word is waited for.
    until = None if op.kind is OpKind.RESIZE else now + pause
    return replace(space, setback=Setback(kind=op.kind, cause=cause, tries=tries, until=until))


def sequence_of(space: Space) -> int:
    """Billing's last word on the space; -1 before the first."""
    return space.billing.sequence if space.billing is not None else -1


def _sequence(op: Running) -> int | None:
    """Billing's last word when a resize began (`spaces.saga.begin` notes it)."""
    told = op.params.get("billing_sequence")
    return told if isinstance(told, int) else None


def _wanted(space: Space, now: datetime) -> Need | None:
    plan = _PLANS.get(space.status)
    return plan(space, desired(space, now), now) if plan is not None else None


def _is_set_back(space: Space, kind: OpKind, now: datetime) -> bool:
    setback = space.setback
    if setback is None or (setback.kind, setback.cause) != (kind, _cause(space, kind)):
        return False
    return setback.until is None or now < setback.until


def _cause(space: Space, kind: OpKind) -> str:
    """What a wish came from: another word of billing or of an operator is tried at once."""
    sequence = sequence_of(space)
    if kind is OpKind.RESIZE:
        return f"{sequence}"
    at = space.override.at.isoformat() if space.override is not None else ""
    return f"{sequence}:{at}"


def _requested(space: Space, wish: Wish | None, now: datetime) -> Need | None:
    """The subscription was announced before it is paid: an announcement opens nothing.

    One that was paid is opened though it is to be suspended by now: else it would depend on which of
    two events came first whether there is a space.
    """
    del now
    if wish is Wish.CANCELLED:
        return Need(kind=OpKind.CANCEL, why="cancelled before it was opened")
    if wish is None or space.billing is None or not space.billing.paid:
        return None
    return Need(kind=OpKind.PROVISION, why="it is paid")


def _active(space: Space, wish: Wish | None, now: datetime) -> Need | None:
    """Ended, unpaid, or on another plan than billing's last word that is not answered yet."""
    del now
    if wish is Wish.CANCELLED:
        return Need(kind=OpKind.CANCEL, why="the subscription has ended")
    if wish is Wish.SUSPENDED:
        return Need(kind=OpKind.SUSPEND, why="billing or an operator wants it suspended")
    if wish is None or space.billing is None:
        return None
    wanted = Tier(space.billing.plan)
    answered = space.sized_for is not None and space.billing.sequence <= space.sized_for
    if wanted is space.tier or answered:
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
        return None if held_by(space) else Need(kind=OpKind.ERASE, why="it never had data")
    if space.grace_until is None:
        return None
    if now < space.grace_until:
        back = wish is Wish.ACTIVE
        return Need(kind=OpKind.RESUME, why="reactivated within its grace") if back else None
    return None if held_by(space) else Need(kind=OpKind.DELETE, why="its grace is over")


def _failed(space: Space, wish: Wish | None, now: datetime) -> Need | None:
    """Nothing of it stands; it is kept for whoever asks why, until its contract is over."""
    del space, now
    return (
        Need(kind=OpKind.CANCEL, why="its contract is over") if wish is Wish.CANCELLED else None
    )


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
    Status.FAILED: _failed,
}
