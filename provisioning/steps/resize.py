"""Give a space the machines, the memory and the database limits of another plan.

Parameters: `plan`, a tier. The stack is PUT with the new plan; the row keeps the old one until the
last step, so that the way back is the stack as the row says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces import stack
from spaces.model import Tier, replace
from spaces.saga.outcomes import Done, Outcome
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work


def wanted(work: Work) -> Space:
    """The space on the plan that the operation was started with."""
    return replace(work.space, tier=Tier(str(work.op.params["plan"])))


async def deploy(ports: Ports, work: Work) -> Outcome:
    """Done when the stack stands with the new plan."""
    return await stack.stands(ports, settings(), work, wanted(work), stack.PLAN)


async def undeploy(ports: Ports, work: Work) -> Outcome:
    """Done when the stack stands with the plan of the row again."""
    return await stack.stands(ports, settings(), work, work.space, stack.PLAN)


async def settle(ports: Ports, work: Work) -> Outcome:
    """Call it that plan; a later billing event may ask for another."""
    del ports
    tier = wanted(work).tier
    return Done(detail=tier.value, change=lambda space: replace(space, tier=tier))
