"""The plans of the two operations of this room: their steps in order, budgets and undos.

Budgets in seconds. Both run over the queue `backup-runs` by the kernel's runner.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from backups.places import Places
from backups.restore import Restore
from backups.run import ATTEMPT_S, Run
from spaces.model import OpKind
from spaces.saga.outcomes import Plan, Step
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.saga.outcomes import Plans

QUEUE = "backup-runs"


@functools.cache
def plans() -> Plans:
    """The plans of this process, by its settings."""
    return plans_of(Places(settings()))


def plans_of(places: Places) -> Plans:
    """The plans over these places."""
    run, restore = Run(places), Restore(places)
    backup = Plan(
        kind=OpKind.BACKUP,
        queue=QUEUE,
        steps=(
            Step(name="capture", act=run.capture, budget_s=3600, attempt_s=ATTEMPT_S),
            Step(name="publish", act=run.publish, budget_s=600),
            Step(
                name="verify",
                act=run.verify,
                undo=run.unverify,
                budget_s=3600,
                attempt_s=ATTEMPT_S,
            ),
        ),
        failed="space.backup.failed",
    )
    return {
        OpKind.BACKUP: backup,
        OpKind.RESTORE: Plan(
            kind=OpKind.RESTORE,
            queue=QUEUE,
            steps=(
                Step(name="prepare", act=restore.prepare, budget_s=600),
                Step(
                    name="load",
                    act=restore.load,
                    undo=restore.unload,
                    budget_s=3600,
                    attempt_s=ATTEMPT_S,
                ),
                Step(name="check", act=restore.check, budget_s=3600, attempt_s=ATTEMPT_S),
                Step(
                    name="switch", act=restore.switch, undo=restore.switch_back, budget_s=1800
                ),
                Step(name="restart", act=restore.restart, budget_s=1800),
                Step(name="confirm", act=restore.confirm, budget_s=300),
            ),
        ),
    }
