"""In whatever order a subscription's events come, and however often: the same space in the end.

Control-plane.md amendment 13: all 720 orders of six distinct events, each with a stated placement of
copies (the first comes again right after it, all come again at the end), and seeded interleavings of
three copies of each, with steps of operations in between. The same: billing sequence, what is
desired, and the status when nothing more happens.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from provisioning import billing
from spaces.desire import desired
from spaces.model import BillingState
from spaces.ports import Insert
from tests.builders import a_billing_event
from tests.fakes import START
from tests.provisioning.whole import Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from spaces.ports import Ports

SOON = START + timedelta(hours=6)  # after everything has come, before the day is over
LATER = datetime(2026, 12, 23, tzinfo=UTC)

type Life = list[tuple[str, str, dict[str, Any]]]
type End = tuple[int, str | None, str]

PREMIUM = {"plan": "premium"}

# Six events each, as they happened, and what is desired before and after `SOON`.
LIVES: dict[str, tuple[Life, tuple[str, str]]] = {
    "is paid until its period is over": (
        [
            ("created", "trialing", {}),
            ("activated", "active", {}),
            ("plan_changed", "active", PREMIUM),
            ("suspended", "suspended", PREMIUM),
            ("resumed", "active", PREMIUM),
            ("cancelled", "cancelled", {**PREMIUM, "period_end": SOON}),
        ],
        ("active", "cancelled"),
    ),
    "comes back after its end": (
        [
            ("activated", "active", {}),
            ("cancelled", "cancelled", {"period_end": SOON}),
            ("reactivated", "active", {}),
            ("payment_failed", "past_due", {}),
            ("paid", "active", {}),
            ("country_changed", "active", {"country": "FR"}),
        ],
        ("active", "active"),
    ),
    "is cancelled, though later events call it active": (
        [
            ("created", "trialing", {}),
            ("activated", "active", {}),
            ("trial_ending", "trialing", {}),
            ("cancelled", "active", {"period_end": SOON}),
            ("plan_changed", "active", PREMIUM),
            ("disputed", "active", PREMIUM),
        ],
        ("active", "cancelled"),
    ),
    "is not paid any more": (
        [
            ("activated", "active", {}),
            ("trial_ending", "trialing", {}),
            ("disputed", "unpaid", {}),
            ("erased_request", "unpaid", {}),
            ("suspended", "suspended", {}),
            ("payment_failed", "past_due", {"period_end": SOON, "grace_days": 0}),
        ],
        ("active", "suspended"),
    ),
}
GROUPS = {
    "payment_failed": "invoice", "paid": "invoice", "disputed": "invoice",
    "country_changed": "customer", "erased_request": "customer",
}  # fmt: skip


def bodies_of(life: Life, order_id: str, *, subject: str = "sub-1") -> list[str]:
    """The events of a life; only the first says which order it pays."""
    return [
        a_billing_event(
            kind=kind,
            sequence=sequence,
            order_id=order_id if sequence == 1 else None,
            event_id=f"{subject}-e-{sequence}",
            subject=subject,
            **{"status": status, "period_end": LATER, **more},
        ).replace(f"subscription.{kind}", f"{GROUPS.get(kind, 'subscription')}.{kind}")
        for sequence, (kind, status, more) in enumerate(life, start=1)
    ]


def with_copies(order: Sequence[int]) -> list[int]:
    """The placement of copies: the first again right after it, all again at the end."""
    return [order[0], *order, *order]


async def burst(world: Whole, bodies: Sequence[str], order: Iterable[int]) -> None:
    """All events come before anything is done for any."""
    for number, at in enumerate(order):
        await world.send(bodies[at], message_id=f"m-{number}")
    await world.bus.pump({"billing-events": world._on_billing})


async def trickle(world: Whole, bodies: Sequence[str], chance: random.Random) -> None:
    """Three copies of each in any order, steps of operations and seconds in between."""
    order = [at for at in range(len(bodies)) for _ in range(3)]
    chance.shuffle(order)
    for number, at in enumerate(order):
        await world.send(bodies[at], message_id=f"m-{number}")
        for _ in range(chance.randint(0, 4)):
            queue = chance.choice(list(world.handlers))
            world._react()
            for item in world.bus.receive(queue):
                await world.handlers[queue](item)
                world.bus.complete(item)
        world.clock.advance(chance.choice((0, 0, 1, 10)))


async def end_of(world: Whole, space_id: str) -> End:
    """The state when nothing more happens."""
    await world.settle()
    space = await world.space(space_id)
    assert space.billing is not None
    wish = desired(space, world.clock.now())
    return (space.billing.sequence, wish.value if wish else None, space.status.value)


async def ends_of(world: Whole, space_id: str) -> tuple[End, End]:
    """The end now, and the one after `SOON` has come."""
    now = await end_of(world, space_id)
    world.clock.set(SOON + timedelta(minutes=1))
    await world._sweep()
    return now, await end_of(world, space_id)


async def check_copies(world: Whole) -> None:
    """Nothing was refused but late events, and none of them twice."""
    rows = await world.bare.tables.query("rejected")
    assert {str(row.values["reason"]) for row in rows} <= {"late-sequence"}
    kept = Counter(json.loads(str(row.values["body"]))["id"] for row in rows)
    assert not [event for event, times in kept.items() if times > 1]


async def after(life: Life, order: Sequence[int], wrap: Any = None) -> tuple[End, End]:
    """The ends of a life whose events came in this order, with their copies."""
    world = Whole(wrap=wrap)
    space_id, bodies = await begun(world, life)
    await burst(world, bodies, with_copies(order))
    ends = await ends_of(world, space_id)
    await check_copies(world)
    return ends


async def begun(world: Whole, life: Life) -> tuple[str, list[str]]:
    order = await world.order()
    return order.space_id, bodies_of(life, order.order_id)


ORDERS = list(itertools.permutations(range(6)))
SOME = random.Random(13).sample(ORDERS, 24)  # noqa: S311 - the same sample each time


async def check_orders(name: str, orders: Sequence[Sequence[int]]) -> None:
    life, (now, later) = LIVES[name]
    found = {await after(life, order) for order in orders}
    assert found == {((6, now, now), (6, later, later))}


async def test_all_720_orders_with_copies_end_the_same() -> None:
    """As they stand when everything has come; what follows at the end of the period, those below."""
    life, (now, _) = LIVES["is paid until its period is over"]
    found: set[End] = set()
    for order in ORDERS:
        world = Whole()
        space_id, bodies = await begun(world, life)
        await burst(world, bodies, with_copies(order))
        found.add(await end_of(world, space_id))
        await check_copies(world)
    assert found == {(6, now, now)}


@pytest.mark.parametrize("name", list(LIVES))
async def test_some_orders_of_every_life_end_the_same(name: str) -> None:
    await check_orders(name, SOME)


@pytest.mark.soak
@pytest.mark.parametrize("name", list(LIVES))
async def test_all_orders_of_every_life_end_the_same(name: str) -> None:
    await check_orders(name, ORDERS)


@pytest.mark.parametrize("name", list(LIVES))
async def test_three_copies_of_each_in_any_mixture_end_the_same(name: str) -> None:
    life, (now, later) = LIVES[name]
    found: set[tuple[End, End]] = set()
    for seed in range(25):
        world = Whole()
        space_id, bodies = await begun(world, life)
        await trickle(world, bodies, random.Random(seed))  # noqa: S311 - the seed is the run
        found.add(await ends_of(world, space_id))
        await check_copies(world)
    assert found == {((6, now, now), (6, later, later))}


async def deleted_and_new(order: Sequence[int]) -> tuple[End, End]:
    """A subscription is deleted, and its customer orders a new space with a new one."""
    world = Whole()
    old, new = await world.order(), await world.order(name="acme-2", key="k-2")
    gone: Life = [
        ("activated", "active", {}),
        ("plan_changed", "active", PREMIUM),
        ("deleted", "deleted", PREMIUM),
    ]
    begins: Life = [
        ("created", "trialing", {}),
        ("activated", "active", {}),
        ("paid", "active", {}),
    ]
    bodies = [
        *bodies_of(gone, old.order_id, subject="sub-1"),
        *bodies_of(begins, new.order_id, subject="sub-2"),
    ]
    await burst(world, bodies, with_copies(order))
    ends = await end_of(world, old.space_id), await end_of(world, new.space_id)
    await check_copies(world)
    assert world.arm.names() == [f"{new.space_id}-1"]
    return ends


@pytest.mark.parametrize(
    "orders", [SOME, pytest.param(ORDERS, marks=pytest.mark.soak)], ids=["some", "all"]
)
async def test_a_deleted_subscription_and_its_successor_end_the_same(
    orders: Sequence[Sequence[int]],
) -> None:
    found = {await deleted_and_new(order) for order in orders}
    assert found == {((3, "cancelled", "erased"), (3, "active", "active"))}


async def test_nothing_brings_a_deleted_subscription_back() -> None:
    events: Life = [
        ("activated", "active", {}),
        ("deleted", "deleted", {}),
        ("reactivated", "active", {}),
        ("paid", "active", {}),
    ]
    for order in itertools.permutations(range(4)):
        world = Whole()
        space_id, bodies = await begun(world, events)
        await burst(world, bodies, order)
        assert (await end_of(world, space_id))[:2] == (4, "cancelled"), order


# --- what each guard is for -----------------------------------------------------------------


class _Without:
    """Tables that lose some writes of the subscriptions' transactions."""

    def __init__(self, tables: Any, lost: Callable[[Any], bool]) -> None:
        self._tables = tables
        self._lost = lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    async def commit(self, table: str, partition: str, writes: list[Any]) -> None:
        if table == "subscriptions":
            writes = [write for write in writes if not self._lost(write)]
        if writes:
            await self._tables.commit(table, partition, writes)


