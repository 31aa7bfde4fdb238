"""Decide again where the space may live: law and data may have changed since the order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from geo_router import signed
from spaces import hosts
from spaces.clusters import CLUSTERS
from spaces.errors import ErrorKind
from spaces.saga.outcomes import Done, Failed, Outcome
from spaces.stack import all_removed

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work


async def act(ports: Ports, work: Work) -> Outcome:
    """Done when today's decision names the cluster of the order, with a lawful backup region."""
    del ports
    request: dict[str, object] = json.loads(work.space.route_request)
    answer = signed.decide_again(request, now=work.now)
    return judge(work.space, answer)


async def undo(ports: Ports, work: Work) -> Outcome:
    """Give back what was there before the operation: the order's name, stacks of earlier attempts."""
    removing = await all_removed(ports, work, earlier_only=True)
    if removing is not None:
        return removing
    await hosts.free(ports, name=work.space.name, space_id=work.space.space_id)
    return Done(detail=f"{work.space.name} is free")


def judge(space: Space, answer: dict[str, object]) -> Outcome:
    """Compare today's answer with where the order put the space. Pure."""
    where = f"space {space.space_id} · step route · cluster {space.cluster}"
    if answer["decision"] != "allowed" or answer["cluster"] != space.cluster:
        return Failed(
            kind=ErrorKind.DENIED,
            reason=(
                f"the decision is no longer the one of the order: today {answer['decision']}"
                f" {answer['cluster'] or answer['refusal']} ({where}); a person must review it"
            ),
        )
    if space.backup_region != CLUSTERS[space.cluster].backup_region:
        return Failed(
            kind=ErrorKind.DENIED,
            reason=f"{space.backup_region} is not the backup region of this cluster ({where})",
        )
    data = answer["data"]
    version = str(data.get("version", "")) if isinstance(data, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return Done(detail=f"{space.cluster}, by rules {version}", facts={"rules": version})
