"""What an operation would do to a space: its steps, and what its stack would change, from the server.

The changes are the what-if of the deployment stack, not a guess of ours; a deletion is the what-if
of a stack that declares nothing any more. Nothing is written but that comparison, which ends by
itself within a day.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import msgspec

from console.verbs import Resized, check, params_of, wished
from spaces.configuration import admin_password, stack_request
from spaces.errors import UnknownError
from spaces.lifecycle import MATRIX, may_start
from spaces.model import Mark, OpKind, Status, Tier
from spaces.ports import StackState
from spaces.registry import Registry
from spaces.saga.outline import OUTLINES

if TYPE_CHECKING:
    from datetime import datetime

    from console.verbs import Verb, Wanted
    from spaces.model import Space
    from spaces.ports import Difference, Ports, StackRequest
    from spaces.saga.asked import Asker
    from spaces.settings import Settings

# How long a comparison is waited for, and how often it is looked at, in seconds.
PATIENCE_S = 60.0
LOOK_S = 0.25
_NOTHING: dict[str, object] = {
    "$schema": "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#",
    "contentVersion": "1.0.0.0",
    "resources": [],
}


class StepAhead(msgspec.Struct, frozen=True, kw_only=True):
    """One step that would be taken; `undo` says that it is taken back where a later one fails."""

    name: str
    budget_s: float
    undo: bool


class PropertyChange(msgspec.Struct, frozen=True, kw_only=True):
    """One property that would change; texts and numbers as they are, the rest as JSON."""

    path: str
    before: object
    after: object


class ResourceChange(msgspec.Struct, frozen=True, kw_only=True):
    """One resource that would change: `create`, `modify`, `delete` or `detach`."""

    resource: str
    change: str
    properties: list[PropertyChange]


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What a request would do. `status_after` is the status that a success leads to.

    `changes` are those of the deployment stack; `null` where the operation does not touch it.
    """

    dry_run: bool
    space_id: str
    name: str
    operation: str
    status: str
    status_after: str
    desired_after: str | None
    steps: list[StepAhead]
    changes: list[ResourceChange] | None


async def rehearse(
    ports: Ports,
    settings: Settings,
    verb: Verb,
    space_name: str,
    *,
    wanted: Wanted,
    asker: Asker,
) -> Rehearsal:
    """What `verbs.start` would do now. Raises like it, and does nothing."""
    space = (await Registry(ports.tables).find(space_name)).space
    now = ports.clock.now()
    check(space, verb, wanted, now)
    may_start(space, verb.kind, now)
    params_of(space, verb, wanted, asker)
    outline = OUTLINES[verb.kind]
    changes = None
    if space.resources is not None and verb.kind is not OpKind.ERASE:
        request = await _request(ports, settings, space, verb=verb, wanted=wanted, now=now)
        changes = await _compared(ports, request)
    rule = MATRIX[verb.kind]
    return Rehearsal(
        dry_run=True,
        space_id=space.space_id,
        name=space.name,
        operation=verb.kind.value,
        status=space.status.value,
        status_after=(rule.success or space.status).value,
        desired_after=wished(space, verb, wanted, asker, now).desired,
        steps=[
            StepAhead(
                name=name, budget_s=outline.step(name).budget_s, undo=outline.step(name).undo
            )
            for name in outline.names_for(space.status)
        ],
        changes=changes,
    )


async def _request(
    ports: Ports,
    settings: Settings,
    space: Space,
    *,
    verb: Verb,
    wanted: Wanted,
    now: datetime,
) -> StackRequest:
    """The PUT that the operation would come to."""
    password = await admin_password(ports, settings, space)
    after = foreseen(space, verb.kind, wanted, now)
    request = stack_request(after, settings, admin_password=password)
    if verb.kind is OpKind.DELETE:
        return replace(request, template=_NOTHING, parameters={})
    return request


def foreseen(space: Space, kind: OpKind, wanted: Wanted, now: datetime) -> Space:
    """The space as its stack would be described once the operation is done. Pure."""
    changes: dict[str, object] = {}
    match kind:
        case OpKind.SUSPEND | OpKind.CANCEL:
            changes = {"status": Status.SUSPENDED}
        case OpKind.RESUME:
            changes = {"status": Status.ACTIVE}
        case OpKind.RELEASE:
            changes = {"quarantined": None}
        case OpKind.QUARANTINE:
            changes = {"quarantined": Mark(reason="", actor="", at=now)}
        case OpKind.RESIZE if isinstance(wanted, Resized):
            changes = {"tier": Tier(wanted.plan)}
        case OpKind.CONFIGURE | OpKind.ROTATE_SECRETS:
            changes = {"config_revision": space.config_revision + 1}
        case _:
            pass
    return replace(space, **cast("Any", changes))


async def _compared(ports: Ports, request: StackRequest) -> list[ResourceChange]:
    """What the server says that the PUT would change; waits for its comparison."""
    asked = ports.ids.token(12)
    until = ports.clock.now().timestamp() + PATIENCE_S
    while True:
        told = await ports.arm.what_if_stack(request, asked=asked)
        if told.state is StackState.SUCCEEDED:
            return [_change(one) for one in told.differences if one.change != "no_change"]
        if told.state is not StackState.RUNNING:
            raise UnknownError(
                f"the comparison failed with {told.code}: {told.message}",
                where=f"deployment stack {request.name}",
            )
        if ports.clock.now().timestamp() > until:
            raise UnknownError(
                f"the comparison takes longer than {PATIENCE_S:.0f} s",
                where=f"deployment stack {request.name}",
                remedy="Try again.",
            )
        await asyncio.sleep(told.retry_after_s or LOOK_S)


def _change(one: Difference) -> ResourceChange:
    return ResourceChange(
        resource=one.resource,
        change=one.change,
        properties=[
            PropertyChange(path=path, before=before, after=after)
            for path, before, after in one.paths
        ],
    )


def text_of(value: object) -> str:
    """A property's value for a person."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