def without_inbox(ports: Ports) -> Ports:
    def is_inbox(write: Any) -> bool:
        return isinstance(write, Insert) and write.key.startswith("in!")

    return replace(ports, tables=_Without(ports.tables, is_inbox))  # pyright: ignore[reportArgumentType]


async def test_without_the_inbox_row_copies_are_taken_for_late_events() -> None:
    """Control: what knows a copy is the row that its first one inserted."""
    life, _ = LIVES["is paid until its period is over"]
    with pytest.raises(AssertionError):
        await after(life, range(6), wrap=without_inbox)


async def test_without_the_sequence_check_the_order_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control: what makes an older event old is its sequence."""
    monkeypatch.setattr(billing, "is_newer", lambda told, known: True)
    life, _ = LIVES["is paid until its period is over"]
    assert len({await after(life, order) for order in SOME}) > 1


async def test_without_terminal_wins_a_later_event_undoes_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control: what keeps an ended subscription ended is that only a reactivation counts."""
    monkeypatch.setattr(BillingState, "is_over", property(lambda state: state.deleted))
    name = "is cancelled, though later events call it active"
    with pytest.raises(AssertionError):
        await check_orders(name, SOME)


async def test_without_the_marks_of_late_events_the_order_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control: a late cancellation is remembered, whoever came before it."""
    whole = billing.merged

    def forgetful(known: BillingState | None, told: BillingState) -> BillingState:
        late = known is not None and not billing.is_newer(told, known)
        return known if late and known is not None else whole(known, told)

    from provisioning import apply, subscriptions  # noqa: PLC0415 - their names of it

    for module in (apply, subscriptions):
        monkeypatch.setattr(module, "merged", forgetful)
    life, _ = LIVES["is cancelled, though later events call it active"]
    assert len({await after(life, order) for order in SOME}) > 1
