"""What operators do to operations: refused where it does not fit, whole after any crash."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from spaces.configuration import admin_password
from spaces.errors import DeniedError, InvalidError, NotFoundError, RefusedError
from spaces.model import OpStatus, Phase, Status
from spaces.operator import Action, Order
from spaces.saga import operate as shell
from spaces.saga.operate import cause_of, foresee, operate
from spaces.stack import stack_request
from tests.fakes import Script
from tests.provisioning.test_stuck import running
from tests.provisioning.test_trouble import assert_nothing_left, heal, paid, poison
from tests.provisioning.world import Counter, Stopped, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WRONG = Script(failure=("InvalidTemplate", "no"))


def an_order(world: World, action: Action, *, key: str = "k", step: str | None = None) -> Order:
    return Order(
        action=action,
        actor="key:ops",
        reason="seen and mended",
        at=world.clock.now(),
        cause_id=cause_of("key:ops", action, key),
        step=step,
    )


async def act(world: World, space_id: str, action: Action, **over: Any) -> None:
    op_id = f"op-{space_id}-0001"
    await operate(world.ports, op_id, an_order(world, action, **over))


async def stuck_at_start(world: World, *, hours: float = 1) -> str:
    """A paid space whose step `start` killed its process; what did that is mended by now."""
    at, world.counter.at = world.counter.at, 0
    space_id = await paid(world)
    poison(world, "arm", "instances")
    await world.settle(hours=hours)
    heal(world, "arm")
    assert (await running(world, space_id)).stuck is not None
    world.counter.at, world.counter.seen = at, 0
    return space_id


async def stuck_on_its_way_back(world: World) -> str:
    """A paid space whose stack failed and cannot be deleted."""
    at, world.counter.at = world.counter.at, 0
    space_id = await paid(world, script=WRONG)
    poison(world, "arm", "delete_stack", DeniedError("a deny assignment is left over"))
    await world.settle(hours=3)
    heal(world, "arm")
    op = await running(world, space_id)
    assert (op.phase, op.stuck is not None) == (Phase.UNDO, True)
    world.counter.at, world.counter.seen = at, 0
    return space_id


async def op_of(world: World, space_id: str) -> Any:
    (row, *_) = await world.registry.operations(space_id)
    return row


async def test_a_retried_step_goes_on_to_the_end() -> None:
    world = World()
    space_id = await stuck_at_start(world)
    await act(world, space_id, Action.RETRY)
    assert (await op_of(world, space_id)).status is OpStatus.RUNNING
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE
    row = await op_of(world, space_id)
    assert (row.status, row.error) == (OpStatus.SUCCEEDED, None)
    assert world.arm.puts(f"{space_id}-1") == 1
    await assert_nothing_left(world, space_id)


async def test_a_retry_may_begin_at_an_earlier_step() -> None:
    world = World()
    space_id = await stuck_at_start(world)
    await act(world, space_id, Action.RETRY, step="reserve")
    assert (await running(world, space_id)).step == "reserve"
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE
    sent = [m.message_id for m in world.bus.sent if ":do-deploy:" in m.message_id]
    assert any(":do-deploy:1.1:" in one for one in sent), "the step is another turn"
    await assert_nothing_left(world, space_id)


@pytest.mark.parametrize(("step", "error"), [("activate", RefusedError), ("x", InvalidError)])
async def test_a_retry_from_a_step_that_has_not_been_is_refused(
    step: str, error: type[Exception]
) -> None:
    world = World()
    space_id = await stuck_at_start(world)
    with pytest.raises(error, match=step):
        await act(world, space_id, Action.RETRY, step=step)


async def test_a_retried_way_back_leaves_nothing() -> None:
    world = World()
    space_id = await stuck_on_its_way_back(world)
    await act(world, space_id, Action.RETRY)
    await world.settle()
    assert (await world.space(space_id)).status is Status.FAILED
    assert world.arm.names() == []
    await assert_nothing_left(world, space_id)


async def test_what_failed_can_go_forward_again_from_where_it_was_not_undone() -> None:
    world = World()
    space_id = await stuck_on_its_way_back(world)
    world.arm.scripts[f"{space_id}-1"] = Script()
    await world.bare.arm.delete_stack(f"{space_id}-1")
    world.clock.advance(60)
    await act(world, space_id, Action.RETRY, step="deploy")
    await world.settle()
    space = await world.space(space_id)
    assert (space.status, space.failure) == (Status.ACTIVE, None)
    await assert_nothing_left(world, space_id)


async def test_a_skipped_step_is_marked_with_whose_word_it_was() -> None:
    world = World()
    space_id = await stuck_on_its_way_back(world)
    await act(world, space_id, Action.SKIP)
    await world.settle()
    assert (await world.space(space_id)).status is Status.FAILED
    found = await world.registry.operation(space_id, f"op-{space_id}-0001")
    assert found is not None
    skipped = next(step for step in found[1] if step.name == "deploy")
    assert skipped.status is OpStatus.CANCELED
    assert skipped.detail == "undo skipped: skip by key:ops: seen and mended"
    assert world.arm.names() == [f"{space_id}-1"]  # left to the look for stray stacks


async def test_a_step_that_others_need_is_not_skipped() -> None:
    world = World()
    space_id = await stuck_at_start(world)
    before = await running(world, space_id)
    with pytest.raises(RefusedError, match="cannot be skipped"):
        await act(world, space_id, Action.SKIP)
    assert await running(world, space_id) == before


async def test_a_step_that_only_looks_is_skipped() -> None:
    world = World()
    space_id = await paid(world)
    poison(world, "edge", "request")
    await world.settle(hours=1)
    assert (await running(world, space_id)).step == "publish"
    heal(world, "edge")
    await act(world, space_id, Action.SKIP)
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE
    await assert_nothing_left(world, space_id)


async def test_a_rollback_undoes_what_was_done_and_tells_both_reasons() -> None:
    world = World()
    space_id = await stuck_at_start(world)
    await act(world, space_id, Action.ROLLBACK)
    await world.settle()
    row, space = await op_of(world, space_id), await world.space(space_id)
    assert (row.status, space.status) == (OpStatus.FAILED, Status.FAILED)
    assert "MaxDeliveryCountExceeded" in row.error
    assert "rollback by key:ops: seen and mended" in row.error
    assert world.arm.names() == []
    assert await world.bare.tables.query("hosts") == []
    await assert_nothing_left(world, space_id)


async def test_an_aborted_operation_ends_its_step_and_is_undone() -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=60, delete_s=5))
    await world.pump()
    await act(world, space_id, Action.ABORT)
    op = await running(world, space_id)
    assert (op.phase, op.step) == (Phase.DO, "deploy")
    await world.settle()
    row, space = await op_of(world, space_id), await world.space(space_id)
    assert (row.status, space.status) == (OpStatus.CANCELED, Status.FAILED)
    assert row.error == "stopped by key:ops: seen and mended"
    assert world.arm.names() == []
    assert [o.op_id[-4:] for o in await world.registry.operations(space_id)] == ["0001"]
    told = [json.loads(m.body)["type"] for m in world.bus.sent if m.queue == "space-events"]
    assert {"space.operation.canceled", "space.provisioning_failed"} <= set(told)
    await assert_nothing_left(world, space_id)


async def test_an_abort_does_not_wait_for_the_pause_between_two_tries() -> None:
    world = World()
    space_id = await paid(world, script=Script(failure=("ServerIsBusy", "later")))
    await world.settle(hours=0.05)
    op = await running(world, space_id)
    assert op.next_poke_at > world.clock.now()
    await act(world, space_id, Action.ABORT)
    await world.pump()
    assert (await running(world, space_id)).phase is Phase.UNDO


async def test_an_abort_on_the_way_back_ends_it_with_what_stands() -> None:
    world = World()
    space_id = await stuck_on_its_way_back(world)
    await act(world, space_id, Action.ABORT)
    row, space = await op_of(world, space_id), await world.space(space_id)
    assert (row.status, space.status, space.op) == (OpStatus.CANCELED, Status.FAILED, None)
    assert "deny assignment" in row.error
    assert "stray stacks" in row.error
    await assert_nothing_left(world, space_id)


async def test_a_stack_that_stands_is_adopted_and_nothing_is_put() -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=5))
    poison(world, "arm", "get_stack")
    await world.settle(hours=1)
    op = await running(world, space_id)
    assert op.step == "deploy"
    heal(world, "arm")
    await act(world, space_id, Action.ADOPT)
    await world.pump()
    again = await running(world, space_id)
    assert "would have to call" in str(again.stuck), "there is nothing to adopt yet"
    assert world.arm.names() == []
    await world.bare.arm.put_stack(await a_request(world, space_id))  # by hand
    world.clock.advance(6)
    await act(world, space_id, Action.ADOPT, key="k-2")
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE
    assert world.arm.puts(f"{space_id}-1") == 1
    await assert_nothing_left(world, space_id)


async def a_request(world: World, space_id: str) -> Any:
    """What the step would put."""
    space = await world.space(space_id)
    password = await admin_password(world.bare, world.settings, space)
    return stack_request(space, world.settings, admin_password=password)


async def test_a_replay_says_again_what_was_promised_under_fresh_ids() -> None:
    world = World()
    space_id = await paid(world)
    item = world.bus.receive("billing-events")[0]
    await world._on_billing(item)
    world.bus.complete(item)
    lost = world.bus.lose("provisioning-steps")
    await act(world, space_id, Action.REPLAY)
    (found,) = world.bus.receive("provisioning-steps")
    assert found.body == lost.body
    assert found.message.message_id != lost.message.message_id
    world.bus.abandon(found)
    await world.settle()
    assert (await world.space(space_id)).status is Status.ACTIVE
    await assert_nothing_left(world, space_id)


RUNS_BY_ITSELF = (Action.RETRY, Action.SKIP, Action.ADOPT)


@pytest.mark.parametrize("action", RUNS_BY_ITSELF)
async def test_what_runs_by_itself_is_left_alone(action: Action) -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=60))
    await world.pump()
    with pytest.raises(RefusedError, match="runs by itself"):
        await act(world, space_id, action)


@pytest.mark.parametrize("action", [Action.ROLLBACK, Action.ADOPT])
async def test_what_is_on_its_way_back_is_not_sent_back_again(action: Action) -> None:
    world = World()
    space_id = await stuck_on_its_way_back(world)
    with pytest.raises(RefusedError, match="on its way back already"):
        await act(world, space_id, action)


@pytest.mark.parametrize("action", list(Action))
async def test_what_has_ended_and_what_never_was_are_told_apart(action: Action) -> None:
    world = World()
    space_id = await paid(world)
    await world.settle()
    with pytest.raises(RefusedError, match="has ended") as refused:
        await act(world, space_id, action)
    assert int(refused.value.exit) == 3
    for op_id in (f"op-{space_id}-0009", "op-s-unknown-0001", "x", ""):
        with pytest.raises(NotFoundError) as unknown:
            await operate(world.ports, op_id, an_order(world, action))
        assert int(unknown.value.exit) == 2


async def test_a_second_abort_is_refused_and_the_same_one_is_not() -> None:
    world = World()
    space_id = await paid(world, script=Script(duration_s=60))
    await world.pump()
    await act(world, space_id, Action.ABORT)
    before = await world.registry.audit_entries(space_id)
    await act(world, space_id, Action.ABORT)  # the same intention
    assert await world.registry.audit_entries(space_id) == before
    with pytest.raises(RefusedError, match="stopping already"):
        await act(world, space_id, Action.ABORT, key="another")


async def test_every_action_stands_in_the_audit_chain_with_whose_and_why() -> None:
    world = World()
    space_id = await stuck_at_start(world)
    await act(world, space_id, Action.RETRY)
    entries = [json.loads(text) for text in await world.registry.audit_entries(space_id)]
    (mine,) = [one for one in entries if one["act"] == "operator.retry"]
    assert (mine["actor"], mine["d"]["reason"]) == ("key:ops", "seen and mended")
    assert (mine["obj"], mine["d"]["step"]) == (f"op-{space_id}-0001", "start")


async def test_foreseeing_tells_the_steps_and_writes_nothing() -> None:
    world = World()
    space_id = await stuck_at_start(world)
    before = await world.registry.require(space_id)
    op_id = f"op-{space_id}-0001"
    retried = await foresee(world.ports, op_id, an_order(world, Action.RETRY))
    assert retried.following == ("start", "publish", "smoke", "activate")
    rolled = await foresee(world.ports, op_id, an_order(world, Action.ROLLBACK))
    assert rolled.following == ("deploy", "reserve", "route")
    assert await world.registry.require(space_id) == before


CASES: dict[Action, tuple[Callable[[World], Awaitable[str]], Status]] = {
    Action.RETRY: (stuck_at_start, Status.ACTIVE),
    Action.ROLLBACK: (stuck_at_start, Status.FAILED),
    Action.ABORT: (stuck_on_its_way_back, Status.FAILED),
    Action.SKIP: (stuck_on_its_way_back, Status.FAILED),
}


@pytest.mark.parametrize("action", list(CASES))
async def test_an_action_is_whole_whatever_line_its_process_dies_at(action: Action) -> None:
    """The caller asks again under the same key, or never: either way the space comes to rest."""
    prepare, end = CASES[action]

    async def once(counter: Counter, *, again: bool) -> None:
        world = World(counter)
        space_id = await prepare(world)
        written = len(await world.registry.audit_entries(space_id))
        try:
            await act(world, space_id, action)
        except Stopped:
            if again:
                await act(world, space_id, action)
        after = await world.registry.audit_entries(space_id)
        done = len([text for text in after[written:] if f'"operator.{action}"' in text])
        assert done == 1 or (done == 0 and not again)
        await world.settle(hours=1)
        assert counter.stopped == (counter is not clean)
        assert (await world.space(space_id)).status is (end if done else Status.REQUESTED)
        await assert_nothing_left(world, space_id)

    clean = Counter()
    await once(clean, again=True)
    assert clean.seen >= 5
    for at in range(1, min(clean.seen, 14) + 1):
        for side in ("before", "after"):
            for again in (True, False):
                await once(Counter(at=at, side=side), again=again)


async def test_without_a_watch_before_the_commit_an_action_can_be_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control: the process dies between commit and send; only the sweeper says it again."""

    async def nobody(*args: object, **options: object) -> None:
        del args, options

    ends: list[Status] = []
    for watched in (True, False):
        world = World()
        space_id = await stuck_at_start(world)
        world.bus.faults.plan("send", Stopped())
        with monkeypatch.context() as patch:
            if not watched:
                patch.setattr(shell.watch, "put", nobody)
            with pytest.raises(Stopped):
                await act(world, space_id, Action.RETRY)
        await world.settle(hours=1)
        ends.append((await world.space(space_id)).status)
    assert ends == [Status.ACTIVE, Status.REQUESTED]


async def test_without_a_turn_a_retried_step_is_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control: its message would bear the id of the first attempt, and be dropped as known."""
    world = World()
    space_id = await stuck_at_start(world, hours=0.01)
    obey = shell.operator.obey

    def same_turn(*args: Any) -> Any:
        decision = obey(*args)
        return replace(decision, op=replace(decision.op, turn=0))

    monkeypatch.setattr(shell.operator, "obey", same_turn)
    await act(world, space_id, Action.RETRY)
    await world.pump()
    assert (await running(world, space_id)).step == "start", "nobody moved it"
