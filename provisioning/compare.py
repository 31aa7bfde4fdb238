"""What billing lists against what we know: where they differ, and what may be done. Pure.

Both ways (control-plane.md 3.7, rule 7): paid without space, space without payer, state different.
Only what billing says can change anything. That it lists nothing says nothing: a short list, a
truncated one, a list of yesterday never suspend or cancel a space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioning.alarms import Finding, Kind
from provisioning.billing import contradicts, merged
from spaces.desire import by_billing, desired, in_force
from spaces.model import Status, Wish
from spaces.planner import needed

if TYPE_CHECKING:
    from datetime import datetime

    from provisioning.billing import Told
    from spaces.model import BillingState, Space

# Where each wish is fulfilled; a space whose opening failed serves nobody, as an end asks.
FULFILLED: dict[Wish, frozenset[Status]] = {
    Wish.ACTIVE: frozenset({Status.ACTIVE}),
    Wish.SUSPENDED: frozenset({Status.SUSPENDED, Status.REQUESTED, Status.FAILED}),
    Wish.CANCELLED: frozenset({Status.CANCELLED, Status.DELETED, Status.ERASED, Status.FAILED}),
}
GONE = frozenset({Status.FAILED, Status.DELETED, Status.ERASED})
# What costs somebody money each day; a space that was only requested costs nobody anything.
SERVED = frozenset({Status.ACTIVE, Status.SUSPENDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that differs. `heals`: bringing billing's state to the space may be the whole cure."""

    finding: Finding
    heals: bool


def of_listed(told: Told, space: Space | None, now: datetime) -> Difference | None:
    """How a listed subscription and its space differ; None where they do not.

    An override in force is an operator's word: what the space is under it is nobody's mistake, and
    only what billing says is still compared, so that it is true when the override ends.
    """
    listed = told.state
    if listed is None:
        raise ValueError("a list tells states")
    if space is None:
        if not _is_paid(listed, now):
            return None
        order = f"order {told.order_id}" if told.order_id else "no order"
        return _differs(
            Kind.PAID_WITHOUT_SPACE, told, None, f"billing is paid for {order}, unknown here"
        )
    if space.subscription not in {None, told.subject}:
        if not _is_paid(listed, now):
            return None
        detail = f"billing is paid for order {told.order_id}, which another subscription pays"
        return _differs(Kind.PAID_WITHOUT_SPACE, told, space, detail)
    if is_news(listed, space.billing):
        known = "nothing" if space.billing is None else f"sequence {space.billing.sequence}"
        detail = f"billing is at sequence {listed.sequence} ({listed.status}), we know {known}"
        return _differs(Kind.STATE_DIFFERENT, told, space, detail, heals=True)
    return _of_known(told, listed, space, now)


def of_unlisted(space: Space, now: datetime) -> Finding | None:
    """A served space that billing says it does not know; None where that is nobody's mistake."""
    if space.status not in SERVED or in_force(space.override, now) is not None:
        return None
    about = space.subscription or space.order_id
    return Finding(
        kind=Kind.SPACE_WITHOUT_PAYER,
        about=about,
        detail=f"the space is {space.status.value}, and billing knows no subscription for it",
        space_id=space.space_id,
        order_id=space.order_id,
    )


def is_news(listed: BillingState, known: BillingState | None) -> bool:
    """True when billing says something that we do not know; an older version never is."""
    if known is None or listed.sequence > known.sequence:
        return True
    if contradicts(listed, known):
        return True
    return listed.sequence == known.sequence and _marks(merged(known, listed)) != _marks(known)


def _of_known(
    told: Told, listed: BillingState, space: Space, now: datetime
) -> Difference | None:
    """The states agree: is the space what they ask for?"""
    theirs, ours = by_billing(listed, now), by_billing(space.billing, now)
    known = space.billing
    if known is not None and listed.sequence < known.sequence:
        return None  # a list older than our last event
    if theirs is not ours:
        detail = (
            f"billing wants it {theirs}; we hold it {ours}, and no event said how it got there"
        )
        return _differs(Kind.STATE_DIFFERENT, told, space, detail)
    if space.op is not None or in_force(space.override, now) is not None:
        return None
    wish = desired(space, now)
    waits = space.status is Status.REQUESTED and not (known is not None and known.paid)
    if wish is None or waits or space.status in FULFILLED[wish]:
        return None
    detail = f"billing wants it {wish.value}, and it is {space.status.value}"
    if wish is Wish.ACTIVE and space.status in GONE:
        return _differs(Kind.PAID_WITHOUT_SPACE, told, space, detail)
    starts = needed(space, now) is not None
    return _differs(Kind.STATE_DIFFERENT, told, space, detail, heals=starts)


def _is_paid(state: BillingState, now: datetime) -> bool:
    return state.paid and by_billing(state, now) is Wish.ACTIVE


def _marks(state: BillingState) -> tuple[object, ...]:
    return (
        state.paid,
        state.deleted,
        state.cancelled_sequence,
        state.reactivated_sequence,
        state.ends_at,
    )


def _differs(
    kind: Kind, told: Told, space: Space | None, detail: str, *, heals: bool = False
) -> Difference:
    finding = Finding(
        kind=kind,
        about=told.subject,
        detail=detail,
        space_id=space.space_id if space is not None else None,
        order_id=told.order_id or (space.order_id if space is not None else None),
    )
    return Difference(finding=finding, heals=heals)
