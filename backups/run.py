"""One backup of one space, step by step: capture, publish, verify.

Capture stores everything and promises nothing; publish writes the manifest, and the backup
exists; verify restores it into a scratch database and compares it row for row. Each step may be
repeated: capture draws fresh names, publish writes the same bytes, verify begins from nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from backups import catalogue, residency
from backups.engine import Captured, Figures, Label
from backups.manifest import ObjectRef
from spaces.configuration import APP_ROLE
from spaces.errors import DamagedError, TransientError
from spaces.model import BackupId, OpKind
from spaces.registry import Event
from spaces.retention import FINAL_KEPT
from spaces.saga.outcomes import Done, Outcome
from spaces.saga.outline import COPY_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from backups.places import Places
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work

KEPT = timedelta(days=30)
# Failures that say something of the backup, not of the moment.
_BAD = frozenset({DamagedError.slug, "dump-refused"})


class Run:
    """The steps of a backup."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def capture(self, ports: Ports, work: Work) -> Outcome:
        """Store database, files and settings; nothing refers to them yet."""
        space = work.space
        residency.check(space)
        base = await self._places.base(ports, space, space.database)
        files = await self._places.files(ports, space, space.container)
        told = await self._places.told(ports, space)
        async with bounded(work):
            captured = await self._places.engine(ports).backup(
                self._places.store(ports, space), base, files, label(work), told
            )
        return Done(
            detail="stored",
            facts={
                "contents": msgspec.json.encode(captured.contents).decode(),
                "completed_at": captured.completed_at.isoformat(),
                "figures": msgspec.json.encode(captured.figures).decode(),
            },
        )

    async def publish(self, ports: Ports, work: Work) -> Outcome:
        """Write the manifest: from here on the backup exists."""
        captured = Captured(
            contents=msgspec.json.decode(work.fact("contents"), type=ObjectRef),
            completed_at=datetime.fromisoformat(work.fact("completed_at")),
            figures=msgspec.json.decode(str(work.op.facts.get("figures", "{}")), type=Figures),
        )
        manifest = await self._places.engine(ports).publish(
            self._places.store(ports, work.space),
            label(work),
            captured,
            expires_at=captured.completed_at + kept(work),
        )
        row = catalogue.row_of(manifest, captured.figures)
        return Done(
            detail=f"{row.rows} rows, {row.attachments} attachments, {row.bytes_stored} bytes",
            rows=(catalogue.put(row),),
            change=_said(row),
            events=(_event("completed", work, row),),
        )

    async def verify(self, ports: Ports, work: Work) -> Outcome:
        """Restore it into a scratch database, compare everything, drop the scratch database."""
        engine, store = self._places.engine(ports), self._places.store(ports, work.space)
        scratch = await self._places.base(ports, work.space, scratch_database(work))
        await ports.databases.drop_database(scratch.server, scratch.database)
        try:
            await ports.databases.ensure_database(
                scratch.server, scratch.database, owner=APP_ROLE
            )
            async with bounded(work):
                manifest = await engine.find(store, backup_id(work))
                await engine.verify(store, manifest, scratch)
        finally:
            await ports.databases.drop_database(scratch.server, scratch.database)
        row = msgspec.structs.replace(
            await self._row(ports, work) or catalogue.row_of(manifest),
            state=catalogue.VERIFIED,
            verified_at=ports.clock.now(),
        )
        return Done(
            detail="restored into a scratch database: every row and attachment is there",
            rows=(catalogue.put(row),),
            change=_said(row),
            events=(_event("verified", work, row),),
        )

    async def unverify(self, ports: Ports, work: Work) -> Outcome:
        """Drop the scratch database; a backup that was found bad no longer counts as one."""
        scratch = await self._places.base(ports, work.space, scratch_database(work))
        await ports.databases.drop_database(scratch.server, scratch.database)
        row = await self._row(ports, work)
        if row is None or work.op.error_kind not in _BAD:
            return Done(detail="the scratch database is gone")
        bad = msgspec.structs.replace(row, state=catalogue.FAILED)
        published = await catalogue.rows(ports.tables, work.space.space_id)
        others = [other for other in published if other.backup_id != row.backup_id]
        last = catalogue.last_backup(catalogue.newest_good(others))
        return Done(
            detail="this backup does not count",
            rows=(catalogue.put(bad),),
            change=lambda space: replace(space, last_backup=last),
        )

    async def _row(self, ports: Ports, work: Work) -> catalogue.BackupRow | None:
        published = await catalogue.rows(ports.tables, work.space.space_id)
        mine = backup_id(work)
        return next((row for row in published if row.backup_id == mine), None)


def new_backup_id(space: Space, now: datetime) -> BackupId:
    """The id of the backup that the space's next operation makes; ids sort by operation."""
    return BackupId(f"bkp-{space.op_seq + 1:06}-{now:%Y%m%dT%H%M%SZ}")


def backup_id(work: Work) -> BackupId:
    """The id that the operation was started with, or the one that its number and start give."""
    told = work.op.params.get("backup_id")
    if told is not None:
        return BackupId(str(told))
    return BackupId(f"bkp-{number_of(work):06}-{work.op.started_at:%Y%m%dT%H%M%SZ}")


def kept(work: Work) -> timedelta:
    """How long this backup is kept: a final one for as long as nobody erases the space."""
    return FINAL_KEPT if work.op.kind is OpKind.CANCEL else KEPT


def number_of(work: Work) -> int:
    """The number of the operation on its space."""
    return int(work.op.op_id.rpartition("-")[2])


def scratch_database(work: Work) -> str:
    """The database that this operation's proof is made in."""
    return f"verify_{number_of(work)}"


def label(work: Work) -> Label:
    """What is said of the backup before it is made."""
    space = work.space
    return Label(
        space_id=space.space_id,
        backup_id=backup_id(work),
        operation_id=work.op.op_id,
        cluster=space.cluster,
        azure_region=space.azure_region,
        backup_region=space.backup_region,
        started_at=work.op.started_at,
        keep_until=work.op.started_at + kept(work),
    )


@contextlib.asynccontextmanager
async def bounded(work: Work) -> AsyncGenerator[None]:
    """End an attempt that takes too long; the next one begins from nothing."""
    try:
        async with asyncio.timeout(COPY_S):
            yield
    except TimeoutError as error:
        raise TransientError(
            f"not done within {COPY_S:.0f} s",
            where=f"space {work.space.space_id} · step {work.op.step}",
        ) from error


def _said(row: catalogue.BackupRow):  # noqa: ANN202 - a change of the space
    last = catalogue.last_backup(row)

    def change(space: Space) -> Space:
        return replace(space, last_backup=last)

    return change


def _event(what: str, work: Work, row: catalogue.BackupRow) -> Event:
    data = {
        "operation_id": work.op.op_id,
        "backup_id": row.backup_id,
        "bytes_stored": row.bytes_stored,
    }
    return Event(type=f"space.backup.{what}", data=data)
