"""Trouble that the campaign meets rarely or not at all, one at a time: what happens, what holds."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

import spaces.saga.sweep
from provisioning import orders
from provisioning.steps import route
from spaces import audit, hosts, names
from spaces.errors import (
    DamagedError,
    DeniedError,
    LostRaceError,
    NotFoundError,
    RefusedError,
    ThrottledError,
    TransientError,
)
from spaces.model import OpStatus, Status
from spaces.ports import Insert, Message, Replace
from spaces.saga import watch
from spaces.saga.sweep import sweep
from tests.builders import a_billing_event
from tests.fakes import Script
from tests.provisioning.world import GRACE_S, Counter, Stopped, World

if TYPE_CHECKING:
    from spaces.registry import OpRow
    from tests.fakes import Received


async def paid(world: World, *, script: Script | None = None, **event: Any) -> str:
    """An order whose payment stands on the queue."""
    order = await world.order()
    if script is not None:
        world.arm.scripts[f"{order.space_id}-1"] = script
    await world.send(a_billing_event(order_id=order.order_id, **event))
    return order.space_id


async def operations(world: World, space_id: str) -> list[OpRow]:
    return await world.registry.operations(space_id)


async def assert_nothing_left(world: World, space_id: str) -> None:
    """No watch; every event sent, none twice with other words; the audit chain whole."""
    assert await world.bare.tables.query("activeops") == []
    loaded = await world.registry.require(space_id)
    entries = await world.registry.audit_entries(space_id)
    assert audit.first_break(entries, loaded.head) is None
    sent = {m.message_id for m in world.bus.sent if m.message_id.startswith(f"{space_id}-ev-")}
    assert len(sent) == loaded.space.event_seq


def poison(world: World, port: str, call: str, error: BaseException | None = None) -> None:
    """Let this call end in a defect for ever."""
    trouble = error or RuntimeError("a defect")
    getattr(world.bare, port).faults.plan(call, trouble, times=100_000)


def heal(world: World, port: str) -> None:
    getattr(world.bare, port).faults._planned.clear()


async def test_a_tier_that_changes_under_an_opening_waits_for_it() -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=20))
    await world.pump()
    await world.send(
        a_billing_event(
            order_id=None, kind="plan_changed", plan="premium", sequence=2, event_id="e-2"
        ),
        message_id="m-2",
    )
    await world.settle()
    space = await world.space(space_id)
    assert space.billing is not None
    assert (space.status, space.tier, space.billing.plan) == (
        Status.ACTIVE,
        "premium",
        "premium",
    )
    assert world.arm.request(f"{space_id}-1").parameters["plan"] == "premium"
    assert [op.kind for op in await operations(world, space_id)] == ["provision", "resize"]


async def test_a_step_that_kills_its_process_ends_with_an_operator() -> None:
    world = World()
    space_id = await paid(world)
    poison(world, "arm", "instances")
    await world.settle(hours=3)
    space = await world.space(space_id)
    (op,) = await operations(world, space_id)
    assert space.status is Status.REQUESTED
    assert space.op is not None
    assert space.op.stuck == op.error
    assert (op.status, op.ended_at) == (OpStatus.NEEDS_OPERATOR, None)
    assert "start" in str(op.error)
    found = await world.registry.operation(space_id, op.op_id)
    assert found is not None
    last = found[1][-1]
    assert (last.name, last.status) == ("start", OpStatus.NEEDS_OPERATOR)
    # five minutes of budget, five of extension, half of waiting after each, the sweeper's turns
    assert last.ended_at is not None
    assert last.ended_at - last.started_at < timedelta(minutes=14)
    await assert_nothing_left(world, space_id)


async def test_an_opening_refused_at_its_first_step_gives_everything_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The law changed between the order and its payment."""
    refused = {"decision": "refused", "cluster": None, "refusal": "law"}
    world = World()
    space_id = await paid(world)
    monkeypatch.setattr(route.signed, "decide_again", lambda request, now: refused)
    await world.settle()
    assert (await world.space(space_id)).status is Status.FAILED
    assert await world.bare.tables.query("hosts") == []
    await assert_nothing_left(world, space_id)


async def test_a_stack_that_cannot_be_deleted_ends_with_an_operator() -> None:
    world = World()
    space_id = await paid(world, script=Script(failure=("InvalidTemplate", "no")))
    poison(world, "arm", "delete_stack", DeniedError("a deny assignment is left over"))
    await world.settle(hours=3)
    (op,) = await operations(world, space_id)
    assert op.status is OpStatus.NEEDS_OPERATOR
    assert "InvalidTemplate" in str(op.error)
    assert "deny assignment" in str(op.error)
    stuck = (await world.space(space_id)).op
    assert stuck is not None
    assert stuck.stuck == op.error
    await assert_nothing_left(world, space_id)


