"""Ask the public URL as the customer will: every zone, the right space, the right release, the data.

Nothing is written into the customer's data: a list is read, which needs the schema in place.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from provisioning.steps import resize
from spaces.errors import UnreachableError
from spaces.model import OpKind
from spaces.saga.outcomes import Done, Outcome, Wait
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.ports import Answer, Ports
    from spaces.saga.outcomes import Work

# Twice the most zones: an edge that spreads round robin has shown every healthy zone by then.
ASKED = 6


async def act(ports: Ports, work: Work) -> Outcome:
    """Done when all zones answered healthy for this space, and its data could be read.

    After a resize these are the zones of the new tier.
    """
    space = resize.wanted(work) if work.op.kind is OpKind.RESIZE else work.space
    url = settings().url_of(space.name, space.cluster)
    seen: set[str] = set()
    for _ in range(ASKED):
        try:
            answer = await ports.edge.request("GET", f"{url}/healthz")
        except UnreachableError as error:
            return Wait(delay_s=0, detail=str(error))
        told = health(answer)
        if told.get("space_id") == space.space_id and told.get("release") == space.release:
            seen.add(str(told.get("zone")))
        if seen.issuperset(space.zones):
            break
    missing = [zone for zone in space.zones if zone not in seen]
    if missing:
        return Wait(delay_s=0, detail=f"zones not answering yet: {', '.join(missing)}")
    answer = await ports.edge.request("GET", f"{url}/api/devices")
    if answer.status != 200:
        return Wait(delay_s=0, detail=f"the data cannot be read yet: status {answer.status}")
    return Done(detail=f"{url} answers from zones {', '.join(sorted(seen))}")


def health(answer: Answer) -> dict[str, object]:
    """What a healthy instance says of itself; nothing for any other answer."""
    if answer.status != 200:
        return {}
    try:
        value: object = json.loads(answer.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
