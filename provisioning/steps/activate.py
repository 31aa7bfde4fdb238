"""Call the space active: from here on it is the customer's, and the daily backup finds it due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.model import replace
from spaces.registry import Event
from spaces.saga.outcomes import Done, Outcome
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work


async def act(ports: Ports, work: Work) -> Outcome:
    """Done at once; the runner writes the status with this step."""
    del ports
    url = settings().url_of(work.space.name, work.space.cluster)
    now = work.now
    return Done(
        detail=url,
        change=lambda space: replace(space, activated_at=now),
        events=(
            Event(type="space.activated", data={"url": url, "order_id": work.space.order_id}),
        ),
    )
