"""Work that stands still: who finds it, when, and what then waits for an operator."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from spaces.messages import Poke, encode
from spaces.model import OpStatus, Status
from spaces.ports import Message
from spaces.saga import dead
from spaces.saga.outline import OUTLINES
from spaces.saga.sweep import sweep
from tests.builders import a_billing_event
from tests.fakes import Script
from tests.provisioning.test_trouble import assert_nothing_left, paid, poison
from tests.provisioning.world import GRACE_S, Counter, World

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import Running


async def running(world: World, space_id: str) -> Running:
    op = (await world.space(space_id)).op
    assert op is not None
    return op


async def test_a_step_that_kills_its_process_is_with_an_operator_after_five_deliveries() -> (
    None
):
    world = World()
    space_id = await paid(world)
    poison(world, "arm", "instances")
    began = world.clock.now()
    await world.settle(hours=1)
    op = await running(world, space_id)
    assert op.step == "start"
    assert "MaxDeliveryCountExceeded" in str(op.stuck)
    found = await world.registry.operation(space_id, op.op_id)
    assert found is not None
    assert (found[0].status, found[0].ended_at) == (OpStatus.NEEDS_OPERATOR, None)
    ended_at = found[1][-1].ended_at
    assert ended_at is not None
    assert ended_at - began < timedelta(minutes=1)
    assert (await world.bus.depths(["provisioning-steps"]))[0].dead_letter == 0
    told = {m.message_id: json.loads(m.body) for m in world.bus.sent if "-ev-" in m.message_id}
    (event,) = [one for one in told.values() if one["type"] == "space.operation.needs_operator"]
    assert event["data"]["operation_id"] == op.op_id
    await assert_nothing_left(world, space_id)


async def test_a_dead_letter_of_a_step_that_is_over_changes_nothing() -> None:
    world = World()
    space_id = await paid(world)
    await world.settle()
    poke = next(m for m in world.bus.sent if m.message_id.endswith(":do-deploy:1:0"))
    before = await world.registry.require(space_id)
    await dead.bury(world.ports, a_dead(poke.body))
    assert await world.registry.require(space_id) == before
    assert await world.bare.tables.query("rejected") == []


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        "{}",
        '{"v": 2, "space_id": "s-1", "op_id": "o", "ticket": "t"}',
        '{"v": 1, "space_id": "s-unknown", "op_id": "o", "ticket": "t"}',
    ],
)
async def test_a_dead_letter_that_is_no_poke_of_a_space_is_kept_with_its_reason(
    body: str,
) -> None:
    world = World()
    await world.bus.send([Message(queue="provisioning-steps", message_id="m", body=body)])
    if "s-unknown" in body:  # a poke of an unknown space is completed; it dies by hand
        await dead.bury(world.ports, a_dead(body))
        await dead.bury(world.ports, a_dead(body))
    await world.settle()
    (row,) = await world.bare.tables.query("rejected")
    assert (row.partition, row.values["reason"], row.values["body"]) == (
        "provisioning-steps",
        "dead-letter",
        body,
    )
    assert "MaxDeliveryCountExceeded" in str(row.values["detail"])
    assert (await world.bus.depths(["provisioning-steps"]))[0].dead_letter == 0


def a_dead(body: str) -> dead.Dead:
    return dead.Dead(
        queue="provisioning-steps",
        body=body.encode(),
        message_id="m",
        sequence_number=7,
        reason="MaxDeliveryCountExceeded",
        description="",
    )


async def test_a_dead_letter_is_dealt_with_whatever_line_its_process_dies_at() -> None:
    async def died(counter: Counter) -> World:
        world = World(counter)
        space_id = await paid(world, script=Script(duration_s=600))
        at, counter.at = counter.at, 0
        await world.pump()
        world.bus._queues["provisioning-steps"].scheduled.clear()
        op = await running(world, space_id)
        body = encode(Poke(space_id=space_id, op_id=op.op_id, ticket=op.ticket))
        await world.bus.send([Message(queue="provisioning-steps", message_id="d", body=body)])
        (item,) = world.bus.receive("provisioning-steps")
        world.bus.dead_letter(item, "MaxDeliveryCountExceeded")
        counter.at, counter.seen = at, 0
        while world.bus.dead("provisioning-steps"):
            await world.pump()
        assert (await running(world, space_id)).stuck is not None
        await world.settle(hours=0.5)
        await assert_nothing_left(world, space_id)
        return world

    clean = Counter()
    await died(clean)
    assert clean.seen > 3
    for at in range(1, clean.seen + 1):
        for side in ("before", "after"):
            await died(Counter(at=at, side=side))


async def silent_until_stuck(world: World, space_id: str, *, each_s: float) -> datetime:
    """Lose every message of the step queue, sweep each minute; answers when an operator has it.

    At no tick is a step past its deadline by two minutes without one.
    """
    for _ in range(400):
        world.clock.advance(each_s)
        queue = world.bus._queues["provisioning-steps"]
        queue.waiting.clear()
        queue.scheduled.clear()
        op = await running(world, space_id)
        if op.stuck is not None:
            return world.clock.now()
        assert world.clock.now() <= op.step_deadline_at + timedelta(minutes=2), op.step
        await sweep(world.ports, grace_s=GRACE_S)
    raise AssertionError("nobody was told")


@pytest.mark.parametrize("each_s", [15.0, 60.0])
async def test_nothing_passes_its_deadline_by_two_minutes_unseen(each_s: float) -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=90_000))
    await world.pump()
    began, op = world.clock.now(), await running(world, space_id)
    stuck_at = await silent_until_stuck(world, space_id, each_s=each_s)
    budget = OUTLINES[op.kind].step(op.step).budget_s
    assert stuck_at - began < timedelta(seconds=budget + 300 + 2 * (30 + each_s) + 30)
    assert (await world.space(space_id)).status is Status.REQUESTED
    await world.settle(hours=0.2)
    await assert_nothing_left(world, space_id)


async def test_an_outage_is_no_silence_of_the_step() -> None:
    """The first sweep after it gives the step its time again; only what is silent then is stuck."""
    world = World()
    space_id = await paid(world, script=Script(duration_s=90_000))
    await world.pump()
    world.clock.advance(hours=30)
    await sweep(world.ports, grace_s=GRACE_S)
    op = await running(world, space_id)
    assert op.stuck is None
    assert op.step_deadline_at > world.clock.now() + timedelta(minutes=4)
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE


async def test_what_waits_for_an_operator_is_moved_by_no_old_message_and_no_event() -> None:
    world = World()
    space_id = await paid(world)
    poison(world, "arm", "instances")
    await world.settle(hours=1)
    world.bare.arm.faults._planned.clear()  # pyright: ignore[reportAttributeAccessIssue]
    stuck = await running(world, space_id)
    poke = next(m for m in world.bus.sent if m.message_id == f"{stuck.ticket}:0")
    again = Message(queue=poke.queue, message_id="a late copy", body=poke.body)
    event = a_billing_event(order_id=None, kind="resumed", sequence=2, event_id="e-2")
    await world.bus.send([again])
    await world.send(event, message_id="m-2")
    await world.settle()
    assert await running(world, space_id) == stuck
    assert world.arm.names() == [f"{space_id}-1"]
