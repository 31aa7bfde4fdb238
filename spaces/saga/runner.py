"""The shell of the saga: load, act, decide, commit, send.

Safe to repeat from any line, in any number of processes at once. The numbers in the comments are
the lines of control-plane.md 3.5; tests stop the process at each of them.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from spaces import tracing
from spaces.errors import ConflictError, ErrorKind, LostRaceError, UnknownError
from spaces.planner import needed
from spaces.registry import Registry
from spaces.saga import dues, watch
from spaces.saga.changes import change_of, look_message
from spaces.saga.decide import Advance, Again, Finish, Park, decide, last_start
from spaces.saga.late import take_back
from spaces.saga.outcomes import Outcome, Retry, Wait, Work
from spaces.saga.perform import perform
from spaces.saga.plan_next import plan_next
from spaces.saga.promises import say_again

if TYPE_CHECKING:
    from datetime import datetime

    from spaces.messages import Poke
    from spaces.model import Running, Space
    from spaces.ports import Ports
    from spaces.registry import Loaded
    from spaces.saga.decide import Decision
    from spaces.saga.outcomes import Plan, Plans

log = logging.getLogger("kpax.saga")

# How often one message tries again when others write the same space at the same moment.
RACES = 5


async def advance(
    ports: Ports, plans: Plans, poke: Poke, *, message_id: str, floor_s: float
) -> None:
    """Move one space by one step; safe to repeat from any line.

    Raises `KpaxError` of a port only where nothing is decided yet: the message then comes again.
    """
    registry = Registry(ports.tables)
    loaded = await registry.load(poke.space_id)  # 1
    if loaded is None:
        log.warning("poke.unknown_space", extra={"space": poke.space_id, "op": poke.op_id})
        return
    op = loaded.space.op
    if op is None or not op.awaits(poke.ticket):
        await say_again(ports, registry, loaded.space)  # 2
        await take_back(ports, plans, loaded.space, poke, message_id=message_id)
        return
    if op.halted_at is not None:
        log.info("poke.held", extra=_fields(op, poke.space_id))
        return  # the end of the pause says it again
    plan = plans[op.kind]
    outcome = await _attempt(ports, plan, loaded.space, op)  # 3
    if not await _settle(
        ports, plan, loaded, poke, outcome, message_id=message_id, floor_s=floor_s
    ):
        space = (await registry.require(poke.space_id)).space
        await take_back(ports, plans, space, poke, message_id=message_id)


async def _attempt(ports: Ports, plan: Plan, space: Space, op: Running) -> Outcome:
    """One attempt of the step; a long one that could not end by the deadline is not begun."""
    now = ports.clock.now()
    if op.attempt_s and now > last_start(op):
        return Retry(kind=ErrorKind.TRANSIENT, reason=op.detail or "no attempt came in time")
    with tracing.attempt(space.space_id, op):
        outcome = await perform(ports, plan, Work(space=space, op=op, now=now))
        tracing.told(type(outcome).__name__.lower(), getattr(outcome, "reason", ""))
        return outcome


async def _settle(
    ports: Ports,
    plan: Plan,
    loaded: Loaded,
    poke: Poke,
    outcome: Outcome,
    *,
    message_id: str,
    floor_s: float,
) -> bool:
    """Decide on the outcome and write it; False when another runner has settled this very attempt.

    Whoever writes the same space at the same moment (an event, an operator) is read and the outcome
    judged again: what the step did is done, and is not done a second time for that.
    """
    registry = Registry(ports.tables)
    for _ in range(RACES):
        op, now = loaded.space.op, ports.clock.now()
        if op is None or not op.awaits(poke.ticket):
            await say_again(ports, registry, loaded.space)
            return False
        decision = decide(op, outcome, plan=plan, now=now, floor_s=floor_s)
        if isinstance(decision, Again):
            look = look_message(plan, loaded.space, op, decision)
            if isinstance(outcome, Wait) and outcome.began:
                look = replace(look, message_id=f"{look.message_id}:{ports.ids.token(8)}")
            await ports.bus.send([look])  # 5
            return True
        change = change_of(
            loaded.space, op, outcome, decision, plan=plan, cause=message_id, now=now
        )
        if isinstance(decision, Finish):
            change = replace(change, space=await dues.ahead(ports.tables, change.space, now))
        try:
            promised = await registry.commit(loaded, change, now=now)  # 4
        except (LostRaceError, ConflictError, UnknownError):
            log.info("commit.refused", extra=_fields(op, poke.space_id))
            loaded = await registry.require(poke.space_id)
            continue
        log.info("step.committed", extra=_fields(op, poke.space_id) | _told(outcome, decision))
        _traced(poke.space_id, op, outcome, decision, now)
        await ports.bus.send(promised)  # 5
        await _after(ports, change.space, op, decision)
        return True
    raise UnknownError(
        "the space changes faster than its step can be committed",
        where=f"space {poke.space_id} · {poke.ticket}",
        remedy="The message comes again by itself.",
    )


async def _after(ports: Ports, space: Space, op: Running, decision: Decision) -> None:
    """What an operation's end leads to: the next one that the space needs, or rest."""
    if isinstance(decision, Park):
        log.error(
            "operation.needs_operator",
            extra=_fields(op, space.space_id)
            | {"reason": decision.reason, "see": "docs/running.md#operation.needs_operator"},
        )
        # Its watch is left to the sweeper: an operator may have taken it over by now.
    elif isinstance(decision, Finish):
        if needed(space, ports.clock.now()) is not None:
            await plan_next(ports, space.space_id)
        elif space.held is None:
            await watch.drop(ports.tables, space.space_id, op.op_id)


def _traced(
    space_id: str, op: Running, outcome: Outcome, decision: Decision, now: datetime
) -> None:
    """Count the step that ended, and record the operation that did."""
    if isinstance(decision, Finish) or (isinstance(decision, Advance) and decision.step_ended):
        tracing.step_ended(op, type(outcome).__name__.lower(), now)
    if isinstance(decision, Finish):
        tracing.operation_ended(space_id, decision.op, decision.status, now)


def _told(outcome: Outcome, decision: Decision) -> dict[str, str]:
    return {
        "outcome": type(outcome).__name__.lower(),
        "decision": type(decision).__name__.lower(),
    }


def _fields(op: Running, space_id: str) -> dict[str, str | int]:
    return {"space": space_id, "op": op.op_id, "step": op.step, "attempt": op.attempt}
