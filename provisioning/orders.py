"""An order: a signed decision is spent, a name reserved, a space requested.

Ids derive from the caller's Idempotency-Key, and every write is an insert that recognises its own
earlier self, so that a request taken over after a crash finishes what the first one began.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec

from geo_router import signed
from spaces import audit, hosts
from spaces.errors import ConflictError, NotFoundError, RefusedError
from spaces.idempotency import digest
from spaces.messages import Reason, Short
from spaces.model import OrderId, Space, SpaceId, Status, Tier
from spaces.names import check_name
from spaces.ports import Insert, instant
from spaces.registry import DIRECTORY, Change, Event, Registry

if TYPE_CHECKING:
    from geo_router.signed import Decision
    from spaces.ports import Ports, Scalar, Stored
    from spaces.settings import Settings

ORDERS = "orders"
TOKENS = "tokens"
ROW = "row"


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the signup flow sends: `route` is the request that `token` was issued on."""

    name: str
    plan: Literal["starter", "standard", "premium"]
    customer_ref: Short
    route: dict[str, object]
    token: str
    reason: Reason | None = None


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order; `status` is one of awaiting_payment, paid, active, failed, cancelled."""

    order_id: str
    space_id: str
    status: str
    name: str
    plan: str
    customer_ref: str
    country: str
    cluster: str
    url: str
    created_at: datetime
    lapses_at: datetime


async def place(
    ports: Ports, config: Settings, order: OrderRequest, *, caller: str, key: str
) -> OrderView:
    """Accept an order; repeatable with the same `key`.

    Raises `InvalidError` for a malformed name, `RefusedError` for a name that is taken (409) and
    for a token that is not good, expired, spent, or of another request (422).
    """
    check_name(order.name)
    now = ports.clock.now()
    decision = await _verified(ports, config, order, space_id=ids_of(caller, key)[1], now=now)
    space = _space(config, order, decision, caller=caller, key=key, now=now)
    await _refuse_spent(ports, decision, space)
    await hosts.reserve(
        ports, name=space.name, space_id=space.space_id, lapse_s=config.order_lapse_s
    )
    try:
        await _spend(ports, decision, space)
    except RefusedError:
        await hosts.free(ports, name=space.name, space_id=space.space_id)
        raise
    await _insert(ports, DIRECTORY, space.cluster, space.space_id, {"name": space.name})
    await _request(ports, space, decision, now, because=order.reason)
    lapses = now + timedelta(seconds=config.order_lapse_s)
    await _insert(
        ports,
        ORDERS,
        space.order_id,
        ROW,
        {"space_id": space.space_id, "created_at": now, "lapses_at": lapses},
    )
    return await view(ports, config, space.order_id)


async def view(ports: Ports, config: Settings, order_id: str) -> OrderView:
    """An order by id; `NotFoundError` where there is none."""
    row = await _row(ports, order_id)
    if row is None:
        raise NotFoundError(f"no order {order_id[:64]}")
    space = (await Registry(ports.tables).require(str(row.values["space_id"]))).space
    return OrderView(
        order_id=order_id,
        space_id=space.space_id,
        status=status_of(space),
        name=space.name,
        plan=space.tier.value,
        customer_ref=space.customer_ref,
        country=str(json.loads(space.route_request)["country"]),
        cluster=space.cluster,
        url=config.url_of(space.name, space.cluster),
        created_at=instant(row.values["created_at"]),
        lapses_at=instant(row.values["lapses_at"]),
    )


async def space_of(ports: Ports, order_id: str) -> str | None:
    """The space that an order asked for, or None where there is no such order."""
    row = await _row(ports, order_id)
    return None if row is None else str(row.values["space_id"])


def status_of(space: Space) -> str:
    """The status of a space's order: what its customer may know. Pure."""
    match space.status:
        case Status.REQUESTED | Status.WARM:
            return "awaiting_payment" if space.billing is None else "paid"
        case Status.ACTIVE | Status.SUSPENDED:
            return "active"
        case Status.FAILED:
            return "failed"
        case Status.CANCELLED | Status.DELETED | Status.ERASED:
            return "cancelled"


def ids_of(caller: str, key: str) -> tuple[OrderId, SpaceId]:
    """The ids that an order under this key gets: unguessable as the key is, and always the same."""
    return (
        OrderId("o-" + digest("order", caller, key)[:20]),
        SpaceId("s-" + digest("space", caller, key)[:10]),
    )


