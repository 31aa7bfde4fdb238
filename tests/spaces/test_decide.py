"""Where an operation goes after a step: the whole table, and its limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.errors import ErrorKind
from spaces.model import OpKind, OpStatus, Phase, Stop
from spaces.saga import decide as decide_module
from spaces.saga.decide import (
    Advance,
    Again,
    Decision,
    Finish,
    Park,
    backoff_s,
    decide,
    extended,
    is_unseen,
    last_start,
    look_again,
    outcome_of,
)
from spaces.saga.outcomes import Done, Failed, Outcome, Plan, Retry, Step, Wait, Work
from tests.builders import a_running
from tests.fakes import START

if TYPE_CHECKING:
    from spaces.ports import Ports


async def nothing(ports: Ports, work: Work) -> Outcome:
    del ports, work
    return Done()


PLAN = Plan(
    kind=OpKind.PROVISION,
    queue="q",
    steps=(
        Step(name="reserve", act=nothing, undo=nothing, budget_s=60),
        Step(name="deploy", act=nothing, undo=nothing, budget_s=60),
        Step(name="activate", act=nothing, budget_s=60),
    ),
)
IN_TIME = START + timedelta(seconds=10)
DEADLINE = a_running().step_deadline_at
LATE = DEADLINE + timedelta(seconds=20)
UNSEEN = DEADLINE + timedelta(seconds=90)


FAR = a_running(step_deadline_at=START + timedelta(days=365))


def after(outcome: Outcome, **over: object) -> Decision:
    now = over.pop("now", IN_TIME)
    return decide(a_running(**over), outcome, plan=PLAN, now=now, floor_s=0.5)  # pyright: ignore[reportArgumentType]


def test_a_done_step_leads_to_the_next_with_a_fresh_budget() -> None:
    decision = after(Done(facts={"a": "b"}), attempt=3)
    assert isinstance(decision, Advance)
    op = decision.op
    assert (op.step, op.attempt, op.facts["a"]) == ("deploy", 1, "b")
    assert op.step_deadline_at == IN_TIME + timedelta(seconds=60)


def test_the_last_step_ends_the_operation() -> None:
    decision = after(Done(), at=2)
    assert isinstance(decision, Finish)
    assert decision.status is OpStatus.SUCCEEDED


def test_a_failed_step_is_undone_itself_first() -> None:
    decision = after(Failed(reason="no"), at=1)
    assert isinstance(decision, Advance)
    assert (decision.op.phase, decision.op.step, decision.op.error) == (
        Phase.UNDO,
        "deploy",
        "no",
    )


def test_the_way_back_skips_what_has_nothing_to_undo() -> None:
    decision = after(Failed(reason="no"), at=2)
    assert isinstance(decision, Advance)
    assert decision.op.step == "deploy"


def test_the_way_back_ends_failed_with_the_first_reason() -> None:
    decision = after(Done(), at=0, phase=Phase.UNDO, error="no")
    assert isinstance(decision, Finish)
    assert (decision.status, decision.error) == (OpStatus.FAILED, "no")


def test_what_cannot_be_undone_needs_an_operator() -> None:
    decision = after(Failed(reason="stuck"), at=1, phase=Phase.UNDO, error="no")
    assert isinstance(decision, Park)
    assert (decision.op.stuck, decision.op.at) == ("no · stuck", 1)


@pytest.mark.parametrize(
    "outcome", [Wait(delay_s=1), Retry(kind=ErrorKind.TRANSIENT, reason="busy")]
)
def test_a_step_past_its_budget_fails(outcome: Outcome) -> None:
    decision = after(outcome, now=LATE)
    assert isinstance(decision, Advance)
    assert decision.op.phase is Phase.UNDO


@pytest.mark.parametrize(
    "outcome", [Wait(delay_s=1), Retry(kind=ErrorKind.TRANSIENT, reason="busy")]
)
def test_a_step_that_nobody_looked_at_is_extended_once(outcome: Outcome) -> None:
    decision = after(outcome, now=UNSEEN)
    assert isinstance(decision, Advance)
    assert (decision.op.phase, decision.op.attempt, decision.step_ended) == (Phase.DO, 2, False)
    assert decision.op.step_deadline_at == UNSEEN + timedelta(seconds=300)
    again = after(outcome, now=UNSEEN, extended=True)
    assert isinstance(again, Advance)
    assert again.op.phase is Phase.UNDO


def test_a_done_step_is_done_however_late() -> None:
    decision = after(Done(), now=UNSEEN, extended=True)
    assert isinstance(decision, Advance)
    assert (decision.op.step, decision.op.extended) == ("deploy", False)


def test_a_reason_of_any_length_fits_into_its_rows() -> None:
    failed = after(Failed(reason="x" * 100_000), at=1)
    assert isinstance(failed, Advance)
    assert len(failed.op.error or "") == len(failed.op.detail) == 1_000
    tried = after(Retry(kind=ErrorKind.TRANSIENT, reason="x" * 100_000))
    assert isinstance(tried, Advance)
    assert len(tried.op.detail) == 1_000


def test_a_retry_is_a_counted_attempt_within_the_same_budget() -> None:
    decision = after(Retry(kind=ErrorKind.TRANSIENT, reason="busy"))
    assert isinstance(decision, Advance)
    assert (decision.op.attempt, decision.step_ended) == (2, False)
    assert decision.op.step_deadline_at == a_running().step_deadline_at
    assert decision.op.next_poke_at == IN_TIME + timedelta(seconds=5)


@given(st.integers(min_value=1, max_value=10_000))
def test_the_back_off_grows_and_is_bounded(attempt: int) -> None:
    assert 5 <= backoff_s(attempt) <= backoff_s(attempt + 1) <= 900


@given(
    st.floats(min_value=0, max_value=1e6), st.floats(min_value=0.1, max_value=600), st.data()
)
def test_two_chains_of_looks_fall_on_the_same_ids(
    offset: float, delay_s: float, data: st.DataObject
) -> None:
    """Two that begin anywhere are one after a few looks, each handled a little after its slot."""
    slots: list[list[int]] = []
    for _ in range(2):
        now = START + timedelta(seconds=offset + data.draw(st.floats(0, 10)) * delay_s)
        chain: list[int] = []
        while not chain or now < START + timedelta(seconds=offset + 16 * delay_s):
            look = look_again(FAR, now, delay_s)
            pause = (look.due_at - now).total_seconds()
            assert 0.79 * delay_s - 0.001 <= pause <= 1.81 * delay_s + 0.001
            chain.append(look.slot)
            now = look.due_at + timedelta(seconds=delay_s * data.draw(st.floats(0.01, 0.15)))
        slots.append(chain)
    assert set(slots[0][-2:]) & set(slots[1])


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_of_error_is_tried_again_or_fails(kind: ErrorKind) -> None:
    again = kind in {
        ErrorKind.THROTTLED,
        ErrorKind.TRANSIENT,
        ErrorKind.CONFLICT,
        ErrorKind.UNKNOWN,
    }
    assert isinstance(outcome_of(kind, "x"), Retry if again else Failed)


def test_a_ticket_names_operation_phase_step_and_attempt() -> None:
    op = a_running()
    tickets = {
        op.ticket,
        replace(op, attempt=2).ticket,
        replace(op, at=1).ticket,
        replace(op, phase=Phase.UNDO).ticket,
    }
    assert len(tickets) == 4


# --- stops, long attempts, adoption

ASKED = Stop(actor="ops", reason="not wanted", at=START)


def test_a_stop_lets_the_running_step_end_and_then_goes_back() -> None:
    assert isinstance(after(Wait(delay_s=1), at=1, stop=ASKED), Again)
    decision = after(Done(), at=1, stop=ASKED)
    assert isinstance(decision, Advance)
    assert (decision.op.phase, decision.op.step) == (Phase.UNDO, "deploy")
    assert decision.op.error == "stopped by ops: not wanted"


def test_a_stopped_step_is_not_tried_again() -> None:
    decision = after(Retry(kind=ErrorKind.TRANSIENT, reason="busy"), at=1, stop=ASKED)
    assert isinstance(decision, Advance)
    assert (decision.op.phase, decision.op.step) == (Phase.UNDO, "deploy")


def test_what_is_stopped_ends_canceled_and_what_fails_ends_failed() -> None:
    for stop, status in ((ASKED, OpStatus.CANCELED), (None, OpStatus.FAILED)):
        decision = after(Done(), at=0, phase=Phase.UNDO, error="why", stop=stop)
        assert isinstance(decision, Finish)
        assert (decision.status, decision.error) == (status, "why")


def test_a_stop_that_comes_during_the_last_step_comes_too_late() -> None:
    decision = after(Done(), at=2, stop=ASKED)
    assert isinstance(decision, Finish)
    assert decision.status is OpStatus.SUCCEEDED


def test_a_look_never_comes_long_after_the_deadline() -> None:
    now = DEADLINE - timedelta(seconds=2)
    decision = after(Wait(delay_s=600), at=1, now=now)
    assert isinstance(decision, Again)
    assert now < decision.due_at <= DEADLINE + timedelta(seconds=1)


def test_a_long_attempt_is_not_begun_where_it_could_not_end_in_time() -> None:
    op = a_running(at=1, attempt_s=480)
    assert last_start(op) == DEADLINE - timedelta(seconds=480)
    busy = Retry(kind=ErrorKind.TRANSIENT, reason="busy")
    decision = after(busy, at=1, attempt_s=480, now=last_start(op) + timedelta(seconds=1))
    assert isinstance(decision, Advance)
    assert decision.op.phase is Phase.UNDO
    decision = after(busy, at=1, attempt_s=480, attempt=9, now=last_start(op))
    assert isinstance(decision, Advance)
    assert decision.op.next_poke_at <= last_start(op) + timedelta(seconds=1)


@pytest.mark.parametrize(
    "outcome", [Failed(reason="absent"), Retry(kind=ErrorKind.UNKNOWN, reason="absent")]
)
def test_what_cannot_be_adopted_waits_for_the_operator_again(outcome: Outcome) -> None:
    decision = after(outcome, at=1, adopting=True)
    assert isinstance(decision, Park)
    assert decision.op.stuck == "step deploy cannot be adopted: absent"
    assert not decision.op.adopting
    late = after(Wait(delay_s=1, detail="creating"), at=1, adopting=True, now=LATE)
    assert isinstance(late, Park)


def test_what_is_adopted_goes_on() -> None:
    decision = after(Done(), at=1, adopting=True)
    assert isinstance(decision, Advance)
    assert (decision.op.step, decision.op.adopting) == ("activate", False)


def test_a_step_that_nobody_sees_is_with_an_operator_two_minutes_after_its_deadline() -> None:
    """A sweep each minute: the first after `UNSEEN` extends it, the first after that gives it up."""
    for attempt_s in (0.0, 480.0):
        op = a_running(attempt_s=attempt_s)
        first = op.step_deadline_at + decide_module.UNSEEN + timedelta(seconds=60)
        assert first - op.step_deadline_at < timedelta(minutes=2)
        assert is_unseen(op, first)
        longer = extended(op, first)
        second = longer.step_deadline_at + decide_module.UNSEEN + timedelta(seconds=60)
        assert second - longer.step_deadline_at < timedelta(minutes=2)
        assert is_unseen(longer, second)
