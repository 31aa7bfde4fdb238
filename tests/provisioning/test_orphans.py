"""Stacks that stand for nobody: which they are, when they go, and what is never touched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from provisioning import orphans
from provisioning.orphans import Verdict, verdict
from spaces import strays
from spaces.errors import DeniedError, TransientError
from spaces.model import Status
from spaces.operator import Action
from tests.builders import SPACE_ID, a_running, a_space, a_stack_request
from tests.fakes import START, Script
from tests.provisioning.test_operator import act, stuck_on_its_way_back
from tests.provisioning.test_trouble import paid
from tests.provisioning.world import Counter, Stopped, World

if TYPE_CHECKING:
    from spaces.model import Space

OWN, EARLIER = f"{SPACE_ID}-2", f"{SPACE_ID}-1"


def one(status: Status, **over: object) -> Space:
    opened = None if status in {Status.REQUESTED, Status.FAILED} else START
    given = {"status": status, "incarnation": 2, "activated_at": opened, **over}
    return a_space(**given)


@pytest.mark.parametrize(
    ("space", "own", "earlier"),
    [
        (one(Status.ACTIVE), Verdict.OURS, Verdict.ORPHAN),
        (one(Status.SUSPENDED), Verdict.OURS, Verdict.ORPHAN),
        (one(Status.CANCELLED), Verdict.OURS, Verdict.ORPHAN),
        (one(Status.CANCELLED, activated_at=None), Verdict.ORPHAN, Verdict.ORPHAN),
        (one(Status.FAILED), Verdict.ORPHAN, Verdict.ORPHAN),
        (one(Status.DELETED), Verdict.ORPHAN, Verdict.ORPHAN),
        (one(Status.ERASED), Verdict.ORPHAN, Verdict.ORPHAN),
        (one(Status.REQUESTED), Verdict.OURS, Verdict.OURS),
        (one(Status.FAILED, op=a_running()), Verdict.OURS, Verdict.OURS),
        (one(Status.ACTIVE, op=a_running(stuck="broken")), Verdict.OURS, Verdict.OURS),
        (None, Verdict.UNKNOWN, Verdict.UNKNOWN),
    ],
)
def test_whose_a_stack_is(space: Space | None, own: Verdict, earlier: Verdict) -> None:
    assert (verdict(OWN, space), verdict(EARLIER, space)) == (own, earlier)


@pytest.mark.parametrize("name", ["", "s-1", "web-1", f"{SPACE_ID}-0", f"{SPACE_ID}-1x"])
def test_a_name_that_is_not_ours_is_nobodys(name: str) -> None:
    assert verdict(name, one(Status.ERASED)) is Verdict.UNKNOWN


def test_every_status_is_judged() -> None:
    for status in Status:
        known = status in orphans.STANDING | orphans.NOTHING
        assert known or verdict(OWN, one(status)) is Verdict.OURS


async def failed_with_a_stack(world: World) -> str:
    """A failed space beside which somebody made its stack again, long after."""
    at, world.counter.at = world.counter.at, 0
    space_id = await paid(world, script=Script(failure=("InvalidTemplate", "no"), duration_s=5))
    await world.pump()
    request = world.arm.request(f"{space_id}-1")
    await world.settle()
    assert (await world.space(space_id)).status is Status.FAILED
    world.arm.scripts.clear()
    await world.bare.arm.put_stack(request)
    world.counter.at, world.counter.seen = at, 0
    return space_id


async def test_an_orphan_is_written_down_then_deleted_then_forgotten() -> None:
    world = World()
    space_id = await failed_with_a_stack(world)
    name = f"{space_id}-1"
    assert await orphans.compare(world.ports) == orphans.Counted(stacks=1, strays=1)
    (stray,) = await strays.all_of(world.bare.tables)
    assert (stray.stack, stray.space_id, stray.code) == (name, space_id, "NoLivingSpace")
    world.clock.advance(14 * 60)
    assert (await orphans.compare(world.ports)).deleting == 0
    assert world.arm.names() == [name]
    world.clock.advance(2 * 60)
    assert (await orphans.compare(world.ports)).deleting == 1
    world.clock.advance(60)
    assert await orphans.compare(world.ports) == orphans.Counted()
    assert (world.arm.names(), await strays.all_of(world.bare.tables)) == ([], [])


async def test_what_an_abort_left_is_removed_as_an_orphan() -> None:
    world = World()
    space_id = await stuck_on_its_way_back(world)
    world.clock.advance(3600)
    assert await orphans.compare(world.ports) == orphans.Counted(stacks=1)
    assert world.arm.names() == [f"{space_id}-1"], "an operator has it in hand"
    await act(world, space_id, Action.ABORT)
    for _ in range(4):
        await orphans.compare(world.ports)
        world.clock.advance(16 * 60)
    assert world.arm.names() == []
    assert await strays.all_of(world.bare.tables) == []


async def test_a_living_space_and_one_that_is_being_opened_are_never_touched() -> None:
    world = World()
    first = await paid(world)
    await world.settle()
    second = await world.order(name="beta", key="k-2")
    for _ in range(4):
        await orphans.compare(world.ports)
        world.clock.advance(20 * 60)
    assert world.arm.names() == [f"{first}-1"]
    assert (await world.space(second.space_id)).status is Status.REQUESTED
    assert await strays.all_of(world.bare.tables) == []


async def test_a_stack_of_no_known_space_is_counted_and_left_alone() -> None:
    world = World()
    await world.bare.arm.put_stack(a_stack_request(name="s-nobody-1"))
    await world.bare.arm.put_stack(a_stack_request(name="somebody-elses"))
    for _ in range(4):
        assert (await orphans.compare(world.ports)).strays == 1
        world.clock.advance(20 * 60)
    assert world.arm.names() == ["s-nobody-1", "somebody-elses"]
    (stray,) = await strays.all_of(world.bare.tables)
    assert (stray.stack, stray.code) == ("s-nobody-1", "NoSpace")


async def test_one_that_cannot_be_deleted_stays_counted_and_keeps_no_other() -> None:
    world = World()
    space_id = await failed_with_a_stack(world)
    await orphans.compare(world.ports)
    world.clock.advance(16 * 60)
    world.arm.faults.plan("delete_stack", DeniedError("a deny assignment"))
    with pytest.raises(DeniedError):
        await orphans.compare(world.ports)
    assert len(await strays.all_of(world.bare.tables)) == 1
    await orphans.compare(world.ports)
    world.clock.advance(60)
    await orphans.compare(world.ports)
    assert world.arm.names() == []
    assert (await world.space(space_id)).status is Status.FAILED


async def test_a_list_that_cannot_be_had_is_no_empty_list() -> None:
    """Unknown is not absent: nothing is forgotten because nobody answered."""
    world = World()
    await failed_with_a_stack(world)
    await orphans.compare(world.ports)
    world.arm.faults.plan("list_stacks", TransientError("away"))
    with pytest.raises(TransientError):
        await orphans.compare(world.ports)
    assert len(await strays.all_of(world.bare.tables)) == 1


async def test_a_comparison_is_whole_whatever_line_its_process_dies_at() -> None:
    async def once(counter: Counter) -> int:
        world = World(counter)
        await failed_with_a_stack(world)
        calls = 0
        for _ in range(4):
            try:
                await orphans.compare(world.ports)
            except Stopped:
                await orphans.compare(world.ports)
            calls = max(calls, counter.seen)
            world.clock.advance(16 * 60)
        assert world.arm.names() == []
        assert await strays.all_of(world.bare.tables) == []
        return calls

    calls = await once(Counter())
    assert calls >= 10
    for at in range(1, calls + 1):
        for side in ("before", "after"):
            await once(Counter(at=at, side=side))


async def test_the_first_look_never_deletes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list may be older than the space's row: what is seen once may be a start's own stack."""
    world = World()
    space_id = await failed_with_a_stack(world)
    monkeypatch.setattr(orphans, "GRACE", orphans.GRACE * 0)
    await orphans.compare(world.ports)
    assert world.arm.names() == [f"{space_id}-1"]
    await orphans.compare(world.ports)
    world.clock.advance(10)
    assert world.arm.names() == []


def test_a_space_that_moves_on_is_judged_by_what_it_is_now() -> None:
    space = one(Status.FAILED)
    assert verdict(OWN, space) is Verdict.ORPHAN
    assert (
        verdict(OWN, replace(space, status=Status.ACTIVE, activated_at=START)) is Verdict.OURS
    )
