"""Find operations whose message was lost, and say it again under a fresh id.

A resend needs a fresh id: duplicate detection drops a known one and the space would wait for ever
(control-plane.md 4.2, variant G). The id carries the time slot, so that two sweepers in one slot
merge and the next slot is fresh again, without a write.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from spaces import audit
from spaces.errors import LostRaceError
from spaces.model import OpStatus
from spaces.registry import NO_MESSAGE, Change, Event, Registry
from spaces.saga import watch
from spaces.saga.runner import op_row, say_again

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import Running, Space
    from spaces.ports import Message, Ports
    from spaces.registry import Loaded

log = logging.getLogger("kpax.saga")

# A watch is written a moment before its operation; no function lives longer than this.
START_GRACE = timedelta(minutes=15)

# No operation passes its deadline by more than two minutes unseen (control-plane.md, invariant 9).
STUCK_GRACE = timedelta(minutes=2)


async def sweep(ports: Ports, *, grace_s: float) -> int:
    """Resend what is overdue by more than `grace_s` seconds; answers how many operations.

    Reads the watch list and the watched spaces only. Watches whose operation has ended, or never
    started, are removed after what they promised has been said again. An operation whose step is
    past its deadline although it was poked again crashes each time: it is given to an operator.
    """
    registry = Registry(ports.tables)
    resent = 0
    for watched in await watch.all_of(ports.tables):
        loaded = await registry.load(watched.space_id)
        now = ports.clock.now()
        op = loaded.space.op if loaded is not None else None
        if loaded is None or op is None or op.op_id != watched.op_id:
            if loaded is not None:
                starting = loaded.space.next_op_id() == watched.op_id
                if starting and now < watched.written_at + START_GRACE:
                    continue
                await say_again(ports, registry, loaded.space)
            await watch.drop(ports.tables, watched.space_id, watched.op_id)
        elif now > _last_word_by(op) + STUCK_GRACE:
            await give_up(ports, registry, loaded, op, now)
        elif now > op.next_poke_at + timedelta(seconds=op.attempt_s + grace_s):
            following, events = await registry.promised(watched.space_id)
            if following is not None:
                await ports.bus.send([*events, fresh(following, now, grace_s)])
                resent += 1
                log.info("operation.resent", extra={"space": watched.space_id, "op": op.op_id})
    return resent


def _last_word_by(op: Running) -> datetime:
    """When the last attempt of the step must have ended, one that began at the deadline too."""
    return max(op.step_deadline_at, op.next_poke_at) + timedelta(seconds=op.attempt_s)


def fresh(message: Message, now: datetime, grace_s: float) -> Message:
    """The same message under the id of this time slot, due at once."""
    slot = int(now.timestamp() // max(grace_s, 1.0))
    return replace(message, message_id=f"{message.message_id}:s{slot}", due_at=None)


async def give_up(
    ports: Ports, registry: Registry, loaded: Loaded, op: Running, now: datetime
) -> None:
    """End an operation that nobody moves on: status `needs_operator`, with what was last seen."""
    error = (
        f"step {op.step} is past its deadline and no attempt comes back"
        f" ({op.detail or 'no word from it'}); look at the dead letters of its queue"
    )
    change = given_up(loaded.space, op, error, now)
    try:
        promised = await registry.commit(loaded, change, now=now)
    except LostRaceError:
        return  # it moved after all
    log.error(
        "operation.needs_operator",
        extra={"space": loaded.space.space_id, "op": op.op_id, "step": op.step},
    )
    await ports.bus.send(promised)
    await watch.drop(ports.tables, loaded.space.space_id, op.op_id)


def given_up(space: Space, op: Running, error: str, now: datetime) -> Change:
    """The transaction that gives an operation to an operator. Pure."""
    return Change(
        space=replace(space, op=None),
        entry=audit.Entry(
            act="operation.needs_operator",
            actor="control-plane",
            obj=op.op_id,
            detail={"step": op.step, "attempt": op.attempt, "phase": op.phase.value},
        ),
        next=NO_MESSAGE,
        events=(
            Event(
                type="space.operation.needs_operator",
                data={"operation_id": op.op_id, "error": error},
            ),
        ),
        op=op_row(space, op, status=OpStatus.NEEDS_OPERATOR, ended_at=now, error=error),
    )
