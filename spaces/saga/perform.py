"""The only place where a step touches the world, and where its errors become an outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.errors import ErrorKind, KpaxError, ThrottledError
from spaces.looking import only_looking
from spaces.model import Phase
from spaces.saga.decide import outcome_of
from spaces.saga.outcomes import Done, Retry

if TYPE_CHECKING:
    from spaces.ports import Ports
    from spaces.saga.outcomes import Outcome, Plan, Work


async def perform(ports: Ports, plan: Plan, work: Work) -> Outcome:
    """The step's effect, or its undoing, as an outcome.

    On the way back a right or a quota that is missing is waited for as long as the budget lasts: a
    deny assignment may outlive what it guarded, and nothing may be left over for that. A step that
    is to be adopted gets ports that only look: it is done where its effect stands already.
    """
    step = plan.step(work.op.step)
    act = step.act if work.op.phase is Phase.DO else step.undo
    if act is None:
        return Done(detail="nothing to undo")
    try:
        return await act(only_looking(ports) if work.op.adopting else ports, work)
    except ThrottledError as error:
        return outcome_of(error.kind, str(error), retry_after_s=error.retry_after_s)
    except KpaxError as error:
        if work.op.phase is Phase.UNDO and error.kind in {ErrorKind.DENIED, ErrorKind.QUOTA}:
            return Retry(kind=error.kind, reason=str(error))
        return outcome_of(error.kind, str(error), slug=error.problem_slug)