async def test_a_deletion_that_is_denied_for_a_while_is_tried_again() -> None:
    world = World()
    space_id = await paid(world, script=Script(failure=("InvalidTemplate", "no")))
    denied = DeniedError("a deny assignment is left over")
    world.arm.faults.plan("delete_stack", denied, times=5)
    await world.settle(hours=3)
    assert (await world.space(space_id)).status is Status.FAILED
    assert world.arm.names() == []
    await assert_nothing_left(world, space_id)


@pytest.mark.parametrize("hours", [1, 24])
async def test_an_outage_longer_than_a_budget_fails_nothing(hours: int) -> None:
    """The deployment went on meanwhile; what it made is taken, whoever looks first."""
    for first in ("queue", "sweeper"):
        world = World()
        space_id = await paid(world, script=Script(duration_s=hours * 3600 + 45))
        await world.pump()
        world.clock.advance(hours=hours)
        if first == "sweeper":
            await sweep(world.ports, grace_s=GRACE_S)
        await world.settle()
        space = await world.space(space_id)
        assert space.status is Status.ACTIVE, (first, space.failure)
        assert world.arm.puts(f"{space_id}-1") == 1
        await assert_nothing_left(world, space_id)


async def test_a_stack_that_never_ends_fails_all_the_same() -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=4 * 3600, delete_s=10))
    await world.settle(hours=8)
    (op,) = await operations(world, space_id)
    assert op.status is OpStatus.NEEDS_OPERATOR  # it can be deleted only when it has ended
    assert "did not end within 1800 s" in str(op.error)


async def test_bad_answers_of_the_tables_cost_no_paid_order() -> None:
    world = World()
    await paid(world)
    for error in (TransientError("away"), ThrottledError("busy", retry_after_s=7)):
        world.bare.tables.faults.plan("get", error, times=12)  # pyright: ignore[reportAttributeAccessIssue]
    await world.settle(hours=5)
    (space_id,) = await world.registry.ids()
    assert (await world.space(space_id)).status is Status.ACTIVE
    (depth,) = await world.bus.depths(["billing-events"])
    assert (depth.dead_letter, depth.active, depth.scheduled) == (0, 0, 0)


async def test_a_put_off_event_is_put_off_for_longer_each_time() -> None:
    world = World()
    await paid(world)
    world.bare.tables.faults.plan("get", TransientError("away"), times=9)  # pyright: ignore[reportAttributeAccessIssue]
    await world.settle()
    due = [m.due_at for m in world.bus.sent if m.message_id.startswith("again:") and m.due_at]
    pauses = [round((b - a).total_seconds()) for a, b in pairwise(due)]
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]


async def test_rights_that_take_a_while_are_waited_for() -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=5))
    await world.pump()
    world.clock.advance(6)
    world.bare.secrets.faults.plan("create", DeniedError("no role yet"), times=4)  # pyright: ignore[reportAttributeAccessIssue]
    world.bare.databases.faults.plan("ensure_role", NotFoundError("no name yet"), times=2)  # pyright: ignore[reportAttributeAccessIssue]
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE


async def test_rights_that_never_come_fail_the_order_with_the_reason() -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=5))
    await world.pump()
    world.clock.advance(6)
    poison(world, "databases", "ensure_role", DeniedError("no role"))
    await world.settle(hours=2)
    space = await world.space(space_id)
    assert space.status is Status.FAILED
    assert "no role" in str(space.failure)
    assert world.arm.names() == []


async def test_a_stack_that_a_late_runner_asks_for_after_the_undo_is_taken_back() -> None:
    """It lost its lock before its PUT; another runner failed the step and undid everything."""
    for seconds in (0, 40):  # a stack that is being made cannot be deleted yet
        world = World()
        failing = Script(failure=("InvalidTemplate", "no"), duration_s=seconds, delete_s=3)
        space_id = await paid(world, script=failing)
        put = world.arm.put_stack
        poke: list[Received] = []

        async def late_put(
            request: Any, world: World = world, put: Any = put, poke: list[Received] = poke
        ) -> Any:
            world.arm.put_stack = put  # pyright: ignore[reportAttributeAccessIssue]
            poke[0].locked_until = world.clock.now()
            await world.settle()
            assert world.arm.names() == []
            return await put(request)

        await world._on_billing(world.bus.receive("billing-events")[0])
        for _ in range(2):
            item = world.bus.receive("provisioning-steps")[0]
            await world._on_step(item)
            world.bus.complete(item)
        poke += world.bus.receive("provisioning-steps")
        world.arm.put_stack = late_put  # pyright: ignore[reportAttributeAccessIssue]
        await world._on_step(poke[0])
        assert (await world.space(space_id)).status is Status.FAILED
        assert world.arm.names() == [f"{space_id}-1"]
        await world.settle()
        assert world.arm.names() == []
        await assert_nothing_left(world, space_id)


