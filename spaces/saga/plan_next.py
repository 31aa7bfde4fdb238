"""Ask the planner, and start what it says: the shell around `spaces.planner`.

Asked where something changed (`bring`), where an operation ended (the runner), and where a moment
has come or a process died in between (the sweeper). A watch is put before each commit, and a row
of `dues` before each commit that makes one necessary, so that no wish is forgotten.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from spaces import audit
from spaces.desire import told
from spaces.errors import ConflictError, LostRaceError, RefusedError, UnknownError
from spaces.planner import due_at, needed, stopping
from spaces.registry import Change, Registry
from spaces.saga import dues, watch
from spaces.saga.begin import Cause, begin
from spaces.saga.changes import poke_message
from spaces.saga.outline import OUTLINES
from spaces.saga.promises import say_again

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.model import Running, Space
    from spaces.ports import Message, Ports
    from spaces.registry import Loaded

log = logging.getLogger("kpax.planner")

RACES = 5
PLANNER = "planner"


class Planned(StrEnum):
    """What came of asking: an operation started, nothing is needed, or it must be asked again."""

    STARTED = "started"
    NOTHING = "nothing"
    LATER = "later"


async def plan_next(ports: Ports, space_id: str) -> Planned:
    """Start what the space needs now, if anything; repeatable from any line."""
    registry = Registry(ports.tables)
    for _ in range(RACES):
        loaded = await registry.load(space_id)
        if loaded is None:
            return Planned.NOTHING
        now = ports.clock.now()
        if stopping(loaded.space, now) is not loaded.space:
            cause = Cause(actor=PLANNER, source=PLANNER, cause_id=_stop_id(loaded.space))
            try:
                await bring(ports, loaded, loaded.space, cause, act="operation.stop_asked")
            except (LostRaceError, ConflictError, UnknownError):
                continue
            return Planned.NOTHING
        need = needed(loaded.space, now)
        if need is None:
            await dues.ahead(ports.tables, loaded.space, now)
            return Planned.NOTHING if loaded.space.held is None else Planned.LATER
        cause = Cause(
            actor=PLANNER,
            source=PLANNER,
            cause_id=loaded.space.next_op_id(),
            params=need.params,
            reason=need.why,
            change=partial(told, now=now),
        )
        try:
            await begin(ports, loaded, OUTLINES[need.kind], cause)
        except RefusedError as error:
            return _refused(loaded.space, error)
        except (LostRaceError, ConflictError, UnknownError):
            continue
        log.info("operation.planned", extra={"space": space_id, "kind": need.kind.value})
        return Planned.STARTED
    return Planned.LATER


async def bring(
    ports: Ports, loaded: Loaded, after: Space, cause: Cause, *, act: str
) -> Running | None:
    """Write `after`, a changed copy of the loaded space, and start what it then needs: one transaction.

    Answers the operation that it started, if any. An opening that is to be cancelled is asked to
    stop. What may not start now (a pause) is started later; the change is written all the same.
    `act` is the audit entry's where nothing starts. Raises `LostRaceError`, `ConflictError` (this
    cause was applied before) and `UnknownError`: load again, look, and call again.
    """
    now = ports.clock.now()
    after = stopping(after, now)
    need = needed(after, now)

    def changed(_: Space) -> Space:
        return after

    if need is not None:
        starting = replace(
            cause,
            params={**cause.params, **need.params},
            reason=cause.reason or need.why,
            change=changed,
        )
        try:
            return await begin(ports, loaded, OUTLINES[need.kind], starting)
        except RefusedError as error:
            log.info("operation.put_off", extra={"space": after.space_id, "reason": str(error)})
    await _write(ports, loaded, after, cause, act)
    return None


async def _write(ports: Ports, loaded: Loaded, after: Space, cause: Cause, act: str) -> None:
    """The change alone. What could not start now is watched, so that the planner is asked again.

    The watch is of the operation that would start: whoever starts it takes the watch over.
    """
    registry, now = Registry(ports.tables), ports.clock.now()
    if needed(after, now) is not None:
        await watch.put(
            ports.tables,
            after.space_id,
            loaded.space.next_op_id(),
            now=now,
            before_taking_over=lambda: say_again(ports, registry, loaded.space),
        )
    after = await dues.ahead(ports.tables, after, now)
    change = Change(
        space=after,
        entry=audit.Entry(
            act=act,
            actor=cause.actor,
            obj=after.space_id,
            detail={
                "source": cause.source,
                "cause": cause.cause_id,
                **({"reason": cause.reason} if cause.reason else {}),
            },
        ),
        inbox=(cause.source, cause.cause_id),
        rows=cause.rows,
    )
    messages = await registry.commit(loaded, change, now=now)
    nudge = _nudge(loaded.space, after, now)
    await ports.bus.send([*messages, *nudge])


def _nudge(before: Space, after: Space, now: datetime) -> list[Message]:
    """A step that pauses between two tries need not be waited for when it is asked to stop."""
    op = after.op
    if op is None or op.stop is None or before.op is None or before.op.stop is not None:
        return []
    if op.next_poke_at <= now:
        return []
    message = poke_message(OUTLINES[op.kind].queue, after, op)
    return [replace(message, message_id=f"{op.ticket}:stop", due_at=None)]


async def look_at_due(ports: Ports, due: dues.Due) -> Planned:
    """A moment has come: start what it calls for, and put the row to the next one.

    A row whose space must wait (a pause) stays, so that it is looked at again.
    """
    planned = await plan_next(ports, due.space_id)
    if planned is Planned.LATER:
        return planned
    loaded = await Registry(ports.tables).load(due.space_id)
    now, following = ports.clock.now(), None
    if loaded is not None:
        standing = loaded.space.plan_due
        moments = [due_at(loaded.space, now), standing]
        following = min((one for one in moments if one is not None and one > now), default=None)
    await dues.move(ports.tables, due, following)
    return planned


def _refused(space: Space, error: RefusedError) -> Planned:
    fields = {"space": space.space_id, "reason": str(error)}
    if error.problem_slug == "paused":
        log.info("operation.put_off", extra=fields)
        return Planned.LATER
    log.warning("operation.refused", extra=fields)
    return Planned.NOTHING


def _stop_id(space: Space) -> str:
    return f"stop:{space.op.op_id if space.op else ''}"
