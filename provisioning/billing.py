"""What a billing event tells of a subscription; what cannot be accepted gets a reason. Pure.

Source: control-plane.md 3.7 and amendments 2 to 4. Events never say what to do. Each tells the
whole state, and `merged` joins two of them so that the order in which they arrive does not matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from spaces.desire import WISHES
from spaces.errors import KpaxError
from spaces.jsonlimits import decode_strictly
from spaces.messages import BillingEvent, Snapshot
from spaces.model import BillingState, Tier, Wish, replace

SUBSCRIPTION = "billing.subscription."
TYPES = frozenset(
    {SUBSCRIPTION + word for word in (
        "created", "activated", "plan_changed", "suspended", "resumed", "cancelled", "reactivated",
        "trial_ending", "deleted",
    )}
    | {f"billing.invoice.{word}" for word in ("payment_failed", "paid", "disputed")}
    | {f"billing.customer.{word}" for word in ("country_changed", "erased_request")}
)  # fmt: skip

# A subscription is announced before it is paid; every other event with an active state tells of one.
ANNOUNCEMENT = SUBSCRIPTION + "created"
REACTIVATION = SUBSCRIPTION + "reactivated"
DELETION = SUBSCRIPTION + "deleted"
ENDS = {SUBSCRIPTION + "cancelled", DELETION}
DISPUTE = "billing.invoice.disputed"
ERASURE = "billing.customer.erased_request"
COUNTRY = "billing.customer.country_changed"

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Reason(StrEnum):
    """Why a message is in the table `rejected`."""

    NOT_JSON = "not-json"
    NOT_CLOUDEVENT = "not-cloudevent"
    UNKNOWN_TYPE = "unknown-type"
    INVALID_SNAPSHOT = "invalid-snapshot"
    UNKNOWN_ORDER = "unknown-order"
    UNKNOWN_SUBSCRIPTION = "unknown-subscription"
    ORDER_CONFLICT = "order-conflict"
    LATE_SEQUENCE = "late-sequence"


class RejectedError(Exception):
    """The message cannot be accepted and never will be: `reason` and a sentence for a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A checked event: who told it, and the state of the subscription; None in a mere hint."""

    source: str
    cause_id: str
    type: str
    subject: str
    order_id: str | None
    state: BillingState | None
    because: str | None = None


def read(raw: bytes) -> Told:
    """What the event in a message's body tells, or `RejectedError`."""
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
    return Told(
        source=event.source,
        cause_id=event.id,
        type=event.type,
        subject=event.subject,
        order_id=event.data.order_id,
        state=_told_by(event),
        because=_because(event.data.reason),
    )


def _because(reason: object) -> str | None:
    """What was said for people; an event is not refused for a strange one."""
    return reason.strip()[:500] or None if isinstance(reason, str) else None


def _reason_of(value: object, message: str) -> Reason:
    if not isinstance(value, dict) or "specversion" not in value:
        return Reason.NOT_CLOUDEVENT
    known: object = value.get("type")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(known, str) and known not in TYPES:
        return Reason.UNKNOWN_TYPE
    return (
        Reason.INVALID_SNAPSHOT if re.search(r"\$\.data\b", message) else Reason.NOT_CLOUDEVENT
    )


def _told_by(event: BillingEvent) -> BillingState | None:
    if event.data.sequence is None:
        return None
    if event.data.snapshot is None:
        raise RejectedError(
            Reason.INVALID_SNAPSHOT, "the event has a sequence and no snapshot of its state"
        )
    return state_of(event.type, event.data.sequence, event.data.snapshot)


def state_of(kind: str | None, sequence: int, told: Snapshot) -> BillingState:
    """The state that one event alone tells; `kind` None where billing names no event.

    The status counts where the type says otherwise, but for an end: who cancels may still call the
    subscription active until its period is over. Raises `RejectedError` for words unknown here.
    """
    if told.status not in WISHES:
        known = ", ".join(sorted(WISHES))
        raise RejectedError(
            Reason.INVALID_SNAPSHOT, f"status {told.status[:40]!r} is none of {known}"
        )
    if told.plan not in set(Tier):
        known = ", ".join(Tier)
        raise RejectedError(
            Reason.INVALID_SNAPSHOT, f"plan {told.plan[:40]!r} is none of {known}"
        )
    period_end = _utc(told.period_end)
    ends = kind in ENDS or told.status in {"cancelled", "deleted"}
    return BillingState(
        sequence=sequence,
        status=told.status,
        plan=told.plan,
        quantity=told.quantity,
        currency=told.currency,
        country=told.country,
        period_end=period_end,
        grace_days=told.grace_days,
        legal_hold=told.legal_hold,
        customer_ref=told.customer_ref,
        paid=kind != ANNOUNCEMENT and WISHES[told.status] is Wish.ACTIVE,
        deleted=kind == DELETION or told.status == "deleted",
        cancelled_sequence=sequence if ends else -1,
        reactivated_sequence=sequence if kind == REACTIVATION and not ends else -1,
        ends_at=period_end if ends else None,
        disputed_sequence=sequence if kind == DISPUTE else -1,
        erasure_sequence=sequence if kind == ERASURE else -1,
        country_sequence=sequence if kind == COUNTRY else -1,
    )


def merged(known: BillingState | None, told: BillingState) -> BillingState:
    """Both together: the newest state, and of every mark the latest.

    Associative and idempotent, and commutative as long as one sequence means one state. Where two
    states claim one sequence, what billing said when it was asked stands over what an event said,
    and else what was known first.
    """
    if known is None:
        return told
    newest = told if is_newer(told, known) else known
    last_end = told if _end_version(told) > _end_version(known) else known
    return replace(
        newest,
        paid=known.paid or told.paid,
        deleted=known.deleted or told.deleted,
        cancelled_sequence=max(known.cancelled_sequence, told.cancelled_sequence),
        reactivated_sequence=max(known.reactivated_sequence, told.reactivated_sequence),
        ends_at=last_end.ends_at,
        disputed_sequence=max(known.disputed_sequence, told.disputed_sequence),
        erasure_sequence=max(known.erasure_sequence, told.erasure_sequence),
        country_sequence=max(known.country_sequence, told.country_sequence),
    )


def is_newer(told: BillingState, known: BillingState) -> bool:
    """True when `told` is to be believed over `known`."""
    if told.sequence != known.sequence:
        return told.sequence > known.sequence
    return contradicts(told, known) and _asked(told) > _asked(known)


def contradicts(told: BillingState, known: BillingState) -> bool:
    """True when one sequence is said to mean two things."""
    return told.sequence == known.sequence and _content(told) != _content(known)


def _end_version(state: BillingState) -> tuple[int, datetime]:
    return (state.cancelled_sequence, _asked(state))


def _asked(state: BillingState) -> datetime:
    return state.as_of or _LONG_AGO


def _content(state: BillingState) -> tuple[object, ...]:
    """What billing's snapshot says, without what was learned beside it."""
    return (
        state.status,
        state.plan,
        state.quantity,
        state.currency,
        state.country,
        state.period_end,
        state.grace_days,
        state.legal_hold,
        state.customer_ref,
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
