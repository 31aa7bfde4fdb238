"""What the timers and the run queue do: find who is due, start runs, remove what was kept.

A redelivered request starts nothing twice: its slot is the cause of the operation, and a cause is
applied once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from backups import catalogue, dispatch, run
from spaces import power
from spaces.configuration import admin_server, space_blobs
from spaces.errors import ConflictError, KpaxError, LostRaceError, RefusedError
from spaces.model import OpKind, Status
from spaces.ports import Delete
from spaces.registry import SPACES, Registry
from spaces.saga.begin import Cause, begin
from spaces.saga.outline import OUTLINES
from spaces.saga.promises import say_again

if TYPE_CHECKING:
    from spaces.messages import RunRequest
    from spaces.model import Space
    from spaces.ports import Ports, Stored
    from spaces.registry import Loaded
    from spaces.saga.outline import Outline
    from spaces.settings import Settings

log = logging.getLogger("kpax.backups")

SOURCE = "backup-due"
RACES = 5


async def send_due(ports: Ports, settings: Settings) -> int:
    """One message for every space that is due; answers how many."""
    registry = Registry(ports.tables)
    found: list[Space] = []
    for space_id in await registry.ids():
        loaded = await registry.load(space_id)
        if loaded is not None:
            found.append(loaded.space)
    due = dispatch.due(
        found,
        now=ports.clock.now(),
        window_s=settings.backup_window_s,
        jitter_s=settings.backup_jitter_s,
    )
    if due:
        await ports.bus.send([dispatch.message(each) for each in due])
    for space in found:
        # A suspended one is put to rest by its own backup; nobody else comes to a cancelled one.
        if space.status is Status.CANCELLED:
            await _reassert(ports, space)
    log.info("backups.dispatched", extra={"due": len(due), "spaces": len(found)})
    return len(due)


async def start(ports: Ports, request: RunRequest) -> None:
    """Start the backup that a message asks for, or put it off while the space is busy."""
    registry = Registry(ports.tables)
    for _ in range(RACES):
        loaded = await registry.load(request.space_id)
        if loaded is None:
            log.warning("backup.unknown_space", extra={"space": request.space_id})
            return
        if await registry.has_seen(request.space_id, SOURCE, request.slot):
            await say_again(ports, registry, loaded.space)
            return
        if not dispatch.is_due(loaded.space, ports.clock.now()):
            log.info("backup.not_due", extra={"space": request.space_id})
            return
        try:
            await _begin(ports, OUTLINES[OpKind.BACKUP], loaded, request)
        except RefusedError:
            await _put_off(ports, request)
        except (LostRaceError, ConflictError):
            continue
        return
    await _put_off(ports, request)


async def retire_old(ports: Ports, settings: Settings) -> int:
    """Remove what restores put aside and whose time is over; answers how many pairs.

    One space that cannot be reached does not keep the others.
    """
    rows = await ports.tables.query(SPACES, key_from="keep!", key_below='keep"')
    removed = 0
    for row in rows:
        try:
            removed += await _retire(ports, settings, row)
        except KpaxError as error:
            log.warning(
                "kept.not_removed", extra={"space": row.partition, "reason": str(error)}
            )
    return removed


async def _reassert(ports: Ports, space: Space) -> None:
    try:
        if await power.reassert(ports, space):
            log.warning("space.stopped_again", extra={"space": space.space_id})
    except KpaxError as error:
        log.warning("space.not_stopped", extra={"space": space.space_id, "reason": str(error)})


async def _begin(ports: Ports, plan: Outline, loaded: Loaded, request: RunRequest) -> None:
    backup_id = run.new_backup_id(loaded.space, ports.clock.now())
    cause = Cause(
        actor="schedule",
        source=SOURCE,
        cause_id=request.slot,
        params={"backup_id": backup_id, "slot": request.slot},
    )
    op = await begin(ports, loaded, plan, cause)
    log.info("backup.started", extra={"space": request.space_id, "op": op.op_id})


async def _put_off(ports: Ports, request: RunRequest) -> None:
    later = dispatch.put_off(request, ports.clock.now())
    if later is None:
        log.error(
            "backup.missed",
            extra={
                "space": request.space_id,
                "waits": request.waits,
                "see": "docs/running.md#backup.missed",
            },
        )
        return
    await ports.bus.send([later])
    log.info("backup.put_off", extra={"space": request.space_id, "waits": request.waits + 1})


async def _retire(ports: Ports, settings: Settings, row: Stored) -> int:
    kept = catalogue.kept_of(row.values["doc"])
    if kept.keep_until > ports.clock.now():
        return 0
    loaded = await Registry(ports.tables).load(row.partition)
    space = loaded.space if loaded is not None else None
    if space is not None and space.resources is not None:
        if space.status in power.ASLEEP:
            return 0  # its database rests: the next hour after it came back, or its deletion
        if kept.database == space.database or kept.container == space.container:
            log.error(
                "kept.in_force",
                extra={
                    "space": row.partition,
                    "op": kept.operation_id,
                    "see": "docs/running.md#kept.in_force",
                },
            )
            return 0
        server = await admin_server(ports, settings, space)
        await ports.databases.drop_database(server, kept.database)
        blobs = await space_blobs(ports, space)
        await blobs.delete_container(kept.container)
    await ports.tables.commit(SPACES, row.partition, [Delete(row.key)])
    log.info("kept.removed", extra={"space": row.partition, "op": kept.operation_id})
    return 1
