"""Carry out an operator's word: the shell around `spaces.operator`.

Through the same inbox as everything else: the same word under the same key counts once. The watch
is put before the commit, because an operation that waits for an operator is not watched.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spaces import audit, operator
from spaces.errors import ConflictError, LostRaceError, NotFoundError, UnknownError
from spaces.model import OpKind, OpStatus, Phase, Running, Space, space_of_op
from spaces.operator import Action, Order
from spaces.planner import needed
from spaces.registry import NO_MESSAGE, Change, Event, Registry, StepRow
from spaces.saga import dues, watch
from spaces.saga.changes import ended, op_row, poke_message, told_at_end
from spaces.saga.decide import Advance, Decision, Finish
from spaces.saga.outline import OUTLINES
from spaces.saga.plan_next import plan_next
from spaces.saga.promises import say_again

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.ports import Message, Ports
    from spaces.registry import Loaded
    from spaces.saga.outline import Outline

log = logging.getLogger("kpax.saga")

SOURCE = "operator"
RACES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What an order would do, and what would come after it: the steps left, in their order."""

    space: Space
    op: Running
    decision: Decision

    @property
    def goes_back(self) -> bool:
        """True when what was done would be undone, now or once its step has ended."""
        match self.decision:
            case Advance(op=op):
                return op.phase is Phase.UNDO or op.stop is not None
            case _:
                return False

    @property
    def following(self) -> tuple[str, ...]:
        """The steps that would still come; on the way back those that have something to undo."""
        if not isinstance(self.decision, Advance):
            return ()
        op = self.decision.op
        if not self.goes_back:
            return op.steps[op.at :]
        outline = OUTLINES[op.kind]
        return tuple(
            name for name in reversed(op.steps[: op.at + 1]) if outline.step(name).undo
        )


async def foresee(ports: Ports, op_id: str, order: Order) -> Foreseen:
    """What `operate` would do now; nothing is written. Raises like it."""
    loaded = await _loaded(Registry(ports.tables), op_id)
    op = await _running(Registry(ports.tables), loaded, op_id, order)
    decision = operator.obey(loaded.space, op_id, order, OUTLINES[op.kind])
    return Foreseen(space=loaded.space, op=op, decision=decision)


async def operate(ports: Ports, op_id: str, order: Order) -> None:
    """Do what an operator says to an operation; the same intention again changes nothing.

    Raises `NotFoundError` for an operation that does not exist, `RefusedError` where it is in no
    state for it, `InvalidError` for a wrong step. Repeatable from any line.
    """
    registry = Registry(ports.tables)
    for _ in range(RACES):
        loaded = await _loaded(registry, op_id)
        if await registry.has_seen(loaded.space.space_id, SOURCE, order.cause_id):
            await say_again(ports, registry, loaded.space)
            return
        op = await _running(registry, loaded, op_id, order)
        decision = operator.obey(loaded.space, op_id, order, OUTLINES[op.kind])
        try:
            await _write(ports, registry, loaded, decision, order)
        except (LostRaceError, ConflictError, UnknownError):
            continue
        return
    raise UnknownError(
        "the space changes faster than an operator can act on it",
        where=f"operation {op_id}",
        remedy="Try again.",
    )


async def _loaded(registry: Registry, op_id: str) -> Loaded:
    space_id = space_of_op(op_id)
    loaded = await registry.load(space_id) if space_id is not None else None
    if loaded is None:
        raise _unknown(op_id)
    return loaded


async def _running(registry: Registry, loaded: Loaded, op_id: str, order: Order) -> Running:
    """The operation itself, which must be the space's own; an ended one is refused by the rules."""
    op = loaded.space.op
    if op is not None and op.op_id == op_id:
        return op
    found = await registry.operation(loaded.space.space_id, op_id)
    if found is None:
        raise _unknown(op_id)
    outline = OUTLINES[OpKind(found[0].kind)]
    operator.obey(replace(loaded.space, op=None), op_id, order, outline)
    raise AssertionError("an ended operation was not refused")