def _space(
    config: Settings,
    order: OrderRequest,
    decision: Decision,
    *,
    caller: str,
    key: str,
    now: datetime,
) -> Space:
    order_id, space_id = ids_of(caller, key)
    return Space(
        space_id=space_id,
        name=order.name,
        status=Status.REQUESTED,
        tier=Tier(order.plan),
        cluster=decision.cluster,
        azure_region=decision.azure_region,
        backup_region=decision.backup_region,
        customer_ref=order.customer_ref,
        order_id=order_id,
        created_at=now,
        route_request=json.dumps(decision.request, sort_keys=True),
        decision=json.dumps(
            {
                "jti": decision.jti,
                "cluster": decision.cluster,
                "data_hash": decision.data_hash,
                "request_hash": decision.request_hash,
                "issued_at": decision.issued_at.isoformat(),
            },
            sort_keys=True,
        ),
        release=config.release,
    )


async def _verified(
    ports: Ports, config: Settings, order: OrderRequest, *, space_id: str, now: datetime
) -> Decision:
    """The decision that the token proves, today or on the day its own space was requested.

    A request that died half-way may be sent again after the token's time. Had it come as far as the
    space, it is finished by the token that was good then; had it not, the name goes back.
    """
    keys = signed.SigningKey.from_setting(config.decision_key).public
    try:
        return signed.verify(order.token, request=order.route, keys=keys, now=now)
    except RefusedError as error:
        if error.members.get("reason") != "expired":
            raise
        own = await Registry(ports.tables).load(space_id)
        if own is None:
            await hosts.free(ports, name=order.name, space_id=space_id)
            raise
        then = own.space.created_at
        return signed.verify(order.token, request=order.route, keys=keys, now=then)


async def _refuse_spent(ports: Ports, decision: Decision, space: Space) -> None:
    """Refuse a spent token before anything is reserved; the insert later decides a race."""
    row = await ports.tables.get(TOKENS, digest(decision.jti), ROW)
    if row is not None and row.values["order_id"] != space.order_id:
        raise _spent()


async def _spend(ports: Ports, decision: Decision, space: Space) -> None:
    """One token opens one space: insert if absent, and know the own one again."""
    values: dict[str, Scalar] = {"order_id": space.order_id, "expires_at": decision.expires_at}
    partition = digest(decision.jti)
    try:
        await ports.tables.commit(TOKENS, partition, [Insert(ROW, values)])
    except ConflictError:
        row = await ports.tables.get(TOKENS, partition, ROW)
        if row is None or row.values["order_id"] != space.order_id:
            raise _spent() from None


def _spent() -> RefusedError:
    return RefusedError(
        "the decision was used for another order",
        remedy="Ask for a new decision: POST /api/v1/route.",
        slug="decision-invalid",
        status=422,
        members={"reason": "replayed"},
    )


async def _request(
    ports: Ports, space: Space, decision: Decision, now: datetime, *, because: str | None
) -> None:
    """Create the space in status `requested`; the own one again counts as done."""
    change = Change(
        space=space,
        entry=audit.Entry(
            act="space.requested",
            actor="signup",
            obj=space.space_id,
            detail={
                "order": space.order_id,
                "cluster": space.cluster,
                "decision": decision.request_hash,
                "rules": decision.data_hash,
                **({"reason": because} if because else {}),
            },
        ),
        events=(
            Event(
                type="space.requested",
                data={"order_id": space.order_id, "cluster": space.cluster},
            ),
        ),
    )
    registry = Registry(ports.tables)
    try:
        promised = await registry.create(change, now=now)
    except ConflictError:
        _, promised = await registry.promised(space.space_id)
    await ports.bus.send(promised)


async def _insert(
    ports: Ports, table: str, partition: str, key: str, values: dict[str, Scalar]
) -> None:
    try:
        await ports.tables.commit(table, partition, [Insert(key, values)])
    except ConflictError:
        return  # written by the first run of this very request: ids come from its key


async def _row(ports: Ports, order_id: str) -> Stored | None:
    known = order_id.startswith("o-") and order_id.removeprefix("o-").isalnum()
    if not known or len(order_id) > 64 or not order_id.isascii():
        return None
    return await ports.tables.get(ORDERS, order_id, ROW)
