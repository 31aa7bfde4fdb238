"""The deployment stack of a space: see it stand as wanted, and see it gone. Nothing here waits.

Each call is one look by name and at most one request. The name cannot be lost, as the address of a
running operation can; so whoever comes after a crash, or takes another's work over, goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces import names, strays
from spaces.configuration import admin_password, stack_request
from spaces.errors import ConflictError, ErrorKind
from spaces.model import Phase, replace
from spaces.ports import StackState
from spaces.saga.outcomes import Done, Failed, Outcome, Retry, Wait

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports, Stack
    from spaces.saga.outcomes import Work
    from spaces.settings import Settings

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
# The parameters that change while a space lives.
PLAN, ROUTE, REVISION = "plan", "routeEnabled", "configRevision"
# A stack whose deletion failed this often is written down as one that cannot be deleted.
MOST_REFUSALS = 3


async def stands(
    ports: Ports, config: Settings, work: Work, wanted: Space, *about: str
) -> Outcome:
    """Done when the stack stands as `wanted` says in the parameters `about`; PUT where it does not.

    A failure of an earlier PUT is answered by a PUT; one of our own fails the step, unless its code
    passes, or the step is being undone.
    """
    stack = await ports.arm.get_stack(names.stack(wanted))
    request = stack_request(wanted, config, admin_password="")
    as_wanted = all(str(stack.parameters.get(p)) == str(request.parameters[p]) for p in about)
    match stack.state:
        case StackState.ABSENT:
            return Failed(reason=f"the deployment stack {stack.name} is gone")
        case StackState.RUNNING:
            return Wait(delay_s=stack.retry_after_s or 0, detail="deploying")
        case StackState.SUCCEEDED if as_wanted:
            told = ", ".join(f"{p} {request.parameters[p]}" for p in about)
            return Done(detail=f"the stack stands: {told}")
        case StackState.FAILED if as_wanted:
            return await _again(ports, config, work, wanted, stack)
        case StackState.SUCCEEDED | StackState.FAILED:
            return await put(ports, config, wanted)


async def put(ports: Ports, config: Settings, wanted: Space) -> Outcome:
    """Ask for the stack as `wanted` says."""
    password = await admin_password(ports, config, wanted)
    try:
        stack = await ports.arm.put_stack(
            stack_request(wanted, config, admin_password=password)
        )
    except ConflictError:
        return Wait(delay_s=0, detail="another PUT of this stack runs")
    return Wait(delay_s=stack.retry_after_s or 0, detail="started", began=True)


async def removed(ports: Ports, work: Work, name: str) -> Wait | Retry | None:
    """Start or watch the deletion of a stack; None once a look shows its absence.

    One that stands as failed is deleted again as a counted attempt. After the third it is written
    down as a stray, for as long as it is there.
    """
    stack = await ports.arm.get_stack(name)
    match stack.state:
        case StackState.ABSENT:
            if work.op.attempt > MOST_REFUSALS:
                await strays.clear(ports, name)
            return None
        case StackState.RUNNING:
            return Wait(delay_s=stack.retry_after_s or 0, detail=f"deleting {name}")
        case StackState.SUCCEEDED:
            deleting = await ports.arm.delete_stack(name)
            return Wait(
                delay_s=deleting.retry_after_s or 0, detail=f"deleting {name}", began=True
            )
        case StackState.FAILED:
            if work.op.attempt >= MOST_REFUSALS:
                await strays.note(ports, stack, work.space.space_id)
            await ports.arm.delete_stack(name)
            told = f"{name} is not deleted yet: {stack.code}: {stack.message}"
            return Retry(kind=ErrorKind.TRANSIENT, reason=told)


async def all_removed(
    ports: Ports, work: Work, *, earlier_only: bool = False
) -> Wait | Retry | None:
    """The same for the stacks of every incarnation; None once all of them are absent."""
    last = work.space.incarnation
    for number in range(1, last if earlier_only else last + 1):
        name = names.stack(replace(work.space, incarnation=number))
        removing = await removed(ports, work, name)
        if removing is not None:
            return removing
    return None


async def _again(
    ports: Ports, config: Settings, work: Work, wanted: Space, stack: Stack
) -> Outcome:
    told = f"{stack.code}: {stack.message}"
    passes = stack.code in PASSING or work.op.attempt == 1 or work.op.phase is Phase.UNDO
    if not passes:
        return Failed(reason=f"the deployment stack {stack.name} failed with {told}")
    outcome = await put(ports, config, wanted)
    if isinstance(outcome, Wait):
        return Retry(kind=ErrorKind.TRANSIENT, reason=told)
    return outcome
