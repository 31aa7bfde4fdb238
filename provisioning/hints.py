"""An event without a sequence says only "look": billing is asked for the subscription it names.

Such senders promise no order and send copies (control-plane.md 3.7, rule 4); what billing answers
has a version of its own, and that one counts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from provisioning.billing import REACTIVATION, Reason, RejectedError, Told, state_of
from spaces.errors import DamagedError, UnreachableError

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.ports import Ports, Subscription


async def asked(ports: Ports, told: Told) -> Told:
    """The event with the state that billing answers, and with the order where billing knows it.

    Raises `RejectedError` where nobody can be asked or billing knows no such subscription, and the
    errors of the port where there is no answer: the event then comes again later.
    """
    if ports.billing is None:
        raise RejectedError(
            Reason.INVALID_SNAPSHOT, "the event has no sequence, and there is no billing to ask"
        )
    try:
        found = await ports.billing.subscription(told.subject)
    except DamagedError as error:
        raise UnreachableError(
            f"billing's answer cannot be used: {error.what}", where=error.where
        ) from error
    if found is None:
        raise RejectedError(
            Reason.UNKNOWN_SUBSCRIPTION,
            f"billing knows no subscription {told.subject[:100]}",
        )
    # Only a reactivation cannot be read off the state; every other type is what the state says.
    kind = REACTIVATION if told.type == REACTIVATION else found.type
    now = ports.clock.now()
    listed = listed_as(found, source=told.source, cause_id=told.cause_id, kind=kind, now=now)
    return replace(listed, type=told.type, order_id=told.order_id or found.order_id)


def listed_as(
    found: Subscription, *, source: str, cause_id: str, now: datetime, kind: str | None = None
) -> Told:
    """A subscription as billing lists it at `now`, in the form of an event. Pure.

    Raises `DamagedError` for words that mean nothing here.
    """
    kind = kind or found.type
    try:
        state = state_of(kind, found.sequence, found.snapshot)
    except RejectedError as error:
        raise DamagedError(
            f"billing answers with what no event may say: {error.detail}",
            where=f"subscription {found.subject[:100]}",
        ) from error
    return Told(
        source=source,
        cause_id=cause_id,
        type=kind or "billing.subscription.listed",
        subject=found.subject,
        order_id=found.order_id,
        state=replace(state, as_of=now, paid=state.paid and not _is_mere_trial(found, kind)),
    )


def _is_mere_trial(found: Subscription, kind: str | None) -> bool:
    """A trial that is only announced looks like one that began, where billing names no event."""
    return kind is None and found.snapshot.status == "trialing"
