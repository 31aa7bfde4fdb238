"""Find what was lost: messages, starts that died, moments that have come.

A resend needs a fresh id: duplicate detection drops a known one and the space would wait for ever
(control-plane.md 4.2, variant G). The id carries the time slot, so that two sweepers in one slot
merge and the next slot is fresh again, without a write.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from spaces import pauses
from spaces.errors import KpaxError, LostRaceError
from spaces.registry import Change, Registry
from spaces.saga import dues, halts, watch
from spaces.saga.changes import entry, parking, poke_message
from spaces.saga.decide import extended, is_unseen, stuck
from spaces.saga.outcomes import Failed
from spaces.saga.plan_next import Planned, look_at_due, plan_next
from spaces.saga.promises import say_again

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from spaces.model import Mark, Running, Space
    from spaces.ports import Message, Ports
    from spaces.registry import Loaded
    from spaces.saga.watch import Watch

log = logging.getLogger("kpax.saga")

# A watch is written a moment before its operation; no function lives longer than this.
START_GRACE = timedelta(minutes=15)


async def sweep(ports: Ports, *, grace_s: float) -> int:
    """Resend what is overdue by more than `grace_s` seconds; answers how many operations.

    Reads the watch list, the watched spaces, the pauses and the dues. Of a watched space without an
    operation the planner is asked before the watch is removed: whoever changed it may have died
    before asking. A step past its deadline is called once more under a new ticket, with a little
    more time; one that does not answer then crashes each time and is given to an operator. One
    space in trouble does not keep the others: the first error is raised when all have been seen.
    """
    resent, troubles = 0, list[KpaxError]()
    standing = await pauses.in_force(ports.tables)
    for watched in await watch.all_of(ports.tables):
        try:
            resent += await _see_to(ports, watched, standing, grace_s)
        except KpaxError as error:
            log.warning("sweep.failed", extra={"space": watched.space_id, "reason": str(error)})
            troubles.append(error)
    for due in await dues.come(ports.tables, ports.clock.now()):
        try:
            await look_at_due(ports, due)
        except KpaxError as error:
            log.warning("sweep.failed", extra={"space": due.space_id, "reason": str(error)})
            troubles.append(error)
    if troubles:
        raise troubles[0]
    return resent


async def _see_to(
    ports: Ports, watched: Watch, standing: Mapping[str, Mark], grace_s: float
) -> int:
    """One watched space; answers 1 when its message was said again."""
    registry = Registry(ports.tables)
    loaded = await registry.load(watched.space_id)
    if loaded is not None and pauses.over(loaded.space, standing) != loaded.space.held:
        await halts.tell(ports, loaded, pauses.over(loaded.space, standing))
        return 0
    now = ports.clock.now()
    op = loaded.space.op if loaded is not None else None
    if loaded is None or op is None or op.stuck is not None:
        await _unwatch(ports, registry, watched, loaded, now)
    elif op.halted_at is not None:
        return 0
    elif is_unseen(op, now):
        change = given_up(loaded.space, op, now) if op.extended else None
        await _move_on(ports, registry, loaded, op, change)
    elif now > op.next_poke_at + timedelta(seconds=op.attempt_s + grace_s):
        following, events = await registry.promised(watched.space_id)
        if following is not None:
            await ports.bus.send([*events, fresh(following, now, grace_s)])
            log.info("operation.resent", extra={"space": watched.space_id, "op": op.op_id})
            return 1
    return 0


async def _unwatch(
    ports: Ports, registry: Registry, watched: Watch, loaded: Loaded | None, now: datetime
) -> None:
    """Remove a watch without work, once what it promised is said, and if nobody took it over."""
    if loaded is not None:
        if await plan_next(ports, watched.space_id) is not Planned.NOTHING:
            return  # what starts says it, and what a pause holds is looked at again
        await say_again(ports, registry, loaded.space)
        taken = watched.op_id in {loaded.space.next_op_id(), _stuck_op(loaded.space)}
        if taken and now < watched.written_at + START_GRACE:
            return  # somebody may be about to start it, or to act on it
    await watch.drop_unchanged(ports.tables, watched)


def _stuck_op(space: Space) -> str | None:
    return space.op.op_id if space.op is not None else None


def fresh(message: Message, now: datetime, grace_s: float) -> Message:
    """The same message under the id of this time slot, due at once."""
    slot = int(now.timestamp() // max(grace_s, 1.0))
    return replace(message, message_id=f"{message.message_id}:s{slot}", due_at=None)


async def _move_on(
    ports: Ports, registry: Registry, loaded: Loaded, op: Running, last: Change | None
) -> None:
    """Call an overdue step once more, or end its operation by the change `last`.

    Events of earlier commits go out with it: who promised them may have died before the send, and
    the step that is called would take them for delivered.
    """
    space_id, now = loaded.space.space_id, ports.clock.now()
    following, events = await registry.promised(space_id)
    if following is None:
        return
    change = last or called_again(loaded.space, op, following.queue, now)
    try:
        promised = await registry.commit(loaded, change, now=now)
    except LostRaceError:
        return  # it moved after all
    fields = {"space": space_id, "op": op.op_id, "step": op.step}
    if last is None:
        log.warning("operation.called_again", extra=fields)
    else:
        see = {"see": "docs/running.md#operation.needs_operator"}
        log.error("operation.needs_operator", extra=fields | see)
    await ports.bus.send([*events, *promised])


def called_again(space: Space, op: Running, queue: str, now: datetime) -> Change:
    """The transaction that gives an overdue step its one extension. Pure."""
    following = extended(op, now)
    return Change(
        space=replace(space, op=following),
        entry=entry(op, "extended"),
        next=poke_message(queue, space, following),
    )


def given_up(space: Space, op: Running, now: datetime) -> Change:
    """The transaction that gives an operation to an operator, with what was last seen. Pure."""
    reason = (
        f"step {op.step} is past its deadline and no attempt comes back"
        f" ({op.detail or 'no word from it'}); look at the dead letters of its queue"
    )
    return parking(space, stuck(op, reason), now, Failed(reason=reason))
