"""Pauses of a space, a cluster and the fleet: nothing starts, what runs holds, no deadline runs."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from spaces import audit, pauses
from spaces.errors import NotFoundError, RefusedError
from spaces.model import Mark, Status
from spaces.saga import halts
from spaces.saga.sweep import sweep
from tests.builders import a_billing_event, a_running, a_space
from tests.fakes import Script
from tests.provisioning.test_stuck import running
from tests.provisioning.test_trouble import assert_nothing_left, paid
from tests.provisioning.world import GRACE_S, Counter, Stopped, World

if TYPE_CHECKING:
    from spaces.model import Space

CLUSTER, OTHER = "france", "canada"


def a_mark(world: World, reason: str = "maintenance") -> Mark:
    return Mark(reason=reason, actor="key:ops", at=world.clock.now())


async def pause(world: World, scope: str | None, *, key: str = "p", ports: Any = None) -> None:
    given = ports or world.ports
    await pauses.put(given, pauses.scope_of(scope), a_mark(world), cause_id=key)
    await halts.tell_all(given)


async def unpause(
    world: World, scope: str | None, *, key: str = "u", ports: Any = None
) -> None:
    given = ports or world.ports
    await pauses.lift(given, pauses.scope_of(scope), a_mark(world, "over"), cause_id=key)
    await halts.tell_all(given)


async def deploying(world: World) -> str:
    """A paid space whose stack is being made; half of the minute that it takes is over."""
    space_id = await paid(world, script=Script(duration_s=60))
    await world.pump()
    world.clock.advance(30)
    await world.pump()
    assert (await running(world, space_id)).step == "deploy"
    return space_id


async def assert_stands_still(world: World, space_id: str, *, hours: float) -> None:
    before = await world.space(space_id)
    audited = len(await world.registry.audit_entries(space_id))
    for _ in range(int(hours * 60)):
        world.clock.advance(60)
        await world.pump()
        await sweep(world.ports, grace_s=GRACE_S)
    assert await world.space(space_id) == before
    assert len(await world.registry.audit_entries(space_id)) == audited


@pytest.mark.parametrize("scope", ["space", CLUSTER, None])
async def test_a_pause_holds_what_runs_and_its_end_lets_it_go_on(scope: str | None) -> None:
    world = World()
    space_id = await deploying(world)
    left = (await running(world, space_id)).step_deadline_at - world.clock.now()
    if scope == "space":
        await halts.pause_space(world.ports, "acme", a_mark(world), cause_id="p")
    else:
        await pause(world, scope)
    await assert_stands_still(world, space_id, hours=5)
    if scope == "space":
        await halts.unpause_space(world.ports, space_id, a_mark(world), cause_id="u")
    else:
        await unpause(world, scope)
    op = await running(world, space_id)
    assert op.step_deadline_at - world.clock.now() == left, "its deadline did not run"
    await world.settle()
    space = await world.space(space_id)
    assert (space.status, space.paused, space.held) == (Status.ACTIVE, None, None)
    assert world.arm.puts(f"{space_id}-1") == 1
    assert not [t for t in await world.registry.audit_entries(space_id) if "extended" in t]
    await assert_nothing_left(world, space_id)


async def test_a_pause_of_another_cluster_holds_nothing_here() -> None:
    world = World()
    space_id = await deploying(world)
    await pause(world, OTHER)
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE


async def test_of_two_pauses_the_last_one_lifted_lets_go() -> None:
    world = World()
    space_id = await deploying(world)
    await pause(world, CLUSTER, key="1")
    await pause(world, None, key="2")
    await halts.pause_space(world.ports, space_id, a_mark(world), cause_id="3")
    for number, end in enumerate((CLUSTER, None)):
        await unpause(world, end, key=f"u{number}")
        await assert_stands_still(world, space_id, hours=0.1)
    await halts.unpause_space(world.ports, space_id, a_mark(world), cause_id="4")
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE
    await assert_nothing_left(world, space_id)


@pytest.mark.parametrize("scope", ["space", CLUSTER, None])
async def test_what_is_wished_under_a_pause_starts_when_it_ends(scope: str | None) -> None:
    world = World()
    order = await world.order()
    if scope == "space":
        await halts.pause_space(world.ports, "acme", a_mark(world), cause_id="p")
    else:
        await pause(world, scope)
    await world.send(a_billing_event(order_id=order.order_id))
    await world.pump()
    for _ in range(30):
        world.clock.advance(60)
        await sweep(world.ports, grace_s=GRACE_S)
    space = await world.space(order.space_id)
    assert (space.status, space.op_seq, space.desired) == (Status.REQUESTED, 0, "active")
    if scope == "space":
        await halts.unpause_space(world.ports, "acme", a_mark(world), cause_id="u")
    else:
        await unpause(world, scope)
    await world.settle()
    assert (await world.space(order.space_id)).status is Status.ACTIVE
    await assert_nothing_left(world, order.space_id)


async def test_a_pause_that_comes_between_watch_and_commit_is_not_missed() -> None:
    """The start has read that nothing is paused; the pause then finds its watch."""
    world = World()
    order = await world.order()
    await world.send(a_billing_event(order_id=order.order_id))
    commit = world.bare.tables.commit
    spoken: list[bool] = []

    async def late(table: str, partition: str, writes: Any) -> None:
        starts = table == "spaces" and any(w.key.startswith("op!") for w in writes)
        if starts and not spoken:
            spoken.append(True)
            await pause(world, None, ports=world.bare)
        await commit(table, partition, writes)

    world.bare.tables.commit = late  # pyright: ignore[reportAttributeAccessIssue]
    await world.pump()
    space = await world.space(order.space_id)
    assert spoken
    assert (space.op, space.held is not None, space.desired) == (None, True, "active")
    await unpause(world, None)
    await world.settle()
    assert (await world.space(order.space_id)).status is Status.ACTIVE


async def test_what_a_dying_process_did_not_tell_the_sweeper_tells() -> None:
    world = World()
    space_id = await deploying(world)
    await pauses.put(world.ports, pauses.FLEET, a_mark(world), cause_id="p")  # and died
    await sweep(world.ports, grace_s=GRACE_S)
    assert (await running(world, space_id)).halted_at is not None
    await assert_stands_still(world, space_id, hours=1)
    await pauses.lift(world.ports, pauses.FLEET, a_mark(world), cause_id="u")  # and died
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE
    await assert_nothing_left(world, space_id)


async def say(which: str, world: World, space_id: str) -> None:
    mark = Mark(reason="maintenance", actor="key:ops", at=world.clock.now())
    match which:
        case "pause":
            await pause(world, CLUSTER, key="x")
        case "unpause":
            await unpause(world, CLUSTER, key="x")
        case "pause_space":
            await halts.pause_space(world.ports, space_id, mark, cause_id="x")
        case _:
            await halts.unpause_space(world.ports, space_id, mark, cause_id="x")


@pytest.mark.parametrize("which", ["pause", "unpause", "pause_space", "unpause_space"])
async def test_a_pause_is_whole_whatever_line_its_process_dies_at(which: str) -> None:
    async def once(counter: Counter) -> int:
        world = World(counter)
        at, counter.at = counter.at, 0
        space_id = await deploying(world)
        if which == "unpause":
            await pause(world, CLUSTER)
        elif which == "unpause_space":
            await halts.pause_space(world.ports, space_id, a_mark(world), cause_id="p")
        counter.at, counter.seen = at, 0
        try:
            await say(which, world, space_id)
        except Stopped:
            await say(which, world, space_id)
        calls = counter.seen
        await sweep(world.ports, grace_s=GRACE_S)
        held = which in {"pause", "pause_space"}
        if held:
            assert (await running(world, space_id)).halted_at is not None
            await assert_stands_still(world, space_id, hours=0.2)
            if which == "pause":
                await unpause(world, CLUSTER)
            else:
                await halts.unpause_space(world.ports, space_id, a_mark(world), cause_id="u")
        await world.settle()
        assert (await world.space(space_id)).status is Status.ACTIVE
        await assert_nothing_left(world, space_id)
        return calls

    calls = await once(Counter())
    assert calls >= 4
    for at in range(1, calls + 1):
        for side in ("before", "after"):
            await once(Counter(at=at, side=side))


async def test_a_pause_stands_once_and_what_is_not_paused_cannot_go_on() -> None:
    world = World()
    space_id = await deploying(world)
    await pause(world, None, key="1")
    await pause(world, None, key="1")
    with pytest.raises(RefusedError, match="paused already: maintenance"):
        await pause(world, None, key="2")
    with pytest.raises(RefusedError, match="cluster france is not paused"):
        await unpause(world, CLUSTER, key="3")
    await halts.pause_space(world.ports, space_id, a_mark(world), cause_id="4")
    with pytest.raises(RefusedError, match="paused already"):
        await halts.pause_space(world.ports, space_id, a_mark(world), cause_id="5")
    await halts.unpause_space(world.ports, space_id, a_mark(world), cause_id="6")
    with pytest.raises(RefusedError, match="not paused"):
        await halts.unpause_space(world.ports, space_id, a_mark(world), cause_id="7")
    with pytest.raises(NotFoundError):
        pauses.scope_of("atlantis")


async def test_each_pause_stands_in_a_chain_of_its_own_and_in_that_of_what_it_held() -> None:
    world = World()
    space_id = await deploying(world)
    await pause(world, CLUSTER)
    await unpause(world, CLUSTER)
    tables = world.bare.tables
    rows = await tables.query(pauses.PAUSES, partition=pauses.PARTITION)
    texts = [str(row.values["entry"]) for row in rows if row.key.startswith("aud!")]
    head = next(row for row in rows if row.key == pauses.HEAD)
    end = audit.Head(seq=int(str(head.values["seq"])), hash=str(head.values["hash"]))
    assert audit.first_break(texts, end) is None
    assert [json.loads(text)["act"] for text in texts] == [
        "cluster!france.paused",
        "cluster!france.unpaused",
    ]
    acts = [json.loads(text) for text in await world.registry.audit_entries(space_id)]
    told = [
        (one["act"], one["actor"], one["d"]["reason"]) for one in acts if "reason" in one["d"]
    ]
    assert ("space.held", "key:ops", "maintenance") in told
    assert any(act == "space.let_go" for act, _, _ in told)


def test_a_step_that_began_under_the_pause_gets_back_only_what_it_stood() -> None:
    world = World()
    now = world.clock.now()
    mark = a_mark(world)
    space: Space = a_space(op=a_running(step_deadline_at=now + timedelta(seconds=60)))
    halted = halts.marked(space, paused=mark, held=None, now=now)
    assert halted.op is not None
    later = replace(
        halted,
        op=replace(
            halted.op,
            step_started_at=now + timedelta(seconds=10),
            step_deadline_at=now + timedelta(seconds=70),
        ),
    )
    free = halts.marked(later, paused=None, held=None, now=now + timedelta(seconds=100))
    assert free.op is not None
    assert free.op.step_deadline_at == now + timedelta(seconds=70 + 90)
    assert free.op.ticket != halted.op.ticket
