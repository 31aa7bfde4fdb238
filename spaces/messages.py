"""Everything that crosses a queue, with its version: the wire types.

Incoming events tolerate unknown fields; our own pokes refuse them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

# What a stranger sends ends in table rows, whose fields are short: the wire says so beforehand.
Short = Annotated[str, msgspec.Meta(max_length=200)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500, pattern=r"\S")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Poke(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Says only "look at this space again": `ticket` names the step and attempt it was made for."""

    v: Literal[1] = 1
    space_id: str
    op_id: str
    ticket: str


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for a backup of a space: `slot` names the day and run it is for.

    `waits` counts how often it was put off because another operation ran on the space.
    """

    v: Literal[1] = 1
    kind: Literal["backup-due"] = "backup-due"
    space_id: str
    slot: str
    waits: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The full billing state of a subscription; amounts never appear, times are RFC 3339."""

    status: Short
    plan: Short
    quantity: Count
    currency: Short
    country: Short
    period_end: datetime
    grace_days: Count
    legal_hold: bool
    customer_ref: Short


class BillingData(msgspec.Struct, frozen=True, kw_only=True):
    """`sequence` rises per subscription; only the first event must carry `order_id`.

    Without `sequence` the event is a hint: billing is asked for the subscription, and a snapshot
    beside it counts for nothing. With it, `snapshot` must be there. A text in
    `reason` is for people: it stands in the audit entry of what the event brings.
    """

    sequence: Sequence | None = None
    snapshot: Snapshot | None = None
    order_id: Short | None = None
    reason: Any = None


class BillingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """CloudEvents 1.0 as the billing system puts it on the queue; `subject` is the subscription."""

    specversion: Literal["1.0"]
    id: Name
    source: Name
    type: str
    subject: Name
    data: BillingData
    time: datetime | None = None
    datacontenttype: str = "application/json"


class ListedSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription as the billing system answers it; `type` is the event that led to this state."""

    subject: Name
    sequence: Sequence
    snapshot: Snapshot
    order_id: Short | None = None
    type: Short | None = None


class SubscriptionList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the billing list; `total` counts the whole list, where billing says it."""

    items: list[ListedSubscription]
    next_cursor: Name | None = None
    total: Count | None = None


def encode(value: msgspec.Struct) -> str:
    """A wire value as JSON text."""
    return msgspec.json.encode(value).decode()
