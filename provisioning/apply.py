"""Bring what is known of a subscription to its space, and start what the space then needs.

Level-triggered: the whole joined state is brought each time, whoever it came from, so that a crash
between the subscription's row and the space's is healed by whatever comes next. The state and the
operation that it calls for are written in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioning.billing import Reason, RejectedError, merged
from spaces import audit
from spaces.desire import desired, told
from spaces.errors import ConflictError, LostRaceError, UnknownError
from spaces.model import OpKind, Status, Stop, Tier, Wish, replace
from spaces.planner import needed
from spaces.registry import Change, Registry
from spaces.saga.begin import Cause, begin
from spaces.saga.outline import OUTLINES
from spaces.saga.runner import RACES, say_again

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import BillingState, Space
    from spaces.planner import Need
    from spaces.ports import Ports
    from spaces.registry import Loaded

# What is carried out today; the other kinds wait in `desired`.
STARTED = frozenset({OpKind.PROVISION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What brings a state to a space: its source and id (the inbox's key), and its type."""

    source: str
    cause_id: str
    type: str
    actor: str = "billing"


async def apply(
    ports: Ports, space_id: str, subject: str, state: BillingState, why: Why
) -> None:
    """Bring a subscription's state to its space; repeatable, and in any order.

    Raises `RejectedError` when the space belongs to another subscription, `UnknownError` when it
    changes faster than it can be written.
    """
    registry, fresh = Registry(ports.tables), True
    for _ in range(RACES):
        loaded = await registry.require(space_id)
        check_subscription(loaded, subject)
        now = ports.clock.now()
        after = applied(loaded.space, subject, state, now)
        if after == loaded.space and _need(after, now) is None:
            await say_again(ports, registry, loaded.space)  # who wrote it may have died then
            return
        try:
            await _commit(ports, registry, loaded, after, why, fresh=fresh)
        except (LostRaceError, ConflictError, UnknownError):
            fresh = not await registry.has_seen(space_id, why.source, why.cause_id)
            continue
        return
    raise UnknownError(
        "the space changes faster than the event can be applied", where=f"space {space_id}"
    )


async def _commit(
    ports: Ports, registry: Registry, loaded: Loaded, after: Space, why: Why, *, fresh: bool
) -> None:
    now = ports.clock.now()
    need = _need(after, now)
    if need is not None:
        cause = Cause(
            actor=why.actor,
            source=why.source,
            # Of an event that was brought before, the start is another effect and has another name.
            cause_id=why.cause_id if fresh else f"{why.cause_id}:{loaded.space.next_op_id()}",
            params=need.params,
            change=lambda _: opening(after) if need.kind is OpKind.PROVISION else after,
        )
        await begin(ports, loaded, OUTLINES[need.kind], cause)
        return
    state = after.billing
    change = Change(
        space=after,
        entry=audit.Entry(
            act="billing.applied",
            actor=why.actor,
            obj=after.space_id,
            detail={"type": why.type, "sequence": state.sequence if state else -1},
        ),
        inbox=(why.source, why.cause_id) if fresh else None,
    )
    await ports.bus.send(await registry.commit(loaded, change, now=now))


def _need(space: Space, now: datetime) -> Need | None:
    need = needed(space, now)
    return need if need is not None and need.kind in STARTED else None


def applied(space: Space, subject: str, state: BillingState, now: datetime) -> Space:
    """The space with this state joined to what it knows, and what it is to be by it. Pure.

    The tier follows before it opens. A running operation builds what it began with: a new tier under
    it would wait for machines that nobody ordered. One that opens a space which is to be cancelled
    is asked to stop.
    """
    joined = merged(space.billing, state)
    before_it_opens = space.status is Status.REQUESTED and space.op is None
    after = replace(
        space,
        billing=joined,
        subscription=subject,
        tier=Tier(joined.plan) if before_it_opens else space.tier,
    )
    return told(_stopped(after, now), now)


def opening(space: Space) -> Space:
    """A requested space as it is opened: after an earlier attempt, as its next incarnation. Pure.

    The names of what was deleted stay taken for a while (a vault's until it is purged).
    """
    if space.op_seq == 0:
        return space
    return replace(space, incarnation=space.incarnation + 1, resources=None)


def check_subscription(loaded: Loaded, subject: str) -> None:
    """Raise `RejectedError` where the space's order was paid by another subscription."""
    known = loaded.space.subscription
    if known is not None and known != subject:
        raise RejectedError(
            Reason.ORDER_CONFLICT,
            f"order {loaded.space.order_id} belongs to another subscription",
        )


def _stopped(space: Space, now: datetime) -> Space:
    """Cancellation before activation is the one wish that interrupts (control-plane.md 3.3)."""
    op = space.op
    if op is None or op.kind is not OpKind.PROVISION or op.stop is not None:
        return space
    if desired(space, now) is not Wish.CANCELLED:
        return space
    stop = Stop(actor="billing", reason="the subscription has ended", at=now)
    return replace(space, op=replace(op, stop=stop))
