"""Stop and start a space, close and open its address: steps that several operations share.

Each looks first and asks for what is missing. What is undone is computed from the space's row: an
operation changes the status at its end, so on the way back the row still says how the space was.
A stopped database refuses a PUT of its stack: the address is closed before it is stopped, and
opened after it is started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces import configuration, names, stack
from spaces.errors import ConflictError, NotFoundError
from spaces.model import Mark, OpKind, Status, replace
from spaces.ports import Part, PartKind, Power
from spaces.saga.outcomes import Done, Outcome, Wait
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work

# In these everything of a space is stopped, but for the time of a backup or a restore.
ASLEEP = frozenset({Status.SUSPENDED, Status.CANCELLED})


def machines(space: Space) -> Part | None:
    """The scale set of a space; None where it has none."""
    if space.resources is None:
        return None
    return Part(
        kind=PartKind.MACHINES,
        resource_group=space.resources.resource_group,
        name=space.resources.scale_set,
    )


def database(space: Space) -> Part | None:
    """The database server of a space; None where it has none."""
    if space.resources is None:
        return None
    return Part(
        kind=PartKind.DATABASE,
        resource_group=space.resources.resource_group,
        name=names.database_server(space),
    )


# --- the address --------------------------------------------------------------------------------


async def close(ports: Ports, work: Work) -> Outcome:
    """The address answers 503: the space is to be suspended, cancelled or in quarantine.

    One that rests was closed before; its stack cannot be touched while its database rests.
    """
    if work.space.status in ASLEEP:
        return Done(detail="it rests, and answers nobody")
    if work.op.kind is OpKind.QUARANTINE:
        closed = replace(work.space, quarantined=mark_of(work))
    else:
        closed = replace(work.space, status=Status.SUSPENDED)
    return await _address(ports, work, closed)


async def open_again(ports: Ports, work: Work) -> Outcome:
    """The address leads to the machines, which run what the space's row says."""
    if work.op.kind is OpKind.RELEASE and work.space.status in ASLEEP:
        return Done(detail="it rests, and stays closed")
    if work.op.kind is OpKind.RELEASE:
        return await _address(ports, work, replace(work.space, quarantined=None))
    opened = replace(work.space, status=Status.ACTIVE)
    return await stack.stands(
        ports, settings(), work, opened, stack.ROUTE, stack.PLAN, stack.REVISION
    )


async def address_as_it_was(ports: Ports, work: Work) -> Outcome:
    """Open or closed as the space's row says."""
    return await _address(ports, work, work.space)


def mark_of(work: Work) -> Mark:
    """The flag that the operation's caller asked for."""
    return Mark(
        reason=str(work.op.params.get("reason", "")),
        actor=str(work.op.params.get("actor", "")),
        at=work.op.started_at,
    )


async def _address(ports: Ports, work: Work, wanted: Space) -> Outcome:
    if wanted.resources is None:
        return Done(detail="it has no address")
    return await stack.stands(ports, settings(), work, wanted, stack.ROUTE)


# --- machines and database ----------------------------------------------------------------------


async def stop_machines(ports: Ports, work: Work) -> Outcome:
    """Done when no machine runs."""
    return await _brought(ports, machines(work.space), on=False)


async def start_machines(ports: Ports, work: Work) -> Outcome:
    """Done when every machine runs."""
    return await _brought(ports, machines(work.space), on=True)


async def machines_as_they_were(ports: Ports, work: Work) -> Outcome:
    """They run or rest as the space's row says."""
    return await _brought(ports, machines(work.space), on=work.space.status not in ASLEEP)


async def stop_database(ports: Ports, work: Work) -> Outcome:
    """Done when the database server rests; its data stays."""
    return await _brought(ports, database(work.space), on=False)


async def start_database(ports: Ports, work: Work) -> Outcome:
    """Done when the database server runs."""
    return await _brought(ports, database(work.space), on=True)


async def database_as_it_was(ports: Ports, work: Work) -> Outcome:
    """It runs or rests as the space's row says."""
    return await _brought(ports, database(work.space), on=work.space.status not in ASLEEP)


async def sleep(ports: Ports, work: Work) -> Outcome:
    """Everything rests again, the machines too, where the platform or somebody woke them."""
    for part in (machines(work.space), database(work.space)):
        outcome = await _brought(ports, part, on=False)
        if not isinstance(outcome, Done):
            return outcome
    return Done(detail="machines and database rest")


async def as_told(ports: Ports, work: Work) -> Outcome:
    """Bring a living space to what its row says: settings, power, and the stack where it runs.

    For what a late runner may have done after all. While an operation runs it is waited for: that
    one changes the same parts.
    """
    space = work.space
    if space.op is not None:
        return Wait(delay_s=0, detail="an operation runs")
    if space.resources is None or space.status not in {Status.ACTIVE, *ASLEEP}:
        return Done(detail="nothing of it stands")
    await configuration.tell(ports, settings(), space)
    if space.status in ASLEEP:
        return await sleep(ports, work)
    for part in (database(space), machines(space)):
        outcome = await _brought(ports, part, on=True)
        if not isinstance(outcome, Done):
            return outcome
    return await stack.stands(
        ports, settings(), work, space, stack.ROUTE, stack.PLAN, stack.REVISION
    )


async def reassert(ports: Ports, space: Space) -> bool:
    """Stop again what the platform started by itself; True when something had to be.

    A stopped PostgreSQL server may be started by the platform after a week (control-plane.md).
    Raises what the Resource Manager says; called again the next day.
    """
    if space.op is not None or space.status not in ASLEEP:
        return False
    found = False
    for part in (machines(space), database(space)):
        if part is not None and await ports.arm.power(part) in {Power.ON, Power.PARTLY}:
            await ports.arm.set_power(part, on=False)
            found = True
    return found


async def _brought(ports: Ports, part: Part | None, *, on: bool) -> Outcome:
    """One look, and one request where it is not so and nothing is under way."""
    if part is None:
        return Done(detail="there is nothing")
    word = Power.ON if on else Power.OFF
    try:
        power = await ports.arm.power(part)
    except NotFoundError:
        if on:
            raise
        return Done(detail=f"{part.name} is not there")
    if power is word:
        return Done(detail=f"{part.name} is {word}")
    if power is Power.CHANGING:
        return Wait(delay_s=0, detail=f"{part.name} is on its way")
    try:
        await ports.arm.set_power(part, on=on)
    except ConflictError:
        return Wait(delay_s=0, detail=f"something else is under way on {part.name}")
    return Wait(delay_s=0, detail=f"{part.name} is to be {word}", began=True)
