"""The moments at which a space must be looked at although nothing happens to it.

A period ends, an override, a grace, a retention, the pause after a failure. One row per space, put
before the change that makes it needed (as a watch is), moved or removed when it has come. A row
that is too early costs one look; none is ever too late.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from spaces.errors import ConflictError, LostRaceError
from spaces.planner import due_at
from spaces.ports import Delete, Insert, Replace, instant
from spaces.saga.watch import shard

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Tables

DUES = "dues"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One row: when to look at which space, and the version of the row."""

    space_id: str
    due_at: datetime
    etag: str


async def ahead(tables: Tables, space: Space, now: datetime) -> Space:
    """Put the row that `space`, about to be written, needs; answers it with `plan_due`.

    Nothing is read or written where the row that stands comes early enough.
    """
    due = due_at(space, now)
    standing = space.plan_due
    if due is None or (standing is not None and now < standing <= due):
        return space
    await _put(tables, space.space_id, due, now)
    return replace(space, plan_due=due)


async def come(tables: Tables, now: datetime) -> list[Due]:
    """The rows whose moment has come; one query of the small table."""
    rows = await tables.query(DUES)
    dues = [
        Due(space_id=row.key, due_at=instant(row.values["due_at"]), etag=row.etag)
        for row in rows
    ]
    return [due for due in dues if due.due_at <= now]


async def move(tables: Tables, due: Due, to: datetime | None) -> None:
    """Put a row that has come to its space's next moment, or away; one that changed stays."""
    write = (
        Delete(due.space_id, due.etag)
        if to is None
        else Replace(due.space_id, {"due_at": to}, due.etag)
    )
    try:
        await tables.commit(DUES, shard(due.space_id), [write])
    except LostRaceError:
        return


async def _put(tables: Tables, space_id: str, due: datetime, now: datetime) -> None:
    """Insert the row, or bring it forward; one that comes earlier, and not yet, stays."""
    partition = shard(space_id)
    try:
        await tables.commit(DUES, partition, [Insert(space_id, {"due_at": due})])
    except ConflictError:
        row = await tables.get(DUES, partition, space_id)
        if row is None:
            raise LostRaceError("the due row went away", where=f"space {space_id}") from None
        if now < instant(row.values["due_at"]) <= due:
            return
        await tables.commit(DUES, partition, [Replace(space_id, {"due_at": due}, row.etag)])
