"""Every operation as a scenario: what stands before it, what starts it, what is true after it.

Names are those of the contract: the kind `restore` is called `restore_in_place` there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from spaces.model import OpKind, OpStatus, Space, Status
from tests.simworld import actions as do
from tests.simworld.estate import Estate, frozen
from tests.simworld.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`before` and `start` act on the world; `after` answers what is wrong with the space."""

    name: str
    kind: OpKind
    before: Callable[[World], None]
    start: Callable[[World], None]
    status: Status
    after: Callable[[World, Space], str] = lambda _world, _space: ""


def opened(world: World) -> None:
    """An active space with rows and files."""
    do.order(world)
    world.settle()
    do.bill(world)
    world.settle()
    do.fill(world)


def backed_up(world: World) -> None:
    """An active space with a proved backup, and something new since."""
    opened(world)
    do.back_up(world)
    world.settle()
    do.fill(world)


def _provision(world: World) -> None:
    do.order(world)
    world.settle()
    do.bill(world)


def _is_backed_up(world: World, space: Space) -> str:
    del world
    return "" if space.last_backup and space.last_backup.verified_at else "no backup"


def _is_restored(world: World, space: Space) -> str:
    assert space.resources is not None
    rows = world.estate.data.rows(space.resources.database_host, space.database)
    return "" if len(rows["devices"]) == 1 else f"rows are {rows}"


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation(
            name="provision",
            kind=OpKind.PROVISION,
            before=lambda _: None,
            start=_provision,
            status=Status.ACTIVE,
        ),
        Operation(
            name="backup",
            kind=OpKind.BACKUP,
            before=opened,
            start=do.back_up,
            status=Status.ACTIVE,
            after=_is_backed_up,
        ),
        Operation(
            name="restore_in_place",
            kind=OpKind.RESTORE,
            before=backed_up,
            start=do.restore,
            status=Status.ACTIVE,
            after=_is_restored,
        ),
    )
}


@cache
def prepared(name: str) -> Callable[[], Estate]:
    """The estate before an operation; each call answers a new one."""
    world = World()
    OPERATIONS[name].before(world)
    world.close()
    return frozen(world.estate)


def wrong_with(world: World, operation: Operation) -> str:
    """What is not as it must be after `operation`; empty when it went well."""
    space = world.rules.spaces.get(do.space_id())
    if space is None:
        return "there is no space"
    last = [row for row in world.rules.operations(space.space_id) if row.kind == operation.kind]
    if not last or last[-1].status is not OpStatus.SUCCEEDED:
        return f"it did not succeed: {last[-1:]}"
    if space.status is not operation.status:
        return f"the space is {space.status}"
    if space.op is not None:
        return f"{space.op.op_id} is not over"
    return operation.after(world, space)
