"""Where an operation goes after a step's outcome. Pure: no clock, no table, no bus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING

from spaces.errors import ErrorKind
from spaces.model import OpStatus, Phase, Running
from spaces.saga.outcomes import Done, Failed, Outcome, Retry, Wait

if TYPE_CHECKING:
    from spaces.saga.outcomes import Plan
    from spaces.saga.outline import Outline


# A step whose deadline passed this long ago without a look was left alone: the host was down, or
# its messages were lost. It then gets this much more, once. With a sweep each minute, no step is
# past its deadline for two minutes before somebody is told.
UNSEEN = timedelta(seconds=30)
EXTENSION = timedelta(seconds=300)

# The most characters of a reason: it stands in several rows, and a row holds 64 KiB.
MOST_TEXT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """Go on with `op`: the next step, the next attempt, or the way back. Written, then poked."""

    op: Running
    step_ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Look again at `due_at`; nothing is written. `slot` merges chains of looks into one."""

    due_at: datetime
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The operation ends with this status; `op` is its last state."""

    op: Running
    status: OpStatus
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Nothing more can be done without a person: the operation keeps its place and waits."""

    op: Running

    @property
    def reason(self) -> str:
        """Why it waits."""
        return self.op.stuck or ""


type Decision = Advance | Again | Finish | Park


def decide(
    op: Running, outcome: Outcome, *, plan: Plan, now: datetime, floor_s: float
) -> Decision:
    """Where `op` goes after `outcome` of its present step.

    `floor_s` is the shortest pause between two looks. A step that waits or retries past its
    budget fails; on the way back it then needs an operator, since nothing may be forgotten. What
    nobody looked at when its time was over is extended first: an outage of ours is no failure.
    One that is asked to stop goes back when its step has ended, and tries no step again.
    """
    match outcome:
        case Done(detail=detail, facts=facts):
            done = replace(op, facts={**op.facts, **facts}, detail=_brief(detail))
            return onwards(done, plan, now)
        case Failed(reason=said) | Retry(reason=said) if op.adopting:
            return Park(op=stuck(op, f"step {op.step} cannot be adopted: {said}"))
        case Failed(reason=reason, slug=slug):
            return _fail(op, reason, plan, now, slug=slug)
        case Wait() | Retry():
            return _not_yet(op, outcome, plan=plan, now=now, floor_s=floor_s)


def _not_yet(
    op: Running, outcome: Wait | Retry, *, plan: Plan, now: datetime, floor_s: float
) -> Decision:
    """The step has not ended: another look, another attempt, or no more."""
    if is_unseen(op, now) and not op.extended:
        return Advance(op=extended(op, now), step_ended=False)
    if isinstance(outcome, Retry) and is_stopping(op):
        return back(op, plan, now)
    if now > last_start(op):
        said = outcome.detail if isinstance(outcome, Wait) else outcome.reason
        if op.adopting:
            return Park(op=stuck(op, f"step {op.step} cannot be adopted: {said}"))
        return _fail(op, _late(op, plan.step(op.step).budget_s, said), plan, now)
    if isinstance(outcome, Wait):
        return look_again(op, now, max(outcome.delay_s, floor_s))
    pause = outcome.delay_s if outcome.delay_s is not None else backoff_s(op.attempt)
    # No pause goes beyond the deadline: the attempt that is then due ends the step.
    left = (last_start(op) - now).total_seconds() + 1
    again = replace(
        op,
        attempt=op.attempt + 1,
        detail=_brief(f"{outcome.kind}: {outcome.reason}"),
        next_poke_at=now + timedelta(seconds=max(min(pause, left), floor_s)),
    )
    return Advance(op=again, step_ended=False)


def backoff_s(attempt: int) -> float:
    """Seconds to wait after `attempt` (1-based): 5 s doubling to 900 s.

    Throttled errors carry their own Retry-After and never come here.
    Source: control-plane.md 3.5, "Poison".
    """
    return min(900.0, 5.0 * 2 ** min(attempt - 1, 12))


def is_unseen(op: Running, now: datetime) -> bool:
    """True when no look came for so long after the deadline that nobody can have been there."""
    return now > max(op.step_deadline_at, op.next_poke_at) + UNSEEN


def last_start(op: Running) -> datetime:
    """When the last attempt of the step may begin: a long one has to end by the deadline too."""
    return op.step_deadline_at - timedelta(seconds=op.attempt_s)


