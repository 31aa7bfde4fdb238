"""Billing and spaces are compared both ways: what heals, what alarms and when, what nothing does."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from provisioning import alarms, reconcile
from spaces import telemetry
from spaces.audit import Entry
from spaces.desire import overridden
from spaces.errors import TransientError, UnreachableError
from spaces.model import Override, Status, Wish
from spaces.registry import Change
from spaces.settings import ROOT
from tests.builders import a_billing_event
from tests.fakes import FakeBilling, a_subscription
from tests.provisioning.test_billing import rejected
from tests.provisioning.world import Counter, Stopped, World

if TYPE_CHECKING:
    from spaces.model import Space


def a_world(*told: Any, counter: Counter | None = None) -> tuple[World, FakeBilling]:
    """A world whose billing system knows these subscriptions."""
    billing = FakeBilling(*told)
    return World(counter, wrap=lambda ports: replace(ports, billing=billing)), billing


async def opened(
    world: World, *, subject: str = "sub-1", key: str = "k-1", name: str = "acme"
) -> Space:
    """An active space that this subscription pays."""
    order = await world.order(key=key, name=name)
    event = a_billing_event(order_id=order.order_id, subject=subject, event_id=f"e-{subject}")
    await world.send(event, message_id=f"m-{subject}")
    await world.settle()
    return await world.space(order.space_id)


async def write(world: World, space: Space) -> None:
    """Another hand changes a space."""
    loaded = await world.registry.require(space.space_id)
    change = Change(
        space=space, entry=Entry(act="test", actor="test", obj=space.space_id, detail={})
    )
    await world.registry.commit(loaded, change, now=world.clock.now())


async def kinds(world: World, *, raised: bool | None = None) -> list[str]:
    """Kinds of the open alarms; those raised, or those only seen, where it is asked."""
    return [
        one.kind
        for one in await alarms.everything(world.bare)
        if one.closed_at is None and raised in {None, one.raised_at is not None}
    ]


async def for_minutes(world: World, minutes: int) -> None:
    """The timer that looks again fires each five minutes, and the queues are worked on."""
    for minute in range(1, minutes + 1):
        world.clock.advance(60)
        if minute % 5 == 0:
            await reconcile.look_again(world.ports)
        await world.pump()


async def test_what_agrees_is_left_alone() -> None:
    world, billing = a_world()
    space = await opened(world)
    billing.tell(a_subscription(order_id=space.order_id))
    before = await world.registry.require(space.space_id)
    report = await reconcile.run(world.ports)
    assert (report.items, report.complete) == ([], True)
    assert await world.registry.require(space.space_id) == before
    assert await kinds(world) == []


async def test_a_paid_order_whose_event_was_lost_is_opened() -> None:
    world, billing = a_world()
    order = await world.order()
    billing.tell(a_subscription(order_id=order.order_id))
    report = await reconcile.run(world.ports)
    assert [item.outcome for item in report.items] == ["healed"]
    await world.settle()
    space = await world.space(order.space_id)
    assert (space.status, space.subscription) == (Status.ACTIVE, "sub-1")
    assert (await reconcile.run(world.ports)).items == []
    assert await kinds(world) == []


async def test_the_lost_event_may_come_after_the_reconciler() -> None:
    world, billing = a_world()
    order = await world.order()
    billing.tell(a_subscription(order_id=order.order_id))
    await reconcile.run(world.ports)
    await world.send(a_billing_event(order_id=order.order_id))
    await world.settle()
    assert (await world.space(order.space_id)).status is Status.ACTIVE
    assert world.arm.names() == [f"{order.space_id}-1"]


async def test_a_lost_change_is_brought_as_the_event_would_have() -> None:
    world, billing = a_world()
    space = await opened(world)
    billing.tell(a_subscription(sequence=3, status="suspended", order_id=space.order_id))
    await reconcile.run(world.ports)
    found = await world.space(space.space_id)
    assert found.billing is not None
    assert (found.billing.sequence, found.desired) == (3, "suspended")
    entries = await world.registry.audit_entries(space.space_id)
    assert any('"actor":"reconciler"' in entry for entry in entries)


async def test_what_was_contradicted_is_settled_by_what_billing_says() -> None:
    """Two events of one sequence: the first counts until billing is asked, in either order."""
    ends: set[tuple[str | None, str | None]] = set()
    for plans in (("standard", "premium"), ("premium", "standard")):
        world, billing = a_world()
        order = await world.order()
        for at, plan in enumerate(plans):
            body = a_billing_event(order_id=order.order_id, plan=plan, event_id=f"e-{plan}")
            await world.send(body, message_id=f"m-{at}")
        await world.pump()
        assert await kinds(world, raised=True) == ["billing-contradiction"]
        billing.tell(a_subscription(plan="premium", order_id=order.order_id))
        await reconcile.run(world.ports)
        space = await world.space(order.space_id)
        assert space.billing is not None
        ends.add((space.billing.plan, space.desired))
        assert (await reconcile.run(world.ports)).items == []
    assert ends == {("premium", "active")}


async def test_paid_without_space_is_alarmed_within_fifteen_minutes() -> None:
    world, _ = a_world(a_subscription(order_id="o-neverplaced"))
    telemetry.reset_counts()
    await reconcile.run(world.ports)
    assert await kinds(world, raised=True) == []
    await for_minutes(world, 15)
    (alarm,) = await alarms.everything(world.bare)
    assert (alarm.kind, alarm.about) == ("paid-without-space", "sub-1")
    assert alarm.raised_at is not None
    assert (alarm.raised_at - alarm.first_seen_at).total_seconds() <= 900
    told = [m for m in world.bus.sent if '"space.alarm.raised"' in m.body]
    assert [json.loads(m.body)["subject"] for m in told] == ["sub-1"]
    assert telemetry.counts()["kpax.alarms.raised"] == 1
    await for_minutes(world, 60)
    assert len([m for m in world.bus.sent if '"space.alarm.raised"' in m.body]) == 1


async def test_what_is_mended_meanwhile_is_no_alarm() -> None:
    world, billing = a_world(a_subscription(order_id="o-neverplaced"))
    await reconcile.run(world.ports)
    billing.tell(a_subscription(sequence=2, status="cancelled", order_id="o-neverplaced"))
    await for_minutes(world, 15)
    assert await alarms.everything(world.bare) == []


async def test_an_alarm_is_closed_when_its_cause_is_gone() -> None:
    world, billing = a_world(a_subscription(order_id="o-neverplaced"))
    await reconcile.run(world.ports)
    await for_minutes(world, 15)
    billing.forget("sub-1")
    await reconcile.run(world.ports)
    (alarm,) = await alarms.everything(world.bare)
    assert (alarm.closed_by, alarm.close_reason) == ("reconciler", "it is so no more")
    assert [m for m in world.bus.sent if '"space.alarm.closed"' in m.body]
    billing.tell(a_subscription(order_id="o-neverplaced"))
    await reconcile.run(world.ports)
    assert await kinds(world) == ["paid-without-space"]


async def test_a_failed_space_that_is_paid_is_alarmed() -> None:
    world, billing = a_world()
    space = await opened(world)
    billing.tell(a_subscription(order_id=space.order_id))
    await write(world, replace(space, status=Status.FAILED))
    await reconcile.run(world.ports)
    await for_minutes(world, 10)
    assert await kinds(world, raised=True) == ["paid-without-space"]


async def test_a_space_without_payer_is_alarmed_and_goes_on() -> None:
    world, _ = a_world()
    space = await opened(world)
    before = await world.space(space.space_id)
    await reconcile.run(world.ports)
    await for_minutes(world, 10)
    assert await kinds(world, raised=True) == ["space-without-payer"]
    assert await world.space(space.space_id) == before


async def test_a_list_that_leaves_one_out_says_nothing_about_it() -> None:
    world, billing = a_world()
    space = await opened(world)
    billing.tell(a_subscription(order_id=space.order_id))
    billing.leave_out("sub-1")
    report = await reconcile.run(world.ports)
    assert (report.items, await kinds(world)) == ([], [])


@pytest.mark.parametrize("call", ["page", "subscription"])
async def test_where_billing_does_not_answer_nothing_is_concluded(call: str) -> None:
    world, billing = a_world()
    space = await opened(world)
    before = await world.space(space.space_id)
    billing.faults.plan(call, UnreachableError("billing is down"), times=1_000)
    report = await reconcile.run(world.ports)
    assert not report.complete
    assert report.items == []
    await for_minutes(world, 15)
    assert await world.space(space.space_id) == before
    raised = await kinds(world, raised=True)
    assert raised == (["billing-unreachable"] if call == "page" else [])


async def test_a_list_cut_short_by_its_own_count_is_not_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, billing = a_world()
    await opened(world)
    full = billing.page

    async def short(cursor: str | None = None) -> Any:
        return replace(await full(cursor), total=7)

    monkeypatch.setattr(billing, "page", short)
    report = await reconcile.run(world.ports)
    assert not report.complete
    assert "0 of 7" in report.reason
    assert await kinds(world) == ["billing-unreachable"]


async def test_a_list_that_runs_in_a_circle_ends() -> None:
    world, billing = a_world(*(a_subscription(f"sub-{n}", order_id="o-x") for n in range(5)))
    full = billing.page

    async def circle(cursor: str | None = None) -> Any:
        return replace(await full(None), next_cursor="again")

    billing.page = circle  # type: ignore[method-assign]
    report = await reconcile.run(world.ports)
    assert not report.complete


async def test_billing_that_answers_again_closes_its_alarm() -> None:
    world, billing = a_world()
    billing.faults.plan("page", TransientError("billing is down"), times=4)
    await reconcile.run(world.ports)
    await for_minutes(world, 5)
    assert await kinds(world, raised=True) == ["billing-unreachable"]
    await for_minutes(world, 5)
    billing.faults._planned.clear()
    await reconcile.run(world.ports)
    assert await kinds(world) == []


async def test_half_a_list_still_heals_what_it_names() -> None:
    world, billing = a_world()
    order = await world.order()
    billing.tell(a_subscription("sub-1", order_id=order.order_id))
    for n in range(2, 6):
        billing.tell(a_subscription(f"sub-{n}", status="cancelled"))
    first = billing.page

    async def page(cursor: str | None = None) -> Any:
        if cursor is not None:
            raise UnreachableError("billing is down")
        return await first(None)

    billing.page = page  # type: ignore[method-assign]
    report = await reconcile.run(world.ports)
    assert ([item.outcome for item in report.items], report.complete) == (["healed"], False)


async def test_an_operators_word_is_respected() -> None:
    world, billing = a_world()
    space = await opened(world)
    override = Override(
        wish=Wish.ACTIVE, reason="a trial", actor="operator", at=world.clock.now()
    )
    await write(world, overridden(space, override, world.clock.now()))
    report = await reconcile.run(world.ports)  # billing knows nothing of it
    assert report.items == []
    billing.tell(a_subscription(sequence=2, status="suspended", order_id=space.order_id))
    await reconcile.run(world.ports)
    held = await world.space(space.space_id)
    assert held.billing is not None
    assert (held.billing.sequence, held.desired, held.status) == (2, "active", Status.ACTIVE)
    assert (await reconcile.run(world.ports)).items == []


async def test_what_no_event_explains_is_alarmed_not_done() -> None:
    """Billing says active; we were told it was cancelled, and nobody said that it came back."""
    world, billing = a_world()
    space = await opened(world)
    await world.send(
        a_billing_event(
            order_id=None, kind="cancelled", status="cancelled", sequence=2, event_id="e-2",
            period_end=world.clock.now(),
        ),
        message_id="m-2",
    )  # fmt: skip
    await world.pump()
    billing.tell(a_subscription(sequence=3, order_id=space.order_id))
    await reconcile.run(world.ports)
    found = await world.space(space.space_id)
    assert found.desired == "cancelled"
    assert await kinds(world) == ["state-different"]
    billing.tell(
        a_subscription(
            sequence=4, order_id=space.order_id, type="billing.subscription.reactivated"
        )
    )
    await reconcile.run(world.ports)
    assert (await world.space(space.space_id)).desired == "active"


async def test_words_that_mean_nothing_here_are_alarmed() -> None:
    world, billing = a_world()
    space = await opened(world)
    billing.tell(a_subscription(status="happy", order_id=space.order_id))
    await reconcile.run(world.ports)
    assert await kinds(world) == ["state-different"]
    assert await rejected(world) == []


async def test_a_dry_run_writes_nothing() -> None:
    world, billing = a_world()
    order = await world.order()
    billing.tell(a_subscription(order_id=order.order_id))
    billing.tell(a_subscription("sub-2", order_id="o-neverplaced"))
    before, sent = await world.registry.require(order.space_id), len(world.bus.sent)
    report = await reconcile.run(world.ports, dry_run=True)
    assert sorted(item.outcome for item in report.items) == ["seen", "would-heal"]
    assert await world.registry.require(order.space_id) == before
    assert (await kinds(world), len(world.bus.sent)) == ([], sent)


async def test_without_a_billing_list_nothing_is_compared() -> None:
    world = World()
    await opened(world)
    report = await reconcile.run(world.ports)
    assert (report.items, report.complete) == ([], False)
    assert await kinds(world) == []


@pytest.mark.parametrize("side", ["before", "after"])
async def test_the_reconciler_may_die_at_any_port_call(side: str) -> None:
    """It heals one, sees one, closes one; wherever it stops, the next round ends the same."""
    at, calls = 0, 1
    while at < calls:
        at += 1
        counter = Counter(at=10**9)
        world, billing = a_world(counter=counter)
        order = await world.order()
        billing.tell(a_subscription(order_id=order.order_id))
        billing.tell(a_subscription("sub-2", order_id="o-neverplaced"))
        await alarms.raise_now(
            world.bare,
            alarms.Finding(kind=alarms.Kind.PAID_WITHOUT_SPACE, about="sub-3", detail="once"),
        )
        counter.at, counter.side, start = counter.seen + at, side, counter.seen
        for work in (reconcile.run, reconcile.run):
            with contextlib.suppress(Stopped):
                await work(world.ports)
        await world.settle(hours=0.5)
        for _ in range(4):
            world.clock.advance(300)
            with contextlib.suppress(Stopped):
                await reconcile.look_again(world.ports)
        calls = max(calls, counter.seen - start)
        where = f"call {at} {side}"
        space = await world.space(order.space_id)
        assert (space.status, space.subscription) == (Status.ACTIVE, "sub-1"), where
        assert world.arm.names() == [f"{order.space_id}-1"], where
        found = {one.about: one for one in await alarms.everything(world.bare)}
        assert found["sub-2"].told, where
        assert found["sub-3"].closed_at is not None, where
        assert set(found) == {"sub-2", "sub-3"}, where
        assert await rejected(world) == [], where
    assert calls > 20


@pytest.mark.parametrize("kind", list(alarms.Kind))
def test_every_alarm_has_its_paragraph(kind: alarms.Kind) -> None:
    text = (ROOT / "docs" / "running.md").read_text()
    assert f"\n#### {kind.value}\n" in text
