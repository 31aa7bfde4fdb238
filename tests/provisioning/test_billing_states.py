"""States of a subscription joined: properties over events that no billing system would send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioning import reconcile
from provisioning.billing import TYPES, merged, state_of
from spaces.desire import by_billing, desired, dunning_deadline, next_turn, overridden, told
from spaces.messages import Snapshot
from spaces.model import BillingState, Override, Wish
from tests.builders import a_billing_event, a_billing_state, a_space
from tests.fakes import START, a_subscription
from tests.provisioning.test_reconcile import a_world

if TYPE_CHECKING:
    import random

STATUSES = ("trialing", "active", "past_due", "unpaid", "suspended", "cancelled", "deleted")
NOW = START

snapshots = st.builds(
    Snapshot,
    status=st.sampled_from(STATUSES),
    plan=st.sampled_from(("starter", "standard", "premium")),
    quantity=st.integers(0, 2),
    currency=st.just("EUR"),
    country=st.sampled_from(("DE", "FR")),
    period_end=st.sampled_from([NOW + timedelta(days=days) for days in (-30, -1, 1, 30)]),
    grace_days=st.sampled_from((0, 14)),
    legal_hold=st.booleans(),
    customer_ref=st.just("c-42"),
)
# Contradictory in everything but that one sequence means one state.
lives = st.lists(st.tuples(st.sampled_from(sorted(TYPES)), snapshots), min_size=1, max_size=7)


def states_of(life: list[tuple[str, Snapshot]], start: int = 1) -> list[BillingState]:
    return [state_of(kind, at, state) for at, (kind, state) in enumerate(life, start)]


def joined(states: list[BillingState]) -> BillingState:
    known: BillingState | None = None
    for state in states:
        known = merged(known, state)
    assert known is not None
    return known


@given(lives, st.randoms(use_true_random=False))
def test_no_order_and_no_copy_changes_what_is_known(
    life: list[tuple[str, Snapshot]], chance: random.Random
) -> None:
    states = states_of(life)
    mixed = states * 3
    chance.shuffle(mixed)
    assert joined(mixed) == joined(states)


@given(lives, lives)
def test_joining_is_associative_commutative_and_idempotent(
    one: list[tuple[str, Snapshot]], other: list[tuple[str, Snapshot]]
) -> None:
    known = joined(states_of(one))
    later = states_of(other, start=100)
    more = joined(later)
    assert merged(known, more) == merged(more, known)
    assert merged(known, known) == known
    third = later[0]
    assert merged(merged(known, more), third) == merged(known, merged(more, third))


@given(lives)
def test_what_ended_stays_ended_but_for_a_later_reactivation(
    life: list[tuple[str, Snapshot]],
) -> None:
    """Against a second reading of the rules that looks at the whole life at once."""
    last_end = max(
        (
            at
            for at, (kind, told) in enumerate(life, start=1)
            if kind.endswith((".cancelled", ".deleted"))
            or told.status in {"cancelled", "deleted"}
        ),
        default=0,
    )
    back = any(
        kind.endswith(".reactivated") and told.status not in {"cancelled", "deleted"}
        for kind, told in life[last_end:]
    )
    deleted = any(kind.endswith(".deleted") or told.status == "deleted" for kind, told in life)
    long_after = NOW + timedelta(days=400)
    wish = by_billing(joined(states_of(life)), long_after)
    assert (wish is Wish.CANCELLED) == (deleted or (last_end > 0 and not back))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(TYPES)), st.integers(1, 4), snapshots), max_size=6
    ),
    st.randoms(use_true_random=False),
)
async def test_what_events_contradict_is_settled_by_asking_billing(
    events: list[tuple[str, int, Snapshot]], chance: random.Random
) -> None:
    """Even where one sequence means several things: after the reconciler, one state in any order."""
    ends: set[Any] = set()
    for turn in range(2):
        world, billing = a_world()
        order = await world.order()
        arrival = list(enumerate(events))
        if turn:
            chance.shuffle(arrival)
        for number, (kind, sequence, state) in arrival:
            told_now = {name: getattr(state, name) for name in state.__struct_fields__}
            body = a_billing_event(
                kind="x", sequence=sequence, order_id=order.order_id, event_id=f"e-{number}",
                **told_now,
            ).replace("billing.subscription.x", kind)  # fmt: skip
            await world.send(body, message_id=f"m-{number}")
        await world.bus.pump({"billing-events": world._on_billing})
        billing.tell(a_subscription(sequence=4, plan="premium", order_id=order.order_id))
        await reconcile.run(world.ports)
        space = await world.space(order.space_id)
        assert space.billing is not None
        known = space.billing
        ends.add((known.sequence, known.status, known.plan, known.deleted, space.desired))
    assert len(ends) == 1, ends


# --- what is desired ------------------------------------------------------------------------

END = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "before", "after"),
    [
        (a_billing_state(status="trialing"), "active", "active"),
        (a_billing_state(status="active"), "active", "active"),
        (a_billing_state(status="unpaid"), "suspended", "suspended"),
        (a_billing_state(status="suspended"), "suspended", "suspended"),
        (
            a_billing_state(status="past_due", period_end=END, grace_days=0),
            "active",
            "suspended",
        ),
        (a_billing_state(status="cancelled", period_end=END), "active", "cancelled"),
        (a_billing_state(status="deleted", period_end=END), "cancelled", "cancelled"),
        (a_billing_state(deleted=True), "cancelled", "cancelled"),
        (a_billing_state(cancelled_sequence=1, ends_at=END), "active", "cancelled"),
        (
            a_billing_state(status="unpaid", cancelled_sequence=1, ends_at=END),
            "suspended",
            "cancelled",
        ),
        (
            a_billing_state(cancelled_sequence=1, reactivated_sequence=2, ends_at=END),
            "active",
            "active",
        ),
    ],
)
def test_what_billing_asks_for_before_and_after_a_period(
    state: BillingState, before: str, after: str
) -> None:
    space = a_space(billing=state)
    assert told(space, END - timedelta(seconds=1)).desired == before
    assert told(space, END).desired == after
    turn = next_turn(space, START)
    assert (turn == END) == (before != after)


def test_grace_days_lengthen_what_is_past_due() -> None:
    state = a_billing_state(status="past_due", period_end=END, grace_days=14)
    assert dunning_deadline(state) == END + timedelta(days=14)
    assert by_billing(state, END + timedelta(days=13)) is Wish.ACTIVE
    assert by_billing(state, END + timedelta(days=14)) is Wish.SUSPENDED


def test_an_operators_word_stands_over_billings_until_it_ends() -> None:
    held = Override(wish=Wish.ACTIVE, reason="r", actor="a", at=START, until=END)
    space = overridden(a_space(billing=a_billing_state(status="suspended")), held, START)
    assert space.desired == "active"
    assert desired(space, END) is Wish.SUSPENDED
    assert next_turn(space, START) == END
    assert overridden(space, None, START).desired == "suspended"


def test_a_space_that_nobody_spoke_of_is_to_be_nothing() -> None:
    assert told(a_space(billing=None, desired="active"), START).desired is None
