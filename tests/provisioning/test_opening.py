"""From a paid event to an active space, over the real handlers and the fakes of every port."""

from __future__ import annotations

import json

import pytest

from spaces import audit
from spaces.model import OpStatus, Status
from tests.builders import a_billing_event
from tests.fakes import Script
from tests.provisioning.world import Counter, World


async def opened(world: World, *, copies: int = 1) -> str:
    order = await world.order()
    for copy in range(copies):
        event = a_billing_event(order_id=order.order_id)
        await world.send(event, message_id=f"m-{copy}")
    await world.settle()
    return order.space_id


async def assert_open_once(world: World, space_id: str) -> None:
    """The space is active, once, and nothing is left over or half said."""
    space = await world.space(space_id)
    assert space.status is Status.ACTIVE
    assert space.op is None
    assert world.arm.names() == [f"{space_id}-1"]
    operations = await world.registry.operations(space_id)
    assert [(one.kind, one.status) for one in operations] == [("provision", OpStatus.SUCCEEDED)]
    assert await world.bare.tables.query("activeops") == []
    entries = await world.registry.audit_entries(space_id)
    head = (await world.registry.require(space_id)).head
    assert audit.first_break(entries, head) is None
    events = [json.loads(item.body) for item in world.bus.receive("space-events", most=100)]
    assert [one["data"]["sequence"] for one in events] == list(range(1, len(events) + 1))
    assert [one["type"] for one in events].count("space.activated") == 1
    # So billing learns which subscription has what it pays for; the first event knows none yet.
    assert {one["data"]["order_id"] for one in events} == {space.order_id}
    assert [one["data"]["subscription"] for one in events[1:]] == ["sub-1"] * (len(events) - 1)


async def test_a_paid_event_opens_the_space() -> None:
    world = World()
    space_id = await opened(world)
    await assert_open_once(world, space_id)


async def test_a_space_is_as_large_as_its_plan_says() -> None:
    world = World()
    order = await world.order(plan="premium")
    await world.send(a_billing_event(order_id=order.order_id, plan="premium"))
    await world.settle()
    assert (await world.space(order.space_id)).zones == ("1", "2", "3")
    assert world.arm.request(f"{order.space_id}-1").parameters["plan"] == "premium"


async def test_the_same_event_three_times_opens_one_space() -> None:
    world = World()
    space_id = await opened(world, copies=3)
    await assert_open_once(world, space_id)
    assert await world.bare.tables.query("rejected") == []


async def test_a_stack_that_takes_long_is_waited_for_without_writes() -> None:
    world = World()
    order = await world.order()
    world.arm.scripts[f"{order.space_id}-1"] = Script(duration_s=600)
    await world.send(a_billing_event(order_id=order.order_id))
    await world.pump()
    before = (await world.registry.require(order.space_id)).etag
    for _ in range(30):
        world.clock.advance(1)
        await world.pump()
    assert (await world.registry.require(order.space_id)).etag == before
    await world.settle()
    await assert_open_once(world, order.space_id)


async def test_a_stack_that_fails_for_good_is_undone() -> None:
    world = World()
    order = await world.order()
    world.arm.scripts[f"{order.space_id}-1"] = Script(
        failure=("InvalidTemplate", "the template is wrong"), delete_s=20
    )
    await world.send(a_billing_event(order_id=order.order_id))
    await world.settle()
    space = await world.space(order.space_id)
    assert space.status is Status.FAILED
    assert "InvalidTemplate" in str(space.failure)
    assert world.arm.names() == []
    assert await world.bare.tables.query("hosts") == []
    assert (await world.registry.find("acme")).space == space  # asked for by its old name
    again = await world.order(key="k-2")
    assert again.name == "acme"
    assert (await world.registry.find("acme")).space.space_id == again.space_id


async def test_a_busy_server_is_tried_again() -> None:
    world = World()
    order = await world.order()
    stack = f"{order.space_id}-1"
    world.arm.scripts[stack] = Script(failure=("ServerIsBusy", "not now"), duration_s=5)
    await world.send(a_billing_event(order_id=order.order_id))
    await world.pump()
    world.clock.advance(6)
    world.arm.scripts.pop(stack)
    await world.settle()
    await assert_open_once(world, order.space_id)
    assert world.arm.puts(stack) == 2


async def calls_of_a_clean_run() -> int:
    world = World()
    space_id = await opened(world)
    await assert_open_once(world, space_id)
    return world.counter.seen


async def test_a_process_may_die_at_any_port_call() -> None:
    """Every call of the clean run, before and after its effect: the space opens, once."""
    calls = await calls_of_a_clean_run()
    assert calls > 40
    for at in range(1, calls + 1):
        for side in ("before", "after"):
            world = World(Counter(at=at, side=side))
            space_id = await opened(world)
            assert world.counter.stopped, (at, side)
            await assert_open_once(world, space_id)


async def test_the_undo_may_die_at_any_port_call() -> None:
    async def failed(counter: Counter) -> World:
        world = World(counter)
        order = await world.order()
        world.arm.scripts[f"{order.space_id}-1"] = Script(
            failure=("InvalidTemplate", "wrong"), delete_s=3, duration_s=3
        )
        await world.send(a_billing_event(order_id=order.order_id))
        await world.settle()
        space = await world.space(order.space_id)
        assert space.status is Status.FAILED
        assert space.op is None
        assert world.arm.names() == []
        assert await world.bare.tables.query("hosts") == []
        assert await world.bare.tables.query("activeops") == []
        return world

    calls = (await failed(Counter())).counter.seen
    for at in range(1, calls + 1):
        for side in ("before", "after"):
            await failed(Counter(at=at, side=side))


async def test_table_transactions_of_a_cold_opening_stay_within_forty() -> None:
    """Reads and writes after the order, with a stack that takes four looks."""
    world = World()
    order = await world.order()
    world.arm.scripts[f"{order.space_id}-1"] = Script(duration_s=2, retry_after_s=0.5)
    tables = world.bare.tables
    before = len(tables.faults.calls)  # pyright: ignore[reportAttributeAccessIssue]
    await world.send(a_billing_event(order_id=order.order_id))
    await world.pump()
    while world.bus.next_due() is not None:
        world.clock.advance(0.5)
        await world.pump()
    spent = len(tables.faults.calls) - before  # pyright: ignore[reportAttributeAccessIssue]
    assert (await world.space(order.space_id)).status is Status.ACTIVE
    assert 20 < spent <= 40


@pytest.mark.parametrize("lost", ["provisioning-steps"])
async def test_a_lost_message_is_said_again_under_a_fresh_id(lost: str) -> None:
    world = World()
    order = await world.order()
    await world.send(a_billing_event(order_id=order.order_id))
    item = world.bus.receive("billing-events")[0]
    await world._on_billing(item)
    world.bus.complete(item)
    world.bus.lose(lost)
    await world.settle()
    await assert_open_once(world, order.space_id)
