"""What this room carries: the operations that read or write a space's data as a whole, or end it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from backups.ending import Deletion, cancelled
from backups.erasing import Erasure
from backups.places import Places
from backups.restore import Restore
from backups.run import Run
from spaces import power
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
    deletion, erasure = Deletion(places), Erasure(places)
    bound = (
        bind(
            OUTLINES[OpKind.BACKUP],
            as_told=power.as_told,
            acts={
                "wake": power.start_database,
                "capture": run.capture,
                "publish": run.publish,
                "verify": run.verify,
                "sleep": power.sleep,
            },
            undos={
                "wake": power.database_as_it_was,
                "verify": run.unverify,
                "sleep": power.start_database,
            },
        ),
        bind(
            OUTLINES[OpKind.RESTORE],
            as_told=power.as_told,
            acts={
                "wake": power.start_database,
                "prepare": restore.prepare,
                "load": restore.load,
                "check": restore.check,
                "switch": restore.switch,
                "restart": restore.restart,
                "confirm": restore.confirm,
                "sleep": power.sleep,
            },
            undos={
                "wake": power.database_as_it_was,
                "load": restore.unload,
                "switch": restore.switch_back,
                "sleep": power.start_database,
            },
        ),
        bind(
            OUTLINES[OpKind.CANCEL],
            as_told=power.as_told,
            acts={
                "close": power.close,
                "stop": power.stop_machines,
                "wake": power.start_database,
                "capture": run.capture,
                "publish": run.publish,
                "verify": run.verify,
                "sleep": power.sleep,
                "settle": cancelled,
            },
            undos={
                "close": power.address_as_it_was,
                "stop": power.machines_as_they_were,
                "wake": power.database_as_it_was,
                "verify": run.unverify,
                "sleep": power.start_database,
            },
        ),
        bind(
            OUTLINES[OpKind.DELETE],
            acts={
                "guard": deletion.guard,
                "remove": deletion.remove,
                "purge": deletion.purge,
                "settle": deletion.settle,
            },
            undos={"remove": deletion.give_up},
        ),
        bind(
            OUTLINES[OpKind.ERASE],
            acts={
                "guard": erasure.guard,
                "destroy_keys": erasure.destroy_keys,
                "prove": erasure.prove,
                "destroy_backups": erasure.destroy_backups,
                "settle": erasure.settle,
            },
        ),
    )
    return {plan.kind: plan for plan in bound}