async def test_what_a_late_runner_left_and_nobody_can_remove_is_looked_at_for_an_hour() -> None:
    world = World()
    space_id = await paid(world, script=Script(failure=("InvalidTemplate", "no"), duration_s=5))
    await world.pump()
    request = world.arm.request(f"{space_id}-1")
    await world.settle()
    assert world.arm.names() == []
    (stale,) = {m.body for m in world.bus.sent if m.message_id.endswith(":do-deploy:1:0")}
    await world.bare.arm.put_stack(request)
    poison(world, "arm", "delete_stack", DeniedError("a deny assignment is left over"))
    world.clock.advance(hours=1)
    began = world.clock.now()
    late = Message(queue="provisioning-steps", message_id="a late copy", body=stale)
    await world.bus.send([late])
    await world.settle(hours=5)
    looks = [m for m in world.bus.sent if ":do-deploy:1:l" in m.message_id]
    counted = [m.message_id.rpartition(":l")[2].partition(":")[0] for m in looks]
    assert counted == [str(n) for n in range(1, 12)]
    assert looks[-1].due_at is not None
    assert timedelta(minutes=50) < looks[-1].due_at - began < timedelta(hours=2)


# --- the sweeper and the watches


async def test_a_call_once_more_takes_the_events_along_that_were_never_sent() -> None:
    """Its step would take them for delivered and clear their rows."""
    world = World()
    space_id = await paid(world)
    item = world.bus.receive("billing-events")[0]
    world.bus.faults.plan("send", Stopped())
    with pytest.raises(Stopped):
        await world._on_billing(item)
    world.bus.complete(item)  # not even a redelivery says them again
    world.clock.advance(hours=2)
    await world.settle()
    await sweep(world.ports, grace_s=GRACE_S)
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE
    await assert_nothing_left(world, space_id)


async def test_one_damaged_space_does_not_keep_the_others_from_the_sweeper() -> None:
    world = World()
    first = await paid(world)
    second = await world.order(name="beta", key="k-2")
    await world.send(
        a_billing_event(order_id=second.order_id, subject="sub-2"), message_id="m-2"
    )
    for _ in range(2):
        item = world.bus.receive("billing-events")[0]
        await world._on_billing(item)
        world.bus.complete(item)
        world.bus.lose("provisioning-steps")
    damaged = min(first, second.space_id, key=watch.shard)  # the one that is swept first
    whole = first if damaged != first else second.space_id
    row = await world.bare.tables.get("spaces", damaged, "state")
    assert row is not None
    await world.bare.tables.commit(
        "spaces", damaged, [Replace("state", {**row.values, "doc": "{}"}, row.etag)]
    )
    world.clock.advance(GRACE_S + 1)
    with pytest.raises(DamagedError):
        await sweep(world.ports, grace_s=GRACE_S)
    await world.pump()
    op = (await world.space(whole)).op
    assert op is not None
    assert op.step == "deploy"


async def test_a_sweeper_removes_no_watch_that_an_operation_just_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An old watch without work, and a begin between the sweeper's look and its removal."""
    world = World()
    space_id = await paid(world)
    op_id = (await world.space(space_id)).next_op_id()
    await world.bare.tables.commit(
        watch.ACTIVE_OPS,
        watch.shard(space_id),
        [Insert(space_id, {"op_id": op_id, "written_at": world.clock.now()})],
    )
    world.clock.advance(hours=1)

    async def meanwhile(*args: Any) -> None:
        del args
        await world._on_billing(world.bus.receive("billing-events")[0])

    monkeypatch.setattr(spaces.saga.sweep, "say_again", meanwhile)
    await sweep(world.ports, grace_s=GRACE_S)
    assert (await world.space(space_id)).op is not None
    (watched,) = await watch.all_of(world.bare.tables)
    assert watched.op_id == op_id


