"""Known-bad variants of the protocol: each must be caught by the test that guards it.

Each test takes the guard away and shows the damage, beside the shipped runner in the same
scenario. Source: control-plane.md 4.2, variants A, G and J.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import spaces.saga.sweep
from provisioning.plans import PLANS
from spaces.model import Status
from spaces.ports import Put, Replace
from spaces.saga import runner
from tests.builders import a_billing_event
from tests.provisioning.world import World

if TYPE_CHECKING:
    from spaces.ports import Ports, Write


class _Rewriting:
    """Tables whose transactions are changed on the way: the guard that a control takes away."""

    def __init__(self, tables: Any, rewrite: Any) -> None:
        self._tables = tables
        self._rewrite = rewrite

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    async def commit(self, table: str, partition: str, writes: list[Write]) -> None:
        if table != "spaces":
            await self._tables.commit(table, partition, writes)
            return
        kept = [done for write in writes if (done := self._rewrite(write)) is not None]
        await self._tables.commit(table, partition, kept)


def without_if_match(ports: Ports) -> Ports:
    def blind(write: Write) -> Write:
        return Put(write.key, write.values) if isinstance(write, Replace) else write

    return replace(ports, tables=_Rewriting(ports.tables, blind))


def without_outbox(ports: Ports) -> Ports:
    def forgetful(write: Write) -> Write | None:
        return None if write.key.startswith("out!next") else write

    return replace(ports, tables=_Rewriting(ports.tables, forgetful))


async def state_after_a_late_runner(world: World) -> tuple[str, str]:
    """Two runners on one step; the second commits after the space has moved on."""
    order = await world.order()
    await world.send(a_billing_event(order_id=order.order_id))
    item = world.bus.receive("billing-events")[0]
    await world._on_billing(item)
    poke = world.bus.receive("provisioning-steps")[0]

    late: list[Any] = []
    original = runner.Registry.commit

    async def slow_commit(self: Any, loaded: Any, change: Any, *, now: Any) -> Any:
        if not late:
            late.append(None)
            await world._on_step(poke)  # the other runner, on the same message
            following = world.bus.receive("provisioning-steps")[0]
            await world._on_step(following)
            late.append((await world.space(order.space_id)).op)
            change = replace(change, inbox=("pokes", "a resent copy"), steps=())
        return await original(self, loaded, change, now=now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.Registry, "commit", slow_commit)
        await world._on_step(poke)
    reached, now = late[1], (await world.space(order.space_id)).op
    assert reached is not None
    assert now is not None
    return reached.step, now.step


async def test_a_late_runner_does_not_move_the_space_back() -> None:
    reached, now = await state_after_a_late_runner(World())
    assert now == reached == "deploy"


async def test_without_if_match_a_late_runner_moves_the_space_back() -> None:
    """Control J: the guard above is the ETag and nothing else."""

    def blind_but_for_audit(ports: Ports) -> Ports:
        bare = without_if_match(ports)

        def keep(write: Write) -> Write | None:
            return None if write.key.startswith("aud!") else write

        return replace(bare, tables=_Rewriting(bare.tables, keep))

    reached, now = await state_after_a_late_runner(World(wrap=blind_but_for_audit))
    steps = [step.name for step in PLANS[next(iter(PLANS))].steps]
    assert steps.index(now) < steps.index(reached)


async def opened_after_a_crash_between_commit_and_send(world: World) -> Status:
    order = await world.order()
    await world.send(a_billing_event(order_id=order.order_id))
    item = world.bus.receive("billing-events")[0]
    await world._on_billing(item)
    world.bus.complete(item)
    world.bus.faults.plan("send", RuntimeError("the process died here"))
    await world.settle(hours=0.2)
    return (await world.space(order.space_id)).status


async def test_a_crash_between_commit_and_send_is_healed() -> None:
    assert await opened_after_a_crash_between_commit_and_send(World()) is Status.ACTIVE


async def test_without_outbox_a_crash_between_commit_and_send_stops_the_space() -> None:
    """Control A: what heals it is the outbox."""
    status = await opened_after_a_crash_between_commit_and_send(World(wrap=without_outbox))
    assert status is not Status.ACTIVE


async def opened_after_a_lost_message(world: World) -> Status:
    order = await world.order()
    await world.send(a_billing_event(order_id=order.order_id))
    item = world.bus.receive("billing-events")[0]
    await world._on_billing(item)
    world.bus.complete(item)
    world.bus.lose("provisioning-steps")
    await world.settle(hours=0.1)
    return (await world.space(order.space_id)).status


async def test_a_lost_message_is_healed_by_the_sweeper() -> None:
    assert await opened_after_a_lost_message(World()) is Status.ACTIVE


async def test_without_a_fresh_id_the_resent_message_is_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control G: duplicate detection drops a resend that keeps its id."""
    monkeypatch.setattr(
        spaces.saga.sweep, "fresh", lambda message, now, grace_s: replace(message, due_at=None)
    )
    assert await opened_after_a_lost_message(World()) is not Status.ACTIVE
