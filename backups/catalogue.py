"""Rows about backups: what lists and pages read without opening a container.

The manifests are the truth, the rows can be made again from them. `bkp!{id}` stands in the
partition of its space and is written in the transaction of the step that it tells of;
`keep!{op}` names what a restore put aside, and until when.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast

import msgspec

from backups.engine import Figures
from spaces.model import BackupId, LastBackup, OpKind, OpStatus
from spaces.ports import Put
from spaces.registry import SPACES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backups.manifest import Manifest
    from spaces.ports import Tables
    from spaces.registry import OpRow

COMPLETED, VERIFIED, FAILED = "completed", "verified", "failed"
# How long a restore keeps what it replaced.
KEPT_DAYS = 7


class BackupRow(msgspec.Struct, frozen=True, kw_only=True):
    """One backup as lists show it; `state` is completed, verified (restored and proved) or failed."""

    backup_id: str
    operation_id: str
    state: str
    started_at: datetime | None
    completed_at: datetime | None
    verified_at: datetime | None
    expires_at: datetime | None
    bytes_stored: int
    tables: int
    rows: int
    attachments: int
    attachment_bytes: int
    error: str | None = None
    figures: Figures = Figures()


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The database and container that a restore replaced, kept until `keep_until`."""

    operation_id: str
    database: str
    container: str
    keep_until: datetime


def row_of(manifest: Manifest, figures: Figures = Figures()) -> BackupRow:  # noqa: B008 — frozen
    """The row of a published backup that nobody has proved yet."""
    return BackupRow(
        backup_id=manifest.backup_id,
        operation_id=manifest.operation_id,
        state=COMPLETED,
        started_at=manifest.started_at,
        completed_at=manifest.completed_at,
        verified_at=None,
        expires_at=manifest.expires_at,
        bytes_stored=manifest.bytes_stored,
        tables=manifest.tables,
        rows=manifest.rows,
        attachments=manifest.attachments,
        attachment_bytes=manifest.attachment_bytes,
        figures=figures,
    )


def put(row: BackupRow) -> Put:
    """The write of a row, for the transaction of a step."""
    return Put(f"bkp!{row.backup_id}", {"doc": _text(row), "state": row.state})


def put_kept(kept: Kept) -> Put:
    """The write that puts the replaced data aside."""
    return Put(f"keep!{kept.operation_id}", {"doc": _text(kept), "keep_until": kept.keep_until})


async def rows(tables: Tables, space_id: str) -> list[BackupRow]:
    """The rows of a space's published backups, oldest first."""
    found = await tables.query(SPACES, partition=space_id, key_from="bkp!", key_below='bkp"')
    return [msgspec.json.decode(str(row.values["doc"]), type=BackupRow) for row in found]


def listed(published: Sequence[BackupRow], operations: Sequence[OpRow]) -> list[BackupRow]:
    """All backups, newest first: those that exist, and those that failed before they did. Pure.

    Each carries its operation's error, where there is one: it names what is damaged.
    """
    known = {row.operation_id for row in published}
    errors = {op.op_id: op.error for op in operations}
    failed = [
        _failed(op)
        for op in operations
        if op.kind == OpKind.BACKUP
        and op.op_id not in known
        and op.status in {OpStatus.FAILED, OpStatus.NEEDS_OPERATOR}
    ]
    told = [
        msgspec.structs.replace(row, error=errors.get(row.operation_id)) for row in published
    ]
    return sorted([*told, *failed], key=lambda row: row.backup_id, reverse=True)


def newest_good(published: Sequence[BackupRow]) -> BackupRow | None:
    """The newest backup that is not known to be damaged. Pure."""
    good = [row for row in published if row.state != FAILED]
    return max(good, key=lambda row: row.backup_id, default=None)


def last_backup(row: BackupRow | None) -> LastBackup | None:
    """What the space's own row says of its newest backup. Pure."""
    if row is None or row.completed_at is None:
        return None
    return LastBackup(
        backup_id=BackupId(row.backup_id),
        completed_at=row.completed_at,
        verified_at=row.verified_at,
    )


def kept_of(doc: object) -> Kept:
    """A `keep!` row's document."""
    return msgspec.json.decode(str(doc), type=Kept)


def _failed(op: OpRow) -> BackupRow:
    return BackupRow(
        backup_id=cast("str", op.params.get("backup_id") or op.op_id),
        operation_id=op.op_id,
        state=FAILED,
        started_at=op.started_at,
        completed_at=None,
        verified_at=None,
        expires_at=None,
        bytes_stored=0,
        tables=0,
        rows=0,
        attachments=0,
        attachment_bytes=0,
        error=op.error,
    )


def _text(row: msgspec.Struct) -> str:
    return msgspec.json.encode(row).decode()
