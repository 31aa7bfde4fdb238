"""What an operator may do to an operation, and what comes of it. Pure.

Retry, retry from an earlier step, skip, roll back, abort, adopt, replay: each says what it needs
to find, and is refused with the reason where it does not. What is done again is a new turn: every
message of before is old. Source: control-plane.md 3.5, "Operator actions".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from spaces.errors import FieldError, InvalidError, RefusedError
from spaces.model import OpStatus, Phase, Stop
from spaces.saga.decide import Advance, Finish, at_step, back, onwards

if TYPE_CHECKING:
    from spaces.model import Running, Space
    from spaces.saga.decide import Decision
    from spaces.saga.outline import Outline


# Steps that only look, or tidy up: nothing after them needs what they do. On the way back any may
# be left out.
SKIPPABLE = frozenset({"publish", "smoke", "confirm", "sleep", "purge"})


class Action(StrEnum):
    """The things to do; the word is also the command's and the URL's."""

    RETRY = "retry"
    SKIP = "skip"
    ROLLBACK = "rollback"
    ABORT = "abort"
    ADOPT = "adopt"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operator's word: what, whose, why; `step` names the one to retry from.

    `cause_id` is the inbox's name of this intention: it counts once.
    """

    action: Action
    actor: str
    reason: str
    at: datetime
    cause_id: str
    step: str | None = None

    @property
    def said(self) -> str:
        """The order in a few words, for a row that a person reads."""
        return f"{self.action} by {self.actor}: {self.reason}"


def obey(space: Space, op_id: str, order: Order, outline: Outline) -> Decision:
    """What becomes of the space's operation: it goes on (`Advance`), or ends (`Finish`).

    Raises `RefusedError` where the operation is not in a state for it, `InvalidError` for a step
    that it does not have.
    """
    op = space.op
    if op is None or op.op_id != op_id:
        raise _refused(
            space, f"operation {op_id} has ended: nothing of it can be {_DONE[order.action]}"
        )
    match order.action:
        case Action.RETRY:
            return _retry(space, op, order, outline)
        case Action.SKIP:
            return _skip(space, op, order, outline)
        case Action.ROLLBACK:
            return _roll_back(space, op, order, outline)
        case Action.ABORT:
            return _abort(space, op, order, outline)
        case Action.ADOPT:
            return _adopt(space, op, order, outline)
        case Action.REPLAY:
            return Advance(op=op, step_ended=False)


def _retry(space: Space, op: Running, order: Order, outline: Outline) -> Decision:
    """The step again, with a fresh budget; or an earlier one, and all after it."""
    _is_stuck(space, op, order)
    if order.step is None:
        return Advance(op=_new_turn(op, op.at, outline, order), step_ended=False)
    if order.step not in op.steps:
        raise InvalidError(
            f"operation {op.op_id} has no step {order.step[:64]!r}",
            where=_where(space),
            remedy=f"Its steps: {', '.join(op.steps)}.",
            errors=(FieldError(pointer="/step", code="unknown", message="no such step"),),
        )
    number = op.steps.index(order.step)
    if number > op.at:
        raise _refused(
            space, f"step {order.step} comes after {op.step}, where the operation stands"
        )
    forward = replace(op, phase=Phase.DO, error=None, error_kind=None, stop=None)
    return Advance(op=_new_turn(forward, number, outline, order), step_ended=False)


def _skip(space: Space, op: Running, order: Order, outline: Outline) -> Decision:
    """On without the step. On the way back any may be left; what then stands is looked after."""
    _is_stuck(space, op, order)
    if op.phase is Phase.DO and op.step not in SKIPPABLE:
        raise _refused(
            space,
            f"step {op.step} cannot be skipped: later steps need what it does",
            "Retry it, adopt what stands, or roll back.",
        )
    skipped = replace(op, stuck=None, turn=op.turn + 1, detail=f"skipped: {order.said}")
    return onwards(skipped, outline, order.at)


def _roll_back(space: Space, op: Running, order: Order, outline: Outline) -> Decision:
    """Undo what was done. A stuck operation failed; one that runs is stopped after its step."""
    _is_forward(space, op)
    if op.stuck is None:
        return _abort(space, op, order, outline)
    failed = replace(op, stuck=None, turn=op.turn + 1)
    return _with_reason(
        back(failed, outline, order.at), f"{op.stuck} · {order.said}", op.error_kind
    )


def _abort(space: Space, op: Running, order: Order, outline: Outline) -> Decision:
    """End it without its effect: after the running step, at once, or with what cannot be undone."""
    stopped = replace(op, stop=Stop(actor=order.actor, reason=order.reason, at=order.at))
    if op.stuck is None:
        _is_forward(space, op)
        if op.stop is not None:
            raise _refused(space, f"it is stopping already: {op.stop.reason}")
        if op.at + 1 == len(op.steps):
            raise _refused(
                space, f"its last step {op.step} runs: it can only end", "Wait for it."
            )
        return Advance(op=stopped, step_ended=False)
    stopped = replace(stopped, stuck=None, turn=op.turn + 1)
    if op.phase is Phase.DO:
        return back(stopped, outline, order.at)
    error = f"{op.stuck} · {order.said}; what stands is left to the look for stray stacks"
    return Finish(op=stopped, status=OpStatus.CANCELED, error=error)


def _adopt(space: Space, op: Running, order: Order, outline: Outline) -> Decision:
    """Take what stands as the step's effect, once a look shows it; nothing is made for that."""
    _is_stuck(space, op, order)
    _is_forward(space, op)
    looking = replace(_new_turn(op, op.at, outline, order), adopting=True)
    return Advance(op=looking, step_ended=False)


def _new_turn(op: Running, at: int, outline: Outline, order: Order) -> Running:
    again = at_step(replace(op, turn=op.turn + 1), at, outline, order.at)
    return replace(again, detail=order.said)


def _with_reason(decision: Decision, reason: str, kind: str | None) -> Decision:
    """The same way back, for this reason."""
    match decision:
        case Advance(op=op, step_ended=ended):
            return Advance(op=replace(op, error=reason, error_kind=kind), step_ended=ended)
        case Finish(op=op, status=status):
            return Finish(op=replace(op, error=reason), status=status, error=reason)
        case _:
            return decision


def _is_stuck(space: Space, op: Running, order: Order) -> None:
    if op.stuck is None:
        raise _refused(
            space,
            f"operation {op.op_id} runs by itself: only one that waits for an operator can be"
            f" {_DONE[order.action]}",
            f"Look: kpax op show {op.op_id}."
            + ("" if op.phase is Phase.UNDO else f" To end it: kpax op abort {op.op_id}."),
        )


def _is_forward(space: Space, op: Running) -> None:
    if op.phase is Phase.UNDO:
        raise _refused(
            space,
            f"operation {op.op_id} is on its way back already ({op.error})",
            "It ends by itself, or waits for an operator when its time is over."
            if op.stuck is None
            else "Retry or skip the step that cannot be undone.",
        )


_DONE = {
    Action.RETRY: "retried",
    Action.SKIP: "skipped",
    Action.ROLLBACK: "rolled back",
    Action.ABORT: "aborted",
    Action.ADOPT: "adopted",
    Action.REPLAY: "replayed",
}


def _refused(space: Space, what: str, remedy: str = "") -> RefusedError:
    return RefusedError(what, where=_where(space), remedy=remedy)


def _where(space: Space) -> str:
    return f"space {space.space_id} · {space.name}"
