"""Start an operation: the watch first, then one transaction, then the first poke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from spaces import audit, pauses
from spaces.lifecycle import may_start
from spaces.model import Facts, OpKind, OpStatus, Running, Space
from spaces.planner import sequence_of
from spaces.ports import Write
from spaces.registry import Change, Event, Registry
from spaces.saga import watch
from spaces.saga.changes import op_row, poke_message
from spaces.saga.decide import at_step
from spaces.saga.promises import say_again

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.ports import Ports
    from spaces.registry import Loaded
    from spaces.saga.outline import Outline


def _no_facts() -> Facts:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an operation starts or a wish changes: who, which event or request (source, id), and why.

    `change` is written with it (another wish, an override); `rows` stand in the space's partition.
    """

    actor: str
    source: str
    cause_id: str
    reason: str | None = None
    params: Facts = field(default_factory=_no_facts)
    rows: tuple[Write, ...] = ()
    change: Callable[[Space], Space] | None = None


async def begin(ports: Ports, loaded: Loaded, plan: Outline, cause: Cause) -> Running:
    """Start `plan` on a space; answers the operation, which its queue now carries.

    Raises `RefusedError` when the status, a running operation or a pause forbids it,
    `ConflictError` when this cause was applied before, `LostRaceError` when the space changed
    meanwhile. Repeatable from any line: only the transaction counts, and a watch without work is
    swept away.
    """
    space, now = loaded.space, ports.clock.now()
    may_start(space, plan.kind, now)
    changed = cause.change(space) if cause.change is not None else space
    op = started(changed, plan, cause.params, now)
    registry = Registry(ports.tables)
    await watch.put(
        ports.tables,
        space.space_id,
        op.op_id,
        now=now,
        before_taking_over=lambda: say_again(ports, registry, space),
    )
    # After the watch: who pauses reads the watches after writing the pause, and one sees the other.
    await pauses.refuse_paused(ports.tables, space)
    promised = await registry.commit(loaded, starting(changed, op, plan, cause), now=now)
    await ports.bus.send(promised)
    return op


def started(space: Space, plan: Outline, params: Facts, now: datetime) -> Running:
    """The operation at its first step. Pure."""
    if plan.kind is OpKind.RESIZE:
        params = {**params, "billing_sequence": sequence_of(space)}
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
    """The one transaction that starts `op` on a space with its cause's change. Pure."""
    if plan.kind is OpKind.PROVISION and space.op_seq > 0:
        # The names of what was deleted stay taken for a while (a vault's until it is purged).
        space = replace(space, incarnation=space.incarnation + 1, resources=None)
    occupied = replace(space, op=op, op_seq=space.op_seq + 1)
    data: Facts = {"operation_id": op.op_id, "kind": op.kind.value}
    return Change(
        space=occupied,
        entry=audit.Entry(
            act="operation.started",
            actor=cause.actor,
            obj=op.op_id,
            detail={
                "kind": op.kind.value,
                "source": cause.source,
                "cause": cause.cause_id,
                **({"reason": cause.reason} if cause.reason else {}),
            },
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
