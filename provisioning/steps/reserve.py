"""Confirm the name that the order reserved, before it can lapse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces import hosts
from spaces.saga.outcomes import Done, Failed, Outcome

if TYPE_CHECKING:
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work


async def act(ports: Ports, work: Work) -> Outcome:
    """Done when the name is this space's for good; repeatable."""
    space = work.space
    if await hosts.confirm(ports, name=space.name, space_id=space.space_id):
        return Done(detail=space.name)
    return Failed(
        reason=(
            f"the name {space.name} lapsed unpaid or was given back, and is not this space's"
            f" any more (space {space.space_id} · step reserve); order again"
        )
    )


async def undo(ports: Ports, work: Work) -> Outcome:
    """Free the name, if it is this space's."""
    await hosts.free(ports, name=work.space.name, space_id=work.space.space_id)
    return Done(detail=f"{work.space.name} is free")
