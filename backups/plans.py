"""What this room carries: the operations that read or write a space's data as a whole."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from backups.places import Places
from backups.restore import Restore
from backups.run import Run
from spaces.model import OpKind
from spaces.saga.outline import BACKUPS, OUTLINES, bind
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.saga.outcomes import Plans

QUEUE = BACKUPS


@functools.cache
def plans() -> Plans:
    """The plans of this process, by its settings."""
    return plans_of(Places(settings()))


def plans_of(places: Places) -> Plans:
    """The plans over these places."""
    run, restore = Run(places), Restore(places)
    bound = (
        bind(
            OUTLINES[OpKind.BACKUP],
            acts={"capture": run.capture, "publish": run.publish, "verify": run.verify},
            undos={"verify": run.unverify},
        ),
        bind(
            OUTLINES[OpKind.RESTORE],
            acts={
                "prepare": restore.prepare,
                "load": restore.load,
                "check": restore.check,
                "switch": restore.switch,
                "restart": restore.restart,
                "confirm": restore.confirm,
            },
            undos={"load": restore.unload, "switch": restore.switch_back},
        ),
    )
    return {plan.kind: plan for plan in bound}
