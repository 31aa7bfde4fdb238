"""Bring what is known of a subscription to its space, and start what the space then needs.

Level-triggered: the whole joined state is brought each time, whoever it came from, so that a crash
between the subscription's row and the space's is healed by whatever comes next. The state and the
operation that it calls for are written in one transaction (`spaces.saga.plan_next.bring`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from provisioning.billing import Reason, RejectedError, merged
from spaces.desire import told
from spaces.errors import ConflictError, LostRaceError, UnknownError
from spaces.forgetting import nameless
from spaces.model import Status, Tier
from spaces.planner import needed, stopping
from spaces.registry import Registry
from spaces.saga.begin import Cause
from spaces.saga.plan_next import bring
from spaces.saga.promises import say_again
from spaces.saga.runner import RACES

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import BillingState, Space
    from spaces.ports import Ports
    from spaces.registry import Loaded

ACT = "billing.applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What brings a state to a space: its source and id (the inbox's key), and its type."""

    source: str
    cause_id: str
    type: str
    actor: str = "billing"
    because: str | None = None


async def apply(
    ports: Ports,
    space_id: str,
    subject: str,
    state: BillingState,
    why: Why,
    *,
    loaded: Loaded | None = None,
) -> None:
    """Bring a subscription's state to its space; repeatable, and in any order.

    `loaded` is the space where the caller has just read it.
    Raises `RejectedError` when the space belongs to another subscription, `UnknownError` when it
    changes faster than it can be written.
    """
    registry, fresh = Registry(ports.tables), True
    for _ in range(RACES):
        loaded = loaded or await registry.require(space_id)
        check_subscription(loaded, subject)
        space, now = loaded.space, ports.clock.now()
        after = applied(space, subject, state, now)
        if after == space and stopping(after, now) is after and needed(after, now) is None:
            await say_again(ports, registry, space)  # who wrote it may have died then
            return
        try:
            await bring(ports, loaded, after, _cause(loaded, after, why, fresh=fresh), act=ACT)
        except (LostRaceError, ConflictError, UnknownError):
            fresh = not await registry.has_seen(space_id, why.source, why.cause_id)
            loaded = None
            continue
        return
    raise UnknownError(
        "the space changes faster than the event can be applied", where=f"space {space_id}"
    )


def _cause(loaded: Loaded, after: Space, why: Why, *, fresh: bool) -> Cause:
    """The event; what it brings once more, where another's crash left it undone, has its own name."""
    again = "" if fresh else f":{loaded.head.seq}"
    sequence = after.billing.sequence if after.billing is not None else -1
    because = f"; {why.because}" if why.because else ""
    return Cause(
        actor=why.actor,
        source=why.source,
        cause_id=f"{why.cause_id}{again}",
        reason=f"{why.type}; billing is at sequence {sequence}{because}",
    )


def applied(space: Space, subject: str, state: BillingState, now: datetime) -> Space:
    """The space with this state joined to what it knows, and what it is to be by it. Pure.

    Of an erased one nothing personal is learned any more. The tier follows before it opens. A
    running operation builds what it began with: a new tier under it would wait for machines that
    nobody ordered.
    """
    if space.tombstone is not None:
        state = nameless(state)
    joined = merged(space.billing, state)
    before_it_opens = space.status is Status.REQUESTED and space.op is None
    after = replace(
        space,
        billing=joined,
        subscription=subject,
        tier=Tier(joined.plan) if before_it_opens else space.tier,
    )
    return told(after, now)


def check_subscription(loaded: Loaded, subject: str) -> None:
    """Raise `RejectedError` where the space's order was paid by another subscription."""
    known = loaded.space.subscription
    if known is not None and known != subject:
        raise RejectedError(
            Reason.ORDER_CONFLICT,
            f"order {loaded.space.order_id} belongs to another subscription",
        )
