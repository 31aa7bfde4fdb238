"""What is known of each subscription, before its order is known and after: one row, and an inbox.

Table `subscriptions`, one partition per subject: `state` holds all its events joined (newest state,
ever paid, ended, brought back) and the order they belong to; `in!…` one row per event, so that a
repeated one stops here whatever came between. Source: control-plane.md 3.7, amendments 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from provisioning.billing import Reason, RejectedError, contradicts, is_newer, merged, state_of
from spaces.errors import ConflictError, DamagedError, LostRaceError, UnknownError
from spaces.forgetting import ROW, SUBSCRIPTIONS
from spaces.idempotency import digest
from spaces.messages import BillingEvent
from spaces.model import BillingState
from spaces.ports import Insert, Replace
from spaces.registry import inbox_key
from spaces.saga.runner import RACES

if TYPE_CHECKING:
    from provisioning.billing import Told
    from spaces.ports import Ports, Scalar, Stored, Write


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A subscription's row: its joined state, and the order it pays, where one was told."""

    subject: str
    state: BillingState | None = None
    order_id: str | None = None
    etag: str | None = None

    @property
    def order_is_told(self) -> bool:
        """True once some event said which order it pays."""
        return self.order_id is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A subscription after an event: all that is known now, and what that event was.

    `late`: an older state than the newest; `contradicts`: another state for the same sequence.
    `here`: this very message noted it, now or before it was redelivered; False for a later copy.
    """

    state: BillingState
    order_id: str | None
    late: bool
    contradicts: bool
    here: bool


async def load(ports: Ports, subject: str) -> Known:
    """What is known of a subscription; without state where nothing is."""
    row = await ports.tables.get(SUBSCRIPTIONS, digest(subject), ROW)
    if row is None:
        return Known(subject=subject)
    return Known(
        subject=subject,
        state=_state_in(row),
        order_id=str(row.values["order_id"]) or None,
        etag=row.etag,
    )


def order_of(told: Told, known: Known) -> str | None:
    """The order of the subscription: what the event says, or what an earlier one said. Pure."""
    if told.order_id and known.order_id and told.order_id != known.order_id:
        raise RejectedError(
            Reason.ORDER_CONFLICT,
            f"subscription {told.subject[:100]} belongs to order {known.order_id},"
            f" not {told.order_id[:100]}",
        )
    return told.order_id or known.order_id


async def note(ports: Ports, told: Told, known: Known, *, message: int) -> Noted:
    """Join what an event tells to the subscription, once; repeatable from any line.

    Raises `RejectedError` when another order was told meanwhile, `UnknownError` when the row
    changes faster than it can be written.
    """
    if told.state is None:
        raise ValueError("a hint tells no state")
    for _ in range(RACES):
        writes, noted = _noting(ports, told, told.state, known, message)
        try:
            await ports.tables.commit(SUBSCRIPTIONS, digest(told.subject), writes)
        except (ConflictError, LostRaceError, UnknownError):
            seen = await _seen(ports, told)
            known = await load(ports, told.subject)
            if seen is not None and known.state is not None:
                return Noted(
                    state=known.state,
                    order_id=known.order_id,
                    late=bool(seen.values["late"]),
                    contradicts=bool(seen.values["contradicts"]),
                    here=seen.values["message"] == message,
                )
            continue
        return noted
    raise UnknownError(
        "the subscription changes faster than the event can be noted",
        where=f"subscription {told.subject[:100]}",
    )


def _noting(
    ports: Ports, told: Told, state: BillingState, known: Known, message: int
) -> tuple[list[Write], Noted]:
    """The transaction that notes an event, and what it was. Pure but for the clock."""
    order_id = order_of(told, known)
    joined = merged(known.state, state)
    behind = known.state is not None and not is_newer(state, known.state)
    against = known.state is not None and contradicts(state, known.state) and behind
    joins = order_id is not None and not known.order_is_told
    noted = Noted(
        state=joined,
        order_id=order_id,
        late=behind and not joins,  # the one that tells the order is not late, however old
        contradicts=against,
        here=True,
    )
    seen: dict[str, Scalar] = {
        "source": told.source,
        "cause_id": told.cause_id[:1024],
        "type": told.type,
        "sequence": state.sequence,
        "late": noted.late,
        "contradicts": against,
        "message": message,
        "at": ports.clock.now(),
    }
    writes: list[Write] = [Insert(inbox_key(told.source, told.cause_id), seen)]
    if joined != known.state or joins:
        values: dict[str, Scalar] = {
            "subject": told.subject,
            "order_id": order_id or "",
            "sequence": joined.sequence,
            "status": joined.status,
            "state": msgspec.json.encode(joined).decode(),
        }
        writes.append(
            Insert(ROW, values) if known.etag is None else Replace(ROW, values, known.etag)
        )
    return writes, noted


async def _seen(ports: Ports, told: Told) -> Stored | None:
    key = inbox_key(told.source, told.cause_id)
    return await ports.tables.get(SUBSCRIPTIONS, digest(told.subject), key)


def _state_in(row: Stored) -> BillingState:
    """The joined state; of a row from before states were joined, what its newest event told."""
    try:
        if "state" in row.values:
            return msgspec.json.decode(str(row.values["state"]), type=BillingState)
        event = msgspec.json.decode(str(row.values["newest"]), type=BillingEvent)
        if event.data.sequence is None or event.data.snapshot is None:
            raise DamagedError("the newest event of a subscription tells no state")
        return state_of(event.type, event.data.sequence, event.data.snapshot)
    except (msgspec.MsgspecError, KeyError) as error:
        raise DamagedError(f"the row of a subscription cannot be read: {error}") from error
