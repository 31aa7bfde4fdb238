"""What the HTTP endpoints of backups and restores do, and the bodies they answer.

A request names a space by id or name.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from backups import catalogue, run
from backups.restore import found
from spaces import names
from spaces.errors import NotFoundError
from spaces.lifecycle import may_start
from spaces.messages import Reason
from spaces.model import BackupId, OpKind
from spaces.registry import Registry
from spaces.saga.asked import start

if TYPE_CHECKING:
    from backups.catalogue import BackupRow
    from backups.places import Places
    from spaces.model import Facts, Space
    from spaces.ports import Ports
    from spaces.saga.asked import Asker
    from spaces.views import OperationView

LATEST = "latest"


class BackupView(msgspec.Struct, frozen=True, kw_only=True):
    """A backup; `state` is completed, verified or failed, times are null until they are known.

    `tables` are rows by name, `bytes_stored` what the run added to the store. `error` says why it
    failed or was not verified, and names the object that is damaged.
    """

    backup_id: str
    operation_id: str
    state: str
    completed_at: datetime | None
    verified_at: datetime | None
    expires_at: datetime | None
    bytes_stored: int
    rows: int
    attachments: int
    attachment_bytes: int
    kind: str
    seconds: float
    bytes_read: int
    storage_calls: int
    tables: dict[str, int]
    files: int
    root_hash: str
    error: str | None = None


class BackupList(msgspec.Struct, frozen=True, kw_only=True):
    """The backups of a space, newest first."""

    items: list[BackupView]


class BackupRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing has to be said; a reason goes into the audit entry."""

    reason: Reason | None = None


class RestoreRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to restore: a backup's id, or `latest`. A dry run does nothing and tells the plan."""

    backup_id: str = LATEST
    reason: Reason | None = None
    dry_run: bool = False


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A database and a container."""

    database: str
    container: str


class RestorePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore would do: which backup, what it replaces, how much it reads."""

    dry_run: bool
    space_id: str
    name: str
    backup: BackupView
    replaces: Pair
    replaced_by: Pair
    bytes_to_read: int
    old_data_kept_days: int
    damaged_before: list[str]


async def backups_of(ports: Ports, space: Space) -> list[BackupRow]:
    """All backups of a space, newest first, the failed ones too."""
    published = await catalogue.rows(ports.tables, space.space_id)
    operations = await Registry(ports.tables).operations(space.space_id)
    return catalogue.listed(published, operations)


async def listing(ports: Ports, space_name: str) -> BackupList:
    """The body of GET /spaces/{id}/backups."""
    loaded = await Registry(ports.tables).find(space_name)
    return BackupList(items=[_view(row) for row in await backups_of(ports, loaded.space)])


async def one(ports: Ports, space_name: str, backup_id: str) -> BackupView:
    """The body of GET /spaces/{id}/backups/{backup_id}; `latest` is the newest good one."""
    loaded = await Registry(ports.tables).find(space_name)
    rows = await backups_of(ports, loaded.space)
    if backup_id == LATEST:
        newest = catalogue.newest_good(rows)
        rows = [newest] if newest is not None else []
        backup_id = newest.backup_id if newest is not None else LATEST
    for row in rows:
        if row.backup_id == backup_id:
            return _view(row)
    raise _no_backup(loaded.space, backup_id)


async def start_backup(ports: Ports, space_name: str, asker: Asker) -> OperationView:
    """Start a backup now; a running operation refuses it (409 `operation-running`)."""

    def params(space: Space) -> Facts:
        return {"backup_id": run.new_backup_id(space, ports.clock.now())}

    return await start(ports, OpKind.BACKUP, space_name, asker, params=params)


async def start_restore(
    ports: Ports, space_name: str, backup_id: str, asker: Asker
) -> OperationView:
    """Start a restore; `latest` is settled now, so that the operation says which one it is."""
    loaded = await Registry(ports.tables).find(space_name)
    try:
        chosen = await _chosen(ports, loaded.space, backup_id)
    except NotFoundError:
        if backup_id == LATEST:  # an erased space has none: that it is erased is the reason
            may_start(loaded.space, OpKind.RESTORE, ports.clock.now())
        raise

    def params(_: Space) -> Facts:
        return {"backup_id": chosen}

    return await start(ports, OpKind.RESTORE, space_name, asker, params=params)


async def planned(ports: Ports, places: Places, space_name: str, backup_id: str) -> RestorePlan:
    """What a restore would do now. Reads the manifest and looks for its objects; does nothing."""
    loaded = await Registry(ports.tables).find(space_name)
    space = loaded.space
    may_start(space, OpKind.RESTORE, ports.clock.now())
    chosen = await _chosen(ports, space, backup_id)
    engine, store = places.engine(ports), places.store(ports, space)
    manifest = await found(engine, store, BackupId(chosen))
    rows = await catalogue.rows(ports.tables, space.space_id)
    known = next((row for row in rows if row.backup_id == chosen), None)
    return RestorePlan(
        dry_run=True,
        space_id=space.space_id,
        name=space.name,
        backup=_view(known or catalogue.row_of(manifest)),
        replaces=Pair(database=space.database, container=space.container),
        replaced_by=Pair(
            database=names.restored_database(space.op_seq + 1),
            container=names.restored_container(space.op_seq + 1),
        ),
        bytes_to_read=sum(ref.size_bytes for ref in manifest.objects),
        old_data_kept_days=catalogue.KEPT_DAYS,
        damaged_before=await engine.gaps(store, manifest, now=ports.clock.now()),
    )


async def _chosen(ports: Ports, space: Space, backup_id: str) -> str:
    rows = await catalogue.rows(ports.tables, space.space_id)
    if backup_id != LATEST:
        if backup_id not in {row.backup_id for row in rows}:
            raise _no_backup(space, backup_id)
        return backup_id
    newest = catalogue.newest_good(rows)
    if newest is None:
        raise _no_backup(space, backup_id)
    return newest.backup_id


def _no_backup(space: Space, backup_id: str) -> NotFoundError:
    what = "no backup yet" if backup_id == LATEST else f"no backup {backup_id[:64]}"
    return NotFoundError(
        f"there is {what}",
        where=f"space {space.space_id} · {space.name}",
        remedy=f"See: kpax backup list {space.name}.",
    )


def _view(row: BackupRow) -> BackupView:
    return BackupView(
        backup_id=row.backup_id,
        operation_id=row.operation_id,
        state=row.state,
        completed_at=row.completed_at,
        verified_at=row.verified_at,
        expires_at=row.expires_at,
        bytes_stored=row.bytes_stored,
        rows=row.rows,
        attachments=row.attachments,
        attachment_bytes=row.attachment_bytes,
        kind=row.figures.kind,
        seconds=row.figures.seconds,
        bytes_read=row.figures.bytes_read,
        storage_calls=row.figures.storage_calls,
        tables=row.figures.tables,
        files=row.attachments,
        root_hash=row.figures.root_hash,
        error=row.error,
    )