async def _write(
    ports: Ports, registry: Registry, loaded: Loaded, decision: Decision, order: Order
) -> None:
    space, now = loaded.space, order.at
    op = space.op
    if op is None:
        return
    await watch.put(
        ports.tables,
        space.space_id,
        op.op_id,
        now=now,
        before_taking_over=lambda: say_again(ports, registry, space),
    )
    change = change_of(space, decision, order, OUTLINES[op.kind])
    if isinstance(decision, Finish):
        change = replace(change, space=await dues.ahead(ports.tables, change.space, now))
    promised = await registry.commit(loaded, change, now=now)
    log.warning(
        "operation.acted_on",
        extra={"space": space.space_id, "op": op.op_id, "action": order.action.value},
    )
    await ports.bus.send([*promised, *await _said_again(registry, space, order)])
    if not isinstance(decision, Finish):
        return
    if needed(change.space, now) is not None:
        await plan_next(ports, space.space_id)
    else:
        await watch.drop(ports.tables, space.space_id, op.op_id)


def change_of(space: Space, decision: Decision, order: Order, outline: Outline) -> Change:
    """All that one transaction writes for an order. Pure."""
    op, now = space.op, order.at
    if op is None:
        raise ValueError("an operator acts on what runs")
    base = Change(
        space=space,
        entry=audit.Entry(
            act=f"operator.{order.action}",
            actor=order.actor,
            obj=op.op_id,
            detail={
                "reason": order.reason,
                "step": order.step or op.step,
                "phase": op.phase.value,
                "was_stuck": op.stuck is not None,
            },
        ),
        inbox=(SOURCE, order.cause_id),
        events=(_event(op, order),),
        steps=(_left_out(op, order),) if order.action is Action.SKIP else (),
    )
    match decision:
        case Advance(op=following) if order.action is Action.REPLAY or _only_stops(
            op, following
        ):
            return replace(
                base,
                space=replace(space, op=following),
                next=_nudge(outline, space, following, now),
            )
        case Advance(op=following):
            return replace(
                base,
                space=replace(space, op=following),
                next=poke_message(outline.queue, space, following),
                op=op_row(space, following, status=OpStatus.RUNNING, ended_at=None, error=None),
            )
        case Finish(op=last, status=status, error=error):
            return replace(
                base,
                space=ended(space, last, status, error, now),
                next=NO_MESSAGE,
                events=(*base.events, *told_at_end(outline, last, status, error)),
                op=op_row(space, last, status=status, ended_at=now, error=error),
            )
        case _:
            raise ValueError(f"no order leads to {type(decision).__name__}")


def _only_stops(before: Running, after: Running) -> bool:
    """True for a running operation that is only asked to stop: its promised message stands."""
    return before.ticket == after.ticket and before.stuck is None


def _nudge(outline: Outline, space: Space, op: Running, now: datetime) -> Message | None:
    """A step that pauses between two tries is tried now where the operation is to stop."""
    if op.stop is None or op.next_poke_at <= now:
        return None
    message = poke_message(outline.queue, space, op)
    return replace(message, message_id=f"{op.ticket}:stop", due_at=None)


async def _said_again(registry: Registry, space: Space, order: Order) -> list[Message]:
    """For a replay: everything that the outbox promises, the next message under a fresh id."""
    if order.action is not Action.REPLAY:
        return []
    following, events = await registry.promised(space.space_id)
    if following is None:
        return events
    fresh = f"{following.message_id}:r{order.cause_id[:12]}"
    return [*events, replace(following, message_id=fresh, due_at=None)]


def _left_out(op: Running, order: Order) -> StepRow:
    return StepRow(
        op_id=op.op_id,
        number=op.at,
        name=op.step,
        status=OpStatus.CANCELED,
        started_at=op.step_started_at,
        ended_at=order.at,
        attempts=op.attempt,
        detail=f"{'undo ' if op.phase is Phase.UNDO else ''}skipped: {order.said}",
    )


def _event(op: Running, order: Order) -> Event:
    words = {
        Action.RETRY: "retried",
        Action.SKIP: "skipped",
        Action.ROLLBACK: "rolled_back",
        Action.ABORT: "abort_asked",
        Action.ADOPT: "adopted",
        Action.REPLAY: "replayed",
    }
    return Event(
        type=f"space.operation.{words[order.action]}",
        data={"operation_id": op.op_id, "step": order.step or op.step},
    )


def _unknown(op_id: str) -> NotFoundError:
    return NotFoundError(f"no operation {op_id[:64]}", remedy="See: kpax op list SPACE.")


def cause_of(actor: str, word: str, key: str) -> str:
    """The inbox's name of a caller's intention."""
    return hashlib.sha256(f"{actor}\n{word}\n{key}".encode()).hexdigest()


__all__ = ["Action", "Foreseen", "Order", "cause_of", "foresee", "operate"]
