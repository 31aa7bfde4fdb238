"""Every operation as a scenario: what stands before it, what starts it, what is true after it.

Names are those of the contract: the kind `restore` is called `restore_in_place` there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from spaces.configuration import APP_ROLE
from spaces.model import OpKind, OpStatus, Space, Status
from spaces.ports import PartKind
from tests.simworld import actions as do
from tests.simworld.arm import outputs_of
from tests.simworld.estate import Estate, frozen
from tests.simworld.world import World


@dataclass(frozen=True, slots=True)
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


def suspended(world: World) -> None:
    """A suspended space, because billing says so."""
    backed_up(world)
    _suspend(world)
    world.settle()


def cancelled(world: World) -> None:
    """A cancelled space at the end of its grace."""
    opened(world)
    _cancel(world)
    world.settle()
    until = world.rules.spaces[do.space_id()].grace_until
    assert until is not None
    world.run(until - timedelta(minutes=1))


def deleted(world: World) -> None:
    """A deleted space at the end of its retention."""
    cancelled(world)
    _its_moment_comes(world)
    world.settle()
    until = world.rules.spaces[do.space_id()].retain_until
    assert until is not None
    world.run(until - timedelta(minutes=1))


def quarantined(world: World) -> None:
    """A space in quarantine."""
    opened(world)
    _quarantine(world)
    world.settle()


# --- what starts them


def _provision(world: World) -> None:
    do.order(world)
    world.settle()
    do.bill(world)


def _resize(world: World) -> None:
    do.bill(world, sequence=2, kind="plan_changed", plan="premium")


def _configure(world: World) -> None:
    do.verb(world, "configure", settings={"title": "Werk 2", "locale": "de"})


def _rotate(world: World) -> None:
    do.verb(world, "rotate-secrets")


def _suspend(world: World) -> None:
    do.bill(world, sequence=2, kind="suspended", status="suspended")


def _resume(world: World) -> None:
    do.bill(world, sequence=3, kind="resumed", status="active")


def _cancel(world: World) -> None:
    do.bill(world, sequence=2, kind="deleted", status="deleted")


def _its_moment_comes(world: World) -> None:
    """The grace or the retention ends, and the sweeper finds that."""
    world.rest_after(world.clock.now() + timedelta(minutes=2))


def _quarantine(world: World) -> None:
    do.verb(world, "quarantine")


def _release(world: World) -> None:
    do.verb(world, "release")


# --- what is true after them


def _is_backed_up(world: World, space: Space) -> str:
    del world
    return "" if space.last_backup and space.last_backup.verified_at else "no backup"


def _is_restored(world: World, space: Space) -> str:
    rows = world.estate.data.rows(_host(space), space.database)
    served = _served(world, space)["database"]["name"]
    return "" if (len(rows["devices"]), served) == (1, space.database) else f"{rows}, {served}"


def _is_larger(world: World, space: Space) -> str:
    shape = world.estate.served[_stack(space)].shape
    zones = _zones(world, space)
    return "" if (space.tier, shape[1], len(zones)) == ("premium", "premium", 3) else f"{shape}"


def _is_configured(world: World, space: Space) -> str:
    told = _served(world, space)["app"]
    return "" if told == {"title": "Werk 2", "locale": "de"} else f"it runs with {told}"


def _is_rotated(world: World, space: Space) -> str:
    """What the machines had before the rotation opens nothing, what they have now does."""
    server = world.estate.databases.servers[_host(space)]
    base = _served(world, space)["database"]
    opening = [role for role, password in server.roles.items() if password]
    if server.roles[base["user"]] != base["password"] or base["password"] in _first_secrets():
        return "the old password still opens the database"
    owners = {APP_ROLE, base["user"]}
    return "" if set(opening) <= owners else f"{opening} can still sign in"


def _rests(world: World, space: Space) -> str:
    on = [kind for kind in PartKind if world.estate.arm.runs(kind, f"rg-kx-{_stack(space)}")]
    return f"{on} run" if on or _answers(world, space) != 503 else ""


def _serves(world: World, space: Space) -> str:
    status = _answers(world, space)
    return "" if status == 200 else f"it answers {status}"


def _is_ended(world: World, space: Space) -> str:
    if space.final_backup is None or space.grace_until is None:
        return "no final backup, or no grace"
    return _rests(world, space)


def _is_gone(world: World, space: Space) -> str:
    left = world.estate.arm.names()
    return f"{left} stand" if left or space.retain_until is None else ""


def _is_erased(world: World, space: Space) -> str:
    stone = space.tombstone
    if stone is None or not stone.proof or not stone.keys_destroyed:
        return f"the tombstone says {stone}"
    return "" if not world.estate.arm.names() else "it stands"


def _is_closed(world: World, space: Space) -> str:
    status = _answers(world, space)
    return "" if space.quarantined and status == 503 else f"it answers {status}"


def _is_released(world: World, space: Space) -> str:
    return "it is in quarantine" if space.quarantined else _serves(world, space)


def _stack(space: Space) -> str:
    return f"{space.space_id}-{space.incarnation}"


def _host(space: Space) -> str:
    return str(outputs_of(_stack(space))["databaseHost"])


def _served(world: World, space: Space) -> dict[str, Any]:
    """What the machines of a space read when they started last."""
    return world.estate.served[_stack(space)].settings or {}


def _zones(world: World, space: Space) -> set[str]:
    where = outputs_of(_stack(space))
    machines = world.estate.arm.machines[str(where["resourceGroup"]), str(where["scaleSet"])]
    return {one.zone for one in machines}


def _answers(world: World, space: Space) -> int:
    return world.estate.serve(_stack(space), "GET", "/healthz").status


def _first_secrets() -> str:
    """What the machines of a space are told when it has just been opened."""
    estate = prepared("rotate_secrets")()
    return json.dumps([one.settings for one in estate.served.values()])


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation(
            "provision", OpKind.PROVISION, lambda _: None, _provision, Status.ACTIVE, _serves
        ),
        Operation("backup", OpKind.BACKUP, opened, do.back_up, Status.ACTIVE, _is_backed_up),
        Operation(
            "restore_in_place",
            OpKind.RESTORE,
            backed_up,
            do.restore,
            Status.ACTIVE,
            _is_restored,
        ),
        Operation("resize", OpKind.RESIZE, opened, _resize, Status.ACTIVE, _is_larger),
        Operation(
            "configure", OpKind.CONFIGURE, opened, _configure, Status.ACTIVE, _is_configured
        ),
        Operation(
            "rotate_secrets", OpKind.ROTATE_SECRETS, opened, _rotate, Status.ACTIVE, _is_rotated
        ),
        Operation("suspend", OpKind.SUSPEND, opened, _suspend, Status.SUSPENDED, _rests),
        Operation("resume", OpKind.RESUME, suspended, _resume, Status.ACTIVE, _serves),
        Operation("cancel", OpKind.CANCEL, opened, _cancel, Status.CANCELLED, _is_ended),
        Operation(
            "delete", OpKind.DELETE, cancelled, _its_moment_comes, Status.DELETED, _is_gone
        ),
        Operation("erase", OpKind.ERASE, deleted, _its_moment_comes, Status.ERASED, _is_erased),
        Operation(
            "quarantine", OpKind.QUARANTINE, opened, _quarantine, Status.ACTIVE, _is_closed
        ),
        Operation(
            "release", OpKind.RELEASE, quarantined, _release, Status.ACTIVE, _is_released
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
