"""Stacks that cannot be deleted: written down, counted, and never forgotten.

A row stands in table `strays` from the third refused deletion of a stack until a look shows its
absence: it costs money, and belongs to nobody. Source: control-plane.md 3.4.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from spaces import telemetry
from spaces.errors import ConflictError
from spaces.ports import Delete, Insert, instant

if TYPE_CHECKING:
    from spaces.ports import Ports, Stack, Tables

log = logging.getLogger("kpax.strays")

STRAYS = "strays"
PARTITION = "stacks"
MOST_TEXT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A stack that stands although it was to be deleted, and why."""

    stack: str
    space_id: str
    since: datetime
    code: str
    message: str


async def note(ports: Ports, stack: Stack, space_id: str) -> None:
    """Write down that a stack could not be deleted; the first word stays. Repeatable."""
    values = {
        "space_id": space_id,
        "since": ports.clock.now(),
        "code": stack.code or "",
        "message": (stack.message or "")[:MOST_TEXT],
    }
    try:
        await ports.tables.commit(STRAYS, PARTITION, [Insert(stack.name, values)])
    except ConflictError:
        return
    telemetry.count(telemetry.STACKS_STRAY)
    log.error(
        "stack.not_deleted",
        extra={
            "space": space_id,
            "stack": stack.name,
            "code": stack.code,
            "see": "docs/running.md#stack.not_deleted",
        },
    )


async def found(ports: Ports, stack: str, space_id: str, *, code: str, why: str) -> None:
    """Write down a stack that stands for no living space; the first word stays. Repeatable."""
    values = {"space_id": space_id, "since": ports.clock.now(), "code": code, "message": why}
    try:
        await ports.tables.commit(STRAYS, PARTITION, [Insert(stack, values)])
    except ConflictError:
        return
    log.error(
        "stack.stray",
        extra={
            "space": space_id,
            "stack": stack,
            "code": code,
            "see": "docs/running.md#stack.stray",
        },
    )


async def clear(ports: Ports, stack: str) -> None:
    """The stack is gone; one that was never written down counts as done."""
    await ports.tables.commit(STRAYS, PARTITION, [Delete(stack)])


async def all_of(tables: Tables) -> list[Stray]:
    """Every stack that could not be deleted, in name order."""
    return [
        Stray(
            stack=row.key,
            space_id=str(row.values["space_id"]),
            since=instant(row.values["since"]),
            code=str(row.values["code"]),
            message=str(row.values["message"]),
        )
        for row in await tables.query(STRAYS, partition=PARTITION)
    ]
