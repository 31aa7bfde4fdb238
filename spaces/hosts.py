"""Names of spaces: unique over all clusters, reserved at the order, lapsing unpaid.

One row per name; the insert is the reservation. A lapsed one is taken over by its ETag, so that
two orders at the same moment cannot both have it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from spaces.errors import ConflictError, LostRaceError, RefusedError
from spaces.ports import Delete, Insert, Replace, instant
from spaces.registry import HOST_ROW as ROW
from spaces.registry import HOSTS

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.ports import Ports, Scalar, Stored


async def reserve(ports: Ports, *, name: str, space_id: str, lapse_s: float) -> None:
    """Reserve a name for a space; repeatable by the same space.

    Raises `RefusedError` (409 `name-taken`) while it is another's.
    """
    values: dict[str, Scalar] = {
        "space_id": space_id,
        "lapses_at": ports.clock.now() + timedelta(seconds=lapse_s),
        "confirmed": False,
    }
    try:
        await ports.tables.commit(HOSTS, name, [Insert(ROW, values)])
    except ConflictError:
        row = await ports.tables.get(HOSTS, name, ROW)
        if row is not None and row.values["space_id"] == space_id:
            return
        if row is None or not _has_lapsed(ports, row):
            raise _taken(name) from None
        try:
            await ports.tables.commit(HOSTS, name, [Replace(ROW, values, row.etag)])
        except LostRaceError as error:
            if await owner(ports, name) != space_id:  # else it met its own first copy
                raise _taken(name) from error


async def confirm(ports: Ports, *, name: str, space_id: str) -> bool:
    """Keep the name for good; False when it is not this space's any more. Repeatable.

    A name that was given back is not taken again: a late copy of this call, after the operation
    was undone, would keep it from everybody.
    """
    row = await ports.tables.get(HOSTS, name, ROW)
    if row is None or row.values["space_id"] != space_id:
        return False
    if row.values["confirmed"]:
        return True
    kept: dict[str, Scalar] = {**row.values, "confirmed": True}
    try:
        await ports.tables.commit(HOSTS, name, [Replace(ROW, kept, row.etag)])
    except LostRaceError:
        return await confirm(ports, name=name, space_id=space_id)
    return True


async def free(ports: Ports, *, name: str, space_id: str) -> None:
    """Give the name back, if it is this space's; repeatable."""
    row = await ports.tables.get(HOSTS, name, ROW)
    if row is None or row.values["space_id"] != space_id:
        return
    try:
        await ports.tables.commit(HOSTS, name, [Delete(ROW, row.etag)])
    except LostRaceError:
        await free(ports, name=name, space_id=space_id)


async def hold(ports: Ports, *, name: str, space_id: str, until: datetime) -> None:
    """Keep the name of a space that has ended from everybody until then; repeatable.

    Afterwards it has lapsed, like one that was reserved and never paid.
    """
    row = await ports.tables.get(HOSTS, name, ROW)
    if row is None or row.values["space_id"] != space_id:
        return
    held: dict[str, Scalar] = {**row.values, "confirmed": False, "lapses_at": until}
    try:
        await ports.tables.commit(HOSTS, name, [Replace(ROW, held, row.etag)])
    except LostRaceError:
        await hold(ports, name=name, space_id=space_id, until=until)


async def owner(ports: Ports, name: str) -> str | None:
    """The space that has the name, or None."""
    row = await ports.tables.get(HOSTS, name, ROW)
    return None if row is None else str(row.values["space_id"])


def _has_lapsed(ports: Ports, row: Stored) -> bool:
    return not row.values["confirmed"] and instant(row.values["lapses_at"]) <= ports.clock.now()


def _taken(name: str) -> RefusedError:
    return RefusedError(
        f"the name {name} is taken",
        remedy="Choose another name.",
        slug="name-taken",
        members={"name": name},
    )
