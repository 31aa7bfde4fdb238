"""What a space needs next: the whole table of statuses and wishes, and what holds it back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.lifecycle import refusal
from spaces.model import BackupId, Mark, OpKind, OpStatus, Override, Status, Stop, Wish
from spaces.planner import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    after_ending,
    due_at,
    needed,
    stopping,
)
from tests.builders import a_billing_state, a_running, a_space
from tests.fakes import START

if TYPE_CHECKING:
    from spaces.model import Space

PAST, FUTURE = START - timedelta(days=1), START + timedelta(days=1)
MARK = Mark(reason="a reason", actor="ops", at=START)
WISHED = {Wish.ACTIVE: "active", Wish.SUSPENDED: "unpaid", Wish.CANCELLED: "deleted"}


def one(status: Status, wish: Wish | None, **over: Any) -> Space:
    """A space of this status that billing wants so; cancelled ones are within their grace."""
    billing = a_billing_state(status=WISHED[wish], paid=True) if wish is not None else None
    opened = None if status in {Status.REQUESTED, Status.FAILED} else PAST
    given: dict[str, Any] = {
        "status": status,
        "billing": billing,
        "activated_at": opened,
        "grace_until": FUTURE if status is Status.CANCELLED else None,
        "final_backup": BackupId("b-1") if status is Status.CANCELLED else None,
        "retain_until": FUTURE if status is Status.DELETED else None,
    }
    return a_space(**{**given, **over})


NEEDS: dict[Status, dict[Wish | None, OpKind | None]] = {
    Status.REQUESTED: {
        None: None,
        Wish.ACTIVE: OpKind.PROVISION,
        Wish.SUSPENDED: OpKind.PROVISION,
        Wish.CANCELLED: OpKind.CANCEL,
    },
    Status.ACTIVE: {
        None: None,
        Wish.ACTIVE: None,
        Wish.SUSPENDED: OpKind.SUSPEND,
        Wish.CANCELLED: OpKind.CANCEL,
    },
    Status.SUSPENDED: {
        None: None,
        Wish.ACTIVE: OpKind.RESUME,
        Wish.SUSPENDED: None,
        Wish.CANCELLED: OpKind.CANCEL,
    },
    Status.CANCELLED: {
        None: None,
        Wish.ACTIVE: OpKind.RESUME,
        Wish.SUSPENDED: None,
        Wish.CANCELLED: None,
    },
    Status.FAILED: {
        None: None,
        Wish.ACTIVE: None,
        Wish.SUSPENDED: None,
        Wish.CANCELLED: OpKind.CANCEL,
    },
    **{
        status: dict.fromkeys((None, *Wish))
        for status in (Status.WARM, Status.DELETED, Status.ERASED)
    },
}


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("wish", [None, *Wish])
def test_every_status_under_every_wish_has_its_one_need(
    status: Status, wish: Wish | None
) -> None:
    space = one(status, wish)
    need = needed(space, START)
    assert (need.kind if need else None) == NEEDS[status][wish]
    if need is not None:
        assert need.why
        assert refusal(space, need.kind, START) is None, "the planner asks for what is refused"


@given(
    status=st.sampled_from(Status),
    wish=st.sampled_from([None, *Wish]),
    ends=st.sampled_from([PAST, FUTURE, None]),
    hold=st.booleans(),
    opened=st.booleans(),
)
def test_what_is_needed_may_always_start(
    status: Status, wish: Wish | None, ends: Any, *, hold: bool, opened: bool
) -> None:
    space = one(status, wish, grace_until=ends, retain_until=ends)
    if space.billing is not None:
        space = replace(space, billing=replace(space.billing, legal_hold=hold))
    if opened and status is Status.CANCELLED:
        space = replace(space, activated_at=None)
    need = needed(space, START)
    assert need is None or refusal(space, need.kind, START) is None


def test_time_leads_on_where_nothing_happens() -> None:
    cancelled = one(Status.CANCELLED, Wish.CANCELLED)
    assert due_at(cancelled, START) == FUTURE
    need = needed(cancelled, FUTURE)
    assert need is not None
    assert need.kind is OpKind.DELETE
    deleted = one(Status.DELETED, Wish.CANCELLED)
    assert due_at(deleted, START) == FUTURE
    need = needed(deleted, FUTURE)
    assert need is not None
    assert need.kind is OpKind.ERASE


@pytest.mark.parametrize("hold", [{"deletion_lock": MARK}, {"legal": True}])
def test_what_is_held_is_neither_deleted_nor_erased(hold: dict[str, Any]) -> None:
    for status, data in (
        (Status.CANCELLED, PAST),
        (Status.CANCELLED, None),
        (Status.DELETED, PAST),
    ):
        space = one(status, Wish.CANCELLED, activated_at=data)
        assert needed(space, FUTURE) is not None
        if "legal" in hold:
            assert space.billing is not None
            space = replace(space, billing=replace(space.billing, legal_hold=True))
        else:
            space = replace(space, **hold)
        assert needed(space, FUTURE) is None


@pytest.mark.parametrize("flag", ["paused", "held", "quarantined"])
def test_nothing_starts_by_itself_under_a_flag(flag: str) -> None:
    space = one(Status.ACTIVE, Wish.SUSPENDED)
    assert needed(space, START) is not None
    assert needed(replace(space, **{flag: MARK}), START) is None


@pytest.mark.parametrize("stuck", [None, "broken"])
def test_nothing_starts_beside_an_operation(stuck: str | None) -> None:
    space = one(Status.ACTIVE, Wish.SUSPENDED, op=a_running(stuck=stuck))
    assert needed(space, START) is None


def test_an_operators_plan_stands_until_billings_next_word() -> None:
    space = one(Status.ACTIVE, Wish.ACTIVE)
    assert space.billing is not None
    bigger = replace(space, billing=replace(space.billing, plan="premium", sequence=7))
    need = needed(bigger, START)
    assert need is not None
    assert (need.kind, need.params) == (OpKind.RESIZE, {"plan": "premium"})
    by_hand = after_ending(bigger, a_resize(7), OpStatus.SUCCEEDED, START)
    assert by_hand.sized_for == 7
    assert needed(by_hand, START) is None
    again = replace(by_hand, billing=replace(bigger.billing, sequence=8))  # pyright: ignore[reportArgumentType]
    assert needed(again, START) is not None


def a_resize(sequence: int) -> Any:
    return a_running(kind=OpKind.RESIZE, params={"billing_sequence": sequence})


def test_a_plan_that_could_not_be_reached_waits_for_billings_next_word() -> None:
    space = one(Status.ACTIVE, Wish.ACTIVE)
    assert space.billing is not None
    bigger = replace(space, billing=replace(space.billing, plan="premium", sequence=7))
    failed = after_ending(bigger, a_resize(7), OpStatus.FAILED, START)
    assert needed(failed, START + timedelta(days=300)) is None
    assert needed(failed, START) is None
    came_meanwhile = after_ending(bigger, a_resize(6), OpStatus.FAILED, START)
    assert needed(came_meanwhile, START) is not None, "the newer word is another cause"


def test_what_failed_is_tried_again_after_a_growing_pause_and_never_given_up() -> None:
    space, now, pauses = one(Status.ACTIVE, Wish.SUSPENDED), START, []
    op = a_running(kind=OpKind.SUSPEND)
    for _ in range(12):
        space = after_ending(space, op, OpStatus.FAILED, now)
        assert space.setback is not None
        assert space.setback.until is not None
        assert needed(space, now) is None
        assert due_at(space, now) == space.setback.until
        pauses.append(space.setback.until - now)
        now = space.setback.until
        assert needed(space, now) is not None
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert after_ending(space, op, OpStatus.SUCCEEDED, now).setback is None


def test_another_word_is_tried_at_once() -> None:
    space = after_ending(
        one(Status.ACTIVE, Wish.SUSPENDED),
        a_running(kind=OpKind.SUSPEND),
        OpStatus.FAILED,
        START,
    )
    assert space.billing is not None
    newer = replace(space, billing=replace(space.billing, sequence=9))
    assert needed(newer, START) is not None
    override = Override(wish=Wish.SUSPENDED, reason="r", actor="ops", at=START)
    assert needed(replace(space, override=override), START) is not None
    other = replace(
        space, override=Override(wish=Wish.CANCELLED, reason="r", actor="ops", at=START)
    )
    need = needed(other, START)
    assert need is not None
    assert need.kind is OpKind.CANCEL


def test_what_nobody_wishes_any_more_leaves_no_setback() -> None:
    space = one(Status.ACTIVE, Wish.ACTIVE)
    op = a_running(kind=OpKind.SUSPEND)
    assert after_ending(space, op, OpStatus.FAILED, START).setback is None


def test_only_an_opening_is_stopped_and_only_once() -> None:
    opening = one(Status.REQUESTED, Wish.CANCELLED, op=a_running())
    stopped = stopping(opening, START)
    assert stopped.op is not None
    assert stopped.op.stop is not None
    assert stopping(stopped, FUTURE) is stopped
    asked = Stop(actor="ops", reason="r", at=START)
    for space in (
        one(Status.REQUESTED, Wish.ACTIVE, op=a_running()),
        one(Status.ACTIVE, Wish.CANCELLED, op=a_running(kind=OpKind.BACKUP)),
        one(Status.REQUESTED, Wish.CANCELLED, op=a_running(stuck="broken")),
        one(Status.REQUESTED, Wish.CANCELLED, op=a_running(stop=asked)),
        one(Status.REQUESTED, Wish.CANCELLED),
    ):
        assert stopping(space, START) is space
