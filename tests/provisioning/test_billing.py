"""What billing events do, in any order, and what happens to junk."""

from __future__ import annotations

import itertools
import json

import pytest

from provisioning.billing import RejectedError, read
from spaces.model import Status
from tests.builders import a_billing_event
from tests.provisioning.world import World


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
        (a_billing_event(subject=""), "not-cloudevent"),
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
        order_id=order.order_id, sequence=6, event_id="evt-6", status="cancelled"
    )
    before = await world.space(order.space_id)
    await world.send(late, message_id="b")
    await world.settle()
    assert await world.space(order.space_id) == before
    assert await rejected(world) == ["late-sequence"]


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
    assert (space.desired, space.status) == ("suspended", Status.ACTIVE)


KINDS = (
    ("created", "trialing"),
    ("activated", "active"),
    ("plan_changed", "active"),
    ("suspended", "suspended"),
    ("resumed", "active"),
    ("cancelled", "cancelled"),
)


async def test_any_order_of_six_events_ends_in_the_same_desired_state() -> None:
    """All 720 orders; each event comes twice, the second time at the very end."""
    ends: set[tuple[int, str | None]] = set()
    for order_of_events in itertools.permutations(range(6)):
        world = World()
        order = await world.order()
        bodies = [
            a_billing_event(
                order_id=order.order_id, kind=kind, status=status, sequence=n, event_id=f"e-{n}"
            )
            for n, (kind, status) in enumerate(KINDS, start=1)
        ]
        for copy in range(2):
            for at in order_of_events:
                await world.send(bodies[at], message_id=f"m-{copy}-{at}")
        await world.bus.pump({"billing-events": world._on_billing})
        space = await world.space(order.space_id)
        assert space.billing is not None
        ends.add((space.billing.sequence, space.desired))
        assert "not-json" not in await rejected(world)
    assert ends == {(6, "cancelled")}
