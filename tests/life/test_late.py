"""A runner that lost its message goes on long after: the space is as its row says all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from provisioning.plans import PLANS
from spaces.messages import Poke
from spaces.model import OpKind, replace
from spaces.saga.runner import advance
from tests.life.world import World

if TYPE_CHECKING:
    from tests.fakes import Received


async def held(world: World, port: str, call: str, kind: OpKind, **params: str) -> Any:
    """A runner of the operation, stopped right before this call; `go` lets it go on."""
    gate, reached = asyncio.Event(), asyncio.Event()
    real = getattr(world.bare, port)

    class Gate:
        def __getattr__(self, name: str) -> Any:
            target = getattr(real, name)
            if name != call:
                return target

            async def waits(*args: Any, **kwargs: Any) -> Any:
                reached.set()
                await gate.wait()
                return await target(*args, **kwargs)

            return waits

    await world.do(kind, **params)
    ports = replace(world.bare, **{port: Gate()})
    while not reached.is_set():
        world.clock.set(world.bus.next_due() or world.clock.now())
        (item,) = world.bus.receive("provisioning-steps", most=1)
        work = asyncio.create_task(run(world, ports, item))
        settled = asyncio.create_task(reached.wait())
        await asyncio.wait({work, settled}, return_when=asyncio.FIRST_COMPLETED)
        settled.cancel()
        if work.done():
            world.bus.complete(item)

    async def go() -> None:
        gate.set()
        await work

    return go


async def run(world: World, ports: Any, item: Received) -> None:
    poke = msgspec.json.decode(item.body, type=Poke)
    await advance(ports, PLANS, poke, message_id=item.message.message_id, floor_s=0.5)


@pytest.mark.parametrize("call", ["put_stack", "set_power"])
async def test_a_late_suspension_does_not_stop_a_space_that_came_back(call: str) -> None:
    world = await World().open()
    go = await held(world, "arm", call, OpKind.SUSPEND)
    world.clock.advance(31)
    await world.settle()
    assert (await world.space()).status == "suspended"
    await world.done(OpKind.RESUME)
    assert await world.answers() == 200
    await go()
    await world.settle()
    assert (world.is_awake(), await world.answers()) == (True, 200)
    await world.nothing_is_loose()


async def test_a_late_resize_leaves_the_plan_of_the_row() -> None:
    world = await World().open()
    go = await held(world, "arm", "put_stack", OpKind.RESIZE, plan="premium")
    world.clock.advance(31)
    await world.settle()
    await world.done(OpKind.RESIZE, plan="starter")
    await go()
    await world.settle()
    told = world.arm.request(world.stack).parameters["plan"]
    assert (told, (await world.space()).tier) == ("starter", "starter")
    await world.nothing_is_loose()
