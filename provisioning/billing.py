"""A billing event, checked, becomes desired state; what cannot be accepted gets a reason. Pure.

Source: control-plane.md 3.7 and amendments 2 to 4. Events set desired state and never say what to
do; the order in which they arrive does not matter, because each carries the whole state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from spaces.errors import KpaxError
from spaces.jsonlimits import decode_strictly
from spaces.messages import BillingEvent
from spaces.model import BillingState, Space, Status, Tier, replace

TYPES = frozenset(
    {f"billing.subscription.{word}" for word in (
        "created", "activated", "plan_changed", "suspended", "resumed", "cancelled", "reactivated",
        "trial_ending", "deleted",
    )}
    | {f"billing.invoice.{word}" for word in ("payment_failed", "paid", "disputed")}
    | {f"billing.customer.{word}" for word in ("country_changed", "erased_request")}
)  # fmt: skip

# A subscription is announced before it is paid; every other event with an active state tells of one.
ANNOUNCEMENT = "billing.subscription.created"

DESIRED = {
    "trialing": "active",
    "active": "active",
    "past_due": "active",
    "unpaid": "suspended",
    "suspended": "suspended",
    "cancelled": "cancelled",
    "deleted": "cancelled",
}


class Reason(StrEnum):
    """Why a message is in the table `rejected`."""

    NOT_JSON = "not-json"
    NOT_CLOUDEVENT = "not-cloudevent"
    UNKNOWN_TYPE = "unknown-type"
    INVALID_SNAPSHOT = "invalid-snapshot"
    UNKNOWN_ORDER = "unknown-order"
    ORDER_CONFLICT = "order-conflict"
    LATE_SEQUENCE = "late-sequence"


class RejectedError(Exception):
    """The message cannot be accepted and never will be: `reason` and a sentence for a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A checked event: the event itself, and the state of the subscription that it tells."""

    event: BillingEvent
    state: BillingState


def read(raw: bytes) -> Accepted:
    """The event in a message's body, or `RejectedError`."""
    try:
        value = decode_strictly(raw)
    except KpaxError as error:
        raise RejectedError(Reason.NOT_JSON, str(error)) from error
    try:
        event = msgspec.convert(value, type=BillingEvent, strict=False)
    except msgspec.ValidationError as error:
        raise RejectedError(_reason_of(value, str(error)), str(error)) from error
    if event.type not in TYPES:
        raise RejectedError(
            Reason.UNKNOWN_TYPE, f"the type {event.type[:100]!r} is not known here"
        )
    return Accepted(event=event, state=_state(event))


def _reason_of(value: object, message: str) -> Reason:
    if not isinstance(value, dict) or "specversion" not in value:
        return Reason.NOT_CLOUDEVENT
    known: object = value.get("type")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(known, str) and known not in TYPES:
        return Reason.UNKNOWN_TYPE
    return (
        Reason.INVALID_SNAPSHOT if re.search(r"\$\.data\b", message) else Reason.NOT_CLOUDEVENT
    )


def _state(event: BillingEvent) -> BillingState:
    told = event.data.snapshot
    if told.status not in DESIRED:
        known = ", ".join(sorted(DESIRED))
        raise RejectedError(
            Reason.INVALID_SNAPSHOT, f"status {told.status[:40]!r} is none of {known}"
        )
    if told.plan not in set(Tier):
        known = ", ".join(Tier)
        raise RejectedError(
            Reason.INVALID_SNAPSHOT, f"plan {told.plan[:40]!r} is none of {known}"
        )
    return BillingState(
        sequence=event.data.sequence,
        status=told.status,
        plan=told.plan,
        quantity=told.quantity,
        currency=told.currency,
        country=told.country,
        period_end=_utc(told.period_end),
        grace_days=told.grace_days,
        legal_hold=told.legal_hold,
        customer_ref=told.customer_ref,
    )


def _utc(at: datetime) -> datetime:
    """The moment in UTC; one without a zone is meant so."""
    if at.tzinfo is None:
        return at.replace(tzinfo=UTC)
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise RejectedError(
            Reason.INVALID_SNAPSHOT, "period_end is out of the calendar"
        ) from error


def desired_from(event_type: str, state: BillingState, space: Space) -> str:
    """What the customer's subscription asks for: `active`, `suspended` or `cancelled`.

    Terminal wins: only `reactivated` leads away from cancelled.
    """
    if space.desired == "cancelled" and not event_type.endswith(".reactivated"):
        return "cancelled"
    if event_type == "billing.subscription.deleted":
        return "cancelled"
    return DESIRED[state.status]


def applied(space: Space, accepted: Accepted) -> Space:
    """The space with this billing state and what it desires; the tier follows before it opens.

    A running operation builds what it began with: a new tier under it would wait for machines that
    nobody ordered.
    """
    event, state = accepted.event, accepted.state
    opening = space.status is Status.REQUESTED and space.op is None
    return replace(
        space,
        billing=state,
        subscription=event.subject,
        desired=desired_from(event.type, state, space),
        tier=Tier(state.plan) if opening else space.tier,
    )


def reopened(space: Space) -> Space:
    """A requested space before it is opened: after an earlier attempt, as its next incarnation.

    The names of what was deleted stay taken for a while (a vault's until it is purged).
    """
    if space.op_seq == 0:
        return space
    return replace(space, incarnation=space.incarnation + 1, resources=None)


def opens(space: Space, accepted: Accepted) -> bool:
    """True when this event makes a requested, idle space to be opened."""
    return (
        space.status is Status.REQUESTED
        and space.op is None
        and accepted.event.type != ANNOUNCEMENT
        and desired_from(accepted.event.type, accepted.state, space) == "active"
    )
