"""From a wish to an operation: in one transaction, after an end, when a moment comes, after a crash."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from spaces.desire import overridden
from spaces.errors import ConflictError
from spaces.model import OpKind, OpStatus, Override, Phase, Status, Wish
from spaces.saga import dues, plan_next, runner
from spaces.saga.begin import Cause
from spaces.saga.plan_next import Planned, bring
from spaces.saga.sweep import sweep
from tests.builders import a_billing_event
from tests.fakes import Script
from tests.provisioning.test_stuck import running
from tests.provisioning.test_trouble import assert_nothing_left, paid
from tests.provisioning.world import GRACE_S, Counter, Stopped, World

if TYPE_CHECKING:
    from datetime import datetime


def a_cause(key: str) -> Cause:
    return Cause(actor="key:ops", source="api", cause_id=key, reason="as asked")


async def active(world: World) -> str:
    """A space in service, with the counter at its start."""
    at, world.counter.at = world.counter.at, 0
    space_id = await paid(world)
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE
    world.counter.at, world.counter.seen = at, 0
    return space_id


async def wish(
    world: World, space_id: str, wished: Wish, *, until: datetime | None = None, key: str = "w"
) -> Any:
    """An operator's override, through `bring`."""
    loaded = await world.registry.require(space_id)
    now = world.clock.now()
    override = Override(wish=wished, reason="as asked", actor="key:ops", at=now, until=until)
    after = overridden(loaded.space, override, now)
    return await bring(world.ports, loaded, after, a_cause(key), act="operator.wished")


async def kinds(world: World, space_id: str) -> list[str]:
    return [row.kind for row in await world.registry.operations(space_id)]


async def test_a_wish_and_what_it_calls_for_are_one_transaction() -> None:
    world = World()
    space_id = await active(world)
    before = len(await world.registry.audit_entries(space_id))
    op = await wish(world, space_id, Wish.SUSPENDED)
    assert op.kind is OpKind.SUSPEND
    space = await world.space(space_id)
    assert (space.desired, space.op is not None) == ("suspended", True)
    assert len(await world.registry.audit_entries(space_id)) == before + 1
    await world.settle()
    assert (await world.space(space_id)).status is Status.SUSPENDED
    await assert_nothing_left(world, space_id)


async def test_an_override_that_ends_gives_the_space_back_to_billing_by_itself() -> None:
    world = World()
    space_id = await active(world)
    ends = world.clock.now() + timedelta(hours=3)
    await wish(world, space_id, Wish.SUSPENDED, until=ends)
    await world.settle()
    assert (await world.space(space_id)).status is Status.SUSPENDED
    (due,) = await world.bare.tables.query(dues.DUES)
    assert due.values["due_at"] == ends
    world.clock.advance(2 * 3600)
    await sweep(world.ports, grace_s=GRACE_S)
    assert await kinds(world, space_id) == ["provision", "suspend"]
    world.clock.advance(2 * 3600)
    await sweep(world.ports, grace_s=GRACE_S)
    await world.settle()
    space = await world.space(space_id)
    assert (space.status, space.desired) == (Status.ACTIVE, "active")
    await sweep(world.ports, grace_s=GRACE_S)
    assert await world.bare.tables.query(dues.DUES) == []
    await assert_nothing_left(world, space_id)


async def test_a_wish_under_a_running_operation_is_followed_when_it_ends() -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=30))
    await world.pump()
    assert await wish(world, space_id, Wish.SUSPENDED) is None
    await world.settle()
    assert await kinds(world, space_id) == ["provision", "suspend"]
    assert (await world.space(space_id)).status is Status.SUSPENDED


async def test_a_cancellation_before_it_is_active_stops_the_opening() -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=30, delete_s=3))
    await world.pump()
    assert await wish(world, space_id, Wish.CANCELLED) is None
    op = await running(world, space_id)
    assert (op.phase, op.step) == (Phase.DO, "deploy"), "the running step ends first"
    assert op.stop is not None
    while (await world.space(space_id)).status is Status.REQUESTED:
        world.clock.advance(5)
        await world.pump()
    row = (await world.registry.operations(space_id))[0]
    assert row.status is OpStatus.CANCELED
    assert world.arm.names() == []
    assert await world.bare.tables.query("hosts") == []
    # what had no data goes on: cancelled, then erased (its queue is the other room's)
    assert (await kinds(world, space_id))[1:] == ["cancel"]


async def test_the_same_wish_counts_once() -> None:
    world = World()
    space_id = await active(world)
    await wish(world, space_id, Wish.SUSPENDED)
    await world.settle()
    with pytest.raises(ConflictError):
        await wish(world, space_id, Wish.ACTIVE)  # another wish under the same key


