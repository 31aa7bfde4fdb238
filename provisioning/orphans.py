"""Stacks that belong to no living space: found, written down, removed.

A process that was overtaken may ask for a stack long after its space was undone or deleted, and an
abort on the way back leaves what it could not remove. All stacks are compared with all spaces, by
name; an orphan is written down when it is first seen (table `strays`), and deleted when it still
is one a quarter of an hour later: longer than any process lives that could have meant it. A stack
of no space that we know is somebody's decision: counted, never touched.
Source: control-plane.md, invariant 2.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from spaces import strays
from spaces.errors import KpaxError
from spaces.model import Status
from spaces.ports import StackState
from spaces.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spaces.model import Space
    from spaces.ports import Ports, Stack
    from spaces.strays import Stray

log = logging.getLogger("kpax.strays")

GRACE = timedelta(minutes=15)
NAME = re.compile(r"(s-[a-z0-9]+)-([1-9]\d*)")

# Where a space has a stack, and where none may be left. A requested one is left alone: its opening
# may begin at any moment, under the same name.
STANDING = frozenset({Status.ACTIVE, Status.SUSPENDED, Status.CANCELLED})
NOTHING = frozenset({Status.FAILED, Status.DELETED, Status.ERASED})


class Verdict(StrEnum):
    """Whose a stack is."""

    OURS = "ours"
    ORPHAN = "orphan"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one comparison found: stacks, those that stand for nobody, those being deleted."""

    stacks: int = 0
    strays: int = 0
    deleting: int = 0


def verdict(name: str, space: Space | None) -> Verdict:
    """Whose the stack of this name is, by its space as it stands. Pure."""
    found = NAME.fullmatch(name)
    if found is None or space is None:
        return Verdict.UNKNOWN
    if space.op is not None:
        return Verdict.OURS  # it may be making or removing it right now
    own = int(found[2]) == space.incarnation
    never_filled = space.status is Status.CANCELLED and not space.had_data
    if space.status in NOTHING or never_filled:
        return Verdict.ORPHAN
    if space.status in STANDING:
        return Verdict.OURS if own else Verdict.ORPHAN
    return Verdict.OURS


async def compare(ports: Ports) -> Counted:
    """Compare all stacks with all spaces once; repeatable, and safe beside any operation.

    Reads the list of stacks, the states of all spaces in one scan, and the strays. One stack in
    trouble does not keep the others: the first error is raised when all have been seen.
    """
    # The stacks first: what a space makes meanwhile is then not taken for nobody's.
    stacks = [one for one in await ports.arm.list_stacks() if NAME.fullmatch(one.name)]
    spaces = {str(one.space_id): one for one in await Registry(ports.tables).states()}
    known = {one.stack: one for one in await strays.all_of(ports.tables)}
    deleting, troubles = 0, list[KpaxError]()
    suspects = [one for one in stacks if _judged(one, spaces) is not Verdict.OURS]
    for stack in suspects:
        try:
            deleting += await _see_to(ports, stack, known.get(stack.name))
        except KpaxError as error:
            log.warning("sweep.failed", extra={"stack": stack.name, "reason": str(error)})
            troubles.append(error)
    listed = {one.name for one in stacks}
    for stray in [one for name, one in sorted(known.items()) if name not in listed]:
        await _forget(ports, stray)
    if troubles:
        raise troubles[0]
    return Counted(stacks=len(stacks), strays=len(suspects), deleting=deleting)


def _judged(stack: Stack, spaces: Mapping[str, Space]) -> Verdict:
    found = NAME.fullmatch(stack.name)
    return verdict(stack.name, spaces.get(found[1]) if found is not None else None)


async def _see_to(ports: Ports, stack: Stack, stray: Stray | None) -> int:
    """Write an orphan down, or delete it; answers 1 when its deletion runs."""
    space_id = stack.name.rpartition("-")[0]
    loaded = await Registry(ports.tables).load(space_id)
    judged = verdict(stack.name, loaded.space if loaded is not None else None)
    if judged is Verdict.OURS:
        return 0
    if stray is None:
        code = "NoSpace" if judged is Verdict.UNKNOWN else "NoLivingSpace"
        await strays.found(ports, stack.name, space_id, code=code, why=_why(loaded is None))
        return 0
    if judged is Verdict.UNKNOWN or ports.clock.now() < stray.since + GRACE:
        return 0
    if stack.state is not StackState.RUNNING:
        await ports.arm.delete_stack(stack.name)
        log.warning("stack.deleting_stray", extra={"space": space_id, "stack": stack.name})
    return 1


def _why(is_unknown: bool) -> str:
    return (
        "no space of this id is known: a person must decide"
        if is_unknown
        else "its space has no such stack any more"
    )


async def _forget(ports: Ports, stray: Stray) -> None:
    """A stray that a look no longer finds is gone."""
    if (await ports.arm.get_stack(stray.stack)).state is StackState.ABSENT:
        await strays.clear(ports, stray.stack)
        log.info("stack.stray_gone", extra={"space": stray.space_id, "stack": stray.stack})
