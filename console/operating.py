"""What operators say over HTTP: to operations, and to spaces, clusters and the fleet.

Nothing is decided here: `spaces.operator` and the pauses say what is allowed. A dry run asks the
same rules and writes nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec

from console import fleet
from spaces import operations, pauses
from spaces.errors import FieldError, InvalidError
from spaces.model import Mark
from spaces.operator import Action, Order
from spaces.registry import Registry
from spaces.saga import halts
from spaces.saga.decide import Finish
from spaces.saga.operate import cause_of, foresee, operate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.views import OperationView

Reason = Annotated[str, msgspec.Meta(max_length=500)]


class Say(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; a dry run only tells what would be done."""

    reason: Reason
    dry_run: bool = False


class SayRetry(Say, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, and from which step on: the one it stands at where none is named."""

    step: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """What an action would do: the steps that would come, or the status that it would end with.

    `undoes` says that the steps would be undone.
    """

    dry_run: bool
    operation_id: str
    space_id: str
    kind: str
    action: str
    stands_at: str
    waits_because: str | None
    undoes: bool
    steps: list[str]
    ends: str | None


class PauseView(msgspec.Struct, frozen=True, kw_only=True):
    """A pause: of a space, a cluster or the fleet; `operations` are those that it holds or held."""

    scope: str
    id: str | None
    paused: bool
    reason: str
    actor: str
    at: datetime
    operations: list[str]
    dry_run: bool = False


class PauseList(msgspec.Struct, frozen=True, kw_only=True):
    """Every pause that stands, the fleet's first, then those of clusters and of spaces."""

    items: list[PauseView]


async def act(
    ports: Ports, op_id: str, action: Action, say: Say, *, actor: str, key: str
) -> OperationView | Foreseen:
    """Do what an operator says to an operation, and show it; or tell what would come of it."""
    order = Order(
        action=action,
        actor=actor,
        reason=_given(say.reason),
        at=ports.clock.now(),
        cause_id=cause_of(actor, f"{action}\n{op_id}", key),
        step=say.step if isinstance(say, SayRetry) else None,
    )
    if not say.dry_run:
        await operate(ports, op_id, order)
        return await operations.show(ports, op_id)
    found = await foresee(ports, op_id, order)
    return Foreseen(
        dry_run=True,
        operation_id=op_id,
        space_id=found.space.space_id,
        kind=found.op.kind.value,
        action=action.value,
        stands_at=found.op.step,
        waits_because=found.op.stuck,
        undoes=found.goes_back,
        steps=list(found.following),
        ends=found.decision.status.wire if isinstance(found.decision, Finish) else None,
    )


async def pause_space(
    ports: Ports, name: str, say: Say, *, on: bool, actor: str, key: str
) -> PauseView:
    """Pause or unpause one space."""
    space = (await Registry(ports.tables).find(name)).space
    mark = Mark(reason=_given(say.reason), actor=actor, at=ports.clock.now())
    if say.dry_run:
        (halts.pausing if on else halts.going_on)(space, mark)
    else:
        put = halts.pause_space if on else halts.unpause_space
        cause_id = cause_of(actor, f"{on}\n{space.space_id}", key)
        await put(ports, space.space_id, mark, cause_id=cause_id)
    view = _view("space", space.space_id, mark, [space])
    return msgspec.structs.replace(view, paused=on, dry_run=say.dry_run)


async def pause_many(
    ports: Ports, cluster: str | None, say: Say, *, on: bool, actor: str, key: str
) -> PauseView:
    """Pause or unpause a cluster, or the fleet where none is named."""
    scope = pauses.scope_of(cluster)
    mark = Mark(reason=_given(say.reason), actor=actor, at=ports.clock.now())
    spaces = await fleet.spaces(ports, cluster=cluster)
    if say.dry_run:
        await pauses.check(ports.tables, scope, on=on)
    else:
        put = pauses.put if on else pauses.lift
        await put(ports, scope, mark, cause_id=cause_of(actor, f"{on}\n{scope}", key))
        await halts.tell_all(ports)
    view = _view("fleet" if cluster is None else "cluster", cluster, mark, spaces)
    return msgspec.structs.replace(view, paused=on, dry_run=say.dry_run)


async def standing(ports: Ports) -> PauseList:
    """Every pause that stands."""
    spaces = await fleet.spaces(ports)
    found = await pauses.in_force(ports.tables)
    wide = [
        _view("fleet", None, mark, spaces)
        if scope == pauses.FLEET
        else _cluster_view(scope.removeprefix("cluster!"), mark, spaces)
        for scope, mark in sorted(found.items(), reverse=True)
    ]
    own = [_view("space", one.space_id, one.paused, [one]) for one in spaces if one.paused]
    return PauseList(items=[*wide, *own])


def _cluster_view(cluster: str, mark: Mark, spaces: Sequence[Space]) -> PauseView:
    return _view("cluster", cluster, mark, [one for one in spaces if one.cluster == cluster])


def _view(scope: str, name: str | None, mark: Mark, spaces: Sequence[Space]) -> PauseView:
    return PauseView(
        scope=scope,
        id=name,
        paused=True,
        reason=mark.reason,
        actor=mark.actor,
        at=mark.at,
        operations=[one.op.op_id for one in spaces if one.op is not None],
    )


def _given(reason: str) -> str:
    """The reason without the spaces around it; there must be one."""
    reason = reason.strip()
    if not reason:
        raise InvalidError(
            "a reason is needed",
            where="/reason",
            remedy="Say in a few words why: it stands in the audit chain.",
            errors=(FieldError(pointer="/reason", code="required", message="is empty"),),
        )
    return reason