@pytest.mark.parametrize("moment", ["now", "later", "under an operation"])
async def test_a_wish_is_whole_whatever_line_its_process_dies_at(moment: str) -> None:
    """Its caller never asks again: what is written is followed, and what is not has no trace."""

    async def once(counter: Counter) -> int:
        world = World(counter)
        at, counter.at = counter.at, 0
        if moment == "under an operation":
            space_id = await paid(world, script=Script(duration_s=30))
            await world.pump()
        else:
            space_id = await active(world)
        counter.at, counter.seen = at, 0
        wished = Wish.ACTIVE if moment == "later" else Wish.SUSPENDED
        until = world.clock.now() + timedelta(hours=1) if moment == "later" else None
        with contextlib.suppress(Stopped):
            await wish(world, space_id, wished, until=until)
        calls = counter.seen
        written = (await world.space(space_id)).override is not None
        await world.settle(hours=2)
        suspended = written and wished is Wish.SUSPENDED
        end = Status.SUSPENDED if suspended else Status.ACTIVE
        assert (await world.space(space_id)).status is end
        if moment == "later" and written:
            assert await world.bare.tables.query(dues.DUES) != []
        await assert_nothing_left(world, space_id)
        return calls

    calls = await once(Counter())
    assert calls >= 2
    for at in range(1, calls + 1):
        for side in ("before", "after"):
            await once(Counter(at=at, side=side))


async def test_a_moment_is_met_whatever_line_its_process_dies_at() -> None:
    async def once(counter: Counter) -> int:
        world = World(counter)
        at, counter.at = counter.at, 0
        space_id = await active(world)
        ends = world.clock.now() + timedelta(minutes=30)
        await wish(world, space_id, Wish.ACTIVE, until=ends)
        suspended = a_billing_event(
            order_id=None, sequence=2, event_id="e-2", kind="suspended", status="suspended"
        )
        await world.send(suspended, message_id="m-2")
        await world.pump()
        assert (await world.space(space_id)).status is Status.ACTIVE
        world.clock.advance(hours=1)
        counter.at, counter.seen = at, 0
        with contextlib.suppress(Stopped):
            await sweep(world.ports, grace_s=GRACE_S)
        calls = counter.seen
        await sweep(world.ports, grace_s=GRACE_S)
        await world.settle(hours=1)
        assert (await world.space(space_id)).status is Status.SUSPENDED
        assert await kinds(world, space_id) == ["provision", "suspend"]
        await assert_nothing_left(world, space_id)
        return calls

    calls = await once(Counter())
    assert calls >= 8
    for at in range(1, calls + 1):
        for side in ("before", "after"):
            await once(Counter(at=at, side=side))


async def test_a_moment_that_comes_under_a_running_operation_is_not_lost() -> None:
    world = World()
    space_id = await active(world)
    ends = world.clock.now() + timedelta(seconds=40)
    await wish(world, space_id, Wish.SUSPENDED, until=ends)
    world.clock.advance(60)
    await sweep(world.ports, grace_s=GRACE_S)  # the moment has come, and the suspend still runs
    await world.settle()
    assert await kinds(world, space_id) == ["provision", "suspend", "resume"]
    assert (await world.space(space_id)).status is Status.ACTIVE


async def test_asking_where_nothing_is_needed_writes_nothing() -> None:
    world = World()
    space_id = await active(world)
    before = await world.registry.require(space_id)
    seen = world.counter.seen
    assert await plan_next.plan_next(world.ports, space_id) is Planned.NOTHING
    assert world.counter.seen - seen == 1, "one read"
    assert await world.registry.require(space_id) == before
    assert await plan_next.plan_next(world.ports, "s-unknown") is Planned.NOTHING


async def test_a_due_row_moves_forward_and_never_back_past_an_earlier_one() -> None:
    world = World()
    space_id = await active(world)
    now = world.clock.now()
    first, second = now + timedelta(hours=5), now + timedelta(hours=2)
    for number, until in enumerate((first, second, first)):
        await wish(world, space_id, Wish.ACTIVE, until=until, key=f"w{number}")
    (row,) = await world.bare.tables.query(dues.DUES)
    assert row.values["due_at"] == second, "too early costs a look, too late a wish"
    world.clock.advance(hours=3)
    await sweep(world.ports, grace_s=GRACE_S)
    (row,) = await world.bare.tables.query(dues.DUES)
    assert row.values["due_at"] == first


# --- controls: what each guard is there for


async def test_control_without_the_question_after_an_end_a_wish_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(*args: object) -> None:
        del args

    monkeypatch.setattr(runner, "needed", nothing)
    world = World()
    space_id = await paid(world, script=Script(duration_s=30))
    await world.pump()
    await wish(world, space_id, Wish.SUSPENDED)
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE


async def test_control_without_a_due_row_a_moment_passes_unseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nowhere(tables: object, space: Any, now: object) -> Any:
        del tables, now
        return space

    monkeypatch.setattr(dues, "ahead", nowhere)
    world = World()
    space_id = await active(world)
    await wish(world, space_id, Wish.SUSPENDED, until=world.clock.now() + timedelta(hours=1))
    await world.settle()
    world.clock.advance(hours=30)
    await sweep(world.ports, grace_s=GRACE_S)
    await world.settle()
    assert (await world.space(space_id)).status is Status.SUSPENDED
