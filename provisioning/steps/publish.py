"""See the edge know the space's host name: its route is part of the stack, its spreading is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.errors import UnreachableError
from spaces.saga.outcomes import Done, Outcome, Wait
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work


async def act(ports: Ports, work: Work) -> Outcome:
    """Done when the edge answers for the name with anything but "unknown"."""
    url = settings().url_of(work.space.name, work.space.cluster)
    try:
        answer = await ports.edge.request("GET", f"{url}/healthz")
    except UnreachableError as error:
        return Wait(delay_s=0, detail=str(error))
    if answer.status == 404:
        return Wait(delay_s=0, detail="the edge does not know the name yet")
    return Done(detail=url)
