"""PUT the space's deployment stack under its computed name, and look until it stands.

Never waits inside a function: each call is one GET by name, and a PUT where there is nothing.
The operation's URL is not kept, because it can be lost; the name cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces import names
from spaces.configuration import admin_password, resources_of, stack_request
from spaces.errors import ConflictError, ErrorKind
from spaces.model import replace
from spaces.ports import StackState
from spaces.saga.outcomes import Done, Failed, Outcome, Retry, Wait
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports, Stack
    from spaces.saga.outcomes import Work

# Codes after which the same PUT may work: control-plane.md, "Further Azure-side traps".
PASSING = frozenset(
    {
        "ServerIsBusy",
        "ServerBusy",
        "InternalServerError",
        "ServiceUnavailable",
        "RetryableError",
        "OperationPreempted",
        "AnotherOperationInProgress",
        "DeploymentCanceled",
        "Canceled",
        "Conflict",
        "OperationTimedOut",
        "GatewayTimeout",
    }
)


async def act(ports: Ports, work: Work) -> Outcome:
    """Wait while the stack is made, Done with its outputs, Retry or Failed by its error code.

    Before it, the stacks of earlier attempts to open the space go away: they hold its host name,
    and cost.
    """
    removing = await remove_earlier(ports, work.space)
    if removing is not None:
        return removing
    stack = await ports.arm.get_stack(names.stack(work.space))
    match stack.state:
        case StackState.ABSENT:
            return await _put(ports, work.space)
        case StackState.RUNNING:
            return Wait(delay_s=stack.retry_after_s or 0, detail="creating")
        case StackState.SUCCEEDED:
            resources = resources_of(stack.outputs)
            return Done(
                detail=resources.resource_group,
                change=lambda space: replace(space, resources=resources),
            )
        case StackState.FAILED:
            return await _again(ports, work.space, stack)


async def undo(ports: Ports, work: Work) -> Outcome:
    """Delete the stack and all it made; Done only when a GET shows its absence."""
    removing = await _remove(ports, names.stack(work.space))
    if removing is not None:
        return removing
    return Done(detail="nothing is left", change=lambda space: replace(space, resources=None))


async def remove_earlier(ports: Ports, space: Space) -> Wait | None:
    """Start or watch the deletion of the stacks of earlier incarnations; None once all are absent."""
    for number in range(1, space.incarnation):
        removing = await _remove(ports, names.stack(replace(space, incarnation=number)))
        if removing is not None:
            return removing
    return None


async def _remove(ports: Ports, name: str) -> Wait | None:
    """Start or watch the deletion of a stack; None once it is absent."""
    stack = await ports.arm.get_stack(name)
    match stack.state:
        case StackState.ABSENT:
            return None
        case StackState.RUNNING:
            return Wait(delay_s=stack.retry_after_s or 0, detail=f"deleting {name}")
        case StackState.SUCCEEDED | StackState.FAILED:
            deleting = await ports.arm.delete_stack(name)
            return Wait(delay_s=deleting.retry_after_s or 0, detail=f"deleting {name}")


async def _put(ports: Ports, space: Space) -> Outcome:
    config = settings()
    password = await admin_password(ports, config, space)
    try:
        stack = await ports.arm.put_stack(stack_request(space, config, admin_password=password))
    except ConflictError:
        return Wait(delay_s=0, detail="another PUT of this stack runs")
    return Wait(delay_s=stack.retry_after_s or 0, detail="started", began=True)


async def _again(ports: Ports, space: Space, stack: Stack) -> Outcome:
    """A failed stack: PUT it again where its error passes, as a counted attempt."""
    told = f"{stack.code}: {stack.message}"
    if stack.code not in PASSING:
        return Failed(reason=f"the deployment stack {stack.name} failed with {told}")
    outcome = await _put(ports, space)
    if isinstance(outcome, Wait):
        return Retry(kind=ErrorKind.TRANSIENT, reason=told)
    return outcome
