"""Hold what runs while its space, its cluster or the fleet is paused, and let it go on after.

A pause stands in the space's own row, where each step sees it without another read. What runs ends
its step and waits before the next one; no deadline runs meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from spaces import audit, pauses
from spaces.errors import ConflictError, LostRaceError, RefusedError, UnknownError
from spaces.registry import Change, Registry
from spaces.saga import watch
from spaces.saga.changes import poke_message
from spaces.saga.outline import OUTLINES
from spaces.saga.plan_next import plan_next
from spaces.saga.promises import say_again

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from spaces.model import Mark, Running, Space
    from spaces.ports import Message, Ports
    from spaces.registry import Loaded

log = logging.getLogger("kpax.saga")

SOURCE = "operator"
RACES = 5


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


def pausing(space: Space, mark: Mark) -> Space:
    """The space under a pause of its own; `RefusedError` where it has one. Pure."""
    if space.paused is not None:
        raise _refused(space, f"it is paused already: {space.paused.reason}")
    return marked(space, paused=mark, held=space.held, now=mark.at)


def going_on(space: Space, mark: Mark) -> Space:
    """The space without its pause; `RefusedError` where it has none. Pure."""
    if space.paused is None:
        raise _refused(space, "it is not paused")
    return marked(space, paused=None, held=space.held, now=mark.at)


async def pause_space(ports: Ports, space_name: str, mark: Mark, *, cause_id: str) -> Space:
    """Pause one space, by id or name; the same cause again changes nothing.

    Raises `NotFoundError`, and `RefusedError` where it is paused already.
    """
    return await _put(ports, space_name, mark, pausing, act="space.paused", cause_id=cause_id)


async def unpause_space(ports: Ports, space_name: str, mark: Mark, *, cause_id: str) -> Space:
    """End the pause of one space: what ran goes on, the planner is asked. Raises like the other."""
    space = await _put(
        ports, space_name, mark, going_on, act="space.unpaused", cause_id=cause_id
    )
    if space.op is None:
        await plan_next(ports, space.space_id)
    return space


async def _put(
    ports: Ports,
    space_name: str,
    mark: Mark,
    change: Callable[[Space, Mark], Space],
    *,
    act: str,
    cause_id: str,
) -> Space:
    registry = Registry(ports.tables)
    for _ in range(RACES):
        loaded = await registry.find(space_name)
        space = loaded.space
        if await registry.has_seen(space.space_id, SOURCE, cause_id):
            await say_again(ports, registry, space)
            return space
        after = change(space, mark)
        if space.op is not None or after.paused is None:
            await _watch(ports, registry, space, mark.at)
        entry = audit.Entry(
            act=act, actor=mark.actor, obj=space.space_id, detail={"reason": mark.reason}
        )
        write = Change(
            space=after, entry=entry, inbox=(SOURCE, cause_id), next=message_of(space, after)
        )
        try:
            promised = await registry.commit(loaded, write, now=mark.at)
        except (LostRaceError, ConflictError, UnknownError):
            continue
        log.warning(act, extra={"space": space.space_id, "reason": mark.reason})
        await ports.bus.send(promised)
        return after
    raise UnknownError(
        "the space changes faster than it can be paused",
        where=f"space {space_name[:64]}",
        remedy="Try again.",
    )


async def _watch(ports: Ports, registry: Registry, space: Space, now: datetime) -> None:
    await watch.put(
        ports.tables,
        space.space_id,
        space.op.op_id if space.op is not None else space.next_op_id(),
        now=now,
        before_taking_over=lambda: say_again(ports, registry, space),
    )


def _refused(space: Space, what: str) -> RefusedError:
    return RefusedError(what, where=f"space {space.space_id} · {space.name}")
