"""PUT the space's deployment stack under its computed name, and look until it stands.

Never waits inside a function: each call is one GET by name, and a PUT where there is nothing.
The operation's URL is not kept, because it can be lost; the name cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces import names, stack
from spaces.configuration import resources_of
from spaces.errors import ErrorKind
from spaces.model import replace
from spaces.ports import StackState
from spaces.saga.outcomes import Done, Failed, Outcome, Retry, Wait
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports, Stack
    from spaces.saga.outcomes import Work


async def act(ports: Ports, work: Work) -> Outcome:
    """Wait while the stack is made, Done with its outputs, Retry or Failed by its error code.

    Before it, the stacks of earlier attempts to open the space go away: they hold its host name,
    and cost.
    """
    removing = await stack.all_removed(ports, work, earlier_only=True)
    if removing is not None:
        return removing
    found = await ports.arm.get_stack(names.stack(work.space))
    match found.state:
        case StackState.ABSENT:
            return await stack.put(ports, settings(), work.space)
        case StackState.RUNNING:
            return Wait(delay_s=found.retry_after_s or 0, detail="creating")
        case StackState.SUCCEEDED:
            resources = resources_of(found.outputs)
            return Done(
                detail=resources.resource_group,
                change=lambda space: replace(space, resources=resources),
            )
        case StackState.FAILED:
            return await _again(ports, work.space, found)


async def undo(ports: Ports, work: Work) -> Outcome:
    """Delete the stack and all it made; Done only when a GET shows its absence."""
    removing = await stack.removed(ports, work, names.stack(work.space))
    if removing is not None:
        return removing
    return Done(detail="nothing is left", change=lambda space: replace(space, resources=None))


async def _again(ports: Ports, space: Space, found: Stack) -> Outcome:
    """A failed stack: PUT it again where its error passes, as a counted attempt."""
    told = f"{found.code}: {found.message}"
    if found.code not in stack.PASSING:
        return Failed(reason=f"the deployment stack {found.name} failed with {told}")
    outcome = await stack.put(ports, settings(), space)
    if isinstance(outcome, Wait):
        return Retry(kind=ErrorKind.TRANSIENT, reason=told)
    return outcome
