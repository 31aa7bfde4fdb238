"""Start an operation: the watch first, then one transaction, then the first poke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from spaces import audit
from spaces.lifecycle import may_start
from spaces.model import Facts, OpStatus, Running, Space
from spaces.ports import Write
from spaces.registry import Change, Event, Registry
from spaces.saga import watch
from spaces.saga.decide import at_step
from spaces.saga.runner import op_row, poke_message, say_again

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.ports import Ports
    from spaces.registry import Loaded
    from spaces.saga.outline import Outline


def _no_facts() -> Facts:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an operation starts: who, and which event or request (source, id) asked for it."""

    actor: str
    source: str
    cause_id: str
    params: Facts = field(default_factory=_no_facts)
    rows: tuple[Write, ...] = ()
    change: Callable[[Space], Space] | None = None


async def begin(ports: Ports, loaded: Loaded, plan: Outline, cause: Cause) -> Running:
    """Start `plan` on a space; answers the operation, which its queue now carries.

    Raises `RefusedError` when the status or a running operation forbids it, `ConflictError` when
    this cause was applied before, `LostRaceError` when the space changed meanwhile. Repeatable
    from any line: only the transaction counts, and a watch without work is swept away.
    """
    space, now = loaded.space, ports.clock.now()
    may_start(space, plan.kind)
    op = started(space, plan, cause.params, now)
    registry = Registry(ports.tables)
    await watch.put(
        ports.tables,
        space.space_id,
        op.op_id,
        now=now,
        before_taking_over=lambda: say_again(ports, registry, space),
    )
    promised = await registry.commit(loaded, starting(space, op, plan, cause), now=now)
    await ports.bus.send(promised)
    return op


def started(space: Space, plan: Outline, params: Facts, now: datetime) -> Running:
    """The operation at its first step. Pure."""
    op = Running(
        op_id=space.next_op_id(),
        kind=plan.kind,
        steps=plan.names_for(space.status),
        params=params,
        started_at=now,
        step_started_at=now,
        step_deadline_at=now,
        next_poke_at=now,
    )
    return at_step(op, 0, plan, now)


def starting(space: Space, op: Running, plan: Outline, cause: Cause) -> Change:
    """The one transaction that starts `op`; its cause's change comes first. Pure."""
    changed = cause.change(space) if cause.change is not None else space
    occupied = replace(changed, op=op, op_seq=space.op_seq + 1)
    data: Facts = {"operation_id": op.op_id, "kind": op.kind.value}
    return Change(
        space=occupied,
        entry=audit.Entry(
            act="operation.started",
            actor=cause.actor,
            obj=op.op_id,
            detail={"kind": op.kind.value, "source": cause.source, "cause": cause.cause_id},
        ),
        inbox=(cause.source, cause.cause_id),
        next=poke_message(plan.queue, space, op),
        events=(
            *((Event(type=plan.started, data=data),) if plan.started else ()),
            Event(type="space.operation.started", data=data),
        ),
        op=op_row(space, op, status=OpStatus.RUNNING, ended_at=None, error=None),
        rows=cause.rows,
    )
