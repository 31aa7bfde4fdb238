"""See the instances stand: as many as the tier has zones, one in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.saga.outcomes import Done, Outcome, Wait

if TYPE_CHECKING:
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work

# The power state where the platform shows one, else that the machine was made.
UP = frozenset({"running", "succeeded"})


async def act(ports: Ports, work: Work) -> Outcome:
    """Done when every zone of the tier has an instance that runs."""
    resources = work.space.resources
    if resources is None:
        raise ValueError(f"space {work.space.space_id} came to start without resources")
    instances = await ports.arm.instances(resources.resource_group, resources.scale_set)
    up = {one.zone for one in instances if one.state.lower() in UP}
    missing = [zone for zone in work.space.zones if zone not in up]
    if missing:
        return Wait(delay_s=0, detail=f"zones still starting: {', '.join(missing)}")
    return Done(detail=", ".join(f"{one.name} in zone {one.zone}" for one in instances))
