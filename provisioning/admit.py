"""Take a billing event off the queue and into the rows: the shell of path A's first half.

Order of writes: the subscription's newest state, then the space's transaction (inbox, desired
state and, where it opens, the operation), then the first poke. A crash between any two is healed
by the redelivery, because each write finds what it wrote before.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from provisioning import orders, rejected
from provisioning.billing import Reason, RejectedError, applied, opens, read, reopened
from spaces import audit
from spaces.errors import (
    ConflictError,
    ErrorKind,
    KpaxError,
    LostRaceError,
    ThrottledError,
    UnknownError,
)
from spaces.idempotency import digest
from spaces.messages import encode
from spaces.model import OpKind
from spaces.ports import Insert, Message, Replace
from spaces.registry import Change, Registry
from spaces.saga.begin import Cause, begin
from spaces.saga.outline import OUTLINES
from spaces.saga.runner import RACES, say_again

if TYPE_CHECKING:
    from provisioning.billing import Accepted
    from spaces.ports import Ports, Scalar, Stored
    from spaces.registry import Loaded
    from spaces.settings import Settings

log = logging.getLogger("kpax.billing")

QUEUE = "billing-events"
SUBSCRIPTIONS = "subscriptions"
ROW = "state"
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
        accepted = read(incoming.body)
        try:
            await _apply(ports, config, accepted, incoming)
        except KpaxError as error:
            if error.kind is ErrorKind.INVALID:
                raise
            await _try_later(ports, accepted, incoming, error)
    except RejectedError as error:
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


async def _apply(
    ports: Ports, config: Settings, accepted: Accepted, incoming: Incoming
) -> None:
    """Apply an event; other events of the same subscription at the same moment make it look again."""
    for _ in range(RACES):
        try:
            await _apply_once(ports, config, accepted, incoming)
        except (LostRaceError, ConflictError):
            continue
        return
    raise UnknownError(
        "the subscription changes faster than the event can be applied",
        where=f"order {accepted.event.data.order_id}",
    )


async def _apply_once(
    ports: Ports, config: Settings, accepted: Accepted, incoming: Incoming
) -> None:
    row = await ports.tables.get(SUBSCRIPTIONS, digest(accepted.event.subject), ROW)
    order_id = _order_of(accepted, row)
    space_id: str | None = None
    if order_id is not None:
        space_id = await orders.space_of(ports, order_id)
        if space_id is None:
            await _later_or_never(ports, config, accepted, incoming, order_id)
            return
        # Before anything is kept: a rejected event must not tie its subscription to the order.
        _check_subscription(await Registry(ports.tables).require(space_id), accepted)
    if row is None or not _is_late(accepted, row):
        await _remember(ports, accepted, row, order_id)
        newest = accepted
    elif order_id is not None and _joins(accepted, row):
        # Late, but it alone tells which order the newest state belongs to.
        newest = read(str(row.values["newest"]).encode())
        await _join(ports, accepted, row, order_id)
    else:
        await _settle_late(ports, accepted, row, space_id)
        return
    if space_id is not None:
        await _apply_to_space(ports, newest, space_id)


def _order_of(accepted: Accepted, row: Stored | None) -> str | None:
    """The order of the subscription: what the event says, or what an earlier one said."""
    told = accepted.event.data.order_id
    known = str(row.values["order_id"]) if row is not None and row.values["order_id"] else None
    if told is not None and known is not None and told != known:
        raise RejectedError(
            Reason.ORDER_CONFLICT,
            f"subscription {accepted.event.subject[:100]} belongs to order {known}, not {told[:100]}",
        )
    return told or known


def _is_late(accepted: Accepted, row: Stored) -> bool:
    newest = int(str(row.values["sequence"]))
    if accepted.state.sequence < newest:
        return True
    same = accepted.state.sequence == newest
    return same and row.values["event"] != _cause_id(accepted)


def _joins(accepted: Accepted, row: Stored) -> bool:
    """True for the event that first told the subscription's order, a redelivered one too."""
    if row.values["order_id"]:
        return row.values.get("joined_by") == _cause_id(accepted)
    return accepted.event.data.order_id is not None


async def _join(ports: Ports, accepted: Accepted, row: Stored, order_id: str) -> None:
    """Tie the newest state to the order; repeatable."""
    if row.values["order_id"]:
        return
    values = {**row.values, "order_id": order_id, "joined_by": _cause_id(accepted)}
    await ports.tables.commit(
        SUBSCRIPTIONS, digest(accepted.event.subject), [Replace(ROW, values, row.etag)]
    )


