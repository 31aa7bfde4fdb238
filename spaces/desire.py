"""What a space is to be: billing's word, or an operator's over it, at a moment. Pure.

Source: control-plane.md 3.7 and amendment 4: desired = f(billing state, operator override).
Nothing here knows what a space is now; `spaces.planner` compares.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from spaces.model import Wish

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import BillingState, Override, Space

# Billing's status words; what is not here is refused when the event is read.
WISHES: dict[str, Wish] = {
    "trialing": Wish.ACTIVE,
    "active": Wish.ACTIVE,
    "past_due": Wish.ACTIVE,
    "unpaid": Wish.SUSPENDED,
    "suspended": Wish.SUSPENDED,
    "cancelled": Wish.CANCELLED,
    "deleted": Wish.CANCELLED,
}


def desired(space: Space, now: datetime) -> Wish | None:
    """What `space` is to be at `now`; None while neither billing nor an operator said anything."""
    override = in_force(space.override, now)
    if override is not None:
        return override.wish
    return by_billing(space.billing, now)


def told(space: Space, now: datetime) -> Space:
    """The space with `desired`, the word that people are shown, as it is at `now`."""
    wish = desired(space, now)
    return replace(space, desired=None if wish is None else wish.value)


def overridden(space: Space, override: Override | None, now: datetime) -> Space:
    """The space under an operator's word, or again under billing's alone."""
    return told(replace(space, override=override), now)


def by_billing(state: BillingState | None, now: datetime) -> Wish | None:
    """What the subscription asks for.

    A cancelled one is served until the end that its cancellation told, whatever a later event but
    a reactivation says; a deleted one is over at once, and for good. A past-due one is served until
    its dunning deadline, the end of the period and the days of grace after it.
    """
    if state is None:
        return None
    if _is_deleted(state) or (_is_ended(state) and now >= end(state)):
        return Wish.CANCELLED
    if state.status == "cancelled":
        return Wish.ACTIVE
    if state.status == "past_due" and now >= dunning_deadline(state):
        return Wish.SUSPENDED
    return WISHES[state.status]


def end(state: BillingState) -> datetime:
    """Until when a cancelled subscription is paid: as its cancellation said."""
    return state.ends_at or state.period_end


def dunning_deadline(state: BillingState) -> datetime:
    """Until when a past-due subscription is served."""
    return state.period_end + timedelta(days=state.grace_days)


def in_force(override: Override | None, now: datetime) -> Override | None:
    """The override, unless its end has come."""
    if override is None or (override.until is not None and now >= override.until):
        return None
    return override


def next_turn(space: Space, now: datetime) -> datetime | None:
    """The next moment after `now` at which `desired` may answer otherwise by itself; None: never."""
    turns: list[datetime] = []
    if space.override is not None and space.override.until is not None:
        turns.append(space.override.until)
    if space.billing is not None:
        if _is_ended(space.billing) and not _is_deleted(space.billing):
            turns.append(end(space.billing))
        if space.billing.status == "past_due":
            turns.append(dunning_deadline(space.billing))
    return min((turn for turn in turns if turn > now), default=None)


def _is_ended(state: BillingState) -> bool:
    """Cancelled; by the status alone where a row was written before its events were counted."""
    return state.is_over or state.status in {"cancelled", "deleted"}


def _is_deleted(state: BillingState) -> bool:
    return state.deleted or state.status == "deleted"
