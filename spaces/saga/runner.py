"""The shell of the saga: load, act, decide, commit, send.

Safe to repeat from any line, in any number of processes at once. The numbers in the comments are
the lines of control-plane.md 3.5; tests stop the process at each of them.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from spaces import audit
from spaces.errors import ConflictError, LostRaceError, UnknownError
from spaces.lifecycle import MATRIX
from spaces.messages import Poke, encode
from spaces.model import OpStatus, Phase, Running
from spaces.ports import Message
from spaces.registry import NO_MESSAGE, Change, Event, OpRow, Registry, StepRow
from spaces.saga import watch
from spaces.saga.decide import MOST_TEXT, Advance, Again, Finish, decide
from spaces.saga.late import take_back
from spaces.saga.outcomes import Done, Outcome, Wait, Work
from spaces.saga.perform import perform

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import Space
    from spaces.ports import Ports, Write
    from spaces.saga.decide import Decision
    from spaces.saga.outcomes import Plan, Plans

log = logging.getLogger("kpax.saga")

# How often one message tries again when others write the same space at the same moment.
RACES = 5


async def advance(
    ports: Ports, plans: Plans, poke: Poke, *, message_id: str, floor_s: float
) -> None:
    """Move one space by one step; safe to repeat from any line.

    Raises `KpaxError` of a port only where nothing is decided yet: the message then comes again.
    """
    for _ in range(RACES):
        if await _move(ports, plans, poke, message_id=message_id, floor_s=floor_s):
            return
    raise UnknownError(
        "the space changes faster than its step can be committed",
        where=f"space {poke.space_id} · {poke.ticket}",
        remedy="The message comes again by itself.",
    )


async def _move(
    ports: Ports, plans: Plans, poke: Poke, *, message_id: str, floor_s: float
) -> bool:
    """One pass; False when another writer changed the space beside this very step."""
    registry = Registry(ports.tables)
    loaded = await registry.load(poke.space_id)  # 1
    if loaded is None:
        log.warning("poke.unknown_space", extra={"space": poke.space_id, "op": poke.op_id})
        return True
    op = loaded.space.op
    if op is None or op.ticket != poke.ticket:
        await say_again(ports, registry, loaded.space)  # 2
        await take_back(ports, plans, loaded.space, poke, message_id=message_id)
        return True
    plan = plans[op.kind]
    work = Work(space=loaded.space, op=op, now=ports.clock.now())
    outcome = await perform(ports, plan, work)  # 3
    now = ports.clock.now()
    decision = decide(op, outcome, plan=plan, now=now, floor_s=floor_s)
    if isinstance(decision, Again):
        look = look_message(plan, loaded.space, op, decision)
        if isinstance(outcome, Wait) and outcome.began:
            look = replace(look, message_id=f"{look.message_id}:{ports.ids.token(8)}")
        await ports.bus.send([look])  # 5
        return True
    change = change_of(
        loaded.space, op, outcome, decision, plan=plan, cause=message_id, now=now
    )
    try:
        promised = await registry.commit(loaded, change, now=now)  # 4
    except (LostRaceError, ConflictError, UnknownError):
        log.info("commit.refused", extra=_fields(op, poke.space_id))
        if not await _settled_by_another(ports, registry, poke):
            return False
        space = (await registry.require(poke.space_id)).space
        await take_back(ports, plans, space, poke, message_id=message_id)
        return True
    log.info("step.committed", extra=_fields(op, poke.space_id) | _told(outcome, decision))
    await ports.bus.send(promised)  # 5
    if isinstance(decision, Finish):
        await watch.drop(ports.tables, poke.space_id, op.op_id)
    return True


async def say_again(ports: Ports, registry: Registry, space: Space) -> None:
    """Answer an old message: publish what the outbox says, nothing else."""
    following, events = await registry.promised(space.space_id)
    messages = [*events, *([following] if following and space.op is not None else [])]
    if messages:
        await ports.bus.send(messages)
    log.info("poke.stale", extra={"space": space.space_id, "sent": len(messages)})


async def _settled_by_another(ports: Ports, registry: Registry, poke: Poke) -> bool:
    """After a refused or unanswered commit: read, then say again what the outbox says, or go on.

    True when this step has been committed, by another runner or by the lost answer.
    """
    loaded = await registry.require(poke.space_id)
    op = loaded.space.op
    if op is not None and op.ticket == poke.ticket:
        return False
    await say_again(ports, registry, loaded.space)
    return True


def change_of(
    space: Space,
    op: Running,
    outcome: Outcome,
    decision: Decision,
    *,
    plan: Plan,
    now: datetime,
    cause: str,
) -> Change:
    """All that one transaction writes for this decision. Pure."""
    match decision:
        case Advance(op=following, step_ended=step_ended):
            status = _step_status(op, outcome)
            return Change(
                space=_changed(replace(space, op=following), outcome),
                entry=_entry(op, "advanced" if step_ended else "retried"),
                inbox=("pokes", cause),
                next=poke_message(plan.queue, space, following),
                events=_events(outcome),
                steps=(step_row(op, status, now, outcome),) if step_ended else (),
                rows=_rows(outcome),
                delivered=True,
            )
        case Finish(op=last, status=status, error=error):
            rule = MATRIX[op.kind]
            target = rule.success if status is OpStatus.SUCCEEDED else rule.failure
            if status is OpStatus.NEEDS_OPERATOR:
                target = None
            ended = replace(
                space,
                op=None,
                status=target or space.status,
                failure=error if target is rule.failure and rule.failure else space.failure,
            )
            kind = plan.succeeded if status is OpStatus.SUCCEEDED else plan.failed
            data = {"operation_id": op.op_id, "error": error}
            return Change(
                space=_changed(ended, outcome),
                entry=_entry(op, status.value),
                inbox=("pokes", cause),
                next=NO_MESSAGE,
                events=(
                    *_events(outcome),
                    *((Event(type=kind, data=data),) if kind else ()),
                    Event(type=f"space.operation.{_verdict(status)}", data=data),
                ),
                op=op_row(space, last, status=status, ended_at=now, error=error),
                steps=(step_row(op, _step_status(op, outcome), now, outcome),),
                rows=_rows(outcome),
                delivered=True,
            )
        case Again():
            raise ValueError("a look writes nothing")


def poke_message(queue: str, space: Space, op: Running) -> Message:
    """The message that moves `op` on, scheduled where it must wait."""
    now = op.step_started_at
    return Message(
        queue=queue,
        message_id=f"{op.ticket}:0",
        body=encode(Poke(space_id=space.space_id, op_id=op.op_id, ticket=op.ticket)),
        due_at=op.next_poke_at if op.next_poke_at > now else None,
    )


def look_message(plan: Plan, space: Space, op: Running, again: Again) -> Message:
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


def _verdict(status: OpStatus) -> str:
    return "completed" if status is OpStatus.SUCCEEDED else status.value


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


def _entry(op: Running, what: str) -> audit.Entry:
    return audit.Entry(
        act=f"operation.{what}",
        actor="control-plane",
        obj=op.op_id,
        detail={"step": op.step, "attempt": op.attempt, "phase": op.phase.value},
    )


def _told(outcome: Outcome, decision: Decision) -> dict[str, str]:
    return {
        "outcome": type(outcome).__name__.lower(),
        "decision": type(decision).__name__.lower(),
    }


def _fields(op: Running, space_id: str) -> dict[str, str | int]:
    return {"space": space_id, "op": op.op_id, "step": op.step, "attempt": op.attempt}