async def _settle_late(
    ports: Ports, accepted: Accepted, row: Stored, space_id: str | None
) -> None:
    """An old state changes nothing: a late event is kept as rejected.

    A repeated one says again what the space promised: whoever applied it may have died before.
    """
    event, registry = accepted.event, Registry(ports.tables)
    if space_id is not None and await registry.has_seen(space_id, event.source, event.id):
        await say_again(ports, registry, (await registry.require(space_id)).space)
        return
    raise RejectedError(
        Reason.LATE_SEQUENCE,
        f"sequence {accepted.state.sequence} came after {row.values['sequence']}",
    )


async def _remember(
    ports: Ports, accepted: Accepted, row: Stored | None, order_id: str | None
) -> None:
    """Keep the newest state of the subscription; a row that changed meanwhile refuses it."""
    values: dict[str, Scalar] = {
        "sequence": accepted.state.sequence,
        "event": _cause_id(accepted),
        "subject": accepted.event.subject,
        "order_id": order_id or "",
        "type": accepted.event.type,
        "status": accepted.state.status,
        "newest": encode(accepted.event),
        "joined_by": row.values.get("joined_by", "") if row is not None else "",
    }
    if (
        row is not None
        and row.values["event"] == values["event"]
        and order_id == (row.values["order_id"] or None)
    ):
        return
    write = Insert(ROW, values) if row is None else Replace(ROW, values, row.etag)
    await ports.tables.commit(SUBSCRIPTIONS, digest(accepted.event.subject), [write])


async def _apply_to_space(ports: Ports, accepted: Accepted, space_id: str) -> None:
    """One transaction on the space; a lost race reads again, a repeated event says again."""
    registry = Registry(ports.tables)
    for _ in range(RACES):
        loaded = await registry.require(space_id)
        _check_subscription(loaded, accepted)
        known = loaded.space.billing
        if known is not None and known.sequence >= accepted.state.sequence:
            await say_again(ports, registry, loaded.space)
            return
        try:
            await _commit(ports, registry, loaded, accepted)
        except (LostRaceError, ConflictError, UnknownError):
            continue
        return
    raise UnknownError(
        "the space changes faster than the event can be applied", where=f"space {space_id}"
    )


async def _commit(ports: Ports, registry: Registry, loaded: Loaded, accepted: Accepted) -> None:
    event = accepted.event
    if opens(loaded.space, accepted):
        cause = Cause(
            actor="billing",
            source=event.source,
            cause_id=event.id,
            change=lambda space: applied(reopened(space), accepted),
        )
        await begin(ports, loaded, OUTLINES[OpKind.PROVISION], cause)
        return
    change = Change(
        space=applied(loaded.space, accepted),
        entry=audit.Entry(
            act="billing.applied",
            actor="billing",
            obj=loaded.space.space_id,
            detail={"type": event.type, "sequence": accepted.state.sequence},
        ),
        inbox=(event.source, event.id),
    )
    await ports.bus.send(await registry.commit(loaded, change, now=ports.clock.now()))


def _check_subscription(loaded: Loaded, accepted: Accepted) -> None:
    known = loaded.space.subscription
    if known is not None and known != accepted.event.subject:
        raise RejectedError(
            Reason.ORDER_CONFLICT,
            f"order {loaded.space.order_id} belongs to another subscription",
        )


async def _later_or_never(
    ports: Ports, config: Settings, accepted: Accepted, incoming: Incoming, order_id: str
) -> None:
    """An order may be a moment behind its first event: look again until it has had its time."""
    now = ports.clock.now()
    if now - incoming.first_seen > timedelta(seconds=config.unknown_order_s):
        raise RejectedError(
            Reason.UNKNOWN_ORDER,
            f"there is no order {order_id[:100]} after {config.unknown_order_s:.0f} s",
        )
    due = now + timedelta(seconds=min(LATER_S, config.unknown_order_s / 4))
    name = f"later:{_digest(accepted, incoming)}:{int(due.timestamp())}"
    await ports.bus.send([_copy(incoming, name, due, attempt=incoming.attempt)])


async def _try_later(
    ports: Ports, accepted: Accepted, incoming: Incoming, error: KpaxError
) -> None:
    """Put a copy of the event on the queue, due after a growing pause; it is never given up."""
    attempt = incoming.attempt + 1
    pause_s = min(LATER_S * 2.0 ** min(attempt - 1, 6), LONGEST_S)
    if isinstance(error, ThrottledError):
        pause_s = max(pause_s, error.retry_after_s)
    due = ports.clock.now() + timedelta(seconds=pause_s)
    name = f"again:{_digest(accepted, incoming)}:{attempt}"
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


def _digest(accepted: Accepted, incoming: Incoming) -> str:
    return digest(accepted.event.source, accepted.event.id, incoming.message_id or "")


def _cause_id(accepted: Accepted) -> str:
    return json.dumps([accepted.event.source, accepted.event.id])
