"""Hold what runs while its space, its cluster or the fleet is paused, and let it go on after.

A pause stands in the space's own row, where each step sees it without another read. What runs ends
its step and waits before the next one; no deadline runs meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from spaces import audit, pauses
from spaces.errors import LostRaceError
from spaces.registry import Change, Registry
from spaces.saga import watch
from spaces.saga.changes import poke_message
from spaces.saga.outline import OUTLINES

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import Mark, Running, Space
    from spaces.ports import Message, Ports
    from spaces.registry import Loaded

log = logging.getLogger("kpax.saga")


def marked(space: Space, *, paused: Mark | None, held: Mark | None, now: datetime) -> Space:
    """The space under these pauses; what runs is halted, or gets the time back that it stood. Pure."""
    op = space.op
    if op is not None:
        halted = paused is not None or held is not None
        if halted and op.halted_at is None:
            op = replace(op, halted_at=now)
        elif not halted and op.halted_at is not None:
            op = _let_go(op, now)
    return replace(space, op=op, paused=paused, held=held)


def _let_go(op: Running, now: datetime) -> Running:
    """The step as a new attempt, due at once; its deadline moves by as long as it stood still."""
    if op.halted_at is None:
        return op
    stood = now - max(op.halted_at, op.step_started_at)
    return replace(
        op,
        attempt=op.attempt if op.stuck is not None else op.attempt + 1,
        halted_at=None,
        step_deadline_at=op.step_deadline_at + stood,
        next_poke_at=now,
    )


def message_of(before: Space, after: Space) -> Message | None:
    """The message that moves on what has been let go."""
    op = after.op
    if op is None or op.stuck is not None or before.op is None or before.op.halted_at is None:
        return None
    return poke_message(OUTLINES[op.kind].queue, after, op) if op.halted_at is None else None


async def tell(ports: Ports, loaded: Loaded, held: Mark | None) -> None:
    """Write into a watched space that its cluster or the fleet is paused, or no longer.

    A race that is lost is left to the next sweep, which compares again.
    """
    space, now = loaded.space, ports.clock.now()
    after = marked(space, paused=space.paused, held=held, now=now)
    mark = held or space.held
    change = Change(
        space=after,
        entry=audit.Entry(
            act="space.held" if held is not None else "space.let_go",
            actor=mark.actor if mark is not None else "control-plane",
            obj=space.space_id,
            detail={"reason": mark.reason if mark is not None else None},
        ),
        next=message_of(space, after),
    )
    try:
        promised = await Registry(ports.tables).commit(loaded, change, now=now)
    except LostRaceError:
        return
    log.info("space.held" if held else "space.let_go", extra={"space": space.space_id})
    await ports.bus.send(promised)


async def tell_all(ports: Ports) -> None:
    """Tell every watched space what pauses stand; called once a pause is written or lifted.

    What it misses (a process that dies, a race) the next sweep finds.
    """
    standing, registry = await pauses.in_force(ports.tables), Registry(ports.tables)
    for watched in await watch.all_of(ports.tables):
        loaded = await registry.load(watched.space_id)
        if loaded is not None and pauses.over(loaded.space, standing) != loaded.space.held:
            await tell(ports, loaded, pauses.over(loaded.space, standing))
