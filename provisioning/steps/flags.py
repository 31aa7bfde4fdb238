"""The last steps of what changes a flag or a status, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.model import Status, replace
from spaces.power import mark_of
from spaces.saga.outcomes import Done, Outcome

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work


async def quarantined(ports: Ports, work: Work) -> Outcome:
    """Set the flag. Parameters: `reason`, `actor`."""
    del ports
    mark = mark_of(work)
    return Done(detail=mark.reason, change=lambda space: replace(space, quarantined=mark))


async def released(ports: Ports, work: Work) -> Outcome:
    """Take the flag away."""
    del ports, work
    return Done(change=lambda space: replace(space, quarantined=None))


async def suspended(ports: Ports, work: Work) -> Outcome:
    """Done at once; the runner writes the status with this step."""
    del ports, work
    return Done(detail="nothing of it runs, its data stays")


async def resumed(ports: Ports, work: Work) -> Outcome:
    """A cancelled space that came back has no end any more; its final backup is one like others."""
    del ports
    if work.space.status is not Status.CANCELLED:
        return Done()

    def change(space: Space) -> Space:
        return replace(space, cancelled_at=None, grace_until=None, final_backup=None)

    return Done(detail="it is not cancelled any more", change=change)
