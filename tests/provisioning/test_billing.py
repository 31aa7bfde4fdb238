"""What billing events do, in any order, and what happens to junk."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime

import pytest

from provisioning.billing import RejectedError, read
from provisioning.triggers import first_seen
from spaces.model import Status
from tests.builders import a_billing_event
from tests.provisioning.world import Counter, World


async def rejected(world: World) -> list[str]:
    return [str(row.values["reason"]) for row in await world.bare.tables.query("rejected")]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("not json", "not-json"),
        ("", "not-json"),
        ('{"specversion":"1.0","specversion":"1.0"}', "not-json"),
        ("[]", "not-cloudevent"),
        ('{"hello":"world"}', "not-cloudevent"),
        (a_billing_event().replace('"1.0"', '"0.3"'), "not-cloudevent"),
        (a_billing_event(kind="exploded"), "unknown-type"),
        (a_billing_event(plan="golden"), "invalid-snapshot"),
        (a_billing_event(status="happy"), "invalid-snapshot"),
        (a_billing_event(sequence=-1), "invalid-snapshot"),
        (a_billing_event().replace('"sequence": 1', '"sequence": "one"'), "invalid-snapshot"),
        (a_billing_event(sequence=2**63), "invalid-snapshot"),
        (a_billing_event(subject=""), "not-cloudevent"),
        (a_billing_event(subject="s" * 40_000), "not-cloudevent"),
        (a_billing_event(event_id="e" * 40_000), "not-cloudevent"),
        (a_billing_event(customer_ref="c" * 40_000), "invalid-snapshot"),
        (a_billing_event(quantity=10**40), "invalid-snapshot"),
        (a_billing_event(order_id="o-" + "x" * 60_000), "invalid-snapshot"),
        (
            a_billing_event().replace("2026-12-23T00:00:00Z", "0001-01-01T00:00:00+14:00"),
            "invalid-snapshot",
        ),
        (json.dumps({**json.loads(a_billing_event()), "data": None}), "invalid-snapshot"),
    ],
)
async def test_junk_is_kept_with_its_reason_and_nothing_else_happens(
    body: str, reason: str
) -> None:
    world = World()
    await world.order()
    await world.send(body)
    await world.settle()
    assert await rejected(world) == [reason]
    assert world.arm.names() == []


async def test_messages_with_one_id_or_none_are_kept_each() -> None:
    world = World()
    for number in range(3):
        await world.send(f"junk {number}", message_id=f"m-{number}")
    await world.settle()
    assert len(await rejected(world)) == 3


def test_an_unknown_field_is_tolerated() -> None:
    event = json.loads(a_billing_event()) | {"traceparent": "00-ab-cd-01", "extra": 1}
    event["data"]["snapshot"]["coupon"] = "X"
    assert read(json.dumps(event).encode()).state.sequence == 1


@pytest.mark.parametrize("text", ["☃" * 10, "'; drop table", "a/b\\c#d?e\tf"])
async def test_foreign_text_is_no_key(text: str) -> None:
    world = World()
    order = await world.order()
    event = json.loads(a_billing_event(order_id=order.order_id)) | {"id": text, "source": text}
    await world.send(json.dumps(event))
    await world.settle()
    assert (await world.space(order.space_id)).status is Status.ACTIVE


def test_a_lone_surrogate_is_not_text() -> None:
    event = json.loads(a_billing_event()) | {"id": "\ud800"}
    with pytest.raises(RejectedError) as rejected_event:
        read(json.dumps(event).encode())
    assert rejected_event.value.reason == "not-json"


async def test_an_order_may_be_a_moment_behind_its_event() -> None:
    world = World()
    from provisioning import orders  # noqa: PLC0415 - the ids that the order will get

    order_id, _ = orders.ids_of("key:default", "k-1")
    await world.send(a_billing_event(order_id=order_id))
    await world.pump()
    order = await world.order()
    assert order.order_id == order_id
    await world.settle()
    assert (await world.space(order.space_id)).status is Status.ACTIVE
    assert await rejected(world) == []


async def test_an_order_that_never_comes_is_rejected_after_two_minutes() -> None:
    world = World()
    await world.send(a_billing_event(order_id="o-doesnotexist"))
    await world.settle()
    assert await rejected(world) == ["unknown-order"]
    row = (await world.bare.tables.query("rejected"))[0]
    assert row.values["message_id"]


async def test_a_late_event_changes_nothing_and_is_kept() -> None:
    world = World()
    order = await world.order()
    await world.send(a_billing_event(order_id=order.order_id, sequence=7), message_id="a")
    await world.settle()
    late = a_billing_event(
        order_id=order.order_id, sequence=6, event_id="evt-6", status="suspended"
    )
    before = await world.space(order.space_id)
    await world.send(late, message_id="b")
    await world.settle()
    assert await world.space(order.space_id) == before
    assert await rejected(world) == ["late-sequence"]


async def test_an_event_that_comes_before_its_order_is_known_waits_for_the_one_that_tells_it() -> (
    None
):
    """Only the first event carries the order, and it may come last; each comes twice."""
    for arrival in itertools.permutations((1, 2, 3)):
        world = World()
        order = await world.order(plan="starter")
        bodies = {
            n: a_billing_event(
                order_id=order.order_id if n == 1 else None,
                kind="activated" if n == 1 else "plan_changed",
                plan={1: "starter", 2: "standard", 3: "premium"}[n],
                sequence=n,
                event_id=f"e-{n}",
            )
            for n in (1, 2, 3)
        }
        for copy in range(2):
            for n in arrival:
                await world.send(bodies[n], message_id=f"m-{copy}-{n}")
                await world.settle()
        space = await world.space(order.space_id)
        assert (space.status, space.desired) == (Status.ACTIVE, "active")
        assert space.billing is not None
        assert space.billing.plan == "premium"
        assert world.arm.names() == [f"{order.space_id}-1"]


async def test_an_event_that_joins_is_taken_up_at_any_port_call() -> None:
    calls = 1
    for side in ("before", "after"):
        at = 0
        while at < calls:
            at += 1
            counter = Counter(at=10**9)
            world = World(counter)
            order = await world.order()
            early = a_billing_event(
                order_id=None, kind="plan_changed", sequence=2, event_id="e-2"
            )
            await world.send(early, message_id="a")
            await world.settle()
            counter.at, counter.side, start = counter.seen + at, side, counter.seen
            await world.send(a_billing_event(order_id=order.order_id), message_id="b")
            await world.settle()
            calls = max(calls, counter.seen - start)
            where = f"call {at} {side}"
            assert (await world.space(order.space_id)).status is Status.ACTIVE, where
            assert await rejected(world) == [], where


async def test_a_rejected_event_does_not_tie_its_subscription_to_the_order() -> None:
    world = World()
    first = await world.order()
    await world.send(a_billing_event(order_id=first.order_id), message_id="a")
    await world.settle()
    wrong = a_billing_event(order_id=first.order_id, subject="sub-2", event_id="e-2")
    await world.send(wrong, message_id="b")
    await world.settle()
    assert await rejected(world) == ["order-conflict"]
    second = await world.order(name="other", key="k-2")
    right = a_billing_event(order_id=second.order_id, subject="sub-2", event_id="e-3")
    await world.send(right, message_id="c")
    await world.settle()
    assert (await world.space(second.space_id)).status is Status.ACTIVE


def test_a_moment_of_first_sight_that_a_stranger_tells_counts_for_nothing() -> None:
    enqueued = datetime(2026, 11, 23, 10, tzinfo=UTC)
    for told in (None, "garbage", "2020-01-01T00:00:00", "2099-01-01T00:00:00+00:00", 7):
        assert first_seen(told, enqueued) == enqueued
    assert first_seen("2026-11-23T09:59:00+00:00", enqueued).minute == 59


async def test_a_second_subscription_cannot_take_an_order() -> None:
    world = World()
    order = await world.order()
    await world.send(a_billing_event(order_id=order.order_id), message_id="a")
    await world.settle()
    other = a_billing_event(
        order_id=order.order_id, subject="sub-2", event_id="e-2", sequence=9
    )
    await world.send(other, message_id="b")
    await world.settle()
    assert await rejected(world) == ["order-conflict"]


async def test_later_events_need_no_order_id() -> None:
    world = World()
    order = await world.order()
    await world.send(a_billing_event(order_id=order.order_id), message_id="a")
    await world.settle()
    suspended = a_billing_event(
        order_id=None, kind="suspended", status="suspended", sequence=2, event_id="e-2"
    )
    await world.send(suspended, message_id="b")
    await world.settle()
    space = await world.space(order.space_id)
    assert (space.desired, space.status) == ("suspended", Status.SUSPENDED)
