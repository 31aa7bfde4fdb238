"""Take back what a late runner did after its step had been undone, or done by another.

A runner that lost its message may go on long after: the stack that it then asks for stands there
when the operation has been undone, and nobody would remove it. Its next message is old by then. So
whoever gets an old message of a step that has been undone looks whether that still holds; and of a
step that changed a living space, whether that is still as its row says.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from spaces.lifecycle import MATRIX
from spaces.messages import encode
from spaces.model import OpId, Phase, Running, Status
from spaces.ports import Message
from spaces.saga.decide import at_step, backoff_s
from spaces.saga.outcomes import Done, Step, Work
from spaces.saga.perform import perform

if TYPE_CHECKING:
    from spaces.messages import Poke
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Plan, Plans

log = logging.getLogger("kpax.saga")

# The pauses between so many looks add up to an hour: longer than any stack is made or deleted.
MOST_LOOKS = 11
AS_TOLD = "as_told"

# Where a space stands whose opening was undone: nothing of it may be there any more.
_UNDONE = frozenset({Status.FAILED, Status.CANCELLED, Status.ERASED})


async def take_back(
    ports: Ports, plans: Plans, space: Space, poke: Poke, *, message_id: str
) -> None:
    """Undo once more what an old message's step may have done again; repeatable.

    Looks again until nothing is left; their count stands in the message's id.
    """
    found = _undone(plans, space, poke)
    plan = _changed(plans, poke) if found is None else found[0]
    if plan is None:
        return
    op = _looking(plan, poke, space) if found is None else _again(*found, poke, space)
    now = ports.clock.now()
    outcome = await perform(ports, plan, Work(space=space, op=op, now=now))
    if isinstance(outcome, Done):
        return
    looks, chain = _looks(message_id)
    looks, chain = looks + 1, chain or ports.ids.token(8)
    if looks > MOST_LOOKS:
        log.error(
            "late_effect.left_over",
            extra={
                "space": space.space_id,
                "op": poke.op_id,
                "see": "docs/running.md#late_effect.left_over",
            },
        )
        return
    log.warning("late_effect.found", extra={"space": space.space_id, "op": poke.op_id})
    message = Message(
        queue=plan.queue,
        message_id=f"{poke.ticket}:l{looks}:{chain}",
        body=encode(poke),
        due_at=now + timedelta(seconds=backoff_s(looks)),
    )
    await ports.bus.send([message])


def _undone(plans: Plans, space: Space, poke: Poke) -> tuple[Plan, int] | None:
    """The plan and the number of the message's step, where that step has been undone already."""
    word = re.fullmatch(r"do-(.+):[\d.]+", poke.ticket.removeprefix(f"{poke.op_id}:"))
    if word is None:
        return None
    for plan in plans.values():
        names = [step.name for step in plan.steps]
        if MATRIX[plan.kind].failure is None or word[1] not in names:
            continue
        number = names.index(word[1])
        op = space.op
        own = op if op is not None and op.op_id == poke.op_id else None
        over = own is None and not space.had_data and space.status in _UNDONE
        passed = own is not None and own.phase is Phase.UNDO and own.at < number
        if plan.steps[number].undo is not None and (over or passed):
            return plan, number
    return None


def _changed(plans: Plans, poke: Poke) -> Plan | None:
    """A plan of one step that sees to the whole space, where the message's step changed a part."""
    word = re.fullmatch(r"(?:do|undo)-(.+):[\d.]+", poke.ticket.removeprefix(f"{poke.op_id}:"))
    if word is None:
        return None
    for plan in plans.values():
        if plan.as_told is None:
            continue
        for step in plan.steps:
            if step.name == word[1] and step.undo is not None:
                seen_to = Step(name=AS_TOLD, act=plan.as_told, budget_s=0)
                return replace(plan, steps=(seen_to,))
    return None


def _looking(plan: Plan, poke: Poke, space: Space) -> Running:
    return replace(_again(plan, 0, poke, space), phase=Phase.DO)


def _again(plan: Plan, number: int, poke: Poke, space: Space) -> Running:
    """The operation as it stood when that step was undone."""
    at = space.created_at
    op = Running(
        op_id=OpId(poke.op_id),
        kind=plan.kind,
        steps=tuple(step.name for step in plan.steps),
        phase=Phase.UNDO,
        started_at=at,
        step_started_at=at,
        step_deadline_at=at,
        next_poke_at=at,
    )
    return at_step(op, number, plan, at)


def _looks(message_id: str) -> tuple[int, str]:
    """How many looks were made, and which find they follow: another find has ids of its own."""
    counted = re.search(r":l(\d{1,3}):(\w+)$", message_id)
    return (int(counted[1]), counted[2]) if counted else (0, "")
