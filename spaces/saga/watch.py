"""The watch list: which spaces have an operation, so that the sweeper finds the lost ones.

A watch is written before the operation starts and removed after its last message is out: a crash
leaves a watch without work, never work without a watch (control-plane.md 3.2).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from spaces.errors import ConflictError, LostRaceError
from spaces.ports import Delete, Insert, Replace, instant

if TYPE_CHECKING:
    from spaces.ports import Tables

ACTIVE_OPS = "activeops"
SHARDS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One watched space: the operation it was written for, and the version of the row."""

    space_id: str
    op_id: str
    written_at: datetime
    etag: str


def shard(space_id: str) -> str:
    """The partition of a space's watch."""
    return f"{hashlib.sha256(space_id.encode()).digest()[0] % SHARDS:02}"


async def put(tables: Tables, space_id: str, op_id: str, *, now: datetime) -> bool:
    """Watch `op_id`; True when another operation's watch was still there and is replaced.

    The caller then first says again what that operation promised. Raises `LostRaceError` when
    somebody else replaces it at the same moment.
    """
    partition = shard(space_id)
    values = {"op_id": op_id, "written_at": now}
    try:
        await tables.commit(ACTIVE_OPS, partition, [Insert(space_id, values)])
    except ConflictError:
        row = await tables.get(ACTIVE_OPS, partition, space_id)
        if row is None:
            return await put(tables, space_id, op_id, now=now)
        if row.values["op_id"] == op_id:
            return False
        await tables.commit(ACTIVE_OPS, partition, [Replace(space_id, values, row.etag)])
        return True
    return False


async def all_of(tables: Tables) -> list[Watch]:
    """Every watched space."""
    rows = await tables.query(ACTIVE_OPS)
    return [
        Watch(
            space_id=row.key,
            op_id=str(row.values["op_id"]),
            written_at=instant(row.values["written_at"]),
            etag=row.etag,
        )
        for row in rows
    ]


async def drop(tables: Tables, space_id: str, op_id: str) -> None:
    """Stop watching, unless the row has been taken over by a newer operation."""
    row = await tables.get(ACTIVE_OPS, shard(space_id), space_id)
    if row is None or row.values["op_id"] != op_id:
        return
    try:
        await tables.commit(ACTIVE_OPS, shard(space_id), [Delete(space_id, row.etag)])
    except LostRaceError:
        return