async def test_a_running_operation_keeps_its_watch_whatever_the_watch_says() -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=20))
    await world.pump()
    (watched,) = await world.bare.tables.query(watch.ACTIVE_OPS)
    values = {**watched.values, "op_id": f"op-{space_id}-0000"}
    await world.bare.tables.commit(
        watch.ACTIVE_OPS, watched.partition, [Replace(space_id, values, watched.etag)]
    )
    await sweep(world.ports, grace_s=GRACE_S)
    assert len(await world.bare.tables.query(watch.ACTIVE_OPS)) == 1
    await world.settle()
    await assert_nothing_left(world, space_id)


async def _put(world: World, op: int, *, before: Any = None) -> None:
    async def nothing() -> None: ...

    await watch.put(
        world.bare.tables,
        "s-1",
        f"op-s-1-{op:04}",
        now=world.clock.now(),
        before_taking_over=before or nothing,
    )


async def test_a_late_begin_does_not_take_a_later_operations_watch() -> None:
    world = World()
    await _put(world, 10_000)
    with pytest.raises(LostRaceError):
        await _put(world, 9_999)
    (watched,) = await watch.all_of(world.bare.tables)
    assert watched.op_id == "op-s-1-10000"


async def test_a_watch_is_taken_over_only_after_its_words_were_said_again() -> None:
    world = World()
    await _put(world, 1)

    async def dies() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        await _put(world, 2, before=dies)
    (watched,) = await watch.all_of(world.bare.tables)
    assert watched.op_id == "op-s-1-0001"


# --- names and orders


class _Twice:
    """Tables that send each write a second time, as an HTTP client may after a lost answer."""

    def __init__(self, tables: Any) -> None:
        self._tables = tables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    async def commit(self, table: str, partition: str, writes: Any) -> None:
        await self._tables.commit(table, partition, writes)
        await self._tables.commit(table, partition, writes)


async def test_every_writer_knows_its_own_write_again() -> None:
    """Each transaction of an order and an opening meets its own first copy."""
    world = World(wrap=lambda ports: replace(ports, tables=_Twice(ports.tables)))
    await world.order(key="earlier")
    world.clock.advance(hours=49)  # its name has lapsed and is taken over
    view = await orders.place(
        world.ports, world.settings, world.order_request(), caller="key:default", key="k-1"
    )
    await world.send(a_billing_event(order_id=view.order_id))
    await world.settle()
    assert (await world.space(view.space_id)).status is Status.ACTIVE
    await assert_nothing_left(world, view.space_id)


async def test_a_name_given_back_is_not_taken_again_by_a_late_confirmation() -> None:
    world = World()
    order = await world.order()
    await hosts.free(world.bare, name="acme", space_id=order.space_id)
    assert not await hosts.confirm(world.bare, name="acme", space_id=order.space_id)
    assert await world.bare.tables.query("hosts") == []


async def test_an_order_that_died_is_finished_after_its_token_has_run_out() -> None:
    world = World()
    request = world.order_request()
    place = orders.place
    count = Counter()
    probe = World(count)
    await place(probe.ports, probe.settings, probe.order_request(), caller="c", key="k")
    for at in range(1, count.seen + 1):
        for side in ("before", "after"):
            world = World(Counter(at=at, side=side))
            request = world.order_request()
            with pytest.raises(Stopped):
                await place(world.ports, world.settings, request, caller="c", key="k")
            world.clock.advance(3600)
            loaded = await world.registry.load(orders.ids_of("c", "k")[1])
            if loaded is not None:
                view = await place(world.ports, world.settings, request, caller="c", key="k")
                assert view.space_id == loaded.space.space_id
                continue
            with pytest.raises(RefusedError) as refused:
                await place(world.ports, world.settings, request, caller="c", key="k")
            assert refused.value.members["reason"] == "expired"
            assert await world.bare.tables.query("hosts") == []  # the name is free again


async def test_no_secret_stands_in_a_row_or_a_message() -> None:
    world = World()
    space_id = await paid(world)
    await world.settle()
    space = await world.space(space_id)
    vault = world.settings.cluster_vaults[space.cluster]
    secrets = [
        await world.bare.secrets.get(vault, names.admin_secret(space)),
        await world.bare.secrets.get(vault, names.role_secret(space)),
    ]
    tables = ("spaces", "orders", "hosts", "tokens", "subscriptions", "directory", "rejected")
    rows = [row for table in tables for row in await world.bare.tables.query(table)]
    text = json.dumps([[str(row.values) for row in rows], [m.body for m in world.bus.sent]])
    for secret in secrets:
        assert secret
        assert secret not in text
