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
    from collections.abc import Awaitable, Callable

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


async def put(
    tables: Tables,
    space_id: str,
    op_id: str,
    *,
    now: datetime,
    before_taking_over: Callable[[], Awaitable[None]],
) -> None:
    """Watch `op_id`, in the place of an earlier operation's watch where one is still there.

    That one stands for messages that may not be out yet: `before_taking_over` says them again, and
    only then is the watch replaced. An own one is written again, so that a sweeper which found it
    old cannot remove it any more. Raises `LostRaceError` when somebody else writes it at the same
    moment, or when a later operation is watched already.
    """
    partition = shard(space_id)
    values = {"op_id": op_id, "written_at": now}
    try:
        await tables.commit(ACTIVE_OPS, partition, [Insert(space_id, values)])
    except ConflictError:
        row = await tables.get(ACTIVE_OPS, partition, space_id)
        if row is None:
            raise LostRaceError("the watch went away", where=f"space {space_id}") from None
        watched = str(row.values["op_id"])
        if _number(watched) > _number(op_id):
            raise LostRaceError("a later operation is watched", where=watched) from None
        if watched != op_id:
            await before_taking_over()
        try:
            await tables.commit(ACTIVE_OPS, partition, [Replace(space_id, values, row.etag)])
        except LostRaceError:
            there = await tables.get(ACTIVE_OPS, partition, space_id)
            if there is None or dict(there.values) != values:
                raise  # else it met its own first copy


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
    await _delete(tables, space_id, row.etag)


async def drop_unchanged(tables: Tables, watched: Watch) -> None:
    """Stop watching, unless the row was written after `watched` was read."""
    await _delete(tables, watched.space_id, watched.etag)


async def _delete(tables: Tables, space_id: str, etag: str) -> None:
    try:
        await tables.commit(ACTIVE_OPS, shard(space_id), [Delete(space_id, etag)])
    except LostRaceError:
        return


def _number(op_id: str) -> int:
    return int(op_id.rpartition("-")[2])
