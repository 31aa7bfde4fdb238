"""Which billing events need a person, beside what they do to a space. Pure but for the alarm.

A dispute, a request for erasure and a change of country are recorded with the subscription like any
other state; none of them moves, suspends or erases a space by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioning import alarms
from provisioning.alarms import Finding, Kind
from provisioning.billing import COUNTRY, DISPUTE, ERASURE

if TYPE_CHECKING:
    from provisioning.billing import Told
    from spaces.ports import Ports

CONCERNS = {
    DISPUTE: (
        Kind.PAYMENT_DISPUTED,
        "a payment is disputed; the space is served as billing says",
    ),
    ERASURE: (Kind.ERASURE_REQUESTED, "the customer asks for the erasure of all data"),
    COUNTRY: (Kind.COUNTRY_CHANGED, "the customer moved; the space stays where it is"),
}


async def of_event(
    ports: Ports, told: Told, *, order_id: str | None, space_id: str | None
) -> None:
    """Raise the alarm of an event that needs a person; each such event has one of its own."""
    if told.type not in CONCERNS:
        return
    kind, detail = CONCERNS[told.type]
    if told.type == COUNTRY and told.state is not None:
        detail = f"{detail}: billing now says {told.state.country}"
    finding = Finding(
        kind=kind,
        about=told.subject,
        detail=detail,
        space_id=space_id,
        order_id=order_id,
        key=f"{told.source}\x00{told.cause_id}",
    )
    await alarms.raise_now(ports, finding)


async def of_contradiction(ports: Ports, told: Told, *, order_id: str | None) -> None:
    """Note that one sequence of a subscription was said to mean two things."""
    sequence = told.state.sequence if told.state is not None else -1
    finding = Finding(
        kind=Kind.BILLING_CONTRADICTION,
        about=told.subject,
        detail=f"two events of sequence {sequence} tell different states; the first one counts",
        order_id=order_id,
        key=str(sequence),
    )
    await alarms.raise_now(ports, finding)
