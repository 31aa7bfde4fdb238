"""Read an operation as the API shows it; every room that starts one answers with this."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from spaces.errors import NotFoundError
from spaces.model import space_of_op
from spaces.registry import Registry
from spaces.views import OperationView, operation_view

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports


async def show(ports: Ports, op_id: str) -> OperationView:
    """An operation by id, with the step it stands at; `NotFoundError` where there is none."""
    space_id = space_of_op(op_id)
    registry = Registry(ports.tables)
    loaded = await registry.load(space_id) if space_id is not None else None
    found = await registry.operation(loaded.space.space_id, op_id) if loaded else None
    if loaded is None or found is None:
        raise NotFoundError(f"no operation {op_id[:64]}", remedy="See: kpax op list SPACE.")
    return operation_view(found[0], found[1], loaded.space.op)


async def of_space(ports: Ports, space: Space) -> list[OperationView]:
    """All operations of a space, newest first."""
    registry = Registry(ports.tables)
    rows = await registry.operations(space.space_id)
    found = await asyncio.gather(
        *(registry.operation(space.space_id, row.op_id) for row in reversed(rows))
    )
    return [operation_view(one[0], one[1], space.op) for one in found if one is not None]


async def running(ports: Ports, space: Space) -> OperationView | None:
    """The operation that runs on a space, or None."""
    return None if space.op is None else await show(ports, space.op.op_id)
