"""Take a billing event off the queue and into the rows: the shell of path A's first half.

Order of writes: the subscription's row with the event's own, then the space's transaction (inbox,
billing state, what is desired and, where it needs one, the operation), then the first poke. A crash
between any two is healed by the redelivery, because each write finds what it wrote before.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from provisioning import concerns, hints, orders, subscriptions
from provisioning.apply import Why, apply, check_subscription
from provisioning.billing import Reason, RejectedError, read
from spaces import rejected
from spaces.errors import ErrorKind, KpaxError, ThrottledError
from spaces.forgetting import nameless
from spaces.idempotency import digest
from spaces.ports import Message
from spaces.registry import Registry

if TYPE_CHECKING:
    from provisioning.billing import Told
    from provisioning.subscriptions import Noted
    from spaces.ports import Ports
    from spaces.registry import Loaded
    from spaces.settings import Settings

log = logging.getLogger("kpax.billing")

QUEUE = "billing-events"
FIRST_SEEN = "kpax-first-seen"
ORIGINAL_ID = "kpax-message-id"
ATTEMPT = "kpax-attempt"
LATER_S = 5
LONGEST_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message as it came off the queue; `first_seen` is when its first copy was enqueued.

    `attempt` counts the copies of it that met trouble of the moment.
    """

    body: bytes
    message_id: str | None
    sequence_number: int
    first_seen: datetime
    attempt: int = 0


async def admit(ports: Ports, config: Settings, incoming: Incoming) -> None:
    """Apply an event, or keep it as rejected; returns when the message may be completed.

    Trouble of the moment puts a copy on the queue for later: given back, a message comes again at
    once, and five bad answers in a second would put a paid order among the dead letters.
    """
    try:
        told = read(incoming.body)
        try:
            await _take(ports, config, told, incoming)
        except KpaxError as error:
            if error.kind is ErrorKind.INVALID:
                raise
            await _try_later(ports, told, incoming, error)
    except RejectedError as error:
        await _keep(ports, incoming, error)


async def _take(ports: Ports, config: Settings, told: Told, incoming: Incoming) -> None:
    """Note an event with its subscription, and bring what is known then to the space."""
    known = await subscriptions.load(ports, told.subject)
    is_hint = told.state is None
    if is_hint:
        told = await hints.asked(ports, told)
    order_id = subscriptions.order_of(told, known)
    space_id: str | None = None
    loaded: Loaded | None = None
    if order_id is not None:
        space_id = await orders.space_of(ports, order_id)
        if space_id is None:
            await _later_or_never(ports, config, told, incoming, order_id)
            return
        # Before anything is kept: a rejected event must not tie its subscription to the order.
        loaded = await Registry(ports.tables).require(space_id)
        check_subscription(loaded, told.subject)
        if loaded.space.tombstone is not None and told.state is not None:
            told = replace(told, state=nameless(told.state))
    await concerns.of_event(ports, told, order_id=order_id, space_id=space_id)
    noted = await subscriptions.note(ports, told, known, message=incoming.sequence_number)
    first = noted.here or incoming.attempt > 0  # a copy that was put off may have kept nothing
    if noted.late and first and not is_hint:
        await _keep(ports, incoming, _late(told, noted))
    await bring(ports, told, noted, loaded=loaded)


async def bring(
    ports: Ports,
    told: Told,
    noted: Noted,
    *,
    actor: str = "billing",
    loaded: Loaded | None = None,
) -> None:
    """Bring a subscription's state to its space, where it has one; `loaded` where it was just read."""
    if noted.contradicts:
        await concerns.of_contradiction(ports, told, order_id=noted.order_id)
    if noted.order_id is None:
        return
    space_id = loaded.space.space_id if loaded else await orders.space_of(ports, noted.order_id)
    if space_id is not None:
        why = Why(
            source=told.source,
            cause_id=told.cause_id,
            type=told.type,
            actor=actor,
            because=told.because,
        )
        await apply(ports, space_id, told.subject, noted.state, why, loaded=loaded)


def _late(told: Told, noted: Noted) -> RejectedError:
    sequence = told.state.sequence if told.state is not None else -1
    how = "is another state of" if noted.contradicts else "came after"
    return RejectedError(
        Reason.LATE_SEQUENCE, f"sequence {sequence} {how} {noted.state.sequence}"
    )


async def _keep(ports: Ports, incoming: Incoming, error: RejectedError) -> None:
    log.warning("event.rejected", extra={"reason": error.reason})
    await rejected.keep(
        ports,
        queue=QUEUE,
        sequence_number=incoming.sequence_number,
        message_id=incoming.message_id,
        reason=error.reason,
        detail=error.detail,
        body=incoming.body,
    )


async def _later_or_never(
    ports: Ports, config: Settings, told: Told, incoming: Incoming, order_id: str
) -> None:
    """An order may be a moment behind its first event: look again until it has had its time."""
    now = ports.clock.now()
    if now - incoming.first_seen > timedelta(seconds=config.unknown_order_s):
        raise RejectedError(
            Reason.UNKNOWN_ORDER,
            f"there is no order {order_id[:100]} after {config.unknown_order_s:.0f} s",
        )
    due = now + timedelta(seconds=min(LATER_S, config.unknown_order_s / 4))
    name = f"later:{_digest(told, incoming)}:{int(due.timestamp())}"
    await ports.bus.send([_copy(incoming, name, due, attempt=incoming.attempt)])


async def _try_later(ports: Ports, told: Told, incoming: Incoming, error: KpaxError) -> None:
    """Put a copy of the event on the queue, due after a growing pause; it is never given up."""
    attempt = incoming.attempt + 1
    pause_s = min(LATER_S * 2.0 ** min(attempt - 1, 6), LONGEST_S)
    if isinstance(error, ThrottledError):
        pause_s = max(pause_s, error.retry_after_s)
    due = ports.clock.now() + timedelta(seconds=pause_s)
    name = f"again:{_digest(told, incoming)}:{attempt}"
    log.warning(
        "event.put_off", extra={"reason": str(error), "attempt": attempt, "pause_s": pause_s}
    )
    await ports.bus.send([_copy(incoming, name, due, attempt=attempt)])


def _copy(incoming: Incoming, name: str, due: datetime, *, attempt: int) -> Message:
    return Message(
        queue=QUEUE,
        message_id=name,
        body=incoming.body.decode(),
        due_at=due,
        properties={
            FIRST_SEEN: incoming.first_seen.isoformat(),
            ORIGINAL_ID: incoming.message_id or "",
            ATTEMPT: str(attempt),
        },
    )


def _digest(told: Told, incoming: Incoming) -> str:
    return digest(told.source, told.cause_id, incoming.message_id or "")
