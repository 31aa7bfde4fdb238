"""Orders: one decision opens one space, and a name belongs to one of them."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from provisioning import orders
from spaces.errors import InvalidError, NotFoundError, RefusedError
from spaces.http import decode_body
from tests.builders import a_billing_event
from tests.provisioning.world import Counter, Stopped, World


async def place(world: World, request: orders.OrderRequest, key: str) -> orders.OrderView:
    return await orders.place(
        world.bare, world.settings, request, caller="key:default", key=key
    )


async def test_an_order_waits_for_payment_where_the_router_put_it() -> None:
    order = await World().order()
    assert (order.status, order.cluster) == ("awaiting_payment", "france")
    assert order.url == "http://acme.france.localhost:8080"


@pytest.mark.parametrize(
    "name", ["", "A", "a", "Acme", "1acme", "acme_x", "acme.x", "a" * 31, "acmé", "acme\n"]
)
async def test_a_malformed_name_is_refused_and_reserves_nothing(name: str) -> None:
    world = World()
    with pytest.raises(InvalidError) as refused:
        await place(world, world.order_request(name=name), "k")
    assert refused.value.errors[0].pointer == "/name"
    assert await world.bare.tables.query("hosts") == []


def test_a_customer_reference_longer_than_a_row_holds_is_refused_before_anything_is_kept() -> (
    None
):
    request = msgspec.to_builtins(World().order_request())
    raw = msgspec.json.encode(request | {"customer_ref": "c" * 40_000})
    with pytest.raises(InvalidError) as refused:
        decode_body(orders.OrderRequest, raw, "application/json")
    assert refused.value.errors[0].pointer == "/customer_ref"


async def test_a_taken_name_is_refused_and_its_token_stays_good() -> None:
    world = World()
    await world.order()
    second = world.order_request(jti="second")
    with pytest.raises(RefusedError) as refused:
        await place(world, second, "k-2")
    assert refused.value.problem_slug == "name-taken"
    other = msgspec.structs.replace(second, name="other")
    assert (await place(world, other, "k-3")).name == "other"


async def test_a_spent_token_opens_nothing() -> None:
    world = World()
    request = world.order_request()
    await place(world, request, "k-1")
    with pytest.raises(RefusedError) as refused:
        await place(world, msgspec.structs.replace(request, name="second"), "k-2")
    assert refused.value.problem_slug == "decision-invalid"
    assert refused.value.members["reason"] == "replayed"
    assert len(await world.bare.tables.query("hosts")) == 1


async def test_a_forged_expired_or_foreign_token_opens_nothing() -> None:
    world = World()
    request = world.order_request()
    header, payload, signature = request.token.split(".")
    forged = f"{header}.{payload}.{signature[:-4]}AAAA"
    bad = [
        msgspec.structs.replace(request, token=forged),
        msgspec.structs.replace(request, token="x"),
        msgspec.structs.replace(request, token=""),
        msgspec.structs.replace(request, route={"country": "FR"}),
        msgspec.structs.replace(request, route={"country": "DE", "sector": "health"}),
    ]
    for wrong in bad:
        with pytest.raises(RefusedError) as refused:
            await place(world, wrong, "k")
        assert refused.value.problem_slug == "decision-invalid"
    world.clock.advance(17 * 60)
    with pytest.raises(RefusedError):
        await place(world, request, "k")
    assert await world.bare.tables.query("hosts") == []
    assert await world.bare.tables.query("spaces") == []


async def test_the_same_request_again_is_the_same_order() -> None:
    world = World()
    request = world.order_request()
    first = await place(world, request, "k-1")
    assert await place(world, request, "k-1") == first
    assert len(await world.bare.tables.query("directory")) == 1


async def test_an_order_may_die_at_any_port_call_and_be_sent_again() -> None:
    async def ordered(counter: Counter) -> int:
        world = World(counter)
        request = world.order_request()
        for _ in range(2):
            try:
                view = await orders.place(
                    world.ports, world.settings, request, caller="key:default", key="k-1"
                )
            except Stopped:
                continue
            break
        assert view.status == "awaiting_payment"
        await world.send(a_billing_event(order_id=view.order_id))
        await world.settle()
        assert len(await world.bare.tables.query("directory")) == 1
        assert len(await world.bare.tables.query("hosts")) == 1
        assert orders.status_of(await world.space(view.space_id)) == "active"
        return counter.seen

    world = World()
    await orders.place(
        world.ports, world.settings, world.order_request(), caller="key:default", key="k-1"
    )
    for at in range(1, world.counter.seen + 1):
        for side in ("before", "after"):
            await ordered(Counter(at=at, side=side))


async def test_an_unpaid_name_lapses_after_two_days() -> None:
    world = World()
    await world.order()
    world.clock.advance(timedelta(hours=47).total_seconds())
    with pytest.raises(RefusedError):
        await world.order(key="k-2")
    world.clock.advance(timedelta(hours=2).total_seconds())
    second = await world.order(key="k-3")
    assert second.name == "acme"


async def test_a_lapsed_order_that_is_paid_later_fails_with_the_reason() -> None:
    world = World()
    first = await world.order()
    world.clock.advance(timedelta(hours=49).total_seconds())
    await world.order(key="k-2")
    await world.send(a_billing_event(order_id=first.order_id))
    await world.settle()
    space = await world.space(first.space_id)
    assert orders.status_of(space) == "failed"
    assert "lapsed" in str(space.failure)
    assert len(await world.bare.tables.query("hosts")) == 1


@pytest.mark.parametrize("order_id", ["o-nothing", "x", "", "o-" + "a" * 100, "o-/\\#?"])
async def test_an_unknown_order_is_not_found(order_id: str) -> None:
    world = World()
    with pytest.raises(NotFoundError):
        await orders.view(world.bare, world.settings, order_id)
