"""Named campaigns: each plays one kind of trouble through whole operations, and says what broke.

`crash_points` asks them twice: of the shipped app, where each must find nothing, and of known-bad
variants of it (`controls`), each of which one of them must catch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.model import Status
from tests.fakes import Script
from tests.simworld import actions as do
from tests.simworld.crash_points import clean, with_faults
from tests.simworld.doors import Fault
from tests.simworld.operations import OPERATIONS, Operation, prepared, wrong_with
from tests.simworld.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

# Long enough that a stack which hangs outlives every deadline.
HANGS = Script(duration_s=3 * 3600.0, delete_s=2.0, retry_after_s=30.0)
REFUSED = Script(
    duration_s=3.0, delete_s=2.0, retry_after_s=1.0, failure=("InvalidTemplate", "no")
)


def single_faults() -> str:
    """Each single fault of a suspension: crashes before and after each line of the protocol."""
    return _each("suspend", lambda at: [{at: fault} for fault in Fault])


def lost_messages() -> str:
    """Each message of a suspension is lost once, after the broker accepted it."""
    for number in range(1, 20):
        world = World(prepared("suspend")())
        world.losing = number
        wrong = _played(world, OPERATIONS["suspend"])
        if wrong:
            return f"message {number} lost: {wrong}"
        if world.accepted() < number:
            return ""
    return ""


def overtaken() -> str:
    """At each call of a suspension its process stands still, until another one has done its work."""
    for at in range(1, len(clean("suspend")) + 1):
        world = World(prepared("suspend")())
        world.sleeps = {at}
        wrong = _played(world, OPERATIONS["suspend"])
        if wrong:
            return f"asleep at call {at}: {wrong}"
    return ""


def ways_back() -> str:
    """A creation whose stack fails leaves nothing, whatever single call of it fails as well."""
    calls = _refused({})
    if isinstance(calls, str):
        return calls
    for at in range(1, calls + 1):
        found = _refused({at: Fault.FAIL})
        if isinstance(found, str):
            return f"call {at} failed: {found}"
    return ""


def hung() -> str:
    """A stack that hangs for hours: somebody is told in time."""
    world = World(prepared("provision")())
    world.estate.arm.ends[f"{do.space_id()}-1"] = [HANGS]
    try:
        opened_or_not(world)
    except AssertionError as error:
        return str(error)
    finally:
        world.close()
    return ""


def opened_or_not(world: World) -> None:
    """An order, its payment, and what becomes of it."""
    do.order(world)
    world.settle()
    do.bill(world)
    world.settle(hours=48)


def _refused(faults: dict[int, Fault]) -> int | str:
    """A creation that is refused; how many calls it made, or what is wrong."""
    world = World(prepared("provision")(), faults=faults)
    world.estate.arm.ends[f"{do.space_id()}-1"] = [REFUSED] * 9
    try:
        opened_or_not(world)
    except AssertionError as error:
        return str(error) or "an assertion"
    finally:
        world.close()
    space = world.rules.spaces[do.space_id()]
    if space.status is not Status.FAILED or not space.failure:
        return f"it ended {space.status}"
    return world.count


def _each(name: str, faults: Callable[[int], list[dict[int, Fault]]]) -> str:
    try:
        calls = clean(name)
    except AssertionError as error:
        return f"without any fault: {error}"
    for at in range(1, len(calls) + 1):
        for some in faults(at):
            ending = with_faults(OPERATIONS[name], some)
            if ending.broken:
                return f"{name}, {some} ({calls[at - 1]}): {ending.broken}"
    return ""


def _played(world: World, operation: Operation) -> str:
    try:
        operation.start(world)
        world.settle(hours=24)
        return wrong_with(world, operation)
    except AssertionError as error:
        return str(error) or "an assertion"
    finally:
        world.close()


CAMPAIGNS: dict[str, Callable[[], str]] = {
    "single faults": single_faults,
    "lost messages": lost_messages,
    "overtaken processes": overtaken,
    "ways back": ways_back,
    "hung stacks": hung,
}
