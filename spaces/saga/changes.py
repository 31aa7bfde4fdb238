"""What each decision writes, in one transaction: rows, audit entry, promises. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from spaces import audit
from spaces.lifecycle import MATRIX
from spaces.messages import Poke, encode
from spaces.model import OpStatus, Phase, Running
from spaces.planner import after_ending
from spaces.ports import Message
from spaces.registry import NO_MESSAGE, Change, Event, OpRow, StepRow
from spaces.saga.decide import MOST_TEXT, Advance, Again, Finish, Park
from spaces.saga.outcomes import Done, Outcome

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import Space
    from spaces.ports import Write
    from spaces.saga.decide import Decision
    from spaces.saga.outcomes import Plan
    from spaces.saga.outline import Outline


def change_of(
    space: Space,
    op: Running,
    outcome: Outcome,
    decision: Decision,
    *,
    plan: Plan | Outline,
    now: datetime,
    cause: str,
) -> Change:
    """All that one transaction writes for this decision of the runner."""
    match decision:
        case Advance(op=following, step_ended=step_ended):
            status = _step_status(op, outcome)
            return Change(
                space=_changed(replace(space, op=following), outcome),
                entry=entry(op, "advanced" if step_ended else "retried"),
                inbox=("pokes", cause),
                next=poke_message(plan.queue, space, following),
                events=_events(outcome),
                steps=(step_row(op, status, now, outcome),) if step_ended else (),
                rows=_rows(outcome),
                delivered=True,
            )
        case Finish(op=last, status=status, error=error):
            changed = _changed(ended(space, last, status, error, now), outcome)
            told = told_at_end(plan, op, status, error)
            return Change(
                space=changed,
                entry=entry(op, status.value),
                inbox=("pokes", cause),
                next=NO_MESSAGE,
                events=(*_events(outcome), *told),
                op=op_row(space, last, status=status, ended_at=now, error=error),
                steps=(step_row(op, _step_status(op, outcome), now, outcome),),
                rows=_rows(outcome),
                delivered=True,
            )
        case Park(op=parked):
            return replace(
                parking(space, parked, now, outcome), inbox=("pokes", cause), delivered=True
            )
        case Again():
            raise ValueError("a look writes nothing")


def ended(
    space: Space, op: Running, status: OpStatus, error: str | None, now: datetime
) -> Space:
    """The space whose operation has ended: where that leads, and what it says of the next try."""
    rule = MATRIX[op.kind]
    target = rule.success if status is OpStatus.SUCCEEDED else rule.failure
    failed = status is not OpStatus.SUCCEEDED and rule.failure is not None
    after = replace(
        space,
        op=None,
        status=target or space.status,
        failure=error if failed else space.failure,
    )
    return after_ending(after, op, status, now)


def told_at_end(
    plan: Plan | Outline, op: Running, status: OpStatus, error: str | None
) -> tuple[Event, ...]:
    """The CloudEvents of an end.

    What was stopped did not fail, unless the space has failed with it: whoever was paid for it
    must hear that there will be none.
    """
    words = {OpStatus.SUCCEEDED: plan.succeeded, OpStatus.FAILED: plan.failed}
    if MATRIX[op.kind].failure is not None:
        words[OpStatus.CANCELED] = plan.failed
    kind = words.get(status, "")
    verdict = "completed" if status is OpStatus.SUCCEEDED else status.value
    data: dict[str, str | int | float | bool | None] = {
        "operation_id": op.op_id,
        "error": error,
    }
    return (
        *((Event(type=kind, data=data),) if kind else ()),
        Event(type=f"space.operation.{verdict}", data=data),
    )


def parking(space: Space, parked: Running, now: datetime, outcome: Outcome) -> Change:
    """The transaction that gives an operation to an operator, with what was last seen."""
    data: dict[str, str | int | float | bool | None] = {
        "operation_id": parked.op_id,
        "error": parked.stuck,
    }
    return Change(
        space=replace(space, op=parked),
        entry=entry(parked, "needs_operator"),
        next=NO_MESSAGE,
        events=(Event(type="space.operation.needs_operator", data=data),),
        op=op_row(
            space, parked, status=OpStatus.NEEDS_OPERATOR, ended_at=None, error=parked.stuck
        ),
        steps=(step_row(parked, OpStatus.NEEDS_OPERATOR, now, outcome),),
    )


def poke_message(queue: str, space: Space, op: Running) -> Message:
    """The message that moves `op` on, scheduled where it must wait."""
    now = op.step_started_at
    return Message(
        queue=queue,
        message_id=f"{op.ticket}:0",
        body=encode(Poke(space_id=space.space_id, op_id=op.op_id, ticket=op.ticket)),
        due_at=op.next_poke_at if op.next_poke_at > now else None,
    )


def look_message(plan: Plan | Outline, space: Space, op: Running, again: Again) -> Message:
    """The scheduled message of one look; looks of one slot share an id and so merge."""
    return Message(
        queue=plan.queue,
        message_id=f"{op.ticket}:p{again.slot}",
        body=encode(Poke(space_id=space.space_id, op_id=op.op_id, ticket=op.ticket)),
        due_at=again.due_at,
    )


def op_row(
    space: Space, op: Running, *, status: OpStatus, ended_at: datetime | None, error: str | None
) -> OpRow:
    """The row of an operation."""
    return OpRow(
        op_id=op.op_id,
        space_id=space.space_id,
        kind=op.kind.value,
        status=status,
        steps=op.steps,
        started_at=op.started_at,
        ended_at=ended_at,
        error=error,
        error_kind=op.error_kind,
        params=op.params,
    )


def _changed(space: Space, outcome: Outcome) -> Space:
    if isinstance(outcome, Done) and outcome.change is not None:
        return outcome.change(space)
    return space


def _events(outcome: Outcome) -> tuple[Event, ...]:
    return outcome.events if isinstance(outcome, Done) else ()


def _rows(outcome: Outcome) -> tuple[Write, ...]:
    return outcome.rows if isinstance(outcome, Done) else ()


def _step_status(op: Running, outcome: Outcome) -> OpStatus:
    if not isinstance(outcome, Done):
        return OpStatus.FAILED
    return OpStatus.SUCCEEDED if op.phase is Phase.DO else OpStatus.CANCELED


def step_row(op: Running, status: OpStatus, now: datetime, outcome: Outcome) -> StepRow:
    """The row of the step that ends, with what it said last."""
    detail = outcome.detail if isinstance(outcome, Done) else getattr(outcome, "reason", "")
    detail = detail[:MOST_TEXT]
    if op.phase is Phase.UNDO:
        detail = f"undone: {detail}" if detail else "undone"
    return StepRow(
        op_id=op.op_id,
        number=op.at,
        name=op.step,
        status=status,
        started_at=op.step_started_at,
        ended_at=now,
        attempts=op.attempt,
        detail=detail,
    )


def entry(op: Running, what: str) -> audit.Entry:
    """What the control plane itself did to an operation."""
    return audit.Entry(
        act=f"operation.{what}",
        actor="control-plane",
        obj=op.op_id,
        detail={"step": op.step, "attempt": op.attempt, "phase": op.phase.value},
    )
