"""Events without a sequence, contradictions, deaths, and what needs a person."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from provisioning import alarms
from spaces.errors import DamagedError, UnreachableError
from spaces.model import Status, Tombstone
from tests.builders import a_billing_event
from tests.fakes import a_subscription
from tests.provisioning.test_billing import rejected
from tests.provisioning.test_reconcile import a_world, kinds, opened, write
from tests.provisioning.world import Counter, Stopped, World

if TYPE_CHECKING:
    from collections.abc import Callable


def a_hint(
    kind: str = "activated", *, event_id: str = "h-1", order_id: str | None = None
) -> str:
    """An event as a sender tells it that promises no order: no sequence, no state."""
    event = json.loads(a_billing_event(kind=kind, event_id=event_id, order_id=order_id))
    del event["data"]["sequence"], event["data"]["snapshot"]
    return json.dumps(event)


async def test_a_hint_makes_us_ask_and_what_billing_says_counts() -> None:
    world, billing = a_world()
    order = await world.order()
    billing.tell(a_subscription(sequence=4, plan="premium", order_id=order.order_id))
    await world.send(a_hint())
    await world.settle()
    space = await world.space(order.space_id)
    assert space.billing is not None
    assert (space.status, space.billing.sequence, space.tier) == (Status.ACTIVE, 4, "premium")
    assert billing.faults.calls == ["subscription"]


async def test_hints_in_any_order_end_with_what_billing_says() -> None:
    """The state is fetched when each comes: who comes last, or twice, makes no difference."""
    ends: set[tuple[int, bool, str | None, str]] = set()
    hints = [("activated", 1), ("deleted", 2), ("reactivated", 3), ("activated", 1)]
    for arrival in itertools.permutations(hints):
        world, billing = a_world()
        order = await world.order()
        billing.tell(
            a_subscription(
                sequence=9, order_id=order.order_id, type="billing.subscription.reactivated"
            )
        )
        for number, (kind, at) in enumerate(arrival):
            body = a_hint(kind, event_id=f"h-{at}")
            await world.send(body, message_id=f"m-{number}")
            await world.pump()
        await world.settle()
        space = await world.space(order.space_id)
        assert space.billing is not None
        assert await rejected(world) == []
        known = space.billing
        ends.add((known.sequence, known.is_over, space.desired, space.status.value))
    assert ends == {(9, False, "active", "active")}


async def test_a_snapshot_beside_a_missing_sequence_counts_for_nothing() -> None:
    world, billing = a_world()
    space = await opened(world)
    billing.tell(a_subscription(sequence=2, order_id=space.order_id))
    event = json.loads(a_billing_event(order_id=None, status="deleted", event_id="h-1"))
    del event["data"]["sequence"]
    await world.send(json.dumps(event), message_id="h")
    await world.settle()
    found = await world.space(space.space_id)
    assert found.billing is not None
    assert (found.billing.sequence, found.desired) == (2, "active")


async def test_a_hint_that_reactivates_brings_back_what_was_cancelled() -> None:
    world, billing = a_world()
    space = await opened(world)
    ended = a_billing_event(
        order_id=None, kind="cancelled", status="cancelled", sequence=2, event_id="e-2"
    )
    await world.send(ended, message_id="c")
    await world.pump()
    billing.tell(a_subscription(sequence=3, order_id=space.order_id))
    await world.send(a_hint("resumed", event_id="h-1"), message_id="h-1")
    await world.pump()
    found = await world.space(space.space_id)
    assert found.billing is not None
    assert found.billing.is_over
    billing.tell(a_subscription(sequence=4, order_id=space.order_id))
    await world.send(a_hint("reactivated", event_id="h-2"), message_id="h-2")
    await world.pump()
    found = await world.space(space.space_id)
    assert found.billing is not None
    assert not found.billing.is_over


async def test_a_hint_without_anybody_to_ask_is_refused() -> None:
    world = World()
    await world.order()
    await world.send(a_hint())
    await world.settle()
    assert await rejected(world) == ["invalid-snapshot"]


async def test_a_sequence_without_a_state_is_refused() -> None:
    world = World()
    event = json.loads(a_billing_event())
    del event["data"]["snapshot"]
    await world.send(json.dumps(event))
    await world.settle()
    assert await rejected(world) == ["invalid-snapshot"]


async def test_a_hint_about_what_billing_does_not_know_is_refused() -> None:
    world, _ = a_world()
    await world.send(a_hint())
    await world.settle()
    assert await rejected(world) == ["unknown-subscription"]


@pytest.mark.parametrize("trouble", [UnreachableError("down"), DamagedError("a page of html")])
async def test_a_hint_waits_for_as_long_as_billing_does_not_answer(trouble: Exception) -> None:
    world, billing = a_world()
    order = await world.order()
    billing.tell(a_subscription(order_id=order.order_id))
    billing.faults.plan("subscription", trouble, times=12)
    await world.send(a_hint())
    await world.settle()
    assert (await world.space(order.space_id)).status is Status.ACTIVE
    assert await rejected(world) == []


async def test_a_hint_may_tell_the_order_and_come_before_it() -> None:
    from provisioning import orders  # noqa: PLC0415 - the ids that the order will get

    order_id, _ = orders.ids_of("key:default", "k-1")
    world, _ = a_world(a_subscription())
    await world.send(a_hint(order_id=order_id))
    await world.pump()
    order = await world.order()
    await world.settle()
    assert (await world.space(order.space_id)).status is Status.ACTIVE


# --- what needs a person --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "alarm"),
    [
        ("invoice.disputed", "payment-disputed"),
        ("customer.erased_request", "erasure-requested"),
        ("customer.country_changed", "country-changed"),
    ],
)
async def test_it_is_recorded_and_alarmed_and_nothing_moves(kind: str, alarm: str) -> None:
    world = World()
    space = await opened(world)
    body = a_billing_event(order_id=None, kind="x", sequence=2, event_id="e-2", country="FR")
    body = body.replace("billing.subscription.x", f"billing.{kind}")
    for copy in range(3):
        await world.send(body, message_id=f"m-{copy}")
    await world.settle()
    found = await world.space(space.space_id)
    assert found.billing is not None
    assert (found.billing.country, found.billing.sequence) == ("FR", 2)
    assert (found.status, found.cluster, found.desired) == (Status.ACTIVE, "france", "active")
    assert await kinds(world, raised=True) == [alarm]
    (row,) = await alarms.everything(world.bare)
    assert (row.space_id, row.order_id, row.told) == (space.space_id, space.order_id, True)
    await alarms.close(world.bare, row, by="operator", reason="done")
    await world.send(body, message_id="m-late")
    await world.settle()
    assert await kinds(world) == []  # a copy opens nothing anew


async def test_of_an_erased_space_nothing_personal_is_learned_any_more() -> None:
    world = World()
    space = await opened(world)
    stone = Tombstone(at=world.clock.now(), never_had_data=False)
    await write(world, replace(space, status=Status.ERASED, tombstone=stone))
    late = a_billing_event(order_id=None, kind="paid", sequence=2, event_id="e-2", country="KE")
    await world.send(late.replace("subscription.paid", "invoice.paid"), message_id="m-2")
    await world.settle()
    found = await world.space(space.space_id)
    assert found.billing is not None
    assert (found.billing.sequence, found.billing.country) == (2, "")
    assert found.billing.customer_ref == "erased"
    rows = await world.bare.tables.query("subscriptions")
    assert not any("KE" in str(row.values.get("state")) for row in rows)


# --- contradictions and deaths --------------------------------------------------------------


async def test_one_id_with_two_meanings_means_what_it_meant_first() -> None:
    world = World()
    space = await opened(world)
    other = a_billing_event(
        order_id=None, kind="deleted", status="deleted", sequence=9, event_id="e-sub-1"
    )
    await world.send(other, message_id="m-other")
    await world.settle()
    assert await world.space(space.space_id) == space
    assert await rejected(world) == []


async def test_one_sequence_with_two_meanings_is_late_and_alarmed() -> None:
    world = World()
    space = await opened(world)
    other = a_billing_event(order_id=None, status="suspended", sequence=1, event_id="e-9")
    await world.send(other, message_id="m-other")
    await world.settle()
    assert (await world.space(space.space_id)).desired == "active"
    assert await rejected(world) == ["late-sequence"]
    assert await kinds(world, raised=True) == ["billing-contradiction"]


def cancelled_late(order_id: str) -> list[str]:
    """A cancellation that comes after what followed it."""
    return [
        a_billing_event(order_id=order_id, event_id="e-1"),
        a_billing_event(order_id=None, kind="plan_changed", sequence=3, event_id="e-3"),
        a_billing_event(
            order_id=None, kind="cancelled", status="cancelled", sequence=2, event_id="e-2"
        ),
    ]


def contradicting(order_id: str) -> list[str]:
    """Two states for one sequence, and a dispute."""
    return [
        a_billing_event(order_id=order_id, event_id="e-1"),
        a_billing_event(order_id=None, plan="premium", event_id="e-1b"),
        a_billing_event(order_id=None, kind="x", sequence=2, event_id="e-2").replace(
            "subscription.x", "invoice.disputed"
        ),
    ]


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("told", [cancelled_late, contradicting])
async def test_the_process_may_die_at_any_port_call_of_an_event(
    told: Callable[[str], list[str]], side: str
) -> None:
    at, calls, ends = 0, 1, set[Any]()
    while at < calls:
        at += 1
        counter = Counter(at=10**9)
        world = World(counter)
        order = await world.order()
        counter.at, counter.side, start = counter.seen + at, side, counter.seen
        for number, body in enumerate(told(order.order_id)):
            await world.send(body, message_id=f"m-{number}")
            while await world_bills(world):
                pass
        calls = max(calls, counter.seen - start)
        await world.settle()
        space = await world.space(order.space_id)
        assert space.billing is not None
        entries = await world.registry.audit_entries(order.space_id)
        assert sum('"billing.applied"' in entry for entry in entries) <= 3
        ends.add(
            (
                space.billing, space.desired, space.status,
                tuple(sorted(await rejected(world))), tuple(sorted(await kinds(world))),
            )
        )  # fmt: skip
        assert len(ends) == 1, f"call {at} {side}: {ends}"
    assert calls > 15


async def world_bills(world: World) -> int:
    """Work on the billing queue alone, dying where the counter says."""
    try:
        return await world.bus.pump({"billing-events": world._on_billing}, most=50)
    except Stopped:
        world.clock.advance(31)
        return 1