def extended(op: Running, now: datetime) -> Running:
    """The same step as a new attempt, due at once, with a little more time; once for each step."""
    return replace(
        op,
        attempt=op.attempt + 1,
        extended=True,
        detail="nobody looked when its time was over; looked at once more",
        next_poke_at=now,
        step_deadline_at=now + EXTENSION + timedelta(seconds=op.attempt_s),
    )


def look_again(op: Running, now: datetime, delay_s: float) -> Again:
    """The next look on a grid of `delay_s`, so that two chains of looks fall on the same ids.

    A look is handled a little after its slot: without the fifth that it may come early, each would
    lead to the slot after the next, and two chains could go beside each other for ever. The look
    that would come after the deadline comes right behind it: it ends the step.
    """
    slot = ceil(now.timestamp() / delay_s + 0.8)
    due_at = datetime.fromtimestamp(slot * delay_s, tz=now.tzinfo)
    last = op.step_deadline_at + timedelta(seconds=1)
    return Again(due_at=max(min(due_at, last), now), slot=slot)


def is_stopping(op: Running) -> bool:
    """True when the operation is to go back as soon as its step has ended.

    The last step ends the operation: what is done then is undone by another one.
    """
    return op.stop is not None and op.phase is Phase.DO and op.at + 1 < len(op.steps)


def stuck(op: Running, reason: str) -> Running:
    """The operation as it waits for an operator."""
    return replace(op, stuck=_brief(reason), detail=_brief(reason), adopting=False)


def onwards(op: Running, plan: Plan | Outline, now: datetime) -> Decision:
    """What comes after its step, in the direction that it goes."""
    if op.phase is Phase.UNDO:
        return _back_from(op, op.at - 1, plan, now)
    if is_stopping(op):
        return back(op, plan, now)
    if op.at + 1 == len(op.steps):
        return Finish(op=op, status=OpStatus.SUCCEEDED, error=None)
    return Advance(op=at_step(op, op.at + 1, plan, now), step_ended=True)


def back(op: Running, plan: Plan | Outline, now: datetime) -> Decision:
    """The way back from its present step, as `op.stop` asks; that step is undone too."""
    asked = op.stop
    reason = f"stopped by {asked.actor}: {asked.reason}" if asked else "rolled back"
    undoing = replace(
        op, phase=Phase.UNDO, error=_brief(reason), error_kind="canceled", detail=_brief(reason)
    )
    return _back_from(undoing, op.at, plan, now)


def _fail(
    op: Running, reason: str, plan: Plan, now: datetime, *, slug: str | None = None
) -> Decision:
    reason = _brief(reason)
    if op.phase is Phase.UNDO:
        return Park(op=stuck(op, f"{op.error} · {reason}"))
    undoing = replace(op, phase=Phase.UNDO, error=reason, error_kind=slug, detail=reason)
    # The failing step is undone too: its effect may be half there.
    return _back_from(undoing, op.at, plan, now)


def _back_from(op: Running, at: int, plan: Plan | Outline, now: datetime) -> Decision:
    """The next step on the way back that has something to undo, from `at` downwards."""
    for number in range(at, -1, -1):
        if plan.step(op.steps[number]).undo:
            return Advance(op=at_step(op, number, plan, now), step_ended=True)
    status = OpStatus.FAILED if op.stop is None else OpStatus.CANCELED
    return Finish(op=op, status=status, error=op.error)


def at_step(op: Running, at: int, plan: Plan | Outline, now: datetime) -> Running:
    """The operation at the start of a step: a first attempt, a fresh budget, due at once."""
    step = plan.step(op.steps[at])
    return replace(
        op,
        at=at,
        attempt=1,
        attempt_s=step.attempt_s,
        extended=False,
        stuck=None,
        adopting=False,
        step_started_at=now,
        step_deadline_at=now + timedelta(seconds=step.budget_s),
        next_poke_at=now,
    )


def _late(op: Running, budget_s: float, last: str) -> str:
    return f"step {op.step} did not end within {budget_s:.0f} s; last seen: {last or 'waiting'}"


def _brief(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"


def outcome_of(
    kind: ErrorKind, reason: str, *, slug: str | None = None, retry_after_s: float | None = None
) -> Outcome:
    """The outcome that an error of a port means for a step."""
    match kind:
        case ErrorKind.THROTTLED | ErrorKind.TRANSIENT | ErrorKind.CONFLICT | ErrorKind.UNKNOWN:
            return Retry(kind=kind, reason=reason, delay_s=retry_after_s)
        case ErrorKind.QUOTA | ErrorKind.DENIED | ErrorKind.INVALID:
            return Failed(reason=reason, kind=kind, slug=slug)
